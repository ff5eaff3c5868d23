"""Tries that gave no answer, but that their providers may bill for: on record, in limits and in budgets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.context import Progress, Record
from outrider.core.errors import GenerationError, Reason
from outrider.core.quota import Period, Rate, Unit, Window
from outrider.core.spent import spent
from outrider.core.usage_record import usage_record
from outrider.policy.limit_rules import Rule
from tests.support.limited import INPUT_TOKENS, ScriptedQuota, call, limited, memory
from tests.support.paused_clock import paused
from tests.support.scripted import DONE, ScriptedProvider, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.ports import Batch, Call
    from tests.support.limited import Limited

PROVIDER, ESTIMATED = v1.USAGE_SOURCE_PROVIDER, v1.USAGE_SOURCE_ESTIMATED
ANSWER = v1.Usage(input_tokens=6, output_tokens=2, source=PROVIDER)


class Working(ScriptedProvider):
    """Its answer has begun, maybe with usage, before anything else happens."""

    def __init__(self, *script: object, said: v1.Usage | None = None, name: str = "p") -> None:
        super().__init__(list(script), name=name)
        self._said = said

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        call.progress.upstream_status, call.progress.usage = 200, self._said
        async for batch in super().generate(call):
            yield batch


def answering() -> ScriptedProvider:
    provider = ScriptedProvider(["four", DONE], name="q")
    provider.usage = ANSWER
    return provider


def rules() -> list[Rule]:
    units = ((Unit.REQUESTS, Rate(60, 60)), (Unit.TOKENS, Rate(6_000, 6_000)))
    money = ((Unit.NANO_USD, Window(10**9, Period.DAY)),)
    scopes = ({"tenant": "*"}, {"provider": "p"}, {"provider": "q"})
    return [Rule(scope, bounds, kind) for scope in scopes for bounds, kind in ((units, "l"), (money, "b"))]


async def used(pipeline: Limited, store: ScriptedQuota) -> dict[str, list[int]]:
    """What was settled, by scope: requests, tokens, money."""
    await pipeline.reserver.aclose()
    return {each.charges[0].meter.scope: list(each.used) for each in store.all("settle")}


FAILED = {
    "a first event that does not come": (Working(500.0), 0, INPUT_TOKENS + 1),
    "a break after usage was told": (
        Working(GenerationError(Reason.STREAM_TRUNCATED, ""), said=v1.Usage(input_tokens=9, output_tokens=3)),
        3,
        9,
    ),
}


@pytest.mark.parametrize("failure", FAILED)
def test_what_a_failed_try_may_cost_is_counted(failure: str) -> None:
    """On its attempt, in the ledger, and against the limits and budgets of its provider and caller."""
    failing, output, prompt = FAILED[failure]

    @paused
    async def run() -> None:
        store = ScriptedQuota()
        failing.calls.clear()
        pipeline = limited(rules(), store, upstream(failing, max_attempts=1), upstream(answering()))
        request = call("a", "p/m", "q/m")
        completed = (await pipeline.answer(request))[-1][-1].completed
        assert completed.usage == ANSWER
        assert completed.cost.total_nano_usd == 6 * 10 + 2 * 100
        lost, won = completed.attempts
        assert (lost.usage.input_tokens, lost.usage.output_tokens) == (prompt, output)
        assert lost.usage.source == ESTIMATED
        assert lost.cost.total_nano_usd == 10 * prompt + 100 * output
        assert not won.HasField("usage")
        entry = usage_record(request.record, 0.0)
        assert entry.cost.total_nano_usd == 260 + lost.cost.total_nano_usd
        assert (entry.usage.input_tokens, entry.usage.source) == (6 + prompt, ESTIMATED)
        settled = await used(pipeline, store)
        tokens = 8 + prompt + output
        assert settled["tenant="] == [1, tokens, entry.cost.total_nano_usd]
        assert settled["provider=q"] == [1, 8, 260]
        assert settled["provider=p"][:2] == [1, (prompt if output else INPUT_TOKENS) + output]

    run()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ([GenerationError(Reason.PROVIDER_OVERLOADED, "")], 0),
        ([GenerationError(Reason.PROVIDER_ERROR, "")], 200),
    ],
)
def test_a_provider_that_only_failed_bills_nothing(script: list[object], status: int) -> None:
    """No tokens are made up for it, whatever its status."""

    @paused
    async def run() -> None:
        store = ScriptedQuota()
        provider = Working(*script) if status else ScriptedProvider(script)
        pipeline = limited(rules(), store, upstream(provider, max_attempts=1), upstream(answering()))
        request = call("a", "p/m", "q/m")
        await pipeline.answer(request)
        assert spent(request.record) == (request.record.usage, request.record.cost)
        assert (await used(pipeline, store))["provider=p"] == [1, 0, 0]

    run()


@paused
async def test_a_withheld_answer_costs_what_its_provider_said() -> None:
    """That is no estimate: the answer was whole."""
    strict = Working(DONE, said=v1.Usage(input_tokens=5, output_tokens=7, source=PROVIDER))
    strict.finish_reason = v1.FINISH_REASON_CONTENT_FILTER
    pipeline = limited(rules(), ScriptedQuota(), upstream(strict), upstream(answering()))
    request = call("a", "p/m", "q/m")
    request.request.fallback.on_content_filter = True
    await pipeline.answer(request)
    usage, cost = spent(request.record)
    assert usage == v1.Usage(input_tokens=11, output_tokens=9, source=PROVIDER)
    assert cost is not None
    assert (cost.total_nano_usd, cost.estimated) == (11 * 10 + 9 * 100, False)


@paused
async def test_a_request_that_fails_with_all_its_tries_is_charged_for_them() -> None:
    """The error tells of each; the usage so far that it has is of an answer, and there was none."""
    store = ScriptedQuota()
    pipeline = limited(rules(), store, upstream(Working(500.0), max_attempts=2))
    request = call("a", "p/m")
    with pytest.raises(GenerationError) as caught:
        await pipeline.answer(request)
    failure = caught.value.failure
    assert failure is not None
    assert [attempt.usage.input_tokens for attempt in failure.attempts] == [INPUT_TOKENS] * 2
    assert not failure.HasField("partial_usage")
    entry = usage_record(request.record, 0.0)
    assert entry.cost.total_nano_usd == 2 * 10 * INPUT_TOKENS
    assert (await used(pipeline, store))["tenant="] == [1, 2 * INPUT_TOKENS, 2 * 10 * INPUT_TOKENS]


@paused
async def test_a_caller_that_leaves_after_a_lost_try_is_charged_for_both() -> None:
    """The first try timed out, the second was at work: the record is settled with the prompts of both."""
    pipeline = limited(rules(), memory(), upstream(Working(500.0), max_attempts=2))
    request = call("a", "p/m")
    task = asyncio.create_task(pipeline.answer(request))
    await asyncio.sleep(15)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert [record.request_id for record in pipeline.watcher.finished] == ["a"]
    usage, _ = spent(request.record)
    assert usage is not None
    assert usage.input_tokens == 2 * INPUT_TOKENS
    await pipeline.reserver.aclose()


def test_an_unknown_price_is_not_zero() -> None:
    """Of the answer: the sum is unknown. Of a lost try: the sum is an estimate."""
    record = Record("a", "Generate", "anyone", "p/m", 0.0)
    usage = v1.Usage(input_tokens=1, source=PROVIDER)
    unpriced = v1.Attempt(usage=usage)
    record.lost = ((unpriced, Progress()),)
    assert spent(record)[1] is None
    record.usage, record.cost = usage, v1.Cost(total_nano_usd=5)
    assert spent(record)[1] == v1.Cost(total_nano_usd=5, estimated=True)
    unpriced.cost.total_nano_usd = 3
    assert spent(record)[1] == v1.Cost(total_nano_usd=8)
    record.cost = None
    assert spent(record)[1] is None
