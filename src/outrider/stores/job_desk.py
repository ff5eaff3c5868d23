"""Keeps the jobs of a sidecar in its journal too: what changes together is written together, on a thread."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from outrider.stores.disk_thread import PATIENCE, DiskThread
from outrider.stores.job_journal import gone, standing, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outrider.stores.job_journal import JobJournal
    from outrider.stores.job_record import JobRecord

_LONG_PATIENCE = 120.0  # for what earlier processes left to be read
_PAUSE = 1.0  # seconds until a folder that failed is tried again
_AT_ONCE = 2**20  # bytes in one write, about
_RENEWED = 50  # jobs written again beside each write while too much of the journal is dead
_SPARE = 2  # segments that may be dead beside as much as is alive

_log = structlog.get_logger("outrider.jobs")


class _Home(NamedTuple):
    """Where a job lies whole."""

    segment: int
    size: int


class JobDesk:
    """`changed` notes a change, `settled` waits until all that were noted are written.

    `lookup` gives a job as it is now; None: it is gone.
    """

    def __init__(self, journal: JobJournal, lookup: Callable[[str], JobRecord | None]) -> None:
        self._journal = journal
        self._lookup = lookup
        self._thread = DiskThread("job-journal")
        self._noted: dict[str, bool] = {}  # whether whole
        self._writing: asyncio.Future[OSError | None] | None = None  # what is being written
        self._next: asyncio.Future[OSError | None] | None = None  # what is noted
        self._writer: asyncio.Task[None] | None = None
        self._try_at = 0.0
        self._closed = False
        self._warned = False
        self._homes: dict[str, _Home] = {}
        self._residents: dict[int, dict[str, None]] = {}  # jobs by segment
        self._alive = 0  # bytes

    async def open(self) -> list[JobRecord]:
        """Take the folder; the jobs that earlier processes left. Raises OSError."""
        left = await self._thread.run(self._journal.open, _LONG_PATIENCE)
        for damage in self._journal.damages:
            _log.warning("the job journal is damaged; jobs may be lost", **damage._asdict())
        for each in left:
            self._move_in(each.record.job_id, each.segment, each.size)
        return [each.record for each in left]

    def changed(self, job_id: str, whole: bool) -> None:
        """A job is not what it was; `whole`: not only in how it stands."""
        self._noted[job_id] = whole or self._noted.get(job_id, False)

    async def settled(self) -> None:
        """All that was noted so far is written. Raises OSError where that failed, or takes too long."""
        if self._noted:
            if self._closed or _now() < self._try_at:
                raise OSError(errno.EIO, "the journal cannot be written")
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            if self._writer is None or self._writer.done():
                self._writer = asyncio.create_task(self._write_all())
        wanted = self._next or self._writing
        if wanted is None:
            return
        await asyncio.wait([wanted], timeout=PATIENCE)
        error = wanted.result() if wanted.done() else OSError(errno.ETIMEDOUT, "the disk does not answer")
        if error is not None:
            raise error

    async def aclose(self) -> None:
        """Write what is noted and leave the folder; empty, where there are no jobs."""
        with suppress(OSError):
            await self.settled()
        self._closed = True
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        empty = not self._homes and not self._noted
        with suppress(OSError):
            await self._thread.run(partial(self._journal.close, empty=empty))
        self._thread.close()

    async def _write_all(self) -> None:
        while self._next is not None:
            writing = self._writing = self._next
            self._next = None
            noted, self._noted = self._noted, {}
            problem: OSError | None = OSError(errno.ECANCELED, "the journal was closed")
            try:
                await self._write(noted)
                problem = None
            except OSError as error:
                self._failed(noted, error)
                problem = error
            finally:
                self._writing = None
                writing.set_result(problem)

    async def _write(self, noted: dict[str, bool]) -> None:
        """Write, and take out of `noted` what is written. Raises OSError."""
        noted.update(dict.fromkeys(self._to_renew(), True))
        while noted:
            entries = self._entries(noted)
            segment = await self._thread.run(partial(self._journal.append, b"".join(entries.values())))
            for job_id, entry in entries.items():
                self._written(job_id, noted.pop(job_id), segment, len(entry))
        if (first := min(self._residents, default=self._journal.last)) > self._journal.first:
            await self._thread.run(partial(self._journal.trim, first))
        if self._warned:
            self._warned = False
            _log.info("the job journal can be written again")

    def _entries(self, noted: dict[str, bool]) -> dict[str, bytes]:
        """The entries of the first that fit into one write."""
        entries: dict[str, bytes] = {}
        size = 0
        for job_id, is_whole in noted.items():
            record = self._lookup(job_id)
            if record is None:
                entry = gone(job_id)
            elif is_whole or job_id not in self._homes:
                entry = whole(record)
            else:
                entry = standing(record)
            entries[job_id] = entry
            size += len(entry)
            if size >= _AT_ONCE:
                break
        return entries

    def _written(self, job_id: str, is_whole: bool, segment: int, size: int) -> None:
        if self._lookup(job_id) is None:
            self._move_out(job_id)
        elif is_whole or job_id not in self._homes:
            self._move_out(job_id)
            self._move_in(job_id, segment, size)

    def _move_in(self, job_id: str, segment: int, size: int) -> None:
        self._homes[job_id] = _Home(segment, size)
        self._residents.setdefault(segment, {})[job_id] = None
        self._alive += size

    def _move_out(self, job_id: str) -> None:
        home = self._homes.pop(job_id, None)
        if home is None:
            return
        self._alive -= home.size
        residents = self._residents[home.segment]
        del residents[job_id]
        if not residents:
            del self._residents[home.segment]

    def _to_renew(self) -> Iterator[str]:
        """Jobs of the oldest segment, where too much is dead."""
        dead = self._journal.size - self._alive
        if dead <= self._alive + _SPARE * self._journal.segment_bytes or not self._residents:
            return iter(())
        oldest = min(self._residents)
        if oldest == self._journal.last:
            return iter(())
        return islice(list(self._residents[oldest]), _RENEWED)

    def _failed(self, noted: dict[str, bool], error: OSError) -> None:
        """All of these are written whole once that works again: nobody knows what of them is on disk."""
        for job_id in noted:
            self._noted[job_id] = True
        self._try_at = _now() + _PAUSE
        if not self._warned:
            self._warned = True
            _log.warning("the job journal cannot be written; no job is accepted", problem=str(error))


def _now() -> float:
    return asyncio.get_running_loop().time()
