"""Batches of usage records that wait to be counted, and those counted last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outrider.stores.journal_frames import frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.stores.journal import Place, Stored

_BATCH_RECORDS = 500
_BATCH_BYTES = 256 * 1024
# What a replica that takes over may not have heard of: far more than it lags behind.
_KEPT_SECONDS = 60.0
_KEPT_BYTES = 4 * 2**20


@dataclass(slots=True, eq=False)
class Batch:
    """Records under one number. Its frames are in memory, in the journal, or in both."""

    source: str
    number: int
    began_at: float
    records: int = 0
    size: int = 0
    frames: bytearray | None = field(default_factory=bytearray)
    written: int = 0  # bytes of the frames that were offered to the journal
    place: Place | None = None  # in the journal
    torn: bool = False  # the journal does not have all that was offered
    counted_at: float | None = None  # for the first time

    @property
    def safe(self) -> bool:
        """Whether the journal has all of it."""
        return self.place is not None and not self.torn and self.written == self.size


class Backlog:
    """Batches in order. The newest is open for more until it is full, or taken out.

    At most so many records and bytes wait in memory. Beyond that, batches that are in the journal wait there
    alone, and of the others the oldest are lost; `lost` counts their records.
    """

    def __init__(self, source: str, *, max_records: int, max_bytes: int) -> None:
        self._source = source
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._number = 0
        self._waiting: deque[Batch] = deque()
        self._open: Batch | None = None  # the last that waits, where it may still grow
        self._counted: deque[tuple[float, Batch]] = deque()
        self._counted_bytes = 0
        self.lost = 0

    def __len__(self) -> int:
        return sum(batch.records for batch in self._waiting)

    def add(self, record: bytes, now: float) -> Batch:
        """Take a record in. Gives the batch that it is part of."""
        batch = self._open
        if batch is None:
            self._number += 1
            batch = self._open = Batch(self._source, self._number, now)
            self._waiting.append(batch)
        data = frame(batch.number, record)
        if batch.frames is not None:  # as it always is while it is open
            batch.frames += data
        batch.records += 1
        batch.size += len(data)
        if batch.records >= _BATCH_RECORDS or batch.size >= _BATCH_BYTES:
            self._open = None
        return batch

    def put_first(self, left: Iterable[Stored], now: float) -> None:
        """Take in what earlier processes left in the journal."""
        batches = [
            Batch(
                each.source,
                each.number,
                now,
                each.records,
                each.place.length,
                None,
                each.place.length,
                each.place,
            )
            for each in left
        ]
        self._waiting.extendleft(reversed(batches))

    def begin_anew_if_torn(self) -> None:
        """The journal may have the next records again: in a batch of their own."""
        if self._open is not None and self._open.torn:
            self._open = None

    def due(self, now: float, interval: float) -> float | None:
        """Seconds until the oldest batch is to be sent; an open one waits for more. None: nothing waits."""
        if not self._waiting:
            return None
        oldest = self._waiting[0]
        return max(0.0, oldest.began_at + interval - now) if oldest is self._open else 0.0

    def take(self) -> Batch:
        """The oldest, which takes no more records. It waits on until it is counted."""
        oldest = self._waiting[0]
        if oldest is self._open:
            self._open = None
        return oldest

    def counted(self, batch: Batch, now: float, *, keep: bool) -> None:
        """It need not wait any more. `keep`: until it is sure that it will not be sent again."""
        self._waiting.remove(batch)
        if batch.counted_at is None:
            batch.counted_at = now
        if keep and batch.frames is not None:
            batch.place = None
            self._counted.append((batch.counted_at, batch))
            self._counted_bytes += batch.size
        while self._counted and (
            self._counted_bytes > _KEPT_BYTES or self._counted[0][0] < now - _KEPT_SECONDS
        ):
            self._counted_bytes -= self._counted.popleft()[1].size

    def rewind(self) -> None:
        """What was counted last is to be sent once more."""
        self._waiting.extendleft(batch for _, batch in reversed(self._counted))
        self._counted.clear()
        self._counted_bytes = 0

    def lose(self, batch: Batch, records: int) -> None:
        """Count records of a batch that cannot be read any more."""
        batch.records -= records
        self.lost += records

    def forget(self, segment: int) -> None:
        """The journal has dropped what lay before this segment."""
        for batch in list(self._waiting):
            if batch.place is not None and batch.place.segment < segment:
                batch.place = None
                # The first may be on its way; if it is not, that is found out when it is read.
                if batch.frames is None and batch is not self._waiting[0]:
                    self._drop(batch)

    def relieve(self) -> None:
        """Hold no more in memory than allowed."""
        if len(self._waiting) < 3:
            return
        held = [batch for batch in self._waiting if batch.frames is not None]
        size, records = sum(batch.size for batch in held), sum(batch.records for batch in held)
        # The oldest are sent first: they stay in memory for as long as others can make room.
        for batch in [*(each for each in reversed(held) if each.safe), *held]:
            if size <= self._max_bytes and records <= self._max_records:
                return
            # One may be on its way, another still grows.
            if batch.frames is None or batch is self._waiting[0] or batch is self._open:
                continue
            size -= batch.size
            records -= batch.records
            if batch.safe:
                batch.frames = None
            else:
                self._drop(batch)

    def needed_from(self) -> int | None:
        """The oldest segment of the journal that is still needed; None: no more than the last."""
        if not self._waiting:
            return None
        place = self._waiting[0].place
        return place.segment if place is not None else 0

    def not_safe(self) -> int:
        """Records that wait in memory alone."""
        return sum(batch.records for batch in self._waiting if not batch.safe and batch.counted_at is None)

    def _drop(self, batch: Batch) -> None:
        self._waiting.remove(batch)
        if batch.counted_at is None:
            self.lost += batch.records
