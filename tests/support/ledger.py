"""A ledger that can be away, and usage to put into it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.ledger import LedgerBatch, UsageKey
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.memory_ledger import MemoryLedger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

NOW = 1_795_271_400.0  # 2026-11-21 14:30 UTC


class FickleLedger(MemoryLedger):
    """A MemoryLedger that is `away` when it is told to be, or once so many records have been read."""

    def __init__(self, *records: v1.UsageRecord) -> None:
        super().__init__(clock=lambda: NOW)
        self.away = False
        self.fails_after: int | None = None
        self.read = 0
        self.readers = 0  # that have not been closed
        self._batches = 0
        self.count(*records)

    def count(self, *records: v1.UsageRecord) -> None:
        """Count these; what `append` does, without waiting."""
        self._batches += 1
        for _ in self.append(LedgerBatch("test", self._batches, records)).__await__():
            raise AssertionError("memory does not wait")

    async def sums(self, first_hour: int, end_hour: int) -> Sequence[tuple[UsageKey, v1.UsageTotals]]:
        """Of a ledger that is not away."""
        self._check()
        return await super().sums(first_hour, end_hour)

    async def records(
        self, start_ms: int, end_ms: int, cursor: str = ""
    ) -> AsyncGenerator[tuple[str, v1.UsageRecord], None]:
        """Of a ledger that is not away."""
        self.readers += 1
        try:
            self._check()
            async with aclosing(super().records(start_ms, end_ms, cursor)) as records:
                async for found in records:
                    self._check()
                    self.read += 1
                    yield found
        finally:
            self.readers -= 1

    def _check(self) -> None:
        if self.away or self.read == self.fails_after:
            raise StoreUnavailableError


def record(
    number: int | str = 1,
    *,
    ended_at: float = NOW,
    nano_usd: int | None = 1_000,
    outcome: str = "succeeded",
    cached: bool = False,
    source: v1.UsageSource = v1.USAGE_SOURCE_PROVIDER,
    model: str = "gpt",
    provider: str = "openai",
    **by: str,
) -> v1.UsageRecord:
    """A settled request of 10 tokens in and 5 out; `by` are fields of its attribution."""
    made = v1.UsageRecord(
        request_id=f"request-{number}",
        method="Generate",
        attribution=v1.Attribution(**by),  # type: ignore[arg-type]
        provider=provider,
        model=model,
        outcome=outcome,
        usage=v1.Usage(input_tokens=10, output_tokens=5, source=source),
        cost=None if nano_usd is None else v1.Cost(total_nano_usd=nano_usd, output_nano_usd=nano_usd),
        cache_status=v1.CACHE_STATUS_HIT if cached else v1.CACHE_STATUS_MISS,
    )
    made.ended_at.FromMilliseconds(round(ended_at * 1000))
    return made
