"""Usage as it is settled, for whoever watches: this sidecar's at once, the fleet's from the shared ledger."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from outrider.core.errors import GenerationError, Reason
from outrider.core.store_errors import StoreUnavailableError
from outrider.server.usage_tail import LedgerTail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from outrider import v1
    from outrider.core.ledger import LedgerStore
    from outrider.core.ports import Clock

_MOST_WATCHERS = 32
_MOST_WAITING = 1_000  # records, for one watcher
_MOST_OWN = 50_000  # ids of own records that have not been met in the shared ledger yet
_INTERVAL = 1.0  # seconds between two looks at the shared ledger

_log = structlog.get_logger("outrider.server")


class Watcher:
    """The records that one caller waits for. Iteration ends with the error that ended the watch."""

    def __init__(self, wants: Callable[[v1.UsageRecord], bool]) -> None:
        self._wants = wants
        self._waiting: deque[v1.UsageRecord] = deque()
        self._news = asyncio.Event()
        self._error: GenerationError | None = None

    def offer(self, record: v1.UsageRecord) -> None:
        """Keep a record until it is taken, if it is wanted. Too many that are not taken end the watch."""
        if self._error is not None or not self._wants(record):
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.clear()
            text = f"{_MOST_WAITING} records were waiting to be read; ExportUsage gives what was missed"
            self.end(GenerationError(Reason.LOAD_SHED, text))
            return
        self._waiting.append(record)
        self._news.set()

    def end(self, error: GenerationError) -> None:
        """Let the caller have what waits, then this."""
        self._error = error
        self._news.set()

    async def take(self) -> v1.UsageRecord:
        """The next record, once there is one. Raises what ended the watch."""
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


class UsageFeed:
    """Hands each settled record to every watcher, once. The shared ledger is read while anybody watches."""

    def __init__(self, shared: LedgerStore | None, wall_clock: Clock) -> None:
        self._shared = shared
        self._wall_clock = wall_clock
        self._watchers: set[Watcher] = set()
        self._own: dict[str, None] = {}  # in the order they came
        self._reading: asyncio.Task[None] | None = None
        self._at_end = asyncio.Event()  # the reading has found the ledger's end
        self._closed = False

    def publish(self, record: v1.UsageRecord) -> None:
        """This sidecar has settled a request. Neither blocks nor raises; nearly free where nobody watches."""
        if not self._watchers:
            return
        if self._shared is not None:
            self._own[record.request_id] = None
            if len(self._own) > _MOST_OWN:
                del self._own[next(iter(self._own))]
        self._offer(record)

    @asynccontextmanager
    async def watch(self, wants: Callable[[v1.UsageRecord], bool]) -> AsyncIterator[Watcher]:
        """Records that are settled within the block. Raises GenerationError: DRAINING, LOAD_SHED."""
        if self._closed:
            raise _draining()
        if len(self._watchers) >= _MOST_WATCHERS:
            text = f"{_MOST_WATCHERS} callers watch already"
            raise GenerationError(Reason.LOAD_SHED, text, retry_after=5.0)
        watcher = Watcher(wants)
        self._watchers.add(watcher)
        try:
            await self._start_reading()
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                await self._stop_reading()

    async def aclose(self) -> None:
        """End every watch with DRAINING, and let no more begin; before the server waits for its calls."""
        self._closed = True
        for watcher in self._watchers:
            watcher.end(_draining())
        await self._stop_reading()

    async def _start_reading(self) -> None:
        if self._shared is None or self._closed:
            return
        if self._reading is None or self._reading.done():
            self._at_end.clear()
            self._reading = asyncio.create_task(self._read(LedgerTail(self._shared)), name="usage-feed")
        await self._at_end.wait()

    async def _stop_reading(self) -> None:
        self._own.clear()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, tail: LedgerTail) -> None:
        try:
            await tail.find_end(int(self._wall_clock() * 1000))
            self._at_end.set()
            while True:
                await self._read_new(tail)
                await asyncio.sleep(_INTERVAL)
        except Exception:  # noqa: BLE001 - it is logged, and told to whoever watches
            _log.exception("the shared ledger cannot be watched")
            for watcher in self._watchers:
                watcher.end(GenerationError(Reason.INTERNAL, "the shared ledger cannot be watched"))
        finally:
            self._at_end.set()

    async def _read_new(self, tail: LedgerTail) -> None:
        # Where it is away, what is counted meanwhile comes later.
        with suppress(StoreUnavailableError):
            async with aclosing(tail.new()) as records:
                async for record in records:
                    if not self._is_own(record):
                        self._offer(record)

    def _is_own(self, record: v1.UsageRecord) -> bool:
        """Whether watchers have it already."""
        if record.request_id not in self._own:
            return False
        del self._own[record.request_id]
        return True

    def _offer(self, record: v1.UsageRecord) -> None:
        for watcher in self._watchers:
            watcher.offer(record)


def _draining() -> GenerationError:
    return GenerationError(Reason.DRAINING, "the sidecar is stopping")
