"""How full a queue is, and whether it takes more."""

from __future__ import annotations

from outrider.core.jobs import QueueFullError


class Watermarks:
    """Takes jobs up to the share `high` of its capacity, and then none until it is down to the share `low`.

    Those count that have not ended.
    """

    def __init__(self, capacity: int, max_bytes: int, *, high: float = 0.8, low: float = 0.6) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._high = high
        self._low = low
        self.jobs = 0
        self.bytes = 0
        self.closed = False

    @property
    def level(self) -> float:
        """How full it is, from 0 to 1; beyond that for what cannot be refused."""
        return max(self.jobs / self._capacity, self.bytes / self._max_bytes)

    def check(self, jobs: int, size: int) -> None:
        """Raises QueueFullError where so much more is not taken."""
        room = self.jobs + jobs <= self._capacity and self.bytes + size <= self._max_bytes
        if self.closed or not room:
            raise QueueFullError("queue at capacity")

    def change(self, jobs: int, size: int) -> None:
        """So many came, or with a minus went."""
        self.jobs += jobs
        self.bytes += size
        self.closed = self.level > self._low if self.closed else self.level >= self._high
