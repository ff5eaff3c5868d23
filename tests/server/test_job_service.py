"""Who may see and do what with jobs, over real gRPC; nobody works on them unless the test does."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.core.context import Principal
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.jobs.desk import Desk, Terms
from outrider.jobs.ids import digest_in, is_batch, is_job, job_id, new_batch
from outrider.jobs.outcome import failure_of
from outrider.server.callers import Callers
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.server.job_service import JobServicer
from outrider.server.status import to_status
from outrider.server.watches import Watches
from outrider.stores.memory_jobs import MemoryJobs
from outrider.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from tests.jobs.rig import plan
from tests.stores.job_rig import answer
from tests.support.sidecar import PATIENCE, Failure, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable

    from outrider.core.events import Event
    from outrider.v1.job_service_pb2_grpc import JobServiceAsyncStub

CALLERS = {
    "shop": Principal("shop"),
    "crm": Principal("crm"),
    "acme": Principal("acme", tenant="acme"),
    "acme-too": Principal("acme-too", tenant="acme"),
}
NOT_FOUND = (grpc.StatusCode.NOT_FOUND, "JOB_UNKNOWN")


@dataclass
class Served:
    """The service, its store, and what it tells."""

    jobs: JobServiceAsyncStub
    store: MemoryJobs
    watches: Watches
    events: list[Event]
    stopped: list[str]

    async def submit(self, caller: str = "shop", **changes: Any) -> str:
        request = v1.SubmitJobRequest(request=ask("m", **changes))
        return (await self.jobs.SubmitJob(request, metadata=token(caller))).job.job_id

    async def get(self, job_id: str, caller: str = "shop") -> v1.Job:
        return (await self.jobs.GetJob(v1.GetJobRequest(job_id=job_id), metadata=token(caller))).job


def token(caller: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer token-of-{caller}"),)


def check(principal: Principal, request: v1.GenerateRequest) -> None:
    if not request.messages:
        raise GenerationError(
            Reason.INVALID_REQUEST, "messages: none", violations=[Violation("messages", "none")]
        )


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    store, watches = MemoryJobs(**settings), Watches()
    events: list[Event] = []
    stopped: list[str] = []
    known = {name: (each, partial(str, f"token-of-{name}")) for name, each in CALLERS.items()}
    servicer = JobServicer(
        callers=Callers(known),
        store=store,
        desk=Desk(store, Terms(), check=check, plan=plan, wall_clock=time.time, on_event=events.append),
        watches=watches,
        stop_job=stopped.append,
        clock=time.monotonic,
        on_event=events.append,
    )
    server = grpc.aio.server(interceptors=[ErrorGuard(InFlight(100), 2**20)])
    add_JobServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(JobServiceStub(channel), store, watches, events, stopped)
    finally:
        await server.stop(0)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    failure = Failure.of(caught.value)
    return failure.code, failure.reason


async def everything(call: AsyncIterable[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [each async for each in call]


async def test_strangers_are_refused() -> None:
    """Every method asks who calls."""
    async with serving() as served:
        jobs = served.jobs
        for call in (
            jobs.SubmitJob(v1.SubmitJobRequest()),
            jobs.GetJob(v1.GetJobRequest()),
            jobs.GetJobResult(v1.GetJobResultRequest()),
            jobs.CancelJob(v1.CancelJobRequest()),
            jobs.ListJobs(v1.ListJobsRequest()),
            jobs.SubmitBatch(v1.SubmitBatchRequest()),
            everything(jobs.WatchJob(v1.WatchJobRequest())),
            everything(jobs.WatchBatch(v1.WatchBatchRequest())),
        ):
            assert await refused(call) == (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")


@pytest.mark.parametrize("name", ["", "x", "0" * 32, "../../secrets", "0" * 500])
async def test_what_nobody_knows_is_not_there(name: str) -> None:
    """Whatever is asked of it, NOT_FOUND; names of any form."""
    async with serving() as served:
        jobs, who = served.jobs, token("shop")
        for call in (
            jobs.GetJob(v1.GetJobRequest(job_id=name), metadata=who),
            jobs.GetJobResult(v1.GetJobResultRequest(job_id=name), metadata=who),
            jobs.CancelJob(v1.CancelJobRequest(job_id=name), metadata=who),
            everything(jobs.WatchJob(v1.WatchJobRequest(job_id=name), metadata=who)),
            everything(jobs.WatchBatch(v1.WatchBatchRequest(batch_id=name), metadata=who)),
        ):
            assert await refused(call) == NOT_FOUND


async def test_an_answer_that_made_room_for_others() -> None:
    """The job has completed, and its result says why there is none."""
    async with serving(max_result_bytes=10) as served:
        old, _ = await served.submit(), await served.submit()
        for _ in range(2):
            claim = await served.store.claim("w")
            assert claim is not None
            await served.store.complete(claim, answer())
        assert (await served.get(old)).state == v1.JOB_STATE_COMPLETED
        asking = served.jobs.GetJobResult(v1.GetJobResultRequest(job_id=old), metadata=token("shop"))
        assert await refused(asking) == (grpc.StatusCode.NOT_FOUND, "JOB_RESULT_DROPPED")


async def test_callers_see_their_own_jobs_alone() -> None:
    """Another's job is as if it were not there; it can be neither seen, nor cancelled, nor listed."""
    async with serving() as served:
        mine, theirs = await served.submit("shop"), await served.submit("crm")
        assert (await served.get(mine)).caller == "shop"
        assert await refused(served.get(theirs)) == NOT_FOUND
        cancel = served.jobs.CancelJob(v1.CancelJobRequest(job_id=theirs), metadata=token("shop"))
        assert await refused(cancel) == NOT_FOUND
        listed = await served.jobs.ListJobs(v1.ListJobsRequest(), metadata=token("shop"))
        assert [job.job_id for job in listed.jobs] == [mine]
        assert (await served.get(theirs, "crm")).state == v1.JOB_STATE_QUEUED


async def test_callers_of_a_tenant_see_its_jobs() -> None:
    """Whoever of them submitted it, and whatever tenant its request names."""
    async with serving() as served:
        job = await served.submit("acme", attribution=v1.Attribution(tenant="other", project="p"))
        seen = await served.get(job, "acme-too")
        assert (seen.attribution.tenant, seen.attribution.project) == ("acme", "p")
        listed = await served.jobs.ListJobs(v1.ListJobsRequest(), metadata=token("acme-too"))
        assert [each.job_id for each in listed.jobs] == [job]
        other = await served.jobs.ListJobs(v1.ListJobsRequest(tenant="x"), metadata=token("acme"))
        assert not other.jobs
        assert await refused(served.get(job, "shop")) == NOT_FOUND


async def test_a_batch_is_its_callers() -> None:
    """All or none is accepted; another caller does not find it."""
    async with serving() as served:
        batch = v1.SubmitBatchRequest(requests=[ask("m", str(number)) for number in range(3)])
        accepted = await served.jobs.SubmitBatch(batch, metadata=token("shop"))
        jobs = [await served.get(each) for each in accepted.job_ids]
        assert [job.batch_index for job in jobs] == [0, 1, 2]
        theirs = v1.WatchBatchRequest(batch_id=accepted.batch_id)
        assert await refused(everything(served.jobs.WatchBatch(theirs, metadata=token("crm")))) == NOT_FOUND
        broken = v1.SubmitBatchRequest(requests=[ask("m"), v1.GenerateRequest(model="m")])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.jobs.SubmitBatch(broken, metadata=token("crm"))
        details = Failure.of(caught.value).bad_request
        assert details is not None
        assert [each.field for each in details.field_violations] == ["requests[1].messages"]
        listed = await served.jobs.ListJobs(v1.ListJobsRequest(), metadata=token("crm"))
        assert not listed.jobs
        empty = served.jobs.SubmitBatch(v1.SubmitBatchRequest(), metadata=token("shop"))
        assert await refused(empty) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_a_batch_with_keys_is_submitted_once() -> None:
    """Sent again it is the same batch; a key for another request spoils the whole of the new one."""
    async with serving() as served:
        who = token("shop")
        batch = v1.SubmitBatchRequest(
            requests=[ask("m", str(number), idempotency_key=str(number)) for number in range(3)]
        )
        first = await served.jobs.SubmitBatch(batch, metadata=who)
        again = await served.jobs.SubmitBatch(batch, metadata=who)
        assert again == first
        mixed = v1.SubmitBatchRequest(requests=[ask("m", "new"), ask("m", "changed", idempotency_key="1")])
        reused = (grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED")
        assert await refused(served.jobs.SubmitBatch(mixed, metadata=who)) == reused
        queued = v1.ListJobsRequest(states=[v1.JOB_STATE_QUEUED])
        assert len((await served.jobs.ListJobs(queued, metadata=who)).jobs) == 3


async def test_cancelling() -> None:
    """Tells the worker and those who listen, once; what has ended is left as it is."""
    async with serving() as served:
        job, done = await served.submit(), await served.submit()
        cancel = v1.CancelJobRequest(job_id=job)
        for _ in range(2):
            response = await served.jobs.CancelJob(cancel, metadata=token("shop"))
            assert response.job.state == v1.JOB_STATE_CANCELLED
        assert served.stopped == [job]
        assert [event.facts["state"] for event in served.events if event.subject == job] == [
            "queued",
            "cancelled",
        ]
        claim = await served.store.claim("w")
        assert claim is not None
        await served.store.complete(claim, answer())
        left = await served.jobs.CancelJob(v1.CancelJobRequest(job_id=done), metadata=token("shop"))
        assert left.job.state == v1.JOB_STATE_COMPLETED


async def test_pages() -> None:
    """A page token that is none is refused."""
    async with serving() as served:
        for _ in range(5):
            await served.submit()
        first = await served.jobs.ListJobs(v1.ListJobsRequest(page_size=3), metadata=token("shop"))
        rest = v1.ListJobsRequest(page_size=3, page_token=first.next_page_token)
        second = await served.jobs.ListJobs(rest, metadata=token("shop"))
        ids = [job.job_id for job in (*first.jobs, *second.jobs)]
        assert (len(ids), ids) == (5, sorted(ids, reverse=True))
        wrong = served.jobs.ListJobs(v1.ListJobsRequest(page_token="'"), metadata=token("shop"))
        assert await refused(wrong) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_who_watches_does_not_hold_up_a_drain() -> None:
    """It ends with DRAINING, and so does who comes then."""
    async with serving() as served:
        job = await served.submit()
        watch = served.jobs.WatchJob(v1.WatchJobRequest(job_id=job), metadata=token("shop"))
        async with asyncio.timeout(PATIENCE):
            first: Any = await watch.read()
            assert first.job.job_id == job
            served.watches.close()
            draining = (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert await refused(watch.read()) == draining
            late = served.jobs.WatchJob(v1.WatchJobRequest(job_id=job), metadata=token("shop"))
            assert await refused(everything(late)) == draining


@pytest.mark.parametrize(
    ("job", "code", "reason"),
    [
        (v1.Job(state=v1.JOB_STATE_QUEUED), grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_ENDED"),
        (v1.Job(state=v1.JOB_STATE_CANCELLED), grpc.StatusCode.CANCELLED, "CANCELLED"),
        (v1.Job(state=v1.JOB_STATE_EXPIRED), grpc.StatusCode.DEADLINE_EXCEEDED, "JOB_EXPIRED"),
        (
            v1.Job(state=v1.JOB_STATE_FAILED, reason="PROVIDER_QUOTA_SPENT", message="spent"),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "PROVIDER_QUOTA_SPENT",
        ),
        (v1.Job(state=v1.JOB_STATE_FAILED, reason="WORKER_LOST"), grpc.StatusCode.UNAVAILABLE, "WORKER_LOST"),
        (v1.Job(state=v1.JOB_STATE_FAILED, reason="NEWER"), grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
def test_the_error_of_a_job_is_that_of_its_request(job: v1.Job, code: grpc.StatusCode, reason: str) -> None:
    """The same code and reason as Generate has; asking again for the result does not help."""
    error = failure_of(job)
    status = to_status(error)
    assert (status.code, error.reason.value) == (code, reason)
    assert dict(status.trailers).get("grpc-retry-pushback-ms") in (None, "-1")


def test_ids() -> None:
    """They sort by arrival and rank, and with a key stand for the request."""
    batch = new_batch()
    plain = [job_id(batch, index, ask("m")) for index in (0, 1, 9_999)]
    assert plain == sorted(plain)
    assert all(is_job(each) and each.startswith(batch) for each in plain)
    assert is_batch(batch)
    one, two = ask("m", "a", idempotency_key="k"), ask("m", "b", idempotency_key="k")
    assert digest_in(job_id(batch, 0, one)) != digest_in(job_id(batch, 0, two)) != ""
    assert is_job(job_id(batch, 0, one))
    assert digest_in(plain[0]) == ""
