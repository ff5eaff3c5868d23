"""Jobs: requests that wait for their turn, and the port of the queue that loses none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import TypeAlias

    from outrider import v1

    Counts: TypeAlias = Mapping[tuple[str, v1.JobState], int]  # by group and state
    OnEnded: TypeAlias = Callable[[v1.Job, str], None]  # the job and its trace context


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to be queued. `job` is complete but for what the queue decides.

    From `submitted_at` to `expires_at` is how long it may take to end, and how long it is kept after that.
    The idempotency key is the request's; it is one of the caller and of the tenant of the attribution.
    Jobs of one `group` may go to the same places; those of several can be told apart, and left out.
    """

    job: v1.Job
    request: v1.GenerateRequest
    max_retries: int  # tries that fail and are followed by another one
    traceparent: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right, and the duty, to work on a job while it is renewed: thrice in the store's lease.

    It is good until another has been given the job. `token` fences off older claims.
    """

    job: v1.Job
    request: v1.GenerateRequest
    token: str
    tries: int  # this one included
    failures: int  # tries that failed and were followed by another one
    max_retries: int
    traceparent: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first, and where the next ones begin; empty: there are none."""

    jobs: Sequence[v1.Job]
    next: str = ""


class QueueFullError(Exception):
    """The queue takes no more: its high watermark was reached, and its low one not yet."""


class JobStore(Protocol):
    """The queue and everything known of its jobs. Contract: tests/stores/test_jobs_contract.py.

    What `submit` has accepted ends once in a final state, whoever crashes. A final state never changes. A job
    that has not ended when it expires is EXPIRED. One that has ended is forgotten after as long again.
    Raises StoreUnavailableError where it is away.
    """

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        """Accept all or none; each as it stands, and whether its idempotency key had been used before.

        A job that was accepted under the same id already is that job. Raises QueueFullError. After
        StoreUnavailableError they may have been accepted all the same.
        """

    def on_ended(self, callback: OnEnded) -> None:
        """Call back with each job that ended by nobody's doing: its time was up, or its last worker lost.

        Once in a fleet, within the next `claim` or `sweep` of some sidecar. Also with the job of a claim, as
        its worker left it, once a store that was away has let its end count. The callback must not raise.
        """

    async def claim(self, worker: str, left_out: Collection[str] = ()) -> Claim | None:
        """The next job: by priority, tenants in turn, oldest first; of no group that is left out.

        What a dead worker left behind is back in its place then. To be called, by some
        worker, thrice in a lease at least: that is also what finds those that died.
        """

    async def sweep(self) -> None:
        """What `claim` does beside giving a job: let those end, wait or be forgotten whose time has come."""

    async def renew(self, claim: Claim) -> bool:
        """Hold it longer. False: it was cancelled, expired, or given to another; stop working on it."""

    async def complete(self, claim: Claim, response: v1.CompleteResponse) -> bool:
        """It has its answer. False: the claim was no longer good, or it is not known yet whether it is."""

    async def fail(
        self,
        claim: Claim,
        reason: str,
        message: str,
        retry_in: float | None,
        failure: v1.GenerationFailure | None = None,
    ) -> bool:
        """This try failed. `retry_in`: seconds until the next one, if one is left; None: the job has failed.

        False: as for `complete`.
        """

    async def release(self, claim: Claim, delay: float = 0.0) -> bool:
        """Give it back, to nobody for `delay` seconds: no retry is used up. False: as for `complete`."""

    async def publish(self, claim: Claim, events: Sequence[v1.GenerateResponse]) -> None:
        """Show events of the answer, numbered, to those who watch."""

    async def events(self, job_id: str, tries: int, after: int) -> Sequence[v1.GenerateResponse]:
        """Events of a try with sequence numbers beyond `after`; where they are many, the oldest are gone."""

    async def get(self, job_id: str) -> v1.Job | None:
        """How it stands; None where it is not known, or forgotten."""

    async def result(self, job_id: str) -> v1.CompleteResponse | None:
        """Its answer; None where it has none, or no more."""

    async def cancel(self, job_id: str) -> v1.Job | None:
        """Cancel it, unless it has ended; as it stands then. None as for `get`."""

    async def list(self, query: v1.ListJobsRequest, caller: str) -> Page:
        """Jobs that fit; of this caller, unless empty. Raises ValueError for a page token that is none.

        `position` is not told. A page may be short, or empty, though others follow.
        """

    async def progress(self, batch_id: str) -> Counts:
        """How many jobs of a batch stand how, by group. What has just expired may count as before."""
