"""The queue that a fleet shares, in Redis: what any sidecar accepts any may work on, and finish for another.

States and order are in one slot of a Cluster, `{jobs}`, so that each step is one script and happens at once:
one server then takes every step of the whole fleet, which is thousands a second. Requests, answers and events
are many times larger; each job has its own slot for them.

Redis should not forget what it has confirmed. `appendonly yes` with `appendfsync always` keeps that over a
crash of the server; with `everysec` two seconds may be lost, and some when a replica takes over. Sidecars
that live submit what they had submitted shortly before once more (FleetJobs): no job is lost then, but what
was done in that time may be done again.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

from outrider import v1
from outrider.core.jobs import Claim, Page, QueueFullError
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_codec import pack, unpack
from outrider.stores.job_pages import page_size, start_of
from outrider.stores.job_record import (
    COMPLETED,
    REQUEST_LOST,
    REQUEST_LOST_MESSAGE,
    WORKER_LOST,
    WORKER_LOST_MESSAGE,
    failed_outcome_of,
    outcome_of,
    record_of,
)
from outrider.stores.job_retention import Losses
from outrider.stores.redis_job_events import RedisJobEvents
from outrider.stores.redis_job_scripts import CLAIM, PATIENCE, READ, SETTLE, SUBMIT, JobScripts
from outrider.stores.shared_job import MOVED, arrival, parts_of, read

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import TypeAlias

    from outrider.core.jobs import Counts, OnEnded, Submission
    from outrider.core.ports import Clock
    from outrider.stores.job_record import JobRecord
    from outrider.stores.redis_link import Argument, RedisLink

    _Accepted: TypeAlias = tuple[int, Sequence[bytes], int]  # whether it is another one; it; its position


_JOBS_AT_ONCE = 50  # in one script, which takes a few milliseconds then
_BYTES_AT_ONCE = 4 * 2**20
_HURRIED_BYTES = 64 * 1024
_SEEN_AT_ONCE = 500  # jobs that are looked at in one script
_LOOKS = 10  # scripts for one page
_MARGIN_MS = 60_000  # that a key outlives its use


class UncertainError(StoreUnavailableError):
    """Redis was told, and did not say what became of it."""


class _Lull(NamedTuple):
    """Nothing is to be done until then, unless `stirred` changes."""

    stirred: bytes
    until: float


class RedisJobs:
    """A JobStore. `capacity` and `max_bytes` bound the jobs that have not ended.

    From the share `high` of either on nothing is accepted until it is down to `low`. Answers are kept up to
    `max_result_bytes`; the oldest make room. A claim is good for
    `lease` seconds at least. A job that loses its worker for the `max_losses`th time has FAILED. Times are
    those of Redis; `wall_clock` is only asked how long ago something was.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        capacity: int = 100_000,
        max_bytes: int = 2**30,
        max_result_bytes: int = 2**30,
        high: float = 0.8,
        low: float = 0.6,
        lease: float = 30.0,
        max_losses: int = 3,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._link = link
        self._clock = clock
        self._wall_clock = wall_clock
        self._scripts = JobScripts(link)
        self._bounds: tuple[int, ...] = (
            *(capacity, max_bytes),
            *(int(capacity * high), int(max_bytes * high)),
            *(int(capacity * low) + 1, int(max_bytes * low) + 1),
        )
        self._max_result_bytes = max_result_bytes
        self._losses = Losses("answers dropped", "jobs.fleet.max_result_bytes", clock)
        self._claiming = (int(lease * 1_000), max_losses, WORKER_LOST, WORKER_LOST_MESSAGE)
        self._events = RedisJobEvents(link)
        self._on_ended: OnEnded = lambda job, traceparent: None
        self._lull: _Lull | None = None
        self.waiting = 0  # in the whole fleet: for their turn, or for their next try; as last seen

    async def submit(self, submissions: Sequence[Submission]) -> Sequence[tuple[v1.Job, bool]]:
        """See JobStore; and `accept`."""
        return await self.accept(await self.records_of(submissions))

    async def records_of(self, submissions: Sequence[Submission]) -> Sequence[JobRecord]:
        """These, as they are about to be accepted."""
        now = self._wall_clock()
        return [await record_of(each, now) for each in submissions]

    async def accept(self, records: Sequence[JobRecord]) -> Sequence[tuple[v1.Job, bool]]:
        """As `submit`. More than fifty are accepted in parts, once there is room for all.

        Raises UncertainError where some may have been accepted.
        """
        accepted = await self._accept(records, "submit", 0)
        return [(read(parts, position)[1], bool(existing)) for existing, parts, position in accepted]

    async def restore(self, records: Sequence[JobRecord]) -> int:
        """Accept those once more that Redis had accepted and may have lost. How many it had."""
        now = self._wall_clock()
        alive = [record for record in records if record.standing.expires_at > now]
        known = await asyncio.gather(*(self.get(record.job_id) for record in alive))
        lost = [record for record, job in zip(alive, known, strict=True) if job is None]
        await self.adopt(lost)
        return len(lost)

    async def adopt(self, records: Sequence[JobRecord], after: int = 0) -> int:
        """Accept what another store has accepted, as it stands there: nobody must be working on it.

        One that is known here stays as it is, unless it has ended there alone. One whose idempotency key
        another job has is that job from now on, unless it has ended. They come after those for which this
        has given `after`.
        """
        accepted = await self._accept(records, "adopt", after)
        return _last_arrival(accepted[-1:], after)

    def on_ended(self, callback: OnEnded) -> None:
        """See JobStore."""
        self._on_ended = callback

    async def claim(self, worker: str, left_out: Collection[str] = ()) -> Claim | None:
        """See JobStore."""
        if await self._is_quiet():
            return None
        claiming = asyncio.create_task(self._claim(worker, left_out))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(StoreUnavailableError):
                if (claim := await claiming) is not None:  # nobody would work on it
                    await self.release(claim)
            raise

    async def sweep(self) -> None:
        """See JobStore."""
        if not await self._is_quiet():
            await self._look("", "", ())

    async def renew(self, claim: Claim) -> bool:
        """See JobStore."""
        return await self._settle("renew", claim, self._claiming[0]) > 0

    async def complete(self, claim: Claim, response: v1.CompleteResponse) -> bool:
        """See JobStore. Good to be repeated where no answer came."""
        job_id = claim.job.job_id
        where = self._scripts.result_key(job_id, claim.token)
        left = claim.job.expires_at.ToMilliseconds() - claim.job.submitted_at.ToMilliseconds()
        data = await pack(response)
        await self._scripts.run("SET", where, data, "NX", "PX", max(left, 0) + _MARGIN_MS)
        done = await self._settle("complete", claim, outcome_of(response), len(data), self._max_result_bytes)
        with suppress(StoreUnavailableError):
            await self._scripts.run("UNLINK", self._scripts.request_key(job_id) if done else where)
        return done > 0

    async def fail(
        self,
        claim: Claim,
        reason: str,
        message: str,
        retry_in: float | None,
        failure: v1.GenerationFailure | None = None,
    ) -> bool:
        """See JobStore. Good to be repeated where no answer came."""
        pause = -1 if retry_in is None else int(retry_in * 1_000)
        done = await self._settle("fail", claim, reason, message, pause, failed_outcome_of(failure))
        if done > 1:
            with suppress(StoreUnavailableError):
                await self._scripts.run("UNLINK", self._scripts.request_key(claim.job.job_id))
        return done > 0

    async def release(self, claim: Claim, delay: float = 0.0) -> bool:
        """See JobStore."""
        return await self._settle("release", claim, int(delay * 1_000)) > 0

    async def publish(self, claim: Claim, events: Sequence[v1.GenerateResponse]) -> None:
        """See JobStore."""
        await self._events.publish(claim, events)

    async def events(self, job_id: str, tries: int, after: int) -> Sequence[v1.GenerateResponse]:
        """See JobStore."""
        return await self._events.after(job_id, tries, after)

    async def get(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        found = await self._scripts.call(READ, "get", job_id)
        return read(*found)[1] if found else None

    async def result(self, job_id: str) -> v1.CompleteResponse | None:
        """See JobStore."""
        found = await self._scripts.call(READ, "get", job_id)
        shared = read(*found)[0] if found else None
        if shared is None or shared.state != COMPLETED:
            return None
        data = await self._scripts.run("GET", self._scripts.result_key(shared.id, shared.token))
        return None if data is None else await unpack(v1.CompleteResponse, data)

    async def cancel(self, job_id: str) -> v1.Job | None:
        """See JobStore."""
        found = await self._scripts.call(READ, "cancel", job_id)
        return read(*found)[1] if found else None

    async def list(self, query: v1.ListJobsRequest, caller: str) -> Page:
        """See JobStore."""
        start = start_of(query)
        size = page_size(query)
        index = f"batch:{query.batch_id}" if query.batch_id else f"of:{caller}" if caller else "all"
        rest = (caller, query.tenant, query.batch_id, "".join(map(str, query.states)))
        found: list[v1.Job] = []
        for _ in range(_LOOKS):
            seen, *jobs = await self._scripts.call(
                READ, "list", index, start, _SEEN_AT_ONCE, size - len(found), *rest, timeout=PATIENCE
            )
            found += [read(job)[1] for job in jobs]
            start = seen.decode()
            if not start or len(found) == size:
                break
        return Page(found, start)

    async def progress(self, batch_id: str) -> Counts:
        """See JobStore."""
        flat = await self._scripts.call(READ, "progress", batch_id)
        counts: dict[tuple[str, v1.JobState], int] = {}
        for field, count in zip(flat[::2], map(int, flat[1::2]), strict=True):
            if count:
                state, _, group = field.decode().partition(":")
                counts[group, cast("v1.JobState", int(state))] = count
        return counts

    async def _accept(self, records: Sequence[JobRecord], how: str, after: int) -> Sequence[_Accepted]:
        accepted: list[_Accepted] = []
        jobs, size = len(records), sum(record.size for record in records)
        for some in _parts(records):
            await self._store_bodies(some)
            jobs, size = jobs - len(some), size - sum(record.size for record in some)
            # Once there was room for all, the rest is only told.
            how = "adopt" if accepted else how
            accepted += await self._hand_over(some, how, jobs, size, _last_arrival(accepted[-1:], after))
        return accepted

    async def _store_bodies(self, records: Sequence[JobRecord]) -> None:
        now = self._wall_clock()
        commands = []
        for record in records:
            left = max(1, int((record.standing.expires_at - now) * 1_000)) + _MARGIN_MS
            if record.request:
                where, body = self._scripts.request_key(record.job_id), record.request
            elif record.result:
                where, body = self._scripts.result_key(record.job_id, MOVED), record.result
            else:
                continue
            commands.append(self._scripts.run("SET", where, body, "PX", left))
        await asyncio.gather(*commands)

    async def _hand_over(
        self, records: Sequence[JobRecord], how: str, more_jobs: int, more_bytes: int, after: int
    ) -> Sequence[_Accepted]:
        now = self._wall_clock()
        parts = [part for record in records for part in parts_of(record, now)]
        large = len(records) > 1 or sum(map(len, parts)) > _HURRIED_BYTES
        sent = self._link.available
        try:
            arguments: tuple[Argument, ...] = (*self._bounds, more_jobs, more_bytes, how, after, *parts)
            replies = await self._scripts.call(SUBMIT, *arguments, timeout=PATIENCE if large else None)
        except StoreUnavailableError as error:
            if sent:
                raise UncertainError(str(error)) from error
            raise
        if replies is None:
            raise QueueFullError("queue at capacity")
        return cast("Sequence[_Accepted]", replies)

    async def _claim(self, worker: str, left_out: Collection[str]) -> Claim | None:
        while True:
            token = os.urandom(8).hex()
            found = await self._look(worker, token, left_out)
            if not found:
                return None
            shared, job = read(found)
            data = await self._scripts.run("GET", self._scripts.request_key(shared.id))
            request = None if data is None else await unpack(v1.GenerateRequest, data)
            claim = Claim(
                job,
                request or v1.GenerateRequest(),
                token,
                shared.tries,
                shared.failures,
                shared.retries,
                shared.trace,
                shared.group,
            )
            if request is not None:
                return claim
            await self.fail(claim, REQUEST_LOST, REQUEST_LOST_MESSAGE, None)

    async def _look(self, worker: str, token: str, left_out: Collection[str]) -> Sequence[bytes] | None:
        """A job, where a token is given; and all that comes with looking for one."""
        reply = await self._scripts.call(CLAIM, worker, token, *self._claiming, *left_out, timeout=PATIENCE)
        self.waiting, stirred, due_in, ended, job = reply
        self._lull = None if due_in is None else _Lull(stirred, self._clock() + due_in / 1_000)
        for parts in ended:
            shared, seen = read(parts)
            self._on_ended(seen, shared.trace)
        return cast("Sequence[bytes] | None", job)

    async def _is_quiet(self) -> bool:
        """Whether nothing has come up since the queue was empty: one cheap command, while it stays so."""
        lull = self._lull
        if lull is None or self._clock() >= lull.until:
            return False
        return await self._scripts.stirred() == lull.stirred

    async def _settle(self, what: str, claim: Claim, *rest: Argument) -> int:
        done, *gone = await self._scripts.call(
            SETTLE, what, claim.job.job_id, claim.token, *rest, timeout=PATIENCE
        )
        if gone:
            await self._remove_answers(gone)
        return cast("int", done)

    async def _remove_answers(self, names: Sequence[bytes]) -> None:
        """These had to make room; what cannot be reached now goes when its time is up."""
        self._losses.add(len(names))
        places = [name.decode().split(":") for name in names]
        removing = (
            self._scripts.run("UNLINK", self._scripts.result_key(job_id, token))
            for job_id, token, _ in places
        )
        with suppress(StoreUnavailableError):
            await asyncio.gather(*removing)


def _parts(records: Sequence[JobRecord]) -> Iterator[Sequence[JobRecord]]:
    """Pieces that a script takes in a short time."""
    start = size = 0
    for place, record in enumerate(records):
        if place - start == _JOBS_AT_ONCE or size > _BYTES_AT_ONCE:
            yield records[start:place]
            start, size = place, 0
        size += record.size
    if records:
        yield records[start:]


def _last_arrival(accepted: Sequence[_Accepted], before: int) -> int:
    """When they arrived, by Redis's clock: what is accepted after them comes after them."""
    return max((arrival(parts) for existing, parts, _ in accepted if not existing), default=before)
