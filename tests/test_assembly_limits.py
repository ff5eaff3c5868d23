from decimal import Decimal

from outrider.assembly_limits import limit_book, max_waits
from outrider.config import Budget, Config, LimitRule, Limits, Provider, ProviderLimits, Tier
from outrider.core.context import Target
from outrider.core.quota import Bound, Concurrency, Period, Rate, Unit, Window
from outrider.policy.limit_rules import Meters, Values


def bounds(meters: Meters) -> list[tuple[str, Unit, Bound, str]]:
    return [(meter.scope, meter.unit, meter.bound, meter.tier) for meter in meters.all]


def test_a_rules_own_numbers_go_over_those_of_its_tier() -> None:
    """What the rule leaves out is the tier's; a burst that is not set is ten seconds' worth, at least 1."""
    config = Config(
        providers={"simulated": Provider()},
        tiers={"free": Tier(requests_per_minute=3, tokens_per_minute=600, max_concurrency=2)},
        limits=Limits(
            rules=(
                LimitRule(scope={"tenant": "*"}, tier="free"),
                LimitRule(scope={"tenant": "acme"}, tier="free", requests_per_minute=60, requests_per_day=9),
                LimitRule(requests_per_minute=60, burst=5),
            )
        ),
    )
    book = limit_book(config)
    everybody = ("all", Unit.REQUESTS, Rate(60, 5), "")
    assert bounds(book.of_caller(Values(tenant="other"))) == [
        ("tenant=other", Unit.REQUESTS, Rate(3, 1), "free"),
        ("tenant=other", Unit.TOKENS, Rate(600, 100), "free"),
        ("tenant=other", Unit.CONCURRENT_REQUESTS, Concurrency(2), "free"),
        everybody,
    ]
    assert bounds(book.of_caller(Values(tenant="acme"))) == [
        ("tenant=acme", Unit.REQUESTS, Rate(60, 10), "free"),
        ("tenant=acme", Unit.REQUESTS, Window(9, Period.DAY), "free"),
        ("tenant=acme", Unit.TOKENS, Rate(600, 100), "free"),
        ("tenant=acme", Unit.CONCURRENT_REQUESTS, Concurrency(2), "free"),
        everybody,
    ]


def test_a_vendors_limits_are_those_of_its_targets() -> None:
    """Rates are the fleet's to keep; how many at the same time is each sidecar's own matter."""
    limits = ProviderLimits(
        requests_per_minute=30, requests_per_day=14_400, tokens_per_minute=6_000, max_wait=3
    )
    config = Config(providers={"groq": Provider(limits=limits), "openai": Provider()})
    book = limit_book(config)
    assert bounds(book.of_target(Values(caller="app"), Target("groq", "m"))) == [
        ("provider=groq", Unit.REQUESTS, Rate(30, 5), ""),
        ("provider=groq", Unit.REQUESTS, Window(14_400, Period.DAY), ""),
        ("provider=groq", Unit.TOKENS, Rate(6_000, 1_000), ""),
    ]
    assert not book.of_target(Values(), Target("openai", "m"))
    assert max_waits(config) == {"groq": 3.0, "openai": 10.0}


def test_budgets_of_a_unit_and_period_replace_each_other_and_no_others() -> None:
    """Money is whole nano-USD; shares come in order, each once."""
    everyone = Budget(scope={"tenant": "*"}, usd=Decimal("0.000000001"), soft=(0.9, 0.5, 0.9))
    acme = Budget(scope={"tenant": "acme"}, usd=Decimal(500), tokens=7, hard=False, soft=())
    daily = Budget(scope={"tenant": "acme"}, tokens=1, period="day", soft=())
    book = limit_book(Config(providers={"simulated": Provider()}, budgets=(everyone, acme, daily)))
    assert bounds(book.of_caller(Values(tenant="acme"))) == [
        ("tenant=acme", Unit.NANO_USD, Window(500 * 10**9, Period.MONTH, (), hard=False), ""),
        ("tenant=acme", Unit.TOKENS, Window(7, Period.MONTH, (), hard=False), ""),
        ("tenant=acme", Unit.TOKENS, Window(1, Period.DAY, ()), ""),
    ]
    assert bounds(book.of_caller(Values(tenant="x"))) == [
        ("tenant=x", Unit.NANO_USD, Window(1, Period.MONTH, (0.5, 0.9)), "")
    ]


def test_nothing_is_limited_unless_somebody_says_so() -> None:
    """The default configuration has no rule at all."""
    assert not limit_book(Config(providers={"simulated": Provider()}))
