"""Names, plans, and the stage that makes them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import ANYONE, DIRECT, NOBODY, Principal, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.model_facts import Capability, ModelFacts
from outrider.policy.admit import check_caller, check_models
from outrider.policy.parameters import Parameters
from outrider.policy.route import route
from outrider.policy.route_table import Models, RouteTable, Strategy
from tests.support.routing import Routing, route_of
from tests.support.scripted import context
from tests.support.sidecar import ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.ports import Batch

TABLE = RouteTable(
    routes=[route_of("fast", "groq/llama", "openai/gpt-mini")],
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
    """Route, then a model's own name, then provider, then "provider/model"."""
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
        RouteTable(providers={}).resolve("")


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


def test_parameters_fill_only_what_is_absent() -> None:
    """A zero that the caller set stays a zero; a route's own parameters go over the common ones."""
    request = v1.GenerateRequest(sampling=v1.Sampling(temperature=0))
    own = Parameters(max_output_tokens=100, effort=v1.ReasoningOptions.EFFORT_LOW)
    own.over(Parameters(max_output_tokens=7, temperature=0.7, top_p=0.5)).fill(request)
    assert request.sampling == v1.Sampling(temperature=0, max_output_tokens=100, top_p=0.5)
    assert request.reasoning.effort == v1.ReasoningOptions.EFFORT_LOW


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
    """By route, by pattern or by target; fallbacks it names are no way around."""
    request = v1.GenerateRequest(model=model, fallback=v1.FallbackOptions(models=fallbacks))
    principal, plan = Principal("app", tuple(allowed)), TABLE.plan(request)
    if ok:
        check_models(principal, request, plan)
        return
    with pytest.raises(GenerationError) as caught:
        check_models(principal, request, plan)
    assert caught.value.reason is Reason.MODEL_NOT_ALLOWED


@pytest.mark.parametrize(
    ("allowed", "model", "fallbacks", "what"),
    [
        (["openai/gpt"], "openai/gpt", ["groq/llama"], "groq/llama"),
        (["openai/gpt"], "openai/gpt", ["fast"], "fast"),
        (["openai/gpt"], "fast", [], "fast"),
        (["openai/gpt"], "fast", ["groq/llama"], "groq/llama"),
        (["openai/gpt"], "gpt", ["fast"], "gpt or fast"),
        ([], "openai/gpt", ["groq/llama"], "openai/gpt"),
    ],
)
def test_what_is_not_allowed_is_named_as_it_was_asked_for(
    allowed: list[str], model: str, fallbacks: list[str], what: str
) -> None:
    """Nothing that the caller may use, and no target that it did not name."""
    request = v1.GenerateRequest(model=model, fallback=v1.FallbackOptions(models=fallbacks))
    with pytest.raises(GenerationError) as caught:
        check_models(Principal("app", tuple(allowed)), request, TABLE.plan(request))
    assert caught.value.fact.message == f"app may not use {what}"


def test_nobody_gets_nothing() -> None:
    """An unknown caller is told how to become known."""
    with pytest.raises(GenerationError, match="authorization: Bearer") as caught:
        check_caller(NOBODY)
    assert caught.value.reason is Reason.CALLER_UNKNOWN


async def passed(routing: Routing, call: RequestContext) -> RequestContext:
    """The context as the stage inside gets it."""
    seen = []

    def inner(context: RequestContext) -> AsyncGenerator[Batch, None]:
        seen.append(context)
        return nothing()

    async def nothing() -> AsyncGenerator[Batch, None]:
        return
        yield

    async for _ in route(routing.planner)(inner)(call):
        pytest.fail("nothing was to come")
    return seen[0]


async def test_a_route_brings_its_settings() -> None:
    """Its parameters are in the request, its timeouts and its name in the context."""
    smart = route_of("smart", "a/m", "b/m", parameters=Parameters(temperature=0), timeouts={"first_event": 5})
    call = replace(context(), request=ask("smart"))
    seen = await passed(Routing(smart), call)
    assert [str(each) for each in seen.plan] == ["a/m", "b/m"]
    assert (seen.route.name, seen.route.timeouts) == ("smart", {"first_event": 5})
    assert seen.request.sampling.HasField("temperature")
    assert seen.choice == ("a", "m")


async def test_a_model_named_directly_goes_to_one_target() -> None:
    """With no settings of any route; no name at all leads to the default."""
    routing = Routing()
    for name, model in (("b/x", "b/x"), ("", "a/m")):
        seen = await passed(routing, replace(context(), request=ask(name)))
        assert [str(each) for each in seen.plan] == [model]
        assert seen.route is DIRECT
        assert seen.meant_for is None


async def test_what_a_request_is_meant_for_is_known_where_it_goes_elsewhere() -> None:
    """While the first target is unwell the plan begins with another one; stored answers are the first's."""
    routing = Routing(route_of("r", "a/m", "b/m", "c/m"), unwell={"a/m"})
    seen = await passed(routing, replace(context(), request=ask("r")))
    assert [str(each) for each in seen.plan] == ["b/m", "c/m", "a/m"]
    assert seen.choice == ("a", "m")


async def test_long_requests_are_counted_aside() -> None:
    """Counting 2 MB does not hold up the loop, and the request goes where it fits."""
    small, large = ModelFacts(context_tokens=8_000), ModelFacts(context_tokens=4_000_000)
    routing = Routing(route_of("r", "a/m", "b/m"), facts={"a/m": small, "b/m": large})
    task = asyncio.create_task(passed(routing, replace(context(), request=ask("r", "word " * 400_000))))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 2
    assert [str(each) for each in (await task).plan] == ["b/m"]


async def test_where_nothing_fits_each_target_is_named() -> None:
    """With the reason for each, and the field of the request that causes it."""
    blind = ModelFacts(lacks=frozenset({Capability.VISION}))
    deaf = ModelFacts(lacks=frozenset({Capability.TOOLS}))
    routing = Routing(route_of("r", "a/m", "b/m"), facts={"a/m": blind, "b/m": deaf})
    request = ask("r", tools=[v1.Tool(name="t")])
    request.messages[0].parts.add(image=v1.Media(uri="https://example.com/cat.png"))
    with pytest.raises(GenerationError) as caught:
        await passed(routing, replace(context(), request=request))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fact.message == "no target fits: a/m takes no images; b/m calls no tools"
    assert [violation.field for violation in caught.value.fact.violations] == ["messages", "tools"]


async def test_what_is_too_long_everywhere_is_refused() -> None:
    """CONTEXT_TOO_LONG, before anybody is asked; what is a little beyond is the provider's to judge."""
    routing = Routing(route_of("r", "a/m"), facts={"a/m": ModelFacts(context_tokens=1_000)})
    with pytest.raises(GenerationError, match="a/m reads 1,000 tokens, and the request has about") as caught:
        await passed(routing, replace(context(), request=ask("r", "word " * 3_000)))
    assert caught.value.reason is Reason.CONTEXT_TOO_LONG
    seen = await passed(routing, replace(context(), request=ask("r", "word " * 1_050)))
    assert len(seen.plan) == 1


async def test_strangers_learn_nothing_of_targets() -> None:
    """Who may not use a route is told that, not what its targets lack."""
    routing = Routing(route_of("r", "a/m"), facts={"a/m": ModelFacts(context_tokens=10)})
    call = replace(context(), request=ask("r", "word " * 3_000), principal=Principal("app", ("b/*",)))
    with pytest.raises(GenerationError) as caught:
        await passed(routing, call)
    assert caught.value.reason is Reason.MODEL_NOT_ALLOWED
    assert ANYONE.admin


@pytest.mark.parametrize(
    ("fallback", "plan"),
    [
        (v1.FallbackOptions(disabled=True), ["a/m"]),
        (v1.FallbackOptions(models=["c/x", "other", "c/x"]), ["c/x", "d/m", "e/m", "a/m"]),
        (v1.FallbackOptions(), ["b/m", "a/m"]),
    ],
)
def test_overrides_win_over_the_route(fallback: v1.FallbackOptions, plan: list[str]) -> None:
    """Without fallbacks not even an open breaker leads elsewhere; with others these come in their order."""
    routing = Routing(route_of("r", "a/m", "b/m"), route_of("other", "d/m", "e/m"), unwell={"a/m"})
    assert routing.plan(ask("r", fallback=fallback)) == plan


TARGETS = [f"{provider}/m" for provider in "abcdefgh"]
CAPABILITIES = st.frozensets(st.sampled_from(Capability))


@given(
    strategy=st.sampled_from(Strategy),
    lacks=st.lists(CAPABILITIES, min_size=1, max_size=8),
    needs=CAPABILITIES,
    unwell=st.sets(st.sampled_from(TARGETS)),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=8, max_size=8),
    sticky_key=st.sampled_from(["", "k1", "k2"]),
    seed=st.integers(0, 100),
)
def test_every_target_that_fits_is_in_the_plan_once(
    strategy: Strategy,
    lacks: list[frozenset[Capability]],
    needs: frozenset[Capability],
    unwell: set[str],
    weights: list[float],
    sticky_key: str,
    seed: int,
) -> None:
    """And no other; those that are unwell come last, each group in the order of the strategy."""
    names = TARGETS[: len(lacks)]
    made = route_of("r", *names, strategy=strategy, weights=dict(zip(TARGETS, weights, strict=True)))
    facts = {name: ModelFacts(lacks=each) for name, each in zip(names, lacks, strict=True)}

    def plan(unwell: set[str]) -> list[str]:
        routing = Routing(made, facts=facts, unwell=unwell, random=Random(seed))
        return routing.plan(needing(needs, sticky_key))

    fits = {name for name, each in zip(names, lacks, strict=True) if needs.isdisjoint(each)}
    soft = needs - {Capability.REASONING}
    may = fits or {name for name, each in zip(names, lacks, strict=True) if soft.isdisjoint(each)}
    well = plan(set())
    assert sorted(well) == sorted(may)
    assert plan(unwell) == sorted(well, key=lambda name: name in unwell)


def needing(needs: frozenset[Capability], sticky_key: str = "") -> v1.GenerateRequest:
    """A request that needs exactly this."""
    media = v1.Media(data=b"x", mime_type="application/x")
    request = ask("r", sticky_key=sticky_key)
    for need, kind in ((Capability.VISION, "image"), (Capability.AUDIO, "audio"), (Capability.FILES, "file")):
        if need in needs:
            request.messages[0].parts.append(v1.Part(**{kind: media}))  # type: ignore[arg-type]
    if Capability.TOOLS in needs:
        request.tools.add(name="t")
    if Capability.JSON_SCHEMA in needs:
        request.response_format.json_schema.json_schema = "{}"
    if Capability.REASONING in needs:
        request.reasoning.effort = v1.ReasoningOptions.EFFORT_HIGH
    return request
