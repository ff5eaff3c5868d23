"""Groups of jobs that can go nowhere now: no worker is to be held up by them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.ports import Clock

_LONGEST = 15.0  # seconds, as a route may be switched meanwhile
_MOST = 100


class LeftOut:
    """What held up one job of a group holds up the others; when that is over, one of them finds out.

    Jobs without a group have nothing in common.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}  # infinite while one job finds out

    def add(self, group: str, seconds: float) -> None:
        """Leave it out for so long."""
        if group:
            self._until[group] = self._clock() + min(seconds, _LONGEST)
            if len(self._until) > _MOST:
                del self._until[next(iter(self._until))]

    def begin(self, group: str) -> None:
        """A job of it is tried."""
        if group in self._until:
            self._until[group] = math.inf

    def end(self, group: str) -> None:
        """That job has ended: unless the group was added again, nothing holds it up."""
        if self._until.get(group) == math.inf:
            del self._until[group]

    def now(self) -> Sequence[str]:
        """The groups that are left out."""
        now = self._clock()
        return [group for group, until in self._until.items() if until > now]
