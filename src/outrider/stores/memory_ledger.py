"""The usage ledger of one sidecar, in its memory."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from typing import TYPE_CHECKING

from outrider import v1
from outrider.stores.usage_sums import count, crowd_of, hour_of, key_of, new_totals, to_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from outrider.core.ledger import LedgerBatch, UsageKey
    from outrider.stores.usage_sums import Totals

_CURSOR = re.compile(r"[0-9]{1,18}")
_HOUR = 3600  # seconds
_AT_ONCE = 200  # sums or records that are read before others may run


class MemoryLedger:
    """A LedgerStore, bounded: beyond `max_keys` an hour keys are counted as others, beyond `max_sums` in all
    the oldest hours go, as do hours older than `retention` seconds, and records beyond `max_records`.
    """

    def __init__(
        self,
        *,
        max_records: int = 100_000,
        retention: float = 90 * 24 * _HOUR,
        max_keys: int = 10_000,
        max_sums: int = 50_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hours: dict[int, dict[UsageKey, Totals]] = {}
        self._numbers: dict[str, int] = {}  # of the last batch of each source
        self._records: deque[bytes] = deque(maxlen=max_records)
        self._counted = 0  # records so far, those that are gone included
        self._sums = 0
        self._retention = retention
        self._max_keys = max_keys
        self._max_sums = max_sums
        self._clock = clock

    async def append(self, batch: LedgerBatch) -> None:
        """Count a batch. One that has been counted already counts nothing again."""
        if batch.number <= self._numbers.get(batch.source, 0):
            return
        self._numbers[batch.source] = batch.number
        oldest = self._oldest_hour()
        for record in batch.records:
            if hour_of(record) >= oldest:
                self._count(record)
        self._forget(oldest)

    async def sums(self, first_hour: int, end_hour: int) -> Sequence[tuple[UsageKey, v1.UsageTotals]]:
        """Every sum of the hours from `first_hour` to before `end_hour`, each key once."""
        first = max(first_hour, self._oldest_hour())
        found: list[tuple[UsageKey, v1.UsageTotals]] = []
        for hour in sorted(hour for hour in self._hours if first <= hour < end_hour):
            for key, totals in list(self._hours.get(hour, {}).items()):
                found.append((key, to_message(totals)))
                if len(found) % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        return found

    async def records(
        self, start_ms: int, end_ms: int, cursor: str = ""
    ) -> AsyncGenerator[tuple[str, v1.UsageRecord], None]:
        """Kept records that ended in this time, in the order they were counted, each with its cursor.

        Continues after `cursor`. Raises ValueError for a cursor that is none.
        """
        if cursor and not _CURSOR.fullmatch(cursor):
            raise ValueError("not a cursor")
        number = int(cursor or 0)  # records are counted from 1
        while number < self._counted:
            number = max(number + 1, self._counted - len(self._records) + 1)
            record = v1.UsageRecord.FromString(self._records[number - self._counted - 1])
            if start_ms <= record.ended_at.ToMilliseconds() < end_ms:
                yield str(number), record
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _count(self, record: v1.UsageRecord) -> None:
        key = key_of(record)
        sums = self._hours.setdefault(key.hour, {})
        if key not in sums and len(sums) >= self._max_keys:
            key = crowd_of(key)
        totals = sums.get(key)
        if totals is None:
            totals = sums[key] = new_totals()
            self._sums += 1
        count(record, totals)
        if self._records.maxlen:
            self._records.append(record.SerializeToString())
            self._counted += 1

    def _oldest_hour(self) -> int:
        return int(self._clock() - self._retention) // _HOUR

    def _forget(self, oldest: int) -> None:
        for hour in sorted(self._hours):
            if hour >= oldest and (self._sums <= self._max_sums or len(self._hours) == 1):
                return
            self._sums -= len(self._hours.pop(hour))
