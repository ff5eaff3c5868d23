"""Jobs of whole sidecars, over real gRPC and real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from outrider import v1
from outrider.core.context import ANYONE
from outrider.stores.redis_link import RedisLink
from outrider.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.answers import (
    gated,
    json_body,
    openai_error,
    openai_events,
    openai_stream,
    stream,
    unending,
)
from tests.support.caller import calling
from tests.support.process import serving
from tests.support.redis_server import redis_server
from tests.support.sidecar import PATIENCE, Failure, ask, collect, provider, running
from tests.support.upstream import Exchange, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from outrider.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from tests.support.redis_server import Server
    from tests.support.upstream import Answer

COMPLETED, CANCELLED = v1.JOB_STATE_COMPLETED, v1.JOB_STATE_CANCELLED
DOWN = json_body(openai_error("down"), status=503)
QUICK = {"retry_delay": 0.05}


async def submit(jobs: JobServiceAsyncStub, text: str = "hello", **changes: Any) -> v1.Job:
    response = await jobs.SubmitJob(v1.SubmitJobRequest(request=ask(text=text, **changes)))
    return response.job


async def ended(jobs: JobServiceAsyncStub, job_id: str) -> list[v1.WatchJobResponse]:
    """All that there is to see of a job until it has ended."""
    async with asyncio.timeout(3 * PATIENCE):
        return [each async for each in jobs.WatchJob(v1.WatchJobRequest(job_id=job_id))]


async def result(jobs: JobServiceAsyncStub, job_id: str) -> str:
    response = await jobs.GetJobResult(v1.GetJobResultRequest(job_id=job_id))
    return response.response.message.parts[0].text


def last(seen: list[v1.WatchJobResponse]) -> v1.Job:
    return [each.job for each in seen if each.HasField("job")][-1]


async def test_a_job_from_submission_to_answer(tmp_path: Path) -> None:
    """Watched from the start: the job, its changes, numbered events; then its answer, again and again."""
    gate = asyncio.Event()
    async with (
        Upstream(gated(gate, openai_stream("Hello ", "world"))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        job = await submit(jobs, attribution=v1.Attribution(tenant="acme"))
        watching = asyncio.create_task(ended(jobs, job.job_id))
        await upstream.received()
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await result(jobs, job.job_id)
        gate.set()
        seen = await watching
        assert await result(jobs, job.job_id) == "Hello world"
        rest = [each async for each in jobs.WatchJob(v1.WatchJobRequest(job_id=job.job_id, after_sequence=2))]
        listed = await jobs.ListJobs(v1.ListJobsRequest(states=[COMPLETED]))
        counted = await sidecar.counted(
            'outrider_requests_total{method="Job",model="m",outcome="succeeded",provider="p",reason=""}'
        )
    assert (Failure.of(early.value).code, Failure.of(early.value).reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "JOB_NOT_ENDED",
    )
    events = [each.generation for each in seen if each.HasField("generation")]
    assert "".join(each.text_delta.text for each in events) == "Hello world"
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert seen[0].HasField("job")
    assert (last(seen).state, last(seen).usage.input_tokens, last(seen).tries) == (COMPLETED, 9, 1)
    assert (job.caller, job.attribution.tenant, job.expires_at.seconds - job.submitted_at.seconds) == (
        ANYONE.name,
        "acme",
        4 * 3600,
    )
    assert rest[-1] == seen[-1]
    assert [each.generation.sequence for each in rest[:-1]] == [each.sequence for each in events[2:]]
    assert [each.job_id for each in listed.jobs] == [job.job_id]
    assert counted == 1


async def test_a_provider_that_is_down_and_comes_back(tmp_path: Path) -> None:
    """Row 5: Generate that may be queued ends with the job; its answer is there when the provider is."""
    answers: list[Answer] = [DOWN]

    async def play(exchange: Exchange) -> None:
        await answers[0](exchange)

    async with (
        Upstream(play) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            jobs=QUICK,
            breaker={"failures": 3, "open_for": 0.5},
        ) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        request = ask(unavailability_policy=v1.UNAVAILABILITY_POLICY_QUEUE)
        (event,) = await collect(sidecar.generation.Generate(request))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await sidecar.generation.Complete(v1.CompleteRequest(request=request))
        failure = Failure.of(refused.value)
        with pytest.raises(grpc.aio.AioRpcError):
            await collect(sidecar.generation.Generate(ask()))
        answers[0] = openai_stream("Late")
        ids = [event.queued.job_id, failure.info.metadata["job_id"]]
        assert [last(await ended(jobs, each)).state for each in ids] == [COMPLETED] * 2
        assert [await result(jobs, each) for each in ids] == ["Late"] * 2
    assert event.sequence == 1
    assert event.queued.reason in {"PROVIDER_ERROR", "PROVIDER_OVERLOADED", "BREAKER_OPEN"}
    assert event.queued.expires_at.seconds
    assert (failure.code, failure.reason, failure.retry_delay, failure.pushback) == (
        grpc.StatusCode.UNAVAILABLE,
        "QUEUED",
        None,
        "-1",
    )


async def test_what_cannot_pass_is_not_queued(tmp_path: Path) -> None:
    """A request that every provider refuses fails as ever."""
    async with (
        Upstream(json_body(openai_error("bad"), status=400)) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        request = ask(unavailability_policy=v1.UNAVAILABILITY_POLICY_QUEUE)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await collect(sidecar.generation.Generate(request))
        listed = await JobServiceStub(sidecar.channel).ListJobs(v1.ListJobsRequest())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not listed.jobs


async def test_an_answer_that_breaks_begins_anew(tmp_path: Path) -> None:
    """Row 4: what was seen of it is declared void; the next try is seen from its first event."""
    cut = stream(openai_events("Hal", "f")[:2])
    async with (
        Upstream(cut, openai_stream("Whole")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, jobs={"retry_delay": 1.0}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        seen = await ended(jobs, (await submit(jobs)).job_id)
    kinds = [each.WhichOneof("event") for each in seen]
    again = kinds.index("restarted")
    before = [each.generation for each in seen[:again] if each.HasField("generation")]
    after = [each.generation for each in seen[again:] if each.HasField("generation")]
    assert "".join(each.text_delta.text for each in before) == "Half"
    assert "".join(each.text_delta.text for each in after) == "Whole"
    assert after[0].sequence == 1
    assert seen[again].restarted.tries == 2
    assert last(seen).state == COMPLETED


async def test_a_cancelled_job_lets_its_provider_go(tmp_path: Path) -> None:
    """Row 3: the socket is closed at once, the job CANCELLED for good, and its result says so."""
    async with (
        Upstream(unending(openai_events("x")[:1])) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        job = await submit(jobs)
        await upstream.received()
        await jobs.CancelJob(v1.CancelJobRequest(job_id=job.job_id))
        await upstream.connections[0].closed(within=1.0)
        assert last(await ended(jobs, job.job_id)).state == CANCELLED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await result(jobs, job.job_id)
    assert Failure.of(refused.value).reason == "CANCELLED"


async def test_a_batch_tells_of_each_job_once(tmp_path: Path) -> None:
    """Progress first and last; results come as the jobs end, by the places of their requests."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        batch = await jobs.SubmitBatch(
            v1.SubmitBatchRequest(requests=[ask(text=str(number)) for number in range(30)])
        )
        async with asyncio.timeout(PATIENCE):
            call = jobs.WatchBatch(v1.WatchBatchRequest(batch_id=batch.batch_id, results=True))
            seen = [each async for each in call]
    progress = [each.progress for each in seen if each.HasField("progress")]
    results = [each.result for each in seen if each.HasField("result")]
    assert seen[0].HasField("progress")
    assert (progress[0].total, progress[-1].completed, progress[-1].queued) == (30, 30, 0)
    assert sorted(each.index for each in results) == list(range(30))
    assert all(batch.job_ids[each.index] == each.job.job_id for each in results)
    assert {each.response.message.parts[0].text for each in results} == {"x"}
    assert len(upstream.requests) == 30


async def test_a_batch_over_several_providers(tmp_path: Path) -> None:
    """One that is down holds up its own requests alone; progress tells of each; answers have their places."""
    models = ["down/m", "up/m"] * 20
    async with (
        Upstream(DOWN) as down,
        Upstream(openai_stream("x")) as up,
        running(
            tmp_path,
            providers={"down": provider(down.url), "up": provider(up.url)},
            jobs={"workers": 2, "retry_delay": 60},
            breaker={"failures": 2, "open_for": 60},
        ) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        batch = await jobs.SubmitBatch(v1.SubmitBatchRequest(requests=[ask(model=each) for each in models]))
        call = jobs.WatchBatch(v1.WatchBatchRequest(batch_id=batch.batch_id))
        indexes = []
        async with asyncio.timeout(PATIENCE):
            async for response in call:
                if response.HasField("result"):
                    indexes.append(response.result.index)
                elif response.progress.completed == 20:
                    break
        call.cancel()
    assert sorted(indexes) == list(range(1, 40, 2))
    groups = [(each.provider, each.model, each.total, each.completed) for each in response.progress.groups]
    assert groups == [("down", "m", 20, 0), ("up", "m", 20, 20)]
    assert response.progress.groups[1].rate > 0
    assert len(down.requests) <= 4 * 3  # those that were begun before the breaker opened


async def test_a_failed_job_tells_of_its_attempts(tmp_path: Path) -> None:
    """In the job, and with its error, as Generate does."""
    async with (
        Upstream(DOWN) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, jobs={"max_retries": 0}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        job = last(await ended(jobs, (await submit(jobs)).job_id))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await result(jobs, job.job_id)
        with pytest.raises(grpc.aio.AioRpcError) as generated:
            await collect(sidecar.generation.Generate(ask()))
        counted = await sidecar.counted('outrider_jobs_ended_total{state="failed"}')
    of_job, of_call = Failure.of(failed.value), Failure.of(generated.value)
    assert (of_job.code, of_job.reason) == (of_call.code, of_call.reason)
    assert of_job.failure == job.failure
    assert of_call.failure is not None
    assert [each.upstream_status for each in job.failure.attempts] == [503] * len(of_call.failure.attempts)
    named = ("provider", "model", "upstream_status", "attempts")
    assert [of_job.info.metadata[each] for each in named] == [of_call.info.metadata[each] for each in named]
    assert counted == 1


async def test_a_waiting_job_that_expires_is_told_of_once_in_the_fleet(tmp_path: Path) -> None:
    """By one sidecar of those that share the queue, on its events."""
    async with Upstream(DOWN) as upstream, redis_server() as redis:
        config: dict[str, Any] = {
            "providers": {"p": provider(upstream.url)},
            "redis": {"url": redis.url},
            "jobs": {"retry_delay": 60},
            "events": {"redis": {"stream": "events"}},
        }
        async with running(tmp_path, **config) as one, running(tmp_path, **config):
            jobs = JobServiceStub(one.channel)
            options = v1.JobOptions(ttl=Duration(seconds=1))
            wanted = [v1.SubmitJobRequest(request=ask(), options=options) for _ in range(5)]
            ids = [(await jobs.SubmitJob(each)).job.job_id for each in wanted]
            expired: list[str] = []
            async with asyncio.timeout(PATIENCE):
                while len(expired) < 5:
                    expired = [job for job, state in await _changes(redis) if state == "expired"]
            for job_id in ids:
                assert last(await ended(jobs, job_id)).state == v1.JOB_STATE_EXPIRED
            marker = await submit(jobs)
            async with asyncio.timeout(PATIENCE):
                while (marker.job_id, "queued") not in (changes := await _changes(redis)):
                    pass
    assert sorted(job for job, state in changes if state == "expired") == sorted(ids)


async def _changes(redis: Server) -> list[tuple[str, str]]:
    """The jobs and states that events on the stream tell of."""
    link = RedisLink(redis.url, timeout=5)
    await link.start(PATIENCE)
    try:
        entries = await link.run("XRANGE", "events", "-", "+")
    finally:
        await link.aclose()
    events = [json.loads(entry[1]) for _, entry in entries]
    return [
        (each["subject"], each["data"]["state"]) for each in events if each["type"].endswith("job.changed")
    ]


async def test_a_key_runs_once(tmp_path: Path) -> None:
    """Row 26: used again it gives the same job, though that has ended; for another request it is refused."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        request = v1.SubmitJobRequest(request=ask(idempotency_key="k"))
        replies = await asyncio.gather(*(jobs.SubmitJob(request) for _ in range(10)))
        await ended(jobs, replies[0].job.job_id)
        late = await jobs.SubmitJob(request)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submit(jobs, "something else", idempotency_key="k")
    assert len({each.job.job_id for each in (*replies, late)}) == 1
    assert [each.existing for each in replies].count(False) == 1
    assert (late.existing, late.job.state) == (True, COMPLETED)
    assert len(upstream.requests) == 1
    failure = Failure.of(refused.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED")


async def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    """At 80 % of its capacity: UNAVAILABLE, "queue at capacity", RetryInfo."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(
            tmp_path, providers={"p": provider(upstream.url)}, jobs={"capacity": 10, "workers": 0}
        ) as sidecar,
    ):
        jobs = JobServiceStub(sidecar.channel)
        for _ in range(8):
            await submit(jobs)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submit(jobs)
    failure = Failure.of(refused.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    assert failure.message == "queue at capacity"
    assert failure.retry_delay


async def test_a_journal_outlives_a_kill(tmp_path: Path) -> None:
    """Row 26: after kill -9 every accepted job ends, each once; those that had ended are not run again."""
    gate = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        text = exchange.request.json()["messages"][0]["content"]
        if not text.startswith("quick"):
            await gate.wait()
        await openai_stream(f"to {text}")(exchange)

    config: dict[str, Any] = {"jobs": {"journal": str(tmp_path / "jobs"), "workers": 3, **QUICK}}
    async with Upstream(play) as upstream:
        config["providers"] = {"p": provider(upstream.url)}
        async with serving(tmp_path, **config) as child, calling(child.port) as caller:
            jobs = JobServiceStub(caller.channel)
            quick = await submit(jobs, "quick")
            assert last(await ended(jobs, quick.job_id)).state == COMPLETED
            slow = [await submit(jobs, f"slow {number}") for number in range(10)]
            await upstream.received(4)
            child.signal(signal.SIGKILL)
            await child.ended()
        gate.set()
        async with serving(tmp_path, **config) as child, calling(child.port) as caller:
            jobs = JobServiceStub(caller.channel)
            for number, job in enumerate(slow):
                seen = await ended(jobs, job.job_id)
                assert last(seen).state == COMPLETED
                assert await result(jobs, job.job_id) == f"to slow {number}"
            assert await result(jobs, quick.job_id) == "to quick"
        asked = [each.json()["messages"][0]["content"] for each in upstream.requests]
    assert asked.count("quick") == 1
    assert len(asked) == 1 + 10 + 3  # those that were worked on are asked for again


async def test_a_drain_finishes_or_gives_back(tmp_path: Path) -> None:
    """Row 29: SIGTERM leaves no job behind: the next process goes on with what did not end in the grace."""
    gate = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        await gate.wait()
        await openai_stream("x")(exchange)

    config: dict[str, Any] = {
        "jobs": {"journal": str(tmp_path / "jobs"), "max_retries": 0},
        "server": {"drain": {"delay": 0, "grace": 0.2}},
    }
    async with Upstream(play) as upstream:
        config["providers"] = {"p": provider(upstream.url)}
        async with serving(tmp_path, **config) as child, calling(child.port) as caller:
            jobs = JobServiceStub(caller.channel)
            job = await submit(jobs)
            watching = asyncio.create_task(ended(jobs, job.job_id))
            await upstream.received()
            child.signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                await watching
            assert await child.ended() == 0
        assert Failure.of(cut.value).reason == "DRAINING"
        gate.set()
        async with serving(tmp_path, **config) as child, calling(child.port) as caller:
            seen = await ended(JobServiceStub(caller.channel), job.job_id)
    assert last(seen).state == COMPLETED


async def test_another_sidecar_finishes_what_a_dead_one_began(tmp_path: Path) -> None:
    """Any sidecar of the fleet is asked for it, works on it and shows its events; each job ends once."""
    gate = asyncio.Event()

    async def play(exchange: Exchange) -> None:
        await gate.wait()
        await openai_stream("x")(exchange)

    async with Upstream(play) as upstream, redis_server() as redis:
        config: dict[str, Any] = {
            "providers": {"p": provider(upstream.url)},
            "redis": {"url": redis.url},
            "server": {"drain": {"delay": 0, "grace": 0.2}},
            "jobs": QUICK,
        }
        idle = {**config, "jobs": {**QUICK, "workers": 0}}
        async with (
            serving(tmp_path, **idle) as here,
            serving(tmp_path, **config) as there,
            calling(here.port) as caller,
        ):
            jobs = JobServiceStub(caller.channel)
            submitted = [await submit(jobs, str(number)) for number in range(4)]
            await upstream.received(4)
            watching = [asyncio.create_task(ended(jobs, each.job_id)) for each in submitted]
            gate.set()
            for seen in await asyncio.gather(*watching):
                assert last(seen).state == COMPLETED
                assert any(each.generation.HasField("completed") for each in seen)
            gate.clear()
            given = await submit(jobs, "given back")
            await upstream.received(5)
            there.signal(signal.SIGTERM)
            await there.ended()
            gate.set()
            async with serving(tmp_path, **config):
                assert last(await ended(jobs, given.job_id)).state == COMPLETED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v1.SubmitJobRequest(), "messages"),
        (
            v1.SubmitJobRequest(request=ask(), options=v1.JobOptions(ttl=Duration(seconds=90_000))),
            "options.ttl",
        ),
        (v1.SubmitJobRequest(request=ask(), options=v1.JobOptions(ttl=Duration())), "options.ttl"),
        (v1.SubmitJobRequest(request=ask(), options=v1.JobOptions(max_retries=101)), "options.max_retries"),
    ],
)
async def test_what_is_wrong_is_refused_when_it_is_submitted(
    tmp_path: Path, request_: v1.SubmitJobRequest, field: str
) -> None:
    """By its field, as Generate would refuse it."""
    async with running(tmp_path, providers={"simulated": {}}) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await JobServiceStub(sidecar.channel).SubmitJob(request_)
    failure = Failure.of(refused.value)
    assert failure.bad_request is not None
    assert [each.field for each in failure.bad_request.field_violations] == [field]
