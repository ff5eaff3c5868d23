"""One reader of a broadcast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.errors import Fact


class Seat:
    """How far a reader has come, and what it waits for."""

    __slots__ = ("_waiting", "cursor", "error")

    def __init__(self, cursor: int = 0) -> None:
        self.cursor = cursor  # events that it was given
        self.error: Fact | None = None  # its own, which does not concern the others
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until `wake` is called."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """End its wait, if it waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def fail(self, fact: Fact) -> None:
        """End its reading."""
        self.error = fact
        self.wake()
