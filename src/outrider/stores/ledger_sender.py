"""Sends what waits to the ledger, in order, each batch until it is counted."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import structlog

from outrider import v1
from outrider.core.ledger import LedgerBatch
from outrider.core.store_errors import StoreRewoundError, StoreUnavailableError
from outrider.stores.journal_frames import frames

if TYPE_CHECKING:
    from outrider.core.ledger import LedgerStore
    from outrider.stores.backlog import Backlog, Batch
    from outrider.stores.journal_desk import JournalDesk

_AT_ONCE = 64  # records that are read before others may run: under a millisecond
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries at a store that is away

_log = structlog.get_logger("outrider.usage")


class LedgerSender:
    """`keep`: what was counted is kept for a while, as the store may lose it when a replica takes over."""

    def __init__(
        self, store: LedgerStore, backlog: Backlog, desk: JournalDesk | None, *, interval: float, keep: bool
    ) -> None:
        self._store = store
        self._backlog = backlog
        self._desk = desk
        self._interval = interval
        self._keep = keep
        self._grown = asyncio.Event()
        self._pause = 0.0

    def more(self) -> None:
        """The backlog has grown."""
        self._grown.set()

    async def run(self) -> None:
        """Send whatever comes. Never ends by itself."""
        while True:
            await self._due()
            await self._send_first()
            await asyncio.sleep(self._pause)

    async def drain(self) -> None:
        """Send all that waits, up to the first failure."""
        while len(self._backlog):
            await self._send_first()
            if self._pause:
                return

    async def _due(self) -> None:
        while True:
            self._grown.clear()
            wait = self._backlog.due(_now(), self._interval)
            if wait == 0:
                return
            try:
                async with asyncio.timeout(wait):
                    await self._grown.wait()
            except TimeoutError:
                continue

    async def _send_first(self) -> None:
        batch = self._backlog.take()
        try:
            records = await self._records(batch)
            if records:
                await self._store.append(LedgerBatch(batch.source, batch.number, records))
        except StoreRewoundError:
            _log.info("the ledger may have lost the last batches; sending them again")
            self._pause = 0.0
            self._backlog.rewind()
        except StoreUnavailableError:
            self._back_off()
        except Exception:  # noqa: BLE001 - what waits behind it must not be lost for it
            _log.exception("a batch of usage cannot be counted now")
            self._back_off()
        else:
            self._pause = 0.0
            self._backlog.counted(batch, _now(), keep=self._keep)
            if self._desk is not None:
                await self._desk.tidy()

    async def _records(self, batch: Batch) -> list[v1.UsageRecord]:
        if batch.frames is None:
            await self._load(batch)
        records: list[v1.UsageRecord] = []
        for each in frames(bytes(batch.frames or b"")):
            records.append(v1.UsageRecord.FromString(each.record))
            if len(records) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if len(records) < batch.records:
            self._backlog.lose(batch, batch.records - len(records))
        return records

    async def _load(self, batch: Batch) -> None:
        """Bring a batch back from the journal, or as much of it as is left."""
        data = b""
        if self._desk is not None and batch.place is not None:
            try:
                data = await self._desk.read(batch.place)
            except OSError as error:
                if error.errno == errno.ETIMEDOUT:
                    raise StoreUnavailableError("the journal does not answer") from error
                _log.warning("a batch of usage cannot be read from the journal", problem=str(error))
        batch.frames = bytearray(data)

    def _back_off(self) -> None:
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)


def _now() -> float:
    return asyncio.get_running_loop().time()
