"""The usage ledger's port: batches of settled requests in, sums and records out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from outrider import v1


class UsageKey(NamedTuple):
    """What usage is counted by. `hour` counts from the Unix epoch."""

    hour: int
    tenant: str
    project: str
    agent: str
    model: str
    provider: str
    outcome: str


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """Records of one source, numbered by it from 1 without gaps; the same number is the same batch."""

    source: str
    number: int
    records: Sequence[v1.UsageRecord]


class LedgerStore(Protocol):
    """Keeps usage. Raises StoreUnavailableError where it is away. Contract: tests/stores."""

    async def append(self, batch: LedgerBatch) -> None:
        """Count a batch. One that has been counted already counts nothing again."""

    async def sums(self, first_hour: int, end_hour: int) -> Sequence[tuple[UsageKey, v1.UsageTotals]]:
        """Every sum of the hours from `first_hour` to before `end_hour`, each key once."""

    def records(
        self, start_ms: int, end_ms: int, cursor: str = ""
    ) -> AsyncGenerator[tuple[str, v1.UsageRecord], None]:
        """Kept records that ended in this time, in the order they were counted, each with its cursor.

        Continues after `cursor`. Raises ValueError for a cursor that is none.
        """
