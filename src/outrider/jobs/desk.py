"""Takes requests in: what is accepted here is answered, or ends with the reason why not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.core.jobs import QueueFullError, Submission
from outrider.core.keys import reused
from outrider.core.store_errors import StoreUnavailableError
from outrider.jobs.groups import group_of, target_of
from outrider.jobs.ids import MOST_IN_A_BATCH, digest, digest_in, job_id, new_batch
from outrider.jobs.states import changed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from outrider.core.context import Principal, Target
    from outrider.core.jobs import JobStore
    from outrider.core.ports import Clock
    from outrider.jobs.states import OnEvent

    Plan: TypeAlias = Callable[[v1.GenerateRequest], Awaitable[Sequence[Target]]]

_MOST_RETRIES = 100
_RETRY_AFTER = 5.0  # seconds, where the queue is full
_AT_ONCE = 50  # requests that are looked at before others may run


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job gets that does not say, and the longest time it may ask for. In seconds."""

    ttl: float = 4 * 3_600.0
    max_ttl: float = 24 * 3_600.0
    max_retries: int = 3


class Accepted(NamedTuple):
    """A batch that was accepted."""

    batch_id: str
    job_ids: Sequence[str]


class Desk:
    """Accepts jobs. `check` raises GenerationError for a request that its caller may not make; `plan` gives
    the targets that it would go to now, none where none fits. Both leave the request as it is. `accepted`
    is called when there is something to work on.
    """

    def __init__(
        self,
        store: JobStore,
        terms: Terms,
        *,
        check: Callable[[Principal, v1.GenerateRequest], None],
        plan: Plan,
        wall_clock: Clock,
        accepted: Callable[[], None] = lambda: None,
        on_event: OnEvent = lambda _: None,
    ) -> None:
        self._store = store
        self._terms = terms
        self._check = check
        self._plan = plan
        self._wall_clock = wall_clock
        self._accepted = accepted
        self._on_event = on_event

    async def submit(
        self, principal: Principal, request: v1.GenerateRequest, options: v1.JobOptions, traceparent: str = ""
    ) -> tuple[v1.Job, bool]:
        """The job, and whether its idempotency key was used before. Raises GenerationError."""
        self._check(principal, request)
        return await self.leave(principal, request, options, traceparent)

    async def leave(
        self, principal: Principal, request: v1.GenerateRequest, options: v1.JobOptions, traceparent: str = ""
    ) -> tuple[v1.Job, bool]:
        """The same for a request that was found good already."""
        check_options(options, self._terms)
        group = group_of(await self._plan(request))
        submission = self._submission(principal, request, options, traceparent, (new_batch(), 0), group)
        return (await self._hand_in([submission]))[0]

    async def submit_batch(
        self,
        principal: Principal,
        requests: Sequence[v1.GenerateRequest],
        options: v1.JobOptions,
        traceparent: str = "",
    ) -> Accepted:
        """Accept all or none. Where each has a key that was used in one batch before, it is that batch.

        Those of one group are queued next to each other.
        """
        if not 1 <= len(requests) <= MOST_IN_A_BATCH:
            raise invalid("requests", f"from 1 to {MOST_IN_A_BATCH}")
        check_options(options, self._terms)
        groups = await self._groups(principal, requests)
        _check_keys(requests)
        batch, submissions = new_batch(), []
        order = sorted(range(len(requests)), key=groups.__getitem__)
        for rank, index in enumerate(order):
            place = (batch, rank)
            made = self._submission(principal, requests[index], options, traceparent, place, groups[index])
            made.job.batch_id, made.job.batch_index = batch, index
            submissions.append(made)
            if rank % _AT_ONCE == 0:
                await asyncio.sleep(0)
        jobs = await self._hand_in(submissions)
        batches = {job.batch_id for job, _ in jobs}
        known = batches.pop() if len(batches) == 1 else ""
        ids = {index: job.job_id for index, (job, _) in zip(order, jobs, strict=True)}
        return Accepted(known or batch, [ids[index] for index in range(len(requests))])

    async def _groups(self, principal: Principal, requests: Sequence[v1.GenerateRequest]) -> list[str]:
        """The group of each. Raises GenerationError where one of them may not be made."""
        groups = []
        for index, request in enumerate(requests):
            self._check_one(principal, request, index)
            groups.append(group_of(await self._plan(request)))
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return groups

    def _check_one(self, principal: Principal, request: v1.GenerateRequest, index: int) -> None:
        try:
            self._check(principal, request)
        except GenerationError as error:
            at = f"requests[{index}]"
            found = [Violation(f"{at}.{each.field}", each.description) for each in error.fact.violations]
            raise error.refine(message=f"{at}: {error.fact.message}", violations=found) from None

    def _submission(
        self,
        principal: Principal,
        request: v1.GenerateRequest,
        options: v1.JobOptions,
        traceparent: str,
        place: tuple[str, int],
        group: str,
    ) -> Submission:
        ttl = options.ttl.ToNanoseconds() / 1e9 if options.HasField("ttl") else self._terms.ttl
        retries = options.max_retries if options.HasField("max_retries") else self._terms.max_retries
        job = v1.Job(
            job_id=job_id(*place, request),
            priority=options.priority or v1.JOB_PRIORITY_NORMAL,
            model=request.model,
            attribution=request.attribution,
            caller=principal.name,
            target=target_of(group),
        )
        if principal.tenant:
            job.attribution.tenant = principal.tenant
        now = round(self._wall_clock() * 1_000)
        job.submitted_at.FromMilliseconds(now)
        job.expires_at.FromMilliseconds(now + max(1, round(ttl * 1_000)))
        return Submission(job, request, retries, traceparent, group)

    async def _hand_in(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        try:
            accepted = await self._store.submit(submissions)
        except QueueFullError as error:
            raise GenerationError(Reason.QUEUE_FULL, str(error), retry_after=_RETRY_AFTER) from None
        except StoreUnavailableError:
            raise store_away() from None
        await self._check_reuse(submissions, accepted)
        for (job, existing), submission in zip(accepted, submissions, strict=True):
            if not existing:
                self._on_event(changed(job, traceparent=submission.traceparent))
        self._accepted()
        return accepted

    async def _check_reuse(
        self, submissions: Sequence[Submission], accepted: Sequence[tuple[v1.Job, bool]]
    ) -> None:
        """Accept none where a key was used for another request: raise GenerationError KEY_REUSED."""
        for (job, existing), submission in zip(accepted, submissions, strict=True):
            if existing and digest_in(job.job_id) != digest(submission.request):
                for fresh in [other.job_id for other, known in accepted if not known]:
                    await self._store.cancel(fresh)
                raise reused(submission.request)


def check_options(options: v1.JobOptions, terms: Terms) -> None:
    """Raise GenerationError INVALID_REQUEST for options that cannot be had."""
    if options.priority not in v1.JobPriority.values():
        raise invalid("options.priority", "is none that there is")
    if options.HasField("ttl") and not 0 < options.ttl.ToNanoseconds() <= terms.max_ttl * 1e9:
        raise invalid("options.ttl", f"must be above 0 and at most {terms.max_ttl:g} s")
    if options.max_retries > _MOST_RETRIES:
        raise invalid("options.max_retries", f"at most {_MOST_RETRIES}")


def invalid(field: str, description: str) -> GenerationError:
    """The error of a request one of whose fields is wrong."""
    return GenerationError(
        Reason.INVALID_REQUEST, f"{field}: {description}", violations=[Violation(field, description)]
    )


def store_away() -> GenerationError:
    """The error of what cannot be told or done while the shared store is away."""
    return GenerationError(Reason.STORE_UNAVAILABLE, "the store of jobs does not answer", retry_after=1.0)


def _check_keys(requests: Sequence[v1.GenerateRequest]) -> None:
    digests: dict[str, str] = {}
    for request in requests:
        key = request.idempotency_key
        if key and digests.setdefault(key, digest(request)) != digest(request):
            raise reused(request)
