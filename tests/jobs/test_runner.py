"""What becomes of jobs, on the paused clock."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration

from outrider import v1
from outrider.core.context import Principal
from outrider.core.errors import GenerationError, Reason
from outrider.jobs.batches import BatchWatch
from outrider.jobs.outcome import reason_of
from outrider.jobs.watch import watch
from outrider.stores.memory_jobs import MemoryJobs
from tests.jobs.rig import failed, wall, working
from tests.support.paused_clock import now, paused

if TYPE_CHECKING:
    from collections.abc import Collection

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
async def test_what_was_kept_waiting_has_its_first_retry_soon() -> None:
    """Only failures make it wait longer: `tries` counts more than these."""
    waits, down = failed(Reason.RATE_LIMITED, retry_after=1.0), failed()
    async with working(*[[waits]] * 5, [down], [down], ["Hello"]) as rig:
        rig.pipeline.asks = False
        job = await rig.submit()
        await rig.begun(5)
        rig.pipeline.asks = True
        ended = await rig.ended(job)
    first, second, third = rig.pipeline.began_at[5:]
    assert (ended.state, ended.tries) == (COMPLETED, 8)
    assert 3.75 <= second - first <= 5.1
    assert 7.5 <= third - second <= 10.1


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
async def test_a_group_that_can_go_nowhere_holds_up_no_other() -> None:
    """Of hundreds of jobs for a provider that is down a few are looked at; the others all go, then these."""
    async with working(["Hello"]) as rig:
        down = {"a/m"}
        rig.closed_for = lambda request: 5.0 if request and request.model in down else 0.0
        batch = await rig.submit_batch(["a/m"] * 300 + ["b/m"] * 30)
        began = now()
        for job_id in batch.job_ids[300:]:
            assert (await rig.ended(v1.Job(job_id=job_id))).state == COMPLETED
        assert now() - began < 1
        await asyncio.sleep(60)
        jobs = [await rig.job(v1.Job(job_id=job_id)) for job_id in batch.job_ids[:300]]
        assert {job.state for job in jobs} == {QUEUED}
        assert sum(job.tries for job in jobs) <= 60 / 5 + 1
        down.clear()
        for job in jobs:
            assert (await rig.ended(job)).state == COMPLETED


@paused
async def test_a_limit_that_is_used_up_takes_one_worker_at_most() -> None:
    """After the first refusals one job at a time finds out whether it is over, until one gets through."""
    limited = failed(Reason.RATE_LIMITED, retry_after=5.0)
    async with working([10.0, limited], workers=2) as rig:
        rig.pipeline.asks = False
        batch = await rig.submit_batch(["a/m"] * 20)
        await rig.begun(2)
        await asyncio.sleep(100)
        assert rig.pipeline.most == 2
        assert all(later - earlier >= 14 for earlier, later in pairwise(rig.pipeline.began_at[1:]))
        rig.pipeline.scripts = [["Hello"]]
        for job_id in batch.job_ids:
            assert (await rig.ended(v1.Job(job_id=job_id))).state == COMPLETED


@paused
async def test_what_limits_a_caller_is_no_matter_of_its_group() -> None:
    """Another caller's job for the same model does not wait for it."""
    limited = failed(Reason.CALLER_RATE_LIMITED, retry_after=50.0)
    async with working([limited], ["Hello"]) as rig:
        rig.pipeline.asks = False
        await rig.submit_batch(["a/m"])
        await rig.begun()
        other = await rig.submit_batch(["a/m"], caller="shop")
        began = now()
        assert (await rig.ended(v1.Job(job_id=other.job_ids[0]))).state == COMPLETED
        assert now() - began < 1


@paused
async def test_a_batch_is_worked_on_group_by_group() -> None:
    """Whatever order its requests are in: each job knows its place among them, and where it is to go."""
    models = ["b/x", "a/y", "b/x", "a/x", "a/y", "b/x"]
    async with working([0.1, "Hello"], workers=1) as rig:
        batch = await rig.submit_batch(models)
        jobs = [await rig.ended(v1.Job(job_id=job_id)) for job_id in batch.job_ids]
    assert [context.request.model for context in rig.pipeline.contexts] == sorted(models)
    assert [(job.batch_index, job.target) for job in jobs] == list(enumerate(models))


@paused
async def test_the_watcher_of_a_batch_sees_its_groups() -> None:
    """Counts, rate and time left of each; results by the positions of their requests, each once."""
    async with working([1.0, "Hello"], workers=1) as rig:
        rig.closed_for = lambda request: 600.0 if request and request.model == "c/m" else 0.0
        batch = await rig.submit_batch(["b/m/1", "a/m", "c/m"] * 20)
        indexes: list[int] = []
        async with aclosing(BatchWatch(rig.store, batch.batch_id, results=True, clock=now).run()) as seen:
            async for response in seen:
                if response.HasField("result"):
                    assert batch.job_ids[response.result.index] == response.result.job.job_id
                    indexes.append(response.result.index)
                elif response.progress.completed >= 30:
                    break
    progress = response.progress
    assert len(indexes) == len(set(indexes)) == progress.completed
    groups = [(each.provider, each.model, each.total, each.queued) for each in progress.groups]
    assert groups == [("a", "m", 20, 0), ("b", "m/1", 20, 9), ("c", "m", 20, 20)]
    assert [each.rate for each in progress.groups] == pytest.approx([0.6, 0.3, 0], abs=0.15)
    assert progress.rate == pytest.approx(1, abs=0.1)
    b, c = progress.groups[1:]
    left = (b.queued + b.processing) / b.rate
    assert b.time_left.ToMilliseconds() / 1_000 == pytest.approx(left, abs=0.01)
    assert not c.HasField("time_left")


@paused
async def test_a_batch_that_is_gone_has_not_ended() -> None:
    """Whoever follows one whose jobs are forgotten is told so, not that none of none is left."""
    async with working(["Hello"]) as rig:
        batch = await rig.submit_batch(["a/m"])
        await asyncio.sleep(9 * 3_600)
        async with aclosing(BatchWatch(rig.store, batch.batch_id, results=True, clock=now).run()) as seen:
            with pytest.raises(GenerationError) as caught:
                await anext(seen)
    assert caught.value.reason == Reason.JOB_UNKNOWN


@paused
async def test_jobs_of_a_batch_that_are_forgotten_hide_no_others() -> None:
    """A store that makes room forgets those that ended first; the others are told of all the same."""
    store = MemoryJobs(clock=now, wall_clock=wall)
    async with working([1.0, "Hello"], workers=1, store=store) as rig:
        batch = await rig.submit_batch(["a/m"] * 10)
        indexes: list[int] = []
        async with aclosing(BatchWatch(store, batch.batch_id, results=True, clock=now).run()) as seen:
            async for response in seen:
                if response.HasField("result"):
                    indexes.append(response.result.index)
                    if len(indexes) == 6:
                        await store.drop([batch.job_ids[index] for index in indexes])
    assert sorted(indexes) == list(range(10))


@paused
async def test_whoever_watches_hears_of_the_end_last() -> None:
    """After all events of the answer, whether it was watched while it ran or not."""
    async with working(["a", 0.35, "b", "c"]) as rig:
        job = await rig.submit()
        live = [each async for each in watch(rig.store, job, 0)]
        late = [each async for each in watch(rig.store, await rig.job(job), 0)]
    for seen in (live, late):
        assert [each.generation.sequence for each in seen if each.HasField("generation")] == [1, 2, 3, 4, 5]
        states = [each.job.state for each in seen if each.HasField("job")]
        assert (states.count(COMPLETED), seen[-1].job.state) == (1, COMPLETED)
    assert live[0].job.state == QUEUED


@paused
async def test_a_job_that_expires_while_it_waits_is_told_of() -> None:
    """As any other end: once, with its trace, though no provider is there."""
    async with working(["Hello"]) as rig:
        rig.closed_for = lambda _: 60.0
        job = await rig.submit(ttl=Duration(seconds=10))
        await asyncio.sleep(12)
        assert rig.states() == ["queued", "expired"]
        assert (rig.events[-1].subject, rig.events[-1].traceparent) == (job.job_id, "trace")
        await asyncio.sleep(30)
    assert rig.states() == ["queued", "expired"]


@paused
async def test_a_job_that_expires_while_it_runs_is_told_of_once() -> None:
    """By the store that ended it, not by its worker too."""
    async with working([asyncio.Event()]) as rig:
        await rig.submit(ttl=Duration(seconds=10))
        await asyncio.sleep(30)
    assert rig.states() == ["queued", "processing", "expired"]


@paused
async def test_a_try_that_reached_nobody_is_no_try() -> None:
    """A breaker that opens meanwhile, a gate that is full: the job waits, and keeps its retries."""
    closed, full = failed(Reason.BREAKER_OPEN, retry_after=30.0), failed(Reason.LOAD_SHED)
    async with working([closed], [full], ["Hello"]) as rig:
        rig.pipeline.asks = False
        assert (await rig.ended(await rig.submit(max_retries=0))).state == COMPLETED


def test_a_breaker_does_not_hide_what_opened_it() -> None:
    """A try that failed and then met a breaker failed for the former reason; not one that met it alone."""
    met = failed(Reason.BREAKER_OPEN, "p/m kept failing")
    failure = v1.Attempt(provider="p", model="m", outcome=v1.Attempt.OUTCOME_FAILED, reason="PROVIDER_ERROR")
    skipped = v1.Attempt(outcome=v1.Attempt.OUTCOME_SKIPPED, reason="BREAKER_OPEN")
    assert reason_of(met, [failure, skipped]) == (
        "PROVIDER_ERROR",
        "p/m failed; after that, p/m kept failing",
    )
    assert reason_of(met, [skipped]) == ("BREAKER_OPEN", "p/m kept failing")
    assert reason_of(failed(BUSY, "busy"), [failure]) == ("PROVIDER_OVERLOADED", "busy")


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

        async def counted(worker: str, left_out: Collection[str]) -> object:
            nonlocal looks
            looks += 1
            return await claim(worker, left_out)

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
