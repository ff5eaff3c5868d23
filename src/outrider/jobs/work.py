"""One try of one job: its request goes through the pipeline as if its caller had just sent it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.context import Record, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.jobs.showing import Showing

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.context import Principal
    from outrider.core.jobs import Claim, JobStore
    from outrider.core.ports import Clock, Handler

_MARGIN = 1.0  # seconds: that its time is up is for the store to say

METHOD = "Job"
"""What the records of tries have in the place of a method."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a try needs. `callers` gives who is configured under a name; `wall_clock` is the Unix clock."""

    store: JobStore
    pipeline: Handler
    callers: Callable[[str], Principal | None]
    new_id: Callable[[], str]
    clock: Clock
    wall_clock: Clock


class Try:
    """Runs once. `record` tells what happened."""

    def __init__(self, claim: Claim, means: Means) -> None:
        self._claim = claim
        self._means = means
        self.record = self._new_record()

    @property
    def asked(self) -> bool:
        """Whether any provider was."""
        return any(each.outcome != v1.Attempt.OUTCOME_SKIPPED for each in self.record.attempts)

    async def answer(self) -> v1.CompleteResponse:
        """The whole answer; its events are shown as they come. Raises GenerationError."""
        context, collector, sequence = self._context(), Collector(), 0
        async with (
            Showing(self._means.store, self._claim) as showing,
            aclosing(self._means.pipeline(context)) as batches,
        ):
            async for batch in batches:
                for event in batch:
                    sequence += 1
                    event.sequence = sequence
                    collector.add(event)
                    showing.add(event)
                self.record.last_sequence = sequence
        return collector.response

    def _context(self) -> RequestContext:
        job, record = self._claim.job, self.record
        principal = self._means.callers(job.caller)
        if principal is None:
            raise GenerationError(Reason.CALLER_UNKNOWN, f"caller {job.caller!r} is not configured any more")
        left = job.expires_at.ToNanoseconds() / 1e9 - self._means.wall_clock()
        deadline = self._means.clock() + left + _MARGIN
        return RequestContext(
            record.request_id, to_be_run(self._claim.request), principal, record, deadline=deadline
        )

    def _new_record(self) -> Record:
        job = self._claim.job
        attribution = v1.Attribution()
        attribution.CopyFrom(job.attribution)
        return Record(
            request_id=self._means.new_id(),
            method=METHOD,
            principal=job.caller,
            requested_model=job.model,
            started_at=self._means.clock(),
            attribution=attribution,
            traceparent=self._claim.traceparent,
        )


def to_be_run(request: v1.GenerateRequest) -> v1.GenerateRequest:
    """The request without what is the queue's concern; changed in place."""
    request.idempotency_key = ""
    request.unavailability_policy = v1.UNAVAILABILITY_POLICY_FAIL
    request.resumable = False
    return request
