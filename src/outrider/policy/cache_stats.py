"""What the cache did since the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1

if TYPE_CHECKING:
    from outrider.core.answers import AnswerStore


class CacheStats:
    """Counts; `read` adds what the store holds now."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self.memory_hits = 0
        self.shared_hits = 0
        self.joined = 0
        self.stale_hits = 0
        self.misses = 0
        self.stored = 0
        self._saved_nano_usd = 0
        self._saved_seconds = 0.0

    def saved(self, cost: v1.Cost | None, seconds: float) -> None:
        """A provider was spared an answer of this cost, and a caller this wait."""
        self._saved_nano_usd += cost.total_nano_usd if cost is not None else 0
        self._saved_seconds += seconds

    def read(self) -> v1.GetCacheStatsResponse:
        """All of it."""
        memory = self._store.stats()
        return v1.GetCacheStatsResponse(
            memory_hits=self.memory_hits,
            shared_hits=self.shared_hits,
            joined=self.joined,
            stale_hits=self.stale_hits,
            misses=self.misses,
            stored=self.stored,
            evicted=memory.evicted,
            memory_entries=memory.entries,
            memory_bytes=memory.bytes,
            memory_limit_bytes=memory.limit_bytes,
            shared=self._store.shared,
            saved_nano_usd=self._saved_nano_usd,
            saved_seconds=self._saved_seconds,
        )
