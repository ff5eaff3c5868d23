import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from outrider import v1
from outrider.core.context import Outcome, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Call, Handler
from outrider.policy.account import Accountant
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, Watcher, attempt_loop, context, text_of, upstream


class Counter:
    """One token a character in, one for each 4 characters out."""

    def count_input(self, request: v1.GenerateRequest, model: str) -> tuple[int, bool]:
        return sum(len(part.text) for message in request.messages for part in message.parts), False

    def count_output(self, chars: int, model: str) -> int:
        return -(-chars // 4)


def cost(provider: str, model: str, usage: v1.Usage) -> v1.Cost | None:
    if model == "unpriced":
        return None
    return v1.Cost(total_nano_usd=usage.input_tokens + usage.output_tokens, estimated=usage.source == 2)


def make(*scripts: list[object], **settings: object) -> tuple[Handler, Watcher, Accountant, ScriptedProvider]:
    provider, watcher = ScriptedProvider(*scripts), Watcher()
    accountant = Accountant(Counter(), cost, watcher, now)
    return accountant(attempt_loop(upstream(provider, **settings))), watcher, accountant, provider  # type: ignore[arg-type]


async def run(handler: Handler, call: RequestContext) -> v1.Completed:
    async with aclosing(handler(call)) as batches:
        events = [event async for batch in batches for event in batch]
    return events[-1].completed


@paused
async def test_success_settles_one_record_and_completes_the_answer() -> None:
    """Usage, cost, attempts and timings are in the last event and in the record alike."""
    handler, watcher, _, _ = make([1.0, "four", 2.0, "more", DONE])
    call = context("p/m")
    completed = await run(handler, call)
    assert [record.outcome for record in watcher.finished] == [Outcome.SUCCEEDED]
    assert completed.usage == v1.Usage(input_tokens=5, output_tokens=2, source=v1.USAGE_SOURCE_ESTIMATED)
    assert completed.cost.total_nano_usd == 7
    assert completed.cost.estimated
    assert [attempt.provider for attempt in completed.attempts] == ["p"]
    assert completed.timings.time_to_first_content.ToMilliseconds() == 1000
    assert completed.timings.total.ToMilliseconds() == 3000
    assert call.record.finished_at - call.record.started_at == pytest.approx(3)


@paused
async def test_missing_usage_is_estimated_and_flagged() -> None:
    """Row 21: never 0, and never passed off as the provider's."""
    handler, watcher, _, _ = make(["some words here", DONE])
    completed = await run(handler, context("p/m"))
    assert completed.usage.source == v1.USAGE_SOURCE_ESTIMATED
    assert completed.usage.input_tokens > 0 < completed.usage.output_tokens
    assert watcher.finished[0].usage == completed.usage


@paused
async def test_an_unknown_price_is_unknown() -> None:
    """Absent, not zero."""
    handler, watcher, _, _ = make(["a", DONE])
    completed = await run(handler, context("p/unpriced"))
    assert not completed.HasField("cost")
    assert watcher.finished[0].cost is None


@paused
async def test_failure_settles_one_record_and_tells_what_had_happened() -> None:
    """The error carries every try; nothing was used where nothing was answered."""
    handler, watcher, _, _ = make([GenerationError(Reason.PROVIDER_ERROR, "x")])
    with pytest.raises(GenerationError) as caught:
        await run(handler, context("p/m"))
    record = watcher.finished[0]
    assert (len(watcher.finished), record.outcome, record.reason) == (
        1,
        Outcome.FAILED,
        Reason.PROVIDER_ERROR,
    )
    assert record.usage is None
    failure = caught.value.failure
    assert failure is not None
    assert (len(failure.attempts), failure.request_id) == (3, "id")
    assert not failure.HasField("partial_usage")


@paused
async def test_a_cut_stream_tells_its_partial_usage() -> None:
    """What was streamed before the cut is counted and priced."""
    handler, watcher, _, _ = make(["twelve chars", GenerationError(Reason.STREAM_TRUNCATED, "cut")])
    with pytest.raises(GenerationError) as caught:
        await run(handler, context("p/m"))
    assert caught.value.failure is not None
    assert caught.value.failure.partial_usage.output_tokens == 3
    assert watcher.finished[0].usage == caught.value.failure.partial_usage


@paused
async def test_a_refused_request_is_on_record_too() -> None:
    """Whatever a later stage refuses, before any provider is asked."""
    watcher = Watcher()

    def refuse(_: RequestContext) -> object:
        raise GenerationError(Reason.MODEL_UNKNOWN, "no")

    handler = Accountant(Counter(), cost, watcher, now)(refuse)  # type: ignore[arg-type]
    with pytest.raises(GenerationError):
        await run(handler, context())
    assert [record.reason for record in watcher.finished] == [Reason.MODEL_UNKNOWN]


@pytest.mark.parametrize("after", [0.5, 3.0])
def test_a_caller_that_leaves_is_on_record_with_what_it_used(after: float) -> None:
    """Row 30: cancelled before the first token or in mid-stream, exactly one record each."""

    @paused
    async def check() -> None:
        handler, watcher, accountant, _ = make([1.0, "eight ch", 100.0, DONE])
        task = asyncio.create_task(run(handler, context("p/m")))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await accountant.aclose()
        (record,) = watcher.finished
        assert record.outcome is Outcome.CANCELLED
        if after > 1:
            assert record.usage is not None
            assert record.usage.output_tokens == 2
            assert record.cost is not None

    check()


@paused
async def test_a_caller_that_leaves_while_a_failure_is_counted_is_on_record() -> None:
    """Row 30: the deadline that fails a request ends its call in the same moment; still one record."""
    counting, released, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    class Slow(Counter):
        def count_input(self, request: v1.GenerateRequest, model: str) -> tuple[int, bool]:
            loop.call_soon_threadsafe(counting.set)
            released.wait(5)
            return super().count_input(request, model)

    watcher, cut = Watcher(), GenerationError(Reason.DEADLINE_EXCEEDED, "late")
    accountant = Accountant(Slow(), cost, watcher, now)
    request = v1.GenerateRequest(
        messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="x" * 100_000)])]
    )
    handler = accountant(attempt_loop(upstream(ScriptedProvider(["abcd", cut]))))
    task = asyncio.create_task(run(handler, context("p/m", request=request)))
    await counting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    await accountant.aclose()
    (record,) = watcher.finished
    assert (record.outcome, record.reason) == (Outcome.FAILED, Reason.DEADLINE_EXCEEDED)
    assert record.usage is not None
    assert record.usage.input_tokens == 100_000


@paused
async def test_a_deadline_that_passes_while_the_provider_works_is_on_record_with_what_it_used() -> None:
    """Row 30: its caller has left as well, and the provider bills for the prompt."""

    class Working(ScriptedProvider):
        async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
            call.progress.upstream_status = 200
            await asyncio.sleep(100)
            yield []

    watcher = Watcher()
    handler = Accountant(Counter(), cost, watcher, now)(attempt_loop(upstream(Working([]))))
    with pytest.raises(GenerationError):
        await run(handler, context("p/m", deadline=3))
    assert watcher.finished[0].usage == v1.Usage(input_tokens=5, source=v1.USAGE_SOURCE_ESTIMATED)


@paused
async def test_a_caller_that_stops_reading_is_on_record() -> None:
    """Row 30: closing the stream early, without a cancel, settles as well."""
    handler, watcher, accountant, provider = make(["a", "b", "c", DONE])
    async with aclosing(handler(context("p/m"))) as batches:
        async for _ in batches:
            break
    await accountant.aclose()
    assert [record.outcome for record in watcher.finished] == [Outcome.CANCELLED]
    assert provider.closed == 1


@paused
async def test_a_bug_is_on_record() -> None:
    """Exactly once, as INTERNAL, and the exception goes on."""
    watcher = Watcher()

    def bug(_: RequestContext) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(Accountant(Counter(), cost, watcher, now)(bug), context())  # type: ignore[arg-type]
    assert [record.reason for record in watcher.finished] == [Reason.INTERNAL]


@paused
async def test_a_large_request_is_counted_off_the_loop() -> None:
    """The same numbers, by way of a thread."""
    handler, _, _, _ = make(["abcd", DONE])
    text = "x" * 100_000
    request = v1.GenerateRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])])
    completed = await run(handler, context("p/m", request=request))
    assert completed.usage.input_tokens == 100_000


@paused
async def test_every_event_reaches_the_caller_unchanged() -> None:
    """The stage only adds to the last one."""
    handler, _, _, _ = make(["a", "b", "c", DONE])
    async with aclosing(handler(context("p/m"))) as batches:
        assert text_of([batch async for batch in batches]) == "abc"
