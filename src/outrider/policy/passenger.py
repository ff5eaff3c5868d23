"""One reader of a flight."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from outrider.core.errors import Fact, Reason
from outrider.policy.seat import Seat

if TYPE_CHECKING:
    from outrider.core.context import RequestContext
    from outrider.core.ports import Clock

_CLOSING_SECONDS = 1.0


class Passenger(Seat):
    """A caller with its own request. Its own deadline runs from the start until `close`."""

    __slots__ = ("_timer", "context", "entering")

    def __init__(self, context: RequestContext, clock: Clock) -> None:
        super().__init__()
        self.context = context
        self.entering: set[asyncio.Task[None]] = set()  # its waits for limits
        self._timer: asyncio.TimerHandle | None = None
        if context.deadline < inf:
            remaining = max(0.0, context.deadline - clock())
            self._timer = asyncio.get_running_loop().call_later(remaining, self._expire)

    async def close(self) -> None:
        """Stop its clock, and its waits for limits, which must have ended before they are settled."""
        if self._timer is not None:
            self._timer.cancel()
        for entering in self.entering:
            entering.cancel()
        if self.entering:
            await asyncio.wait(self.entering, timeout=_CLOSING_SECONDS)

    def _expire(self) -> None:
        self.fail(Fact(Reason.DEADLINE_EXCEEDED, "the caller's deadline has passed"))
