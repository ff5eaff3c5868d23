"""JobService: requests that are left with the sidecar."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.core.store_errors import StoreUnavailableError
from outrider.jobs.batches import BatchWatch
from outrider.jobs.desk import invalid, store_away
from outrider.jobs.ids import is_batch, is_job
from outrider.jobs.outcome import failure_of, unknown
from outrider.jobs.states import changed, has_ended
from outrider.jobs.watch import watch
from outrider.policy.admit import check_caller
from outrider.server.bounded_write import bounded_write
from outrider.server.traceparent import traceparent_in
from outrider.v1.job_service_pb2_grpc import JobServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from google.protobuf.message import Message
    from grpc.aio import ServicerContext

    from outrider.core.context import Principal
    from outrider.core.jobs import JobStore
    from outrider.core.ports import Clock
    from outrider.jobs.desk import Desk
    from outrider.jobs.states import OnEvent
    from outrider.server.callers import Callers
    from outrider.server.watches import Watches


class JobServicer(JobServiceServicer):
    """Every method of the service. `stop_job` ends the work on a job that was cancelled."""

    def __init__(
        self,
        *,
        callers: Callers,
        store: JobStore,
        desk: Desk,
        watches: Watches,
        stop_job: Callable[[str], None],
        clock: Clock,
        on_event: OnEvent = lambda _: None,
    ) -> None:
        self._callers = callers
        self._store = store
        self._desk = desk
        self._watches = watches
        self._stop_job = stop_job
        self._clock = clock
        self._on_event = on_event

    async def SubmitJob(
        self,
        request: v1.SubmitJobRequest,
        context: ServicerContext[v1.SubmitJobRequest, v1.SubmitJobResponse],
    ) -> v1.SubmitJobResponse:
        """Accept a request."""
        principal = self._identify(context)
        job, existing = await self._desk.submit(
            principal, request.request, request.options, _traceparent(context)
        )
        return v1.SubmitJobResponse(job=job, existing=existing)

    async def GetJob(
        self, request: v1.GetJobRequest, context: ServicerContext[v1.GetJobRequest, v1.GetJobResponse]
    ) -> v1.GetJobResponse:
        """How a job stands."""
        return v1.GetJobResponse(job=await self._find(self._identify(context), request.job_id))

    async def WatchJob(  # type: ignore[override]  # a coroutine that writes, as in GenerationServicer
        self,
        request: v1.WatchJobRequest,
        context: ServicerContext[v1.WatchJobRequest, v1.WatchJobResponse],
    ) -> None:
        """Follow a job."""
        job = await self._find(self._identify(context), request.job_id)
        await self._stream(watch(self._store, job, request.after_sequence), context)

    async def GetJobResult(
        self,
        request: v1.GetJobResultRequest,
        context: ServicerContext[v1.GetJobResultRequest, v1.GetJobResultResponse],
    ) -> v1.GetJobResultResponse:
        """The answer of a job, or its error."""
        job = await self._find(self._identify(context), request.job_id)
        if job.state != v1.JOB_STATE_COMPLETED:
            raise failure_of(job).refine(job_id=job.job_id)
        with _store():
            answer = await self._store.result(job.job_id)
        if answer is None:
            text = f"job {job.job_id} has completed, but its answer had to make room for newer ones"
            raise GenerationError(Reason.JOB_RESULT_DROPPED, text).refine(job_id=job.job_id)
        return v1.GetJobResultResponse(job=job, response=answer)

    async def CancelJob(
        self,
        request: v1.CancelJobRequest,
        context: ServicerContext[v1.CancelJobRequest, v1.CancelJobResponse],
    ) -> v1.CancelJobResponse:
        """Cancel a job that has not ended."""
        before = await self._find(self._identify(context), request.job_id)
        with _store():
            job = await self._store.cancel(before.job_id)
        if job is None:
            raise unknown("job", request.job_id)
        if job.state == v1.JOB_STATE_CANCELLED and not has_ended(before):
            self._stop_job(job.job_id)
            self._on_event(changed(job))
        return v1.CancelJobResponse(job=job)

    async def ListJobs(
        self, request: v1.ListJobsRequest, context: ServicerContext[v1.ListJobsRequest, v1.ListJobsResponse]
    ) -> v1.ListJobsResponse:
        """The caller's jobs."""
        principal = self._identify(context)
        if principal.tenant:
            if request.tenant not in ("", principal.tenant):
                return v1.ListJobsResponse()
            request.tenant = principal.tenant
        try:
            with _store():
                page = await self._store.list(request, "" if principal.tenant else principal.name)
        except ValueError:
            raise invalid("page_token", "is none that ListJobs has given") from None
        return v1.ListJobsResponse(jobs=page.jobs, next_page_token=page.next)

    async def SubmitBatch(
        self,
        request: v1.SubmitBatchRequest,
        context: ServicerContext[v1.SubmitBatchRequest, v1.SubmitBatchResponse],
    ) -> v1.SubmitBatchResponse:
        """Accept many requests."""
        principal = self._identify(context)
        accepted = await self._desk.submit_batch(
            principal, request.requests, request.options, _traceparent(context)
        )
        return v1.SubmitBatchResponse(batch_id=accepted.batch_id, job_ids=accepted.job_ids)

    async def WatchBatch(  # type: ignore[override]
        self,
        request: v1.WatchBatchRequest,
        context: ServicerContext[v1.WatchBatchRequest, v1.WatchBatchResponse],
    ) -> None:
        """Follow a batch of the caller's own."""
        principal, batch = self._identify(context), request.batch_id
        query = v1.ListJobsRequest(batch_id=batch, page_size=1, tenant=principal.tenant)
        with _store():
            known = is_batch(batch) and (await self._store.list(query, principal.name)).jobs
        if not known:
            raise unknown("batch", batch)
        following = BatchWatch(self._store, batch, results=request.results, clock=self._clock)
        await self._stream(following.run(), context)

    async def _stream(
        self, responses: AsyncGenerator[Message, None], context: ServicerContext[Any, Any]
    ) -> None:
        with _store(), self._watches.watch():
            async with aclosing(responses) as told:
                async for response in told:
                    await bounded_write(context, response)

    async def _find(self, principal: Principal, job_id: str) -> v1.Job:
        """A job that the caller may see. Raises GenerationError JOB_UNKNOWN."""
        with _store():
            job = await self._store.get(job_id) if is_job(job_id) else None
        if job is None or not _may_see(principal, job):
            raise unknown("job", job_id)
        return job

    def _identify(self, context: ServicerContext[Any, Any]) -> Principal:
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        return principal


def _may_see(principal: Principal, job: v1.Job) -> bool:
    if principal.tenant:
        return job.attribution.tenant == principal.tenant
    return job.caller == principal.name


def _traceparent(context: ServicerContext[Any, Any]) -> str:
    return traceparent_in(context.invocation_metadata())  # type: ignore[arg-type]


@contextmanager
def _store() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError:
        raise store_away() from None
