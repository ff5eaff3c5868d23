"""What becomes of jobs, on the paused clock."""

from __future__ import annotations

import asyncio
import math

import pytest
from google.protobuf.duration_pb2 import Duration

from outrider import v1
from outrider.core.context import Principal
from outrider.core.errors import Reason
from tests.jobs.rig import failed, working
from tests.support.paused_clock import now, paused

COMPLETED, FAILED = v1.JOB_STATE_COMPLETED, v1.JOB_STATE_FAILED
EXPIRED, CANCELLED = v1.JOB_STATE_EXPIRED, v1.JOB_STATE_CANCELLED
QUEUED, PROCESSING = v1.JOB_STATE_QUEUED, v1.JOB_STATE_PROCESSING
BUSY = Reason.PROVIDER_OVERLOADED


@paused
async def test_a_job_is_answered_as_if_its_caller_had_just_asked() -> None:
    """By its caller's principal, with a deadline at its expiry; usage, events and trace are there."""
    async with working(["Hel", "lo"]) as rig:
        job = await rig.submit(caller="shop")
        ended = await rig.ended(job)
        answer = await rig.store.result(job.job_id)
    (context,) = rig.pipeline.contexts
    assert (ended.state, ended.tries, ended.usage.input_tokens) == (COMPLETED, 1, 3)
    assert answer is not None
    assert answer.message.parts[0].text == "Hello"
    assert (context.principal.name, context.tenant, context.record.method) == ("shop", "acme", "Job")
    assert (context.record.attribution or v1.Attribution()).tenant == "acme"
    assert context.record.traceparent == "trace"
    assert context.deadline - context.record.started_at == pytest.approx(4 * 3600, abs=2)
    assert rig.states() == ["queued", "processing", "completed"]
    assert [event.subject for event in rig.events] == [job.job_id] * 3


@paused
async def test_its_events_are_shown_numbered() -> None:
    """Whoever watches gets them in order, all of them by the end."""
    async with working(["a", 1.0, "b", "c"]) as rig:
        job = await rig.submit()
        await rig.begun()
        await asyncio.sleep(0.5)
        early = await rig.store.events(job.job_id, 1, 0)
        await rig.ended(job)
        events = await rig.store.events(job.job_id, 1, 0)
    assert [event.text_delta.text for event in early] == ["", "a"]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert events[-1].HasField("completed")


@paused
async def test_failures_that_may_pass_are_tried_again_later_and_later() -> None:
    """After the retry delay, then about twice that; each try is a request of its own on record."""
    async with working([failed()], [failed(BUSY)], ["Hello"]) as rig:
        ended = await rig.ended(await rig.submit())
    first, second, third = rig.pipeline.began_at
    assert (ended.state, ended.tries) == (COMPLETED, 3)
    assert 3.75 <= second - first <= 5.1
    assert 7.5 <= third - second <= 10.1
    assert len({context.id for context in rig.pipeline.contexts}) == 3


@paused
async def test_what_the_provider_asks_for_is_heeded() -> None:
    """Row 7: not before Retry-After, however short the delay would be."""
    async with working([failed(Reason.PROVIDER_RATE_LIMITED, retry_after=90.0)], ["Hello"]) as rig:
        await rig.ended(await rig.submit())
    first, second = rig.pipeline.began_at
    assert second - first == pytest.approx(90, abs=0.1)


@paused
async def test_tries_are_counted() -> None:
    """With two retries the third failure is the last; the job tells why."""
    async with working([failed(message="it burns")]) as rig:
        ended = await rig.ended(await rig.submit(max_retries=2))
        await asyncio.sleep(100)
    assert (ended.state, ended.tries, ended.reason, ended.message) == (
        FAILED,
        3,
        "PROVIDER_ERROR",
        "it burns",
    )
    assert len(rig.pipeline.contexts) == 3
    assert rig.states()[-1] == "failed"


@pytest.mark.parametrize("reason", [Reason.INVALID_REQUEST, Reason.BUDGET_SPENT, Reason.CONTEXT_TOO_LONG])
def test_what_would_fail_again_fails_at_once(reason: Reason) -> None:
    """A fault of the caller's is not tried twice."""

    @paused
    async def run() -> None:
        async with working([failed(reason)]) as rig:
            ended = await rig.ended(await rig.submit())
        assert (ended.state, ended.tries, ended.reason) == (FAILED, 1, reason.value)

    run()


@paused
async def test_a_limit_that_never_lets_it_pass_ends_it() -> None:
    """One that will let it pass only delays it, and uses up no retry."""
    limited = Reason.CALLER_RATE_LIMITED
    async with working([failed(limited, retry_after=math.inf)]) as rig:
        rig.pipeline.asks = False
        assert (await rig.ended(await rig.submit())).state == FAILED
    async with working(*[[failed(limited, retry_after=7.0)]] * 5, ["Hello"]) as rig:
        rig.pipeline.asks = False
        ended = await rig.ended(await rig.submit(max_retries=1))
    assert ended.state == COMPLETED
    assert rig.pipeline.began_at[5] - rig.pipeline.began_at[0] > 34.9


@paused
async def test_no_try_is_burnt_while_no_provider_is_there() -> None:
    """Row 5: with every breaker open nothing is claimed; once one lets calls through, work goes on."""
    async with working(["Hello"]) as rig:
        back_at = now() + 600
        rig.closed_for = lambda _: max(0.0, back_at - now())
        job = await rig.submit(max_retries=0)
        await asyncio.sleep(500)
        assert (await rig.job(job)).tries == 0
        ended = await rig.ended(job)
    assert (ended.state, ended.tries) == (COMPLETED, 1)
    assert 0 <= rig.pipeline.began_at[0] - back_at <= 1.1


@paused
async def test_jobs_of_one_model_do_not_wait_for_another() -> None:
    """A target that is down holds up its own jobs alone, and costs them no retry."""
    async with working(["Hello"]) as rig:
        down = {"hi"}
        rig.closed_for = lambda request: 5.0 if request and _text(request) in down else 0.0
        waits, goes = await rig.submit("hi", max_retries=0), await rig.submit("yo")
        assert (await rig.ended(goes)).state == COMPLETED
        await asyncio.sleep(60)
        assert (await rig.job(waits)).state == QUEUED
        down.clear()
        assert (await rig.ended(waits)).state == COMPLETED
    assert len(rig.pipeline.contexts) == 2


@paused
async def test_a_try_that_reached_nobody_is_no_try() -> None:
    """A breaker that opens meanwhile, a gate that is full: the job waits, and keeps its retries."""
    closed, full = failed(Reason.BREAKER_OPEN, retry_after=30.0), failed(Reason.LOAD_SHED)
    async with working([closed], [full], ["Hello"]) as rig:
        rig.pipeline.asks = False
        assert (await rig.ended(await rig.submit(max_retries=0))).state == COMPLETED


@paused
async def test_a_cancelled_job_is_stopped() -> None:
    """At once where it was cancelled here, within a renewal where elsewhere; its provider is let go."""
    async with working([asyncio.Event()]) as rig:
        here, elsewhere = await rig.submit(), await rig.submit()
        await rig.begun(2)
        await rig.store.cancel(here.job_id)
        rig.runner.stop_job(here.job_id)
        await asyncio.sleep(0.01)
        assert rig.pipeline.closed == 1
        await rig.store.cancel(elsewhere.job_id)
        await asyncio.sleep(1.1)
        assert rig.pipeline.closed == 2
        assert [(await rig.job(each)).state for each in (here, elsewhere)] == [CANCELLED] * 2
        assert rig.runner.running == 0


@paused
async def test_a_job_whose_time_is_up_is_stopped() -> None:
    """It is EXPIRED, told as such, and its provider let go."""
    async with working([asyncio.Event()]) as rig:
        job = await rig.submit(ttl=Duration(seconds=30))
        await asyncio.sleep(31.1)
        assert (await rig.job(job)).state == EXPIRED
        assert rig.pipeline.closed == 1
    assert rig.states()[-1] == "expired"


@paused
async def test_a_caller_that_is_gone_fails_its_jobs() -> None:
    """Nothing runs for one whom the configuration no longer knows."""
    async with working(["Hello"]) as rig:
        rig.callers["old"] = Principal("old")
        rig.closed_for = lambda _: 1.0
        job = await rig.submit(caller="old")
        del rig.callers["old"]
        rig.closed_for = lambda _: 0.0
        ended = await rig.ended(job)
    assert (ended.state, ended.reason) == (FAILED, "CALLER_UNKNOWN")
    assert rig.pipeline.contexts == []


@paused
async def test_a_drain_gives_work_back() -> None:
    """What ends within the grace has its answer; the rest is queued again, its retries untouched."""
    async with working([1.0, "Hello"], [asyncio.Event()], ["Again"], workers=2) as rig:
        quick = await rig.submit(max_retries=0)
        await rig.begun()
        slow = await rig.submit(max_retries=0)
        await rig.begun(2)
        waiting = await rig.submit(max_retries=0)
        began = now()
        await rig.runner.drain(5.0)
        assert now() - began == pytest.approx(5, abs=0.1)
        states = [(await rig.job(each)).state for each in (quick, slow, waiting)]
        assert states == [COMPLETED, QUEUED, QUEUED]
        assert rig.pipeline.running == 0
        again = rig.new_runner()
        again.start()
        assert [(await rig.ended(each)).state for each in (slow, waiting)] == [COMPLETED] * 2
        await again.aclose()


@paused
async def test_no_more_workers_than_allowed() -> None:
    """Jobs never take more of the sidecar than that; all get their turn."""
    async with working([1.0, "Hello"], workers=3) as rig:
        jobs = [await rig.submit() for _ in range(10)]
        began = now()
        assert {(await rig.ended(job)).state for job in jobs} == {COMPLETED}
    assert rig.pipeline.most == 3
    assert 4 <= now() - began <= 5


@paused
async def test_a_submission_is_begun_at_once_and_idleness_costs_little() -> None:
    """An empty queue is looked at once a second; a job that comes wakes it."""
    async with working(["Hello"]) as rig:
        looks = 0
        claim = rig.store.claim

        async def counted(worker: str) -> object:
            nonlocal looks
            looks += 1
            return await claim(worker)

        rig.store.claim = counted  # type: ignore[method-assign,assignment]
        await asyncio.sleep(100)
        assert looks <= 110
        at = now()
        await rig.submit()
        await rig.begun()
    assert rig.pipeline.began_at[0] - at < 0.02


@paused
async def test_a_bug_fails_the_job_and_nothing_else() -> None:
    """INTERNAL, without the text of the error; the next job runs."""
    async with working([KeyError("secret")], ["Hello"]) as rig:
        ended = await rig.ended(await rig.submit())
        assert (ended.reason, ended.message) == ("INTERNAL", "unexpected error")
        assert (await rig.ended(await rig.submit())).state == COMPLETED


def _text(request: v1.GenerateRequest) -> str:
    return request.messages[0].parts[0].text
