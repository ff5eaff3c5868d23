import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Principal, Target
from outrider.core.quota import Bound, Concurrency, Meter, Period, Rate, Unit, Window
from outrider.policy.limit_rules import DIMENSIONS, LimitBook, Rule, Values, values_of

TARGET = Target("groq", "llama")


def rule(limit: int, kind: str = "limits", **scope: str) -> Rule:
    return Rule(scope, ((Unit.CONCURRENT_REQUESTS, Concurrency(limit)),), kind)


def limits(meters: tuple[Meter, ...]) -> list[tuple[str, int]]:
    return [(meter.scope, meter.bound.limit) for meter in meters if isinstance(meter.bound, Concurrency)]


def of_caller(rules: list[Rule], **values: str) -> list[tuple[str, int]]:
    return limits(LimitBook(rules).of_caller(Values(**values)).all)


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [
        ("acme", ("tenant=acme", 3)),
        ("acme-east", ("tenant=acme-east", 2)),
        ("other", ("tenant=other", 1)),
        ("", ("tenant=", 1)),
    ],
)
def test_the_most_exact_rule_holds(tenant: str, expected: tuple[str, int]) -> None:
    """A name before the beginning of one, that before "*"; leaving the tenant out evades nothing."""
    rules = [rule(1, tenant="*"), rule(2, tenant="acme-*"), rule(3, tenant="acme")]
    assert of_caller(rules, tenant=tenant) == [expected]
    assert of_caller(rules[::-1], tenant=tenant) == [expected]


def test_rules_over_different_dimensions_all_hold() -> None:
    """In the order in which their dimensions were first written."""
    rules = [rule(1), rule(2, user="*"), rule(3, user="*", project="search"), rule(4, user="bob")]
    found = of_caller(rules, user="bob", project="search")
    assert found == [("all", 1), ("user=bob", 4), ("project=search,user=bob", 3)]
    assert of_caller(rules, user="eve", project="x") == [("all", 1), ("user=eve", 2)]


def test_rules_of_different_kinds_do_not_replace_each_other() -> None:
    """A budget of tokens for one tenant leaves everybody's budget of money in place."""
    rules = [rule(1, "usd:month", tenant="*"), rule(2, "tokens:day", tenant="acme")]
    assert of_caller(rules, tenant="acme") == [("tenant=acme", 1), ("tenant=acme", 2)]


def test_rules_with_provider_or_model_are_those_of_targets() -> None:
    """They are charged for each try; all others once for a request."""
    book = LimitBook([rule(1, provider="groq"), rule(2, caller="*", model="groq/*"), rule(3, caller="*")])
    values = Values(caller="app")
    assert limits(book.of_caller(values).all) == [("caller=app", 3)]
    assert limits(book.of_target(values, TARGET).all) == [
        ("provider=groq", 1),
        ("model=groq/llama,caller=app", 2),
    ]
    assert not book.of_target(values, Target("openai", "gpt"))


def test_a_pinned_caller_counts_for_its_own_tenant() -> None:
    """Whatever its requests say."""
    attribution = v1.Attribution(tenant="other", project="p", agent="a", user="u")
    pinned = values_of(Principal("app", tenant="acme"), attribution)
    assert pinned == Values("", "", "app", "acme", "p", "a", "u")
    assert values_of(Principal("app"), attribution).tenant == "other"


def test_what_has_to_be_known_is_known_beforehand() -> None:
    """Tokens are counted only where something counts tokens, and answers watched only for hard budgets."""
    soft, hard = Window(9, Period.DAY, hard=False), Window(9, Period.DAY)

    def found(*bounds: tuple[Unit, Bound]) -> tuple[bool, bool, int, bool]:
        meters = LimitBook([Rule({}, bounds)]).of_caller(Values())
        return meters.tokens, meters.money, len(meters.budgets), meters.hard

    assert found((Unit.REQUESTS, hard), (Unit.REQUESTS, Rate(1, 1))) == (False, False, 0, False)
    assert found((Unit.TOKENS, Rate(1, 1))) == (True, False, 0, False)
    assert found((Unit.TOKENS, soft)) == (True, False, 1, False)
    assert found((Unit.NANO_USD, hard), (Unit.TOKENS, soft)) == (True, True, 2, True)


NAMES = st.text(alphabet="ab,={}%*é\0", max_size=4)


@given(
    st.lists(
        st.sets(st.sampled_from(DIMENSIONS), min_size=1, max_size=3),
        min_size=2,
        max_size=2,
    ),
    st.lists(st.tuples(*[NAMES] * len(DIMENSIONS)), min_size=2, max_size=2),
)
def test_no_two_scopes_are_called_alike(rules: list[set[str]], values: list[tuple[str, ...]]) -> None:
    """Whatever callers call themselves, they count under their own values and nobody else's."""
    scopes: dict[str, tuple[tuple[str, str], ...]] = {}
    for dimensions in rules:
        book = LimitBook([rule(1, **dict.fromkeys(dimensions, "*"))])
        for each in map(Values._make, values):
            meters = (*book.of_caller(each).all, *book._of_target(each).all)
            (meter,) = meters
            meaning = tuple((name, getattr(each, name)) for name in DIMENSIONS if name in dimensions)
            assert scopes.setdefault(meter.scope, meaning) == meaning
            assert meter.scope.isprintable()
            assert not set("{}") & set(meter.scope)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["user", "agent"]), st.sampled_from(["*", "a*", "ab*", "a", "ab", ""])
        ),
        max_size=8,
    ),
    st.sampled_from(["", "a", "ab", "abc", "b"]),
    st.sampled_from(["", "a", "ab", "abc", "b"]),
)
def test_each_combination_of_dimensions_is_held_to_one_rule(
    scopes: list[dict[str, str]], user: str, agent: str
) -> None:
    """One that fits, and none that fits is more exact; no dimension is forgotten that a rule fits."""
    rules = [rule(number, **scope) for number, scope in enumerate(scopes, start=1)]
    values = {"user": user, "agent": agent}
    fitting = [each for each in rules if each.fits(values)]
    chosen = [rules[limit - 1] for _, limit in of_caller(rules, **values)]
    assert {frozenset(each.scope) for each in chosen} == {frozenset(each.scope) for each in fitting}
    assert len(chosen) == len({frozenset(each.scope) for each in chosen})
    for each in chosen:
        rivals = [other for other in fitting if other.scope.keys() == each.scope.keys()]
        assert each.exactness == max(rival.exactness for rival in rivals)
