"""How often calls failed lately."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.ports import Clock

_SLICES = 10


class FailureWindow:
    """Calls and failures of the last `seconds`, to a tenth of that; memory does not grow with traffic."""

    __slots__ = ("_calls", "_clock", "_failures", "_slice", "_slices")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._slice = seconds / _SLICES
        self._clock = clock
        self._slices: deque[list[int]] = deque()  # number of the slice, calls, failures
        self._calls = self._failures = 0

    def add(self, *, failed: bool) -> float:
        """Count a call that has ended now; gives that moment."""
        now = self._clock()
        number = self._forget(now)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self._calls += 1
        self._failures += failed
        return now

    def counts(self) -> tuple[int, int]:
        """Calls, and those of them that failed."""
        self._forget(self._clock())
        return self._calls, self._failures

    def clear(self) -> None:
        """Begin anew."""
        self._slices.clear()
        self._calls = self._failures = 0

    def _forget(self, now: float) -> int:
        number = int(now / self._slice)
        while self._slices and self._slices[0][0] <= number - _SLICES:
            _, calls, failures = self._slices.popleft()
            self._calls -= calls
            self._failures -= failures
        return number
