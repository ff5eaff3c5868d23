"""The queue of a fleet: in Redis; while that is away, in each sidecar, until Redis can take over."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_outbox import JobOutbox
from outrider.stores.job_pages import merge, page_size
from outrider.stores.job_table import is_from_here
from outrider.stores.recent_jobs import RecentJobs
from outrider.stores.redis_jobs import UncertainError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from outrider import v1
    from outrider.core.jobs import Claim, Counts, OnEnded, Page, Submission
    from outrider.stores.job_outbox import Letter
    from outrider.stores.memory_jobs import MemoryJobs
    from outrider.stores.redis_jobs import RedisJobs
    from outrider.stores.redis_link import RedisLink

_AT_ONCE = 50  # jobs
_FIRST_PAUSE = 0.25  # seconds until Redis, which did not answer, is told again
_LONGEST_PAUSE = 1.0  # well below any lease: a claim must still be good when Redis is told of its end
_LAST_WORDS = 1.0

_log = structlog.get_logger("outrider.jobs")


class FleetJobs:
    """A JobStore that accepts jobs while Redis is away, and works on those that it accepted then.

    What Redis may have got, but did not confirm, waits for Redis, and so does what has an idempotency key,
    which a job there may have: neither is ever worked on twice. What Redis accepted last is submitted once
    more when it has been away, as it may come back without it. The end of a job of Redis is remembered while
    that is away, and counts if its claim is still good then. Only what is asked of a job that is not here
    raises StoreUnavailableError.
    """

    def __init__(self, link: RedisLink, redis: RedisJobs, local: MemoryJobs) -> None:
        self._link = link
        self._redis = redis
        self._local = local
        self._outbox = JobOutbox()
        self._on_ended: OnEnded = lambda job, traceparent: None
        self._move = asyncio.Lock()  # while it is held, jobs are on their way from here to Redis
        self._recent = RecentJobs()
        self._doubtful = False  # whether Redis may have forgotten some of these
        self._adopted = 0  # when the last job that was handed over arrived
        self._divided: set[str] = set()  # batches some of whose jobs were handed over, and some not yet
        self._returning: asyncio.Task[None] | None = None
        link.on_change(self._link_changed)

    async def start(self) -> None:
        """Take over what earlier processes left. Raises OSError where the journal cannot be used."""
        await self._local.start()
        self._return_soon()

    async def aclose(self) -> None:
        """Stop; to be called before the link's."""
        if self._returning is not None:
            await asyncio.wait([self._returning], timeout=_LAST_WORDS if self._link.available else 0)
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        await self._local.aclose()

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        """See JobStore. Some of several with keys that were used before may be known here alone."""
        if not self._link.available:
            return await self._local.submit(submissions, held=_has_key)
        if any(map(self._local.knows, submissions)):
            async with self._move:
                return await self._submit_rest(submissions)
        return await self._submit_there(submissions)

    def on_ended(self, callback: OnEnded) -> None:
        """See JobStore."""
        self._on_ended = callback
        self._local.on_ended(callback)
        self._redis.on_ended(callback)

    async def claim(self, worker: str, left_out: Collection[str] = ()) -> Claim | None:
        """See JobStore."""
        if self._link.available:
            await self._sweep_here()
            with suppress(StoreUnavailableError):
                return await self._redis.claim(worker, left_out)
        return await self._local.claim(worker, left_out)

    async def sweep(self) -> None:
        """See JobStore."""
        await self._sweep_here()
        with suppress(StoreUnavailableError):
            await self._redis.sweep()

    async def renew(self, claim: Claim) -> bool:
        """See JobStore; True while Redis is away: nobody else can be given the job."""
        if is_from_here(claim.token):
            return await self._local.renew(claim)
        with suppress(StoreUnavailableError):
            return await self._redis.renew(claim)
        return True

    async def complete(self, claim: Claim, response: v1.CompleteResponse) -> bool:
        """See JobStore; `on_ended` where Redis has to be told later."""
        if is_from_here(claim.token):
            return self._ended_here(await self._local.complete(claim, response))
        return await self._tell(claim, lambda: self._redis.complete(claim, response))

    async def fail(
        self,
        claim: Claim,
        reason: str,
        message: str,
        retry_in: float | None,
        failure: v1.GenerationFailure | None = None,
    ) -> bool:
        """See JobStore; `on_ended` where Redis has to be told later."""
        if is_from_here(claim.token):
            return self._ended_here(await self._local.fail(claim, reason, message, retry_in, failure))
        return await self._tell(claim, lambda: self._redis.fail(claim, reason, message, retry_in, failure))

    async def release(self, claim: Claim, delay: float = 0.0) -> bool:
        """See JobStore; `on_ended` where Redis has to be told later."""
        if is_from_here(claim.token):
            return self._ended_here(await self._local.release(claim, delay))
        return await self._tell(claim, lambda: self._redis.release(claim, delay))

    async def publish(self, claim: Claim, events: Sequence[v1.GenerateResponse]) -> None:
        """See JobStore; events are lost while Redis is away."""
        if is_from_here(claim.token):
            await self._local.publish(claim, events)
            return
        with suppress(StoreUnavailableError):
            await self._redis.publish(claim, events)

    async def events(self, job_id: str, tries: int, after: int) -> Sequence[v1.GenerateResponse]:
        """See JobStore."""
        if job_id in self._local:
            return await self._local.events(job_id, tries, after)
        return await self._redis.events(job_id, tries, after)

    async def get(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        return await self._local.get(job_id) or await self._redis.get(job_id)

    async def result(self, job_id: str) -> v1.CompleteResponse | None:
        """See JobStore."""
        found = await self._local.result(job_id)
        return found if found or job_id in self._local else await self._redis.result(job_id)

    async def cancel(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        if job_id in self._local:
            async with self._move:
                if (job := await self._local.cancel(job_id)) is not None:
                    self._return_soon()
                    return job
        return await self._redis.cancel(job_id)

    async def list(self, query: v1.ListJobsRequest, caller: str) -> Page:
        """See JobStore; while Redis is away what is here, if anything is."""
        pages = [await self._local.list(query, caller)]
        try:
            pages.append(await self._redis.list(query, caller))
        except StoreUnavailableError:
            if not pages[0].jobs:
                raise
        return merge(pages, page_size(query))

    async def progress(self, batch_id: str) -> Counts:
        """See JobStore; told while Redis is away where the whole batch is here."""
        counts = Counter(await self._local.progress(batch_id))
        try:
            counts.update(await self._redis.progress(batch_id))
        except StoreUnavailableError:
            if not counts or batch_id in self._divided:
                raise
        return counts

    async def _sweep_here(self) -> None:
        await self._local.sweep()
        if self._outbox or self._local.idle(1):
            self._return_soon()

    async def _submit_there(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        records = await self._redis.records_of(submissions)
        try:
            accepted = await self._redis.accept(records)
        except StoreUnavailableError as error:
            held = _always if isinstance(error, UncertainError) else _has_key
            accepted = await self._local.submit(submissions, held=held)
            self._return_soon()
        else:
            new = zip(records, accepted, strict=True)
            self._recent.add(record for record, (_, existing) in new if not existing)
        return accepted

    async def _submit_rest(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        """Leave those that are known here, and what is the same, to the store here."""
        here = [self._local.knows(each) for each in submissions]
        rest = [each for each, is_here in zip(submissions, here, strict=True) if not is_here]
        there = iter(await self._submit_there(rest))
        return [
            (await self._local.submit([each]))[0] if is_here else next(there)
            for each, is_here in zip(submissions, here, strict=True)
        ]

    async def _tell(self, claim: Claim, letter: Letter) -> bool:
        try:
            return await letter()
        except StoreUnavailableError:
            self._outbox.add(claim, letter)
            self._return_soon()
            return False

    def _ended_here(self, done: bool) -> bool:
        self._return_soon()
        return done

    def _link_changed(self, available: bool) -> None:
        if available:
            self._doubtful = True
            self._return_soon()

    def _return_soon(self) -> None:
        if self._link.available and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        """Tell Redis what ended without it, and hand over every job that nobody works on here."""
        pause = _FIRST_PAUSE
        while self._link.available:
            try:
                await self._remind()
                await self._outbox.flush(self._on_ended)
                if not await self._hand_over() and not self._outbox:
                    return
                pause = _FIRST_PAUSE
            except (StoreUnavailableError, OSError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _remind(self) -> None:
        """Whoever answers now may have lost what was accepted last."""
        if self._doubtful:
            if lost := await self._redis.restore(self._recent.all()):
                _log.warning("redis_had_lost_jobs", jobs=lost)
            self._doubtful = False

    async def _hand_over(self) -> int:
        """Some jobs. Each is in Redis under its own id, however often that is tried."""
        async with self._move:
            records = self._local.idle(_AT_ONCE)
            if records:
                await self._local.hold(records)
                self._adopted = await self._redis.adopt(records, self._adopted)
                await self._local.drop([record.job_id for record in records])
                for batch in {record.batch for record in records}:
                    left = await self._local.progress(batch)
                    (self._divided.add if left else self._divided.discard)(batch)
                _log.info("jobs_handed_over", jobs=len(records))
            return len(records)


def _always(_: Submission) -> bool:
    return True


def _has_key(submission: Submission) -> bool:
    return bool(submission.request.idempotency_key)
