"""Brings what requests used into the ledger: in batches, beside the requests, each exactly once.

A settled request is put on a list. Every moment what is there becomes part of an open batch, and is written
to the journal, if there is one. A batch is sent when it is old enough, again and again until the store has
counted it; its number makes sure that it counts once. A process that is killed loses what is not in the
journal yet: the last 50 ms and the time of a write; without a journal, all that was not sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from outrider.core.ledger import LedgerBatch
from outrider.core.usage_record import usage_record
from outrider.stores.backlog import Backlog
from outrider.stores.journal_desk import JournalDesk
from outrider.stores.ledger_sender import LedgerSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider import v1
    from outrider.core.context import Record
    from outrider.core.ledger import LedgerStore
    from outrider.stores.backlog import Batch
    from outrider.stores.journal import Journal

_AT_ONCE = 64  # records that are made before others may run: under a millisecond
_LOOK = 2.0  # seconds between two looks at a folder that could not be taken
_MAX_RECORDS = 50_000
_MAX_BYTES = 16 * 2**20

_log = structlog.get_logger("outrider.usage")


class LedgerWriter:
    """The Observer that feeds a ledger.

    Every `tick` seconds records are made and journaled, every `flush_interval` seconds they are sent.
    `local` counts this sidecar's own usage beside it; `publish` is told of every record, and must not block.
    `volatile`: the store forgets with the process, and the journal is its memory. At most so many records and
    bytes wait in memory.
    """

    def __init__(
        self,
        store: LedgerStore,
        journal: Journal | None = None,
        *,
        flush_interval: float = 1.0,
        tick: float = 0.05,
        volatile: bool = False,
        local: LedgerStore | None = None,
        publish: Callable[[v1.UsageRecord], None] | None = None,
        max_waiting_records: int = _MAX_RECORDS,
        max_waiting_bytes: int = _MAX_BYTES,
    ) -> None:
        self._local = local
        self._publish = publish
        self._tick = tick
        self._finished: deque[tuple[Record, float]] = deque()
        self._news = asyncio.Event()
        self._closing = False
        self._source = journal.source if journal is not None else uuid4().hex
        self._backlog = Backlog(self._source, max_records=max_waiting_records, max_bytes=max_waiting_bytes)
        self._desk = JournalDesk(journal, self._backlog, keep=volatile) if journal is not None else None
        self._sender = LedgerSender(
            store, self._backlog, self._desk, interval=flush_interval, keep=not volatile
        )
        self._gathering: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._rounds = 0

    @property
    def lost(self) -> int:
        """Records that could not be kept until the store was there."""
        return self._backlog.lost

    @property
    def waiting(self) -> int:
        """Records that are not in the ledger yet."""
        return len(self._finished) + len(self._backlog)

    def request_started(self, record: Record) -> None:
        """Nothing: usage is known at the end."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Nothing: the record counts them."""

    def request_finished(self, record: Record) -> None:
        """Take note of a request. Its record must not change any more."""
        self._finished.append((record, time.time()))
        self._news.set()

    async def start(self) -> None:
        """Begin; what earlier processes left in the journal comes first."""
        self._gathering = asyncio.create_task(self._gather(), name="usage-gather")
        self._sending = asyncio.create_task(self._sender.run(), name="usage-send")
        for task in (self._gathering, self._sending):
            task.add_done_callback(_tell_of_death)

    async def aclose(self, patience: float = 5.0) -> None:
        """Send what waits, within `patience` seconds and up to the first failure.

        The rest is left in the journal, where there is one, and lost elsewhere.
        """
        self._closing = True
        self._news.set()
        if self._gathering is None or self._sending is None:
            return
        try:
            async with asyncio.timeout(patience):
                await asyncio.wait([self._gathering])
                await _end(self._sending)
                await self._sender.drain()
        except TimeoutError:
            _log.warning("usage could not be sent in time", records=self.waiting)
        await _end(self._gathering, self._sending)
        self._backlog.lost += self._backlog.not_safe() + len(self._finished)
        if self.waiting:
            _log.warning("usage was not sent", waiting=self.waiting, lost=self.lost)
        if self._desk is not None:
            await self._desk.aclose()

    async def _gather(self) -> None:
        if self._desk is not None:
            await self._desk.prepare()
            self._sender.more()
        while not (self._closing and not self._finished):
            await self._wait_for_news()
            if self._desk is not None:
                await self._desk.prepare()
            grown = await self._take_in()
            if self._desk is not None:
                await self._desk.write(grown)
            self._backlog.relieve()
            self._sender.more()

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(None if self._desk is None or self._desk.is_open else _LOOK):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()
        if not self._closing:
            await asyncio.sleep(self._tick)

    async def _take_in(self) -> list[Batch]:
        """Make records of what has finished. Gives the batches that have grown."""
        grown: dict[Batch, None] = {}
        made: list[v1.UsageRecord] = []
        now = asyncio.get_running_loop().time()
        while self._finished:
            record = self._make(*self._finished.popleft())
            if record is not None:
                made.append(record)
                grown[self._backlog.add(record.SerializeToString(), now)] = None
            if len(made) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if self._local is not None and made:
            self._rounds += 1
            await self._local.append(LedgerBatch(self._source, self._rounds, made))
        return list(grown)

    def _make(self, record: Record, ended_at: float) -> v1.UsageRecord | None:
        try:
            entry = usage_record(record, ended_at)
            if self._publish is not None:
                self._publish(entry)
        except Exception:  # noqa: BLE001 - one that fails must not stop the others
            _log.exception("a request cannot be put on record", request_id=record.request_id)
            self._backlog.lost += 1
            return None
        return entry


def _tell_of_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("usage is no longer counted", exc_info=task.exception())


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
