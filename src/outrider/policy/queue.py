"""What becomes of a request that asks to be queued where no provider can answer it."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from outrider import v1
from outrider.core.context import RequestContext
from outrider.core.errors import Fault, GenerationError, Reason, Remedy
from outrider.core.streams import Failure
from outrider.policy.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.ports import Batch, Clock, Handler, Stage

_RESERVE = 0.25  # seconds before the caller's deadline, at most, for leaving the request and saying so
_RESERVED_SHARE = 0.1  # of the time that the caller gives

Leave: TypeAlias = Callable[[RequestContext, v1.GenerateRequest], Awaitable[v1.Job]]
"""Leaves a request, as its caller sent it, with the sidecar; gives the job, or raises GenerationError."""


def queue(leave: Leave | None, clock: Clock = time.monotonic) -> Stage:
    """The stage, which stands before all others: what it queues has failed first, and is on record so.

    None: this sidecar has no queue, and says so to those who ask for it. `clock` is that of deadlines.
    """

    def stage(inner: Handler) -> Handler:
        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            if context.request.unavailability_policy != v1.UNAVAILABILITY_POLICY_QUEUE:
                return inner(context)
            if leave is None:
                return _without_queue(context, inner)
            return _or_queue(context, inner, leave, clock)

        return handle

    return stage


async def _or_queue(
    context: RequestContext, inner: Handler, leave: Leave, clock: Clock
) -> AsyncGenerator[Batch, None]:
    request = v1.GenerateRequest()
    request.CopyFrom(context.request)  # stages fill in what the caller left out
    left = context.deadline - clock()
    hurried = replace(context, deadline=context.deadline - min(_RESERVE, left * _RESERVED_SHARE))
    try:
        async with aclosing(inner(hurried)) as batches:
            async for batch in batches:
                yield batch
    except GenerationError as error:
        late = error.reason is Reason.DEADLINE_EXCEEDED and clock() < context.deadline < math.inf
        if error.committed or not (late or _may_pass(error)):
            raise
        failed = Failure.of(error)  # under a name, the error itself would form a cycle with this frame
    else:
        return
    try:
        job = await leave(context, request)
    except GenerationError:
        raise failed.error() from None
    queued = v1.Queued(job_id=job.job_id, reason=failed.fact.reason, expires_at=job.expires_at)
    if not context.streaming:
        raise _instead(queued, failed)
    yield [v1.GenerateResponse(queued=queued)]


async def _without_queue(context: RequestContext, inner: Handler) -> AsyncGenerator[Batch, None]:
    async with aclosing(inner(context)) as batches:
        async for batch in batches:
            if batch[-1].HasField("completed"):
                why = "this sidecar has no queue: it would have failed at once"
                batch[-1].completed.warnings.append(unsupported("unavailability_policy", why))
            yield batch


def _may_pass(error: GenerationError) -> bool:
    """Whether a provider may answer later what none can now."""
    traits = error.traits
    if error.fact.retry_after == math.inf or traits.remedy is Remedy.NONE:
        return False
    return traits.fault in (Fault.PROVIDER, Fault.SIDECAR)


def as_error(queued: v1.Queued) -> GenerationError:
    """What the event is for who wants the answer in one piece."""
    message = f"no provider can answer now ({queued.reason}): the request was left as job {queued.job_id}"
    return GenerationError(Reason.QUEUED, message, retry_after=math.inf).refine(job_id=queued.job_id)


def _instead(queued: v1.Queued, failed: Failure) -> GenerationError:
    error = as_error(queued)
    error.failure = failed.detail
    return error.refine(provider=failed.fact.provider, model=failed.fact.model)
