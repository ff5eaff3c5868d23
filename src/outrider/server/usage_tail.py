"""The end of a shared ledger, read on and on as it grows."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider import v1
    from outrider.core.ledger import LedgerStore

_HOUR_MS = 3_600_000
# How far the clocks of sidecars may be apart.
_SKEW_MS = 10_000
_FAR_FUTURE_MS = 253_402_300_800_000


class LedgerTail:
    """What is counted after `find_end`. One reader; what it was given once it is not given again."""

    def __init__(self, ledger: LedgerStore) -> None:
        self._ledger = ledger
        self._cursor = ""
        self._start_ms = 0

    async def find_end(self, now_ms: int) -> None:
        """Begin after the records that are there. Where the ledger is away: at those that end from now on."""
        # Ledgers keep records by the hour: with a cursor in this one, it is not read from its start again.
        self._start_ms = (now_ms - _SKEW_MS) // _HOUR_MS * _HOUR_MS
        try:
            async with aclosing(self._ledger.records(self._start_ms, _FAR_FUTURE_MS)) as records:
                async for cursor, _ in records:
                    self._cursor = cursor
        except StoreUnavailableError:
            self._cursor, self._start_ms = "", now_ms

    async def new(self) -> AsyncGenerator[v1.UsageRecord, None]:
        """The records that have come since. Raises StoreUnavailableError; nothing is lost by it."""
        # After a cursor, records that ended long ago are new too: a sidecar may have kept them for a while.
        start_ms = 0 if self._cursor else self._start_ms
        async with aclosing(self._ledger.records(start_ms, _FAR_FUTURE_MS, self._cursor)) as records:
            async for cursor, record in records:
                self._cursor = cursor
                yield record
