"""What Redis has accepted lately, for the case that it forgets."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outrider.core.ports import Clock
    from outrider.stores.job_record import JobRecord

_KEPT_FOR = 10.0  # seconds: far more than Redis writes late, or a replica lags behind
_MOST_BYTES = 16 * 2**20


class RecentJobs:
    """The jobs of the last seconds in which some were accepted; of very many the latest."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._jobs: deque[tuple[float, JobRecord]] = deque()
        self._bytes = 0

    def add(self, records: Iterable[JobRecord]) -> None:
        """These were accepted now."""
        now = self._clock()
        for record in records:
            self._jobs.append((now, record))
            self._bytes += record.size
        while self._jobs and (self._jobs[0][0] < now - _KEPT_FOR or self._bytes > _MOST_BYTES):
            self._bytes -= self._jobs.popleft()[1].size

    def all(self) -> Sequence[JobRecord]:
        """Oldest first."""
        return [record for _, record in self._jobs]
