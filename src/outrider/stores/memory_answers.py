"""Answers in this process, within a bound of bytes."""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.answers import MemoryStats
from outrider.stores.answer_label import Label

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.answers import StoredAnswer

# What an entry takes beside its texts: objects, and places in the dict and both heaps; measured.
_OVERHEAD = 750
_LABEL_OVERHEAD = 120
# No answer may push out everything else.
_LARGEST_SHARE = 8
# In nano-USD. A second that a caller need not wait is worth a tenth of a cent; nothing is worth nothing.
_SECOND = 1_000_000
_LEAST_WORTH = 10_000
# A heap is cleared of what is gone once that is more than half of it, and more than this.
_SLACK = 64


class _Entry:
    # The answer is kept as bytes: a message that was built delta by delta holds many times its size.
    __slots__ = ("alive", "base", "body", "hits", "key", "label", "size", "worth")

    def __init__(self, key: str, answer: StoredAnswer) -> None:
        self.key = key
        self.label = Label.of(answer)
        self.body = answer.answer.SerializeToString()
        texts = (key, answer.tenant, answer.model, *answer.labels, *answer.labels.values())
        self.size = len(self.body) + sum(map(len, texts)) + len(answer.labels) * _LABEL_OVERHEAD + _OVERHEAD
        self.worth = _worth(answer.answer)
        self.hits = 1
        self.base = 0.0
        self.alive = True

    @property
    def priority(self) -> float:
        return self.base + self.hits * self.worth / self.size

    @property
    def expires_at(self) -> float:
        return self.label.stored_at + self.label.kept_for


class MemoryAnswers:
    """At most `max_bytes` of answers; those go first that save the least for the room they take.

    That is GreedyDual-Size-Frequency: an entry's priority is what it saves (money and waiting) times how
    often it was asked for, by its size, on top of the priority of what was evicted last, so that what nobody
    asks for any more ages. `clock` is the Unix clock.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._by_priority: list[tuple[float, int, _Entry]] = []
        self._by_expiry: list[tuple[float, int, _Entry]] = []
        self._serial = count()
        self._bytes = 0
        self._evicted = 0
        self._inflation = 0.0

    def stats(self) -> MemoryStats:
        """The numbers of now."""
        self._expire()
        return MemoryStats(len(self._entries), self._bytes, self._max_bytes, self._evicted)

    def get(self, key: str) -> StoredAnswer | None:
        """The answer, fresh or stale; a copy of its own for each caller."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            self._remove(entry)
            return None
        entry.hits += 1
        entry.base = self._inflation
        return entry.label.attach(v1.CompleteResponse.FromString(entry.body))

    def put(self, key: str, answer: StoredAnswer) -> None:
        """Keep it, in the place of an older one, if there is room for what it is worth."""
        self.discard(key)
        self._expire()
        entry = _Entry(key, answer)
        if entry.size * _LARGEST_SHARE > self._max_bytes or entry.expires_at <= self._clock():
            return
        entry.base = self._inflation
        self._entries[key] = entry
        self._bytes += entry.size
        heapq.heappush(self._by_priority, (entry.priority, next(self._serial), entry))
        heapq.heappush(self._by_expiry, (entry.expires_at, next(self._serial), entry))
        while self._bytes > self._max_bytes:
            self._evict()

    def discard(self, key: str) -> bool:
        """Forget one; whether it was there."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._remove(entry)
        return True

    def keys(self) -> list[str]:
        """The keys of now."""
        return list(self._entries)

    def label(self, key: str) -> Label | None:
        """What an answer is told by, if it is there."""
        entry = self._entries.get(key)
        return None if entry is None else entry.label

    def _evict(self) -> None:
        while True:
            priority, _, entry = heapq.heappop(self._by_priority)
            if not entry.alive:
                continue
            if entry.priority <= priority:
                break
            # It was asked for since it was put here; so a hit costs nothing, and each is made good for once.
            heapq.heappush(self._by_priority, (entry.priority, next(self._serial), entry))
        self._inflation = priority
        self._evicted += 1
        self._remove(entry)

    def _expire(self) -> None:
        now = self._clock()
        while self._by_expiry and (self._by_expiry[0][0] <= now or not self._by_expiry[0][2].alive):
            entry = heapq.heappop(self._by_expiry)[2]
            if entry.alive:
                self._remove(entry)

    def _remove(self, entry: _Entry) -> None:
        entry.alive = False
        del self._entries[entry.key]
        self._bytes -= entry.size
        entry.body = b""
        for heap in (self._by_priority, self._by_expiry):
            if len(heap) > 2 * len(self._entries) + _SLACK:
                heap[:] = [place for place in heap if place[2].alive]
                heapq.heapify(heap)


def _worth(answer: v1.CompleteResponse) -> int:
    completed = answer.completed
    seconds = completed.timings.total.seconds + completed.timings.total.nanos / 1e9
    return max(_LEAST_WORTH, completed.cost.total_nano_usd + int(seconds * _SECOND))
