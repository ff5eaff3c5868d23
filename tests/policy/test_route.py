import pytest

from outrider import v1
from outrider.core.context import NOBODY, Principal, Target
from outrider.core.errors import GenerationError, Reason
from outrider.policy.admit import check_caller, check_models
from outrider.policy.route import Defaults, Models, RouteTable

TABLE = RouteTable(
    aliases={"fast": (Target("groq", "llama"), Target("openai", "gpt-mini"))},
    providers={
        "openai": Models("gpt", ["gpt", "gpt-mini", "shared"]),
        "groq": Models("llama", ["openai/gpt-oss", "shared"]),
        "bare": Models(),
    },
    default=["openai"],
)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("", ["openai/gpt"]),
        ("fast", ["groq/llama", "openai/gpt-mini"]),
        ("openai", ["openai/gpt"]),
        ("gpt-mini", ["openai/gpt-mini"]),
        ("shared", ["openai/shared"]),
        ("groq/shared", ["groq/shared"]),
        ("openai/anything", ["openai/anything"]),
        ("openai/gpt-oss", ["groq/openai/gpt-oss"]),
        ("groq/openai/gpt-oss", ["groq/openai/gpt-oss"]),
    ],
)
def test_names_resolve_in_a_fixed_order(name: str, targets: list[str]) -> None:
    """Alias, then a model's own name, then provider, then "provider/model"."""
    assert [str(target) for target in TABLE.resolve(name)] == targets


@pytest.mark.parametrize("name", ["gtp-mini", "nobody/model", "bare", "/", "x" * 10_000, "\x00"])
def test_an_unknown_name_says_what_would_be_right(name: str) -> None:
    """MODEL_UNKNOWN with close names, and never more than a short piece of what was sent."""
    with pytest.raises(GenerationError) as caught:
        TABLE.resolve(name)
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    assert len(caught.value.fact.message) < 400
    if name == "gtp-mini":
        assert "did you mean gpt-mini" in caught.value.fact.message


def test_no_default_is_said() -> None:
    """A request without a model needs a default."""
    with pytest.raises(GenerationError, match="no default model"):
        RouteTable(aliases={}, providers={}).resolve("")


@pytest.mark.parametrize(
    ("fallback", "targets"),
    [
        (v1.FallbackOptions(disabled=True), ["groq/llama"]),
        (v1.FallbackOptions(models=["gpt", "openai/gpt", "groq"]), ["groq/llama", "openai/gpt"]),
        (v1.FallbackOptions(), ["groq/llama", "openai/gpt-mini"]),
    ],
)
def test_a_request_may_override_its_fallbacks(fallback: v1.FallbackOptions, targets: list[str]) -> None:
    """Off, or others in their order, each target once."""
    plan = TABLE.plan(v1.GenerateRequest(model="fast", fallback=fallback))
    assert [str(target) for target in plan] == targets


def test_defaults_fill_only_what_is_absent() -> None:
    """A zero that the caller set stays a zero."""
    request = v1.GenerateRequest(sampling=v1.Sampling(temperature=0))
    Defaults(max_output_tokens=100, temperature=0.7).fill(request)
    assert request.sampling == v1.Sampling(temperature=0, max_output_tokens=100)


@pytest.mark.parametrize(
    ("allowed", "model", "fallbacks", "ok"),
    [
        (["*"], "fast", [], True),
        (["fast"], "fast", [], True),
        (["fast"], "groq/llama", [], False),
        (["openai/*"], "gpt", [], True),
        (["openai/*"], "", [], True),
        (["openai"], "", [], True),
        (["groq/*"], "", [], False),
        (["openai/*"], "fast", [], False),
        (["fast"], "fast", ["gpt"], False),
        (["fast", "gpt"], "fast", ["gpt"], True),
        (["openai/gpt"], "gpt", [], True),
        ([], "gpt", [], False),
    ],
)
def test_a_caller_gets_only_the_models_it_is_allowed(
    allowed: list[str], model: str, fallbacks: list[str], *, ok: bool
) -> None:
    """By alias, by pattern or by target; fallbacks it names are no way around."""
    request = v1.GenerateRequest(model=model, fallback=v1.FallbackOptions(models=fallbacks))
    principal, plan = Principal("app", tuple(allowed)), TABLE.plan(request)
    if ok:
        check_models(principal, request, plan)
        return
    with pytest.raises(GenerationError) as caught:
        check_models(principal, request, plan)
    assert caught.value.reason is Reason.MODEL_NOT_ALLOWED


def test_nobody_gets_nothing() -> None:
    """An unknown caller is told how to become known."""
    with pytest.raises(GenerationError, match="authorization: Bearer") as caught:
        check_caller(NOBODY)
    assert caught.value.reason is Reason.CALLER_UNKNOWN
