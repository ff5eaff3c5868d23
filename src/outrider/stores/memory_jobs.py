"""The queue of one sidecar: in its memory and, with a journal, also on its disk."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from outrider import v1
from outrider.core.jobs import Claim, Page
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_codec import pack, unpack
from outrider.stores.job_desk import JobDesk
from outrider.stores.job_events import JobEvents
from outrider.stores.job_pages import fits, page_size, start_of
from outrider.stores.job_record import (
    REQUEST_LOST,
    REQUEST_LOST_MESSAGE,
    failed_outcome_of,
    key_of,
    outcome_of,
    record_of,
)
from outrider.stores.job_retention import Losses, Retention
from outrider.stores.job_table import JobTable
from outrider.stores.job_watermarks import Watermarks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from outrider.core.jobs import Counts, OnEnded, Submission
    from outrider.core.ports import Clock
    from outrider.stores.job_journal import JobJournal
    from outrider.stores.job_record import JobRecord

_AT_ONCE = 100  # jobs that are looked at before others may run: under a millisecond

_log = structlog.get_logger("outrider.jobs")


class MemoryJobs:
    """A JobStore. With a journal, what a method tells is on disk before; without, a crash loses all.

    `capacity` and `max_bytes` bound the jobs that have not ended. From the share `high` of either on nothing
    is accepted until it is down to `low`. Of jobs that have ended, `max_result_bytes` of answers are kept and
    `max_bytes` of the rest; the oldest make room. A claim is good for `lease` seconds; a job that loses its
    worker for the `max_losses`th time has FAILED.
    """

    def __init__(
        self,
        journal: JobJournal | None = None,
        *,
        capacity: int = 1_000,
        max_bytes: int = 100 * 2**20,
        max_result_bytes: int = 100 * 2**20,
        high: float = 0.8,
        low: float = 0.6,
        lease: float = 30.0,
        max_losses: int = 3,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._wall_clock = wall_clock
        self._marks = Watermarks(capacity, max_bytes, high=high, low=low)
        self._table = JobTable(
            self._marks,
            ended=Retention(max_bytes, Losses("jobs forgotten early", "jobs.max_bytes", clock).add),
            answers=Retention(
                max_result_bytes, Losses("answers dropped", "jobs.max_result_bytes", clock).add
            ),
            lease=lease,
            max_losses=max_losses,
            clock=clock,
            wall_clock=wall_clock,
            changed=self._changed,
        )
        self._events = JobEvents(clock)
        self._desk = JobDesk(journal, self._table.peek) if journal is not None else None
        self._on_ended: OnEnded | None = None

    async def start(self) -> None:
        """Take over what earlier processes left. Raises OSError where the folder cannot be used."""
        if self._desk is None:
            return
        left = await self._desk.open()
        for number, record in enumerate(sorted(left, key=_end_of)):
            self._table.add(record)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._settled()

    async def aclose(self) -> None:
        """Leave the folder. Jobs that are worked on have lost their worker; all are lost without a folder."""
        if self._desk is not None:
            await self._desk.aclose()
        elif self._marks.jobs:
            _log.warning("accepted jobs are lost: nothing keeps them", jobs=self._marks.jobs)

    @property
    def level(self) -> float:
        """How full the queue is, from 0 to 1."""
        return self._marks.level

    @property
    def waiting(self) -> int:
        """Jobs that have not ended, and that nobody works on."""
        return self._table.waiting

    def on_ended(self, callback: OnEnded) -> None:
        """See JobStore."""
        self._on_ended = callback

    async def submit(
        self, submissions: Sequence[Submission], *, held: Callable[[Submission], bool] = lambda _: False
    ) -> Sequence[tuple[v1.Job, bool]]:
        """See JobStore. `held` tells of which nobody is to work on here."""
        now = self._wall_clock()
        records = []
        for number, submission in enumerate(submissions, start=1):
            records.append(await record_of(submission, now))
            records[-1].standing.held = held(submission)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        accepted = self._table.submit(records)
        try:
            await self._written()
        except OSError as error:
            fresh = {record.job_id for record in records}
            self._table.withdraw(known.job_id for known, _ in accepted if known.job_id in fresh)
            raise StoreUnavailableError("the journal cannot be written") from error
        return [(known.view(self._table.position(known)), existing) for known, existing in accepted]

    async def claim(self, worker: str, left_out: Collection[str] = ()) -> Claim | None:
        """See JobStore."""
        while (taken := self._table.claim(left_out)) is not None:
            record, token = taken
            job, packed = record.view(), record.request
            try:
                await self._settled()
                request = await unpack(v1.GenerateRequest, packed)
            except asyncio.CancelledError:
                self._table.release(record.job_id, token, 0.0)
                raise
            if request is not None:
                return Claim(
                    job,
                    request,
                    token,
                    job.tries,
                    record.standing.failures,
                    record.max_retries,
                    record.traceparent,
                    record.group,
                )
            self._table.fail(record.job_id, token, REQUEST_LOST, REQUEST_LOST_MESSAGE, None, b"")
        await self._settled()
        return None

    async def renew(self, claim: Claim) -> bool:
        """See JobStore."""
        return self._table.renew(claim.job.job_id, claim.token)

    async def complete(self, claim: Claim, response: v1.CompleteResponse) -> bool:
        """See JobStore."""
        result = await pack(response)
        done = self._table.complete(claim.job.job_id, claim.token, result, outcome_of(response))
        await self._settled()
        return done

    async def fail(
        self,
        claim: Claim,
        reason: str,
        message: str,
        retry_in: float | None,
        failure: v1.GenerationFailure | None = None,
    ) -> bool:
        """See JobStore."""
        outcome = failed_outcome_of(failure)
        done = self._table.fail(claim.job.job_id, claim.token, reason, message, retry_in, outcome)
        await self._settled()
        return done

    async def release(self, claim: Claim, delay: float = 0.0) -> bool:
        """See JobStore."""
        done = self._table.release(claim.job.job_id, claim.token, delay)
        await self._settled()
        return done

    async def publish(self, claim: Claim, events: Sequence[v1.GenerateResponse]) -> None:
        """See JobStore."""
        if self._table.is_good(claim.job.job_id, claim.token):
            self._events.add(claim.job.job_id, claim.tries, events)

    async def events(self, job_id: str, tries: int, after: int) -> Sequence[v1.GenerateResponse]:
        """See JobStore."""
        return self._events.after(job_id, tries, after)

    async def get(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        await self._settled()
        record = self._table.get(job_id)
        return None if record is None else record.view(self._table.position(record))

    async def result(self, job_id: str) -> v1.CompleteResponse | None:
        """See JobStore."""
        await self._settled()
        record = self._table.get(job_id)
        return await unpack(v1.CompleteResponse, record.result) if record and record.result else None

    async def cancel(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        record = self._table.cancel(job_id)
        await self._settled()
        return None if record is None else record.view()

    async def list(self, query: v1.ListJobsRequest, caller: str) -> Page:
        """See JobStore."""
        await self._settled()
        size, start = page_size(query), start_of(query)
        found: list[v1.Job] = []
        while some := self._table.older(start, _AT_ONCE):
            for start in some:
                record = self._table.get(start)
                if record is not None and _fits(query, caller, record):
                    if len(found) == size:
                        return Page(found, found[-1].job_id)
                    found.append(record.view())
            await asyncio.sleep(0)
        return Page(found)

    async def progress(self, batch_id: str) -> Counts:
        """See JobStore."""
        await self._settled()
        self._table.sweep()
        return self._table.progress(batch_id)

    def knows(self, submission: Submission) -> bool:
        """Whether its job, or one with its idempotency key, is here."""
        return self._table.find(submission.job.job_id, key_of(submission)) is not None

    def __contains__(self, job_id: str) -> bool:
        return self._table.peek(job_id) is not None

    async def sweep(self) -> None:
        """See JobStore."""
        self._table.sweep()
        await self._settled()

    def idle(self, most: int) -> Sequence[JobRecord]:
        """Jobs that nobody works on, oldest first."""
        return self._table.idle(most)

    async def hold(self, records: Iterable[JobRecord]) -> None:
        """Let nobody work on these here from now on, nor in the next process. Raises OSError."""
        self._table.hold(records)
        await self._written()

    async def drop(self, job_ids: Iterable[str]) -> None:
        """Forget these: they are elsewhere."""
        self._table.drop(job_ids)
        await self._settled()

    def _changed(self, job_id: str, whole: bool) -> None:
        if self._desk is not None:
            self._desk.changed(job_id, whole)

    async def _written(self) -> None:
        """Wait until all changes are on disk. Raises OSError."""
        if self._desk is not None:
            await self._desk.settled()

    async def _settled(self) -> None:
        """The same, where work that was accepted goes on whatever the disk does; the desk warns."""
        with suppress(OSError):
            await self._written()
        if self._on_ended is not None:
            for record in self._table.take_given_up():
                self._on_ended(record.view(), record.traceparent)


def _end_of(record: JobRecord) -> float:
    return record.standing.ended_at or math.inf


def _fits(query: v1.ListJobsRequest, caller: str, record: JobRecord) -> bool:
    return fits(
        query,
        caller,
        state=record.standing.state,
        batch=record.batch,
        tenant=record.tenant,
        owner=record.caller,
    )
