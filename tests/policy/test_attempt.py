import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from outrider import v1
from outrider.core.context import RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Call
from outrider.policy.attempt import AttemptLoop
from outrider.policy.backoff import Backoff
from outrider.policy.breaker import State
from outrider.policy.upstream import Timeouts
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, Watcher, attempt_loop, context, text_of, upstream

OUTCOME = v1.Attempt.Outcome.Name


def error(reason: Reason = Reason.PROVIDER_ERROR, retry_after: float | None = None) -> GenerationError:
    return GenerationError(reason, "as scripted", retry_after=retry_after)


async def collect(loop: AttemptLoop, call: RequestContext) -> list[Batch]:
    async with aclosing(loop(call)) as batches:
        return [batch async for batch in batches]


def outcomes(call: RequestContext) -> list[str]:
    return [f"{a.provider}:{OUTCOME(a.outcome)[8:]}:{a.reason}" for a in call.record.attempts]


@paused
async def test_an_answer_begins_with_started_and_ends_with_completed() -> None:
    """Started comes once, together with the first content."""
    call = context("p/m")
    batches = await collect(attempt_loop(upstream(ScriptedProvider(["a", "b", DONE]))), call)
    kinds = [event.WhichOneof("event") for batch in batches for event in batch]
    assert kinds == ["started", "text_delta", "text_delta", "completed"]
    started = batches[0][0].started
    assert (started.request_id, started.provider, started.model, started.attempt) == ("id", "p", "m", 1)
    assert outcomes(call) == ["p:SUCCEEDED:"]


@paused
async def test_a_failing_provider_is_called_exactly_as_often_as_configured() -> None:
    """Row 7: three attempts are three calls, with waits between 0 and 1, then 0 and 2 seconds."""
    provider, call, start = ScriptedProvider([error()]), context("p/m"), now()
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(provider)), call)
    assert caught.value.reason is Reason.PROVIDER_ERROR
    first, second, third = (moment - start for moment in provider.called_at)
    assert first == 0 < second <= 1 < third <= 3 or (second <= 1 and third - second <= 2)
    assert outcomes(call) == ["p:FAILED:PROVIDER_ERROR"] * 3
    assert call.record.waited == pytest.approx(third)


@paused
async def test_the_next_try_answers() -> None:
    """The answer carries its number, and the record every try."""
    call = context("p/m")
    batches = await collect(attempt_loop(upstream(ScriptedProvider([error()], ["ok", DONE]))), call)
    assert batches[0][0].started.attempt == 2
    assert outcomes(call) == ["p:FAILED:PROVIDER_ERROR", "p:SUCCEEDED:"]


@paused
async def test_the_next_target_answers_when_one_is_used_up() -> None:
    """Targets in order; each gets all its tries."""
    dead, alive = ScriptedProvider([error()], name="dead"), ScriptedProvider(["ok", DONE], name="alive")
    call = context("dead/m", "alive/n")
    batches = await collect(attempt_loop(upstream(dead), upstream(alive)), call)
    assert text_of(batches) == "ok"
    assert len(dead.calls) == 3
    assert outcomes(call)[-1] == "alive:SUCCEEDED:"
    assert (call.record.provider, call.record.model) == ("alive", "n")


@pytest.mark.parametrize("reason", [Reason.PROVIDER_CREDENTIALS_REFUSED, Reason.PROVIDER_QUOTA_SPENT])
def test_what_will_not_heal_is_not_retried_but_the_next_target_is_tried(reason: Reason) -> None:
    """A refused key or a spent quota goes straight to the next target."""

    @paused
    async def run() -> None:
        dead, alive = ScriptedProvider([error(reason)], name="dead"), ScriptedProvider(["ok", DONE])
        start = now()
        assert text_of(await collect(attempt_loop(upstream(dead), upstream(alive)), context("dead/m", "p/m")))
        assert len(dead.calls) == 1
        assert now() == start

    run()


@paused
async def test_the_callers_own_mistakes_are_tried_once() -> None:
    """What is wrong with the request is wrong everywhere."""
    first = ScriptedProvider([error(Reason.INVALID_REQUEST)], name="a")
    second = ScriptedProvider(["ok", DONE], name="b")
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(first), upstream(second)), context("a/m", "b/m"))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert (len(first.calls), len(second.calls)) == (1, 0)


@pytest.mark.parametrize("deltas", [1, 2, 5])
def test_nothing_is_tried_again_after_the_commit_point(deltas: int) -> None:
    """Row 6: a failure after N deltas means one upstream call, and the deltas reach the caller once."""

    @paused
    async def run() -> None:
        provider = ScriptedProvider(["x"] * deltas + [error()])
        other, seen = ScriptedProvider(["ok", DONE], name="other"), []
        call = context("p/m", "other/m")
        with pytest.raises(GenerationError) as caught:
            async with aclosing(attempt_loop(upstream(provider), upstream(other))(call)) as batches:
                async for batch in batches:
                    seen.append(batch)  # noqa: PERF401 - what came before the error counts
        assert caught.value.committed
        assert text_of(seen) == "x" * deltas
        assert (len(provider.calls), len(other.calls)) == (1, 0)

    run()


@paused
async def test_a_stream_without_its_end_marker_is_an_error() -> None:
    """Row 3: silence is not success."""
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(ScriptedProvider(["a", "b"]))), context("p/m"))
    assert caught.value.reason is Reason.STREAM_TRUNCATED


@paused
async def test_a_slow_start_goes_to_the_next_target() -> None:
    """Row 35: alive but silent until the first-event timeout, then the fallback answers."""
    slow, fast = ScriptedProvider([500.0, "late", DONE], name="slow"), ScriptedProvider(["ok", DONE])
    call, start = context("slow/m", "p/m"), now()
    loop = attempt_loop(upstream(slow), upstream(fast))
    assert text_of(await collect(loop, call)) == "ok"
    assert now() - start == pytest.approx(10)
    assert outcomes(call) == ["slow:FAILED:FIRST_EVENT_TIMEOUT", "p:SUCCEEDED:"]
    assert slow.closed == 1


@paused
async def test_a_stall_after_the_first_token_is_named() -> None:
    """Row 9: the idle timeout ends it, and nothing is tried again."""
    provider = ScriptedProvider(["a", 500.0, "b", DONE])
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(provider)), context("p/m"))
    assert caught.value.reason is Reason.IDLE_TIMEOUT
    assert len(provider.calls) == provider.closed == 1


@paused
async def test_the_total_timeout_bounds_an_attempt_that_makes_progress() -> None:
    """A trickle does not go on for ever."""
    provider = ScriptedProvider(["a", 4.0] * 100)
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(provider)), context("p/m"))
    assert caught.value.reason is Reason.TOTAL_TIMEOUT


@paused
async def test_an_answer_in_one_piece_is_bounded_by_the_total_only() -> None:
    """Without a stream there is no first event to wait for."""
    provider = ScriptedProvider([50.0, "whole", DONE])
    assert await collect(attempt_loop(upstream(provider)), context("p/m", streaming=False))


@pytest.mark.parametrize("deadline", [0.5, 3.0, 12.0])
def test_the_callers_deadline_bounds_everything(deadline: float) -> None:
    """Attempts, waits and fallbacks together never pass it."""

    @paused
    async def run() -> None:
        start = now()
        slow = ScriptedProvider([8.0, error()], name="a")
        with pytest.raises(GenerationError):
            await collect(
                attempt_loop(upstream(slow), upstream(ScriptedProvider([50.0], name="b"))),
                context("a/m", "b/m", deadline=deadline),
            )
        assert now() - start <= deadline + 1e-6

    run()


@paused
async def test_a_passed_deadline_calls_nobody() -> None:
    """DEADLINE_EXCEEDED, and no provider hears of it."""
    provider = ScriptedProvider(["a", DONE])
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(upstream(provider)), context("p/m", deadline=-1))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert provider.calls == []


@pytest.mark.parametrize(
    ("asked", "deadline", "calls", "waited"),
    [
        (5.0, 100.0, 2, 5.0),
        (50.0, 100.0, 2, 50.0),
        (61.0, 100.0, 1, 0.0),
        (5.0, 4.0, 1, 0.0),
        (1e12, 100.0, 1, 0),
    ],
)
def test_retry_after_is_obeyed_within_the_deadline(
    asked: float, deadline: float, calls: int, waited: float
) -> None:
    """Row 8: wait as long as the provider asks, unless that is past the deadline or out of proportion."""

    @paused
    async def run() -> None:
        limited = error(Reason.PROVIDER_RATE_LIMITED, retry_after=asked)
        provider = ScriptedProvider([limited], ["ok", DONE])
        call, start = context("p/m", deadline=deadline), now()
        loop = attempt_loop(upstream(provider, backoff=Backoff(0, 1, 8)))
        if calls == 1:
            with pytest.raises(GenerationError) as caught:
                await collect(loop, call)
            assert caught.value.fact.retry_after == asked
        else:
            assert text_of(await collect(loop, call)) == "ok"
        assert len(provider.calls) == calls
        assert now() - start == pytest.approx(waited)

    run()


@paused
async def test_refusing_to_be_told_when_to_retry_is_not_refusing_to_retry() -> None:
    """With the longest Retry-After at zero, our own backoff still goes on."""
    provider = ScriptedProvider([error()], ["ok", DONE])
    assert text_of(await collect(attempt_loop(upstream(provider, max_retry_after=0)), context("p/m"))) == "ok"


@paused
async def test_another_target_is_better_than_a_long_wait() -> None:
    """A Retry-After beyond the backoff's cap goes to the next target at once."""
    limited = ScriptedProvider([error(Reason.PROVIDER_RATE_LIMITED, retry_after=30)], name="a")
    start = now()
    loop = attempt_loop(upstream(limited), upstream(ScriptedProvider(["ok", DONE])))
    assert text_of(await collect(loop, context("a/m", "p/m"))) == "ok"
    assert now() == start


@paused
async def test_cancel_during_backoff_ends_the_retries() -> None:
    """Row 37: no further upstream call for a caller who has left."""
    provider = ScriptedProvider([error()])
    call = context("p/m")
    task = asyncio.create_task(collect(attempt_loop(upstream(provider, backoff=Backoff(5, 1, 5))), call))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(100)
    assert len(provider.calls) == 1


@paused
async def test_every_wait_is_on_record() -> None:
    """Backoff and queue, also where nothing came of them: the caller left, or the try was not made."""
    provider = ScriptedProvider([error(retry_after=8)], [100.0])
    narrow, call = upstream(provider, max_concurrency=1), context("p/m")
    task = asyncio.create_task(collect(attempt_loop(narrow), call))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.record.waited == pytest.approx(3)

    shed = context("p/m")
    await narrow.gate.enter(1)
    with pytest.raises(GenerationError) as caught:
        await collect(attempt_loop(narrow), shed)
    assert caught.value.reason is Reason.LOAD_SHED
    assert shed.record.waited == pytest.approx(10)
    (attempt,) = shed.record.attempts
    assert (attempt.waited.seconds, attempt.duration.seconds) == (10, 0)


@paused
async def test_cancel_closes_the_provider_and_gives_the_permit_back() -> None:
    """Rows 1 and 2: before the first token and in mid-stream."""
    for script in ([100.0], ["a", 4.0, "b", 100.0]):
        provider, watcher = ScriptedProvider(list(script)), Watcher()
        narrow = upstream(provider, max_concurrency=1)
        call = context("p/m")
        task = asyncio.create_task(collect(attempt_loop(narrow, watcher=watcher), call))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert provider.closed == 1
        assert outcomes(call) == ["p:CANCELLED:"]
        assert len(watcher.attempts) == 1
        await narrow.gate.enter(0)


@paused
async def test_a_storm_of_retries_is_stopped() -> None:
    """Row 7: with every call failing, retries stay within their share of the requests."""
    provider = ScriptedProvider([error()])
    guarded = upstream(provider, retry_ratio=0.1, retry_reserve=5, backoff=Backoff(0, 1, 0))
    loop = attempt_loop(guarded)
    for _ in range(100):
        with pytest.raises(GenerationError):
            await collect(loop, context("p/m"))
    assert len(provider.calls) <= 100 + 5 + 10


@paused
async def test_an_open_breaker_is_skipped_for_the_next_target() -> None:
    """No call, no wait; the try is on record as skipped."""
    dead = ScriptedProvider([error()], name="a")
    guarded = upstream(dead, max_attempts=1, breaker_failures=1)
    loop = attempt_loop(guarded, upstream(ScriptedProvider(["ok", DONE])))
    await collect(loop, context("a/m", "p/m"))
    call = context("a/m", "p/m")
    assert text_of(await collect(loop, call)) == "ok"
    assert outcomes(call) == ["a:SKIPPED:BREAKER_OPEN", "p:SUCCEEDED:"]
    assert len(dead.calls) == 1


@paused
async def test_a_breaker_that_opens_meanwhile_spares_those_who_wait_for_a_permit() -> None:
    """The queue does not go on to a provider that has turned out to be down."""
    provider = ScriptedProvider([1.0, error()])
    guarded = upstream(provider, max_attempts=1, max_concurrency=1, breaker_failures=1)
    loop, calls = attempt_loop(guarded), [context("p/m") for _ in range(5)]
    await asyncio.gather(*(collect(loop, call) for call in calls), return_exceptions=True)
    assert len(provider.calls) == 1
    assert [outcomes(call) for call in calls[1:]] == [["p:SKIPPED:BREAKER_OPEN"]] * 4
    await asyncio.sleep(30)
    assert guarded.breakers.of("m").admit() is None
    await guarded.gate.enter(0)


@paused
async def test_a_long_answer_to_a_probe_does_not_keep_others_out() -> None:
    """The first content closes the breaker: nobody waits for the end of the stream."""
    provider = ScriptedProvider([error()], ["a", 4.0, "b", DONE], ["ok", DONE])
    guarded = upstream(provider, max_attempts=1, breaker_failures=1)
    loop = attempt_loop(guarded)
    with pytest.raises(GenerationError):
        await collect(loop, context("p/m"))
    await asyncio.sleep(30)
    probe = asyncio.create_task(collect(loop, context("p/m")))
    await asyncio.sleep(1)
    assert text_of(await collect(loop, context("p/m"))) == "ok"
    assert text_of(await probe) == "ab"
    assert guarded.breakers.of("m").state is State.CLOSED


@paused
async def test_a_refusal_before_the_provider_is_asked_tells_nothing_of_its_health() -> None:
    """A request that cannot be encoded is no probe; one that the provider itself refuses is."""

    class Refusing(ScriptedProvider):
        status = 0

        async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
            call.progress.upstream_status = self.status
            raise error(Reason.INVALID_REQUEST)
            yield []

    provider = Refusing([])
    guarded = upstream(provider, breaker_failures=1)
    guarded.breakers.of("m").failed(guarded.breakers.of("m").epoch)
    await asyncio.sleep(30)
    for status, state in ((0, State.HALF_OPEN), (400, State.CLOSED)):
        provider.status = status
        with pytest.raises(GenerationError):
            await collect(attempt_loop(guarded), context("p/m"))
        assert guarded.breakers.of("m").state is state


@pytest.mark.parametrize(
    ("reason", "opens"),
    [
        (Reason.PROVIDER_ERROR, True),
        (Reason.PROVIDER_PROTOCOL_ERROR, True),
        (Reason.FIRST_EVENT_TIMEOUT, True),
        (Reason.PROVIDER_RATE_LIMITED, False),
        (Reason.INVALID_REQUEST, False),
    ],
)
def test_what_opens_a_breaker(reason: Reason, *, opens: bool) -> None:
    """Row 5: failures of the provider do, a caller's mistakes and rate limits do not."""

    @paused
    async def run() -> None:
        guarded = upstream(ScriptedProvider([error(reason)]), max_attempts=1, breaker_failures=1)
        with pytest.raises(GenerationError):
            await collect(attempt_loop(guarded), context("p/m"))
        assert (guarded.breakers.of("m").state is State.OPEN) is opens

    run()


@paused
async def test_a_slow_caller_is_not_a_slow_provider() -> None:
    """Time the caller takes to read does not count as idle."""
    provider = ScriptedProvider(["a", "b", DONE])
    limits = Timeouts(connect=1, first_event=5, idle=5, total=1000)
    async with aclosing(attempt_loop(upstream(provider, timeouts=limits))(context("p/m"))) as batches:
        async for _ in batches:
            await asyncio.sleep(60)


@paused
async def test_a_caller_that_never_reads_is_ended_by_the_total() -> None:
    """Row 12: the provider is closed and the permit free; the provider's breaker hears nothing of it."""
    provider, start = ScriptedProvider(["a", "b", DONE]), now()
    guarded = upstream(provider, max_concurrency=1, breaker_failures=1)
    call = context("p/m")
    with pytest.raises(GenerationError) as caught:
        async with aclosing(attempt_loop(guarded)(call)) as batches:
            async for _ in batches:
                await asyncio.sleep(10_000)
    assert (caught.value.reason, caught.value.committed) == (Reason.DEADLINE_EXCEEDED, True)
    assert now() - start == pytest.approx(100)
    assert outcomes(call) == ["p:FAILED:DEADLINE_EXCEEDED"]
    assert guarded.breakers.of("m").state is State.CLOSED
    assert provider.closed == 1
    await guarded.gate.enter(0)


@paused
async def test_a_failed_request_is_forgotten_at_once() -> None:
    """No error keeps it alive through its traceback: prompts may be large, and the collector comes late."""

    class Attempts(list[v1.Attempt]):
        pass

    gc.disable()
    try:
        for script in ([error()], ["a", error()], [100.0], ["a", 100.0]):
            call = context("p/m", "q/m")
            call.record.attempts = Attempts()
            alive = weakref.ref(call.record.attempts)
            other = ScriptedProvider([error(Reason.INVALID_REQUEST)], name="q")
            with pytest.raises(GenerationError) as caught:
                await collect(attempt_loop(upstream(ScriptedProvider(script)), upstream(other)), call)
            del call, caught
            await asyncio.sleep(0)  # the loop drops the last callback
            assert alive() is None
    finally:
        gc.enable()


@paused
async def test_a_bug_in_a_provider_is_reported_once_and_raised() -> None:
    """The record is complete even then, and the permit comes back."""

    class Broken(ScriptedProvider):
        async def generate(self, call):  # type: ignore[no-untyped-def,override]
            raise ZeroDivisionError
            yield

    narrow, call = upstream(Broken([]), max_concurrency=1), context("p/m")
    with pytest.raises(ZeroDivisionError):
        await collect(attempt_loop(narrow), call)
    assert outcomes(call) == ["p:FAILED:INTERNAL"]
    await narrow.gate.enter(0)
