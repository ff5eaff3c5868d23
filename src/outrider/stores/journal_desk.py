"""Keeps what waits for the ledger in the journal too, for as long as its folder can be used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from outrider.stores.disk_thread import DiskThread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.stores.backlog import Backlog, Batch
    from outrider.stores.journal import Journal, Place, Stored

_PAUSE = 1.0  # seconds until a folder that failed is tried again

_log = structlog.get_logger("outrider.usage")


class JournalDesk:
    """Writes on a thread of its own: a disk may be slow. A disk that fails, or is full, costs a warning.

    `keep`: never drop a batch because it was counted.
    """

    def __init__(self, journal: Journal, backlog: Backlog, *, keep: bool) -> None:
        self._journal = journal
        self._backlog = backlog
        self._keep = keep
        self._thread = DiskThread("usage-journal")
        self._open = False
        self._warned = False
        self._try_at = 0.0
        self._first = self._last = 0  # segments

    @property
    def is_open(self) -> bool:
        """Whether what earlier processes left has been taken over."""
        return self._open

    async def prepare(self) -> None:
        """Before records are added: take the folder, or see whether it can be used again."""
        if _now() < self._try_at:
            return
        self._backlog.begin_anew_if_torn()
        if self._open:
            return
        try:
            left, first = await self._thread.run(self._take_over)
        except OSError as error:
            self._failed(error)
            return
        self._open = True
        self._first = self._last = first
        self._backlog.put_first(left, _now())
        if left:
            _log.info(
                "usage of earlier runs waits in the journal", records=sum(each.records for each in left)
            )

    async def write(self, batches: Iterable[Batch]) -> None:
        """Write what these have that is not written yet."""
        for batch in batches:
            counted = batch.counted_at is not None and not self._keep
            if counted or batch.torn or batch.frames is None:
                continue
            if not self._open or _now() < self._try_at:
                batch.torn = True
                continue
            data = bytes(memoryview(batch.frames)[batch.written :])
            try:
                place, first = await self._thread.run(lambda b=batch, d=data: self._append(b.number, d))  # type: ignore[misc]
            except OSError as error:
                batch.torn = True
                self._failed(error)
            else:
                self._written(batch, place, first)

    async def read(self, place: Place) -> bytes:
        """The frames at a place. Raises OSError."""
        return await self._thread.run(lambda: self._journal.read(place))

    async def tidy(self) -> None:
        """Drop what is counted."""
        needed = self._backlog.needed_from()
        segment = self._last if needed is None else min(needed, self._last)
        if self._keep or segment <= self._first:
            return
        self._first = segment
        try:
            await self._thread.run(lambda: self._journal.trim(segment))
        except OSError as error:
            self._failed(error)

    async def aclose(self) -> None:
        """Leave the folder; empty, where all was counted."""
        empty = self._open and not self._keep and not len(self._backlog)
        try:
            await self._thread.run(lambda: self._journal.close(empty=empty))
        except OSError as error:
            self._failed(error)
        self._thread.close()

    def _take_over(self) -> tuple[list[Stored], int]:
        return self._journal.open(), self._journal.first_segment

    def _append(self, number: int, data: bytes) -> tuple[Place, int]:
        return self._journal.append(number, data), self._journal.first_segment

    def _written(self, batch: Batch, place: Place, first: int) -> None:
        if batch.place is None:
            batch.place = place
        else:
            batch.place = batch.place._replace(length=batch.place.length + place.length)
        batch.written += place.length
        self._last = place.segment
        if first > self._first:
            self._first = first
            self._backlog.forget(first)
        if self._warned:
            self._warned = False
            _log.info("the usage journal can be written again")

    def _failed(self, error: OSError) -> None:
        self._try_at = _now() + _PAUSE
        if not self._warned:
            self._warned = True
            _log.warning("the usage journal cannot be used; usage waits in memory alone", problem=str(error))


def _now() -> float:
    return asyncio.get_running_loop().time()
