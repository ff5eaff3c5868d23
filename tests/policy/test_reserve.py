import asyncio
from collections.abc import AsyncGenerator

import pytest

from outrider import v1
from outrider.core.context import UNLIMITED, RequestContext
from outrider.core.ports import Batch
from outrider.core.quota import Charge, Crossing, Meter, Period, Rate, Unit, Window
from outrider.policy.limit_rules import Rule
from tests.support.limited import ScriptedQuota, call, limited
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, upstream

REQUESTS = ((Unit.REQUESTS, Rate(60, 10)),)


def seen(contexts: list[RequestContext]):  # type: ignore[no-untyped-def]
    """A stage that keeps the contexts it is given."""

    def stage(inner):  # type: ignore[no-untyped-def]
        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            contexts.append(context)
            return inner(context)  # type: ignore[no-any-return]

        return handle

    return stage


@paused
async def test_without_rules_there_is_no_stage() -> None:
    """The handler is the one inside: nothing is paid for limits that nobody has set."""

    async def inner(context: RequestContext) -> AsyncGenerator[Batch, None]:
        yield []

    assert limited([], ScriptedQuota()).reserver(inner) is inner


@paused
async def test_a_request_to_which_no_rule_applies_passes_as_it_is() -> None:
    """The very same context, UNLIMITED; the store is never asked."""
    contexts: list[RequestContext] = []
    store = ScriptedQuota()
    pipeline = limited(
        [Rule({"tenant": "acme"}, REQUESTS), Rule({"provider": "q"}, REQUESTS)],
        store,
        upstream(ScriptedProvider(["ok", DONE])),
        inside=[seen(contexts)],
    )
    request = call("a", "p/m", tenant="other")
    await pipeline.answer(request)
    assert contexts == [request]
    assert contexts[0] is request
    assert contexts[0].reservation is UNLIMITED
    await pipeline.answer(call("b", "p/m", tenant="acme"))
    assert contexts[1].reservation is not UNLIMITED
    assert [asked.holder for asked in store.all("reserve")] == ["b"]


@paused
async def test_crossings_are_passed_on() -> None:
    """Whoever settles tells of the thresholds that the store found crossed."""
    store = ScriptedQuota()
    crossing = Crossing(Meter("all", Unit.TOKENS, Window(10, Period.DAY)), 0.5, 6)
    store.crossings = [crossing]
    pipeline = limited([Rule({}, REQUESTS)], store, upstream(ScriptedProvider(["ok", DONE])))
    await pipeline.answer(call("a", "p/m"))
    assert pipeline.crossings == []
    await pipeline.reserver.aclose()
    assert pipeline.crossings == [crossing]


@paused
async def test_settling_is_not_on_the_way_of_an_answer() -> None:
    """The caller has its answer at once, however slow the store; the end waits for it, up to a bound."""
    store = ScriptedQuota()
    pipeline = limited([Rule({}, REQUESTS)], store, upstream(ScriptedProvider(["ok", DONE])))
    await pipeline.answer(call("a", "p/m"))
    store.latency, start = 1.0, now()
    await asyncio.sleep(0)
    await pipeline.reserver.aclose()
    assert now() - start == 1.0
    store.latency = 0.0
    await pipeline.answer(call("b", "p/m"))
    store.latency, start = 3_600.0, now()
    await pipeline.reserver.aclose()
    assert now() - start == pytest.approx(2.0)


@paused
async def test_a_store_that_fails_is_a_bug_and_leaves_nothing_behind() -> None:
    """The request ends as INTERNAL would; what had been granted is settled."""

    class Broken(ScriptedQuota):
        async def reserve(self, holder: str, charges: list[Charge], patience: float):  # type: ignore[no-untyped-def,override]
            if holder == "a:1":
                raise ZeroDivisionError
            return await super().reserve(holder, charges, patience)

    store = Broken()
    rules = [Rule({}, REQUESTS), Rule({"provider": "*"}, REQUESTS)]
    pipeline = limited(rules, store, upstream(ScriptedProvider(["ok", DONE])))
    with pytest.raises(ZeroDivisionError):
        await pipeline.answer(call("a", "p/m"))
    await pipeline.reserver.aclose()
    assert [(asked.holder, asked.used) for asked in store.all("settle")] == [("a", [0])]


async def test_long_prompts_are_counted_off_the_loop_only_where_tokens_matter() -> None:
    """A limit of requests alone reads no prompt at all."""
    long = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="x" * 20_000)])
    for unit, counted in ((Unit.REQUESTS, 1), (Unit.TOKENS, 20_100)):
        store = ScriptedQuota()
        rule = Rule({}, ((unit, Rate(10**9, 10**9)),))
        pipeline = limited([rule], store, upstream(ScriptedProvider(["ok", DONE])))
        request = call("a", "p/m")
        del request.request.messages[:]
        request.request.messages.append(long)
        await pipeline.answer(request)
        assert [charge.amount for charge in store.all("reserve")[0].charges] == [counted]
