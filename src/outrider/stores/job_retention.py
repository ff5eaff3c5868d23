"""What of the jobs that have ended is kept: as much as there is room for, the newest in any case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.ports import Clock

_PAUSE = 60.0  # seconds between warnings

_log = structlog.get_logger("outrider.jobs")


class Losses:
    """Warns of what had to make room: at once, and then at most once a minute."""

    def __init__(self, event: str, setting: str, clock: Clock) -> None:
        self._event = event
        self._setting = setting
        self._clock = clock
        self._untold = 0
        self._next = -math.inf

    def add(self, jobs: int) -> None:
        """It was so many."""
        self._untold += jobs
        if self._clock() >= self._next:
            _log.warning(self._event, jobs=self._untold, setting=self._setting)
            self._untold, self._next = 0, self._clock() + _PAUSE


class Retention:
    """Up to so many bytes of ended jobs; beyond that the oldest make room, and `lost` is told how many."""

    def __init__(self, max_bytes: int, lost: Callable[[int], None]) -> None:
        self._max_bytes = max_bytes
        self._lost = lost
        self._sizes: dict[str, int] = {}  # oldest first
        self._bytes = 0

    def add(self, job_id: str, size: int) -> list[str]:
        """This one is kept from now on; those that are no longer."""
        self._sizes[job_id] = size
        self._bytes += size
        gone: list[str] = []
        while self._bytes > self._max_bytes and len(self._sizes) > 1:
            gone.append(next(iter(self._sizes)))
            self.discard(gone[-1])
        if gone:
            self._lost(len(gone))
        return gone

    def discard(self, job_id: str) -> None:
        """It is not kept any more, if it was."""
        self._bytes -= self._sizes.pop(job_id, 0)
