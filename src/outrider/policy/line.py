"""Who waits for a place among those that run at the same time: first come, first served."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from outrider.core.quota import Meter


class _Line:
    """Those who wait for one meter."""

    def __init__(self) -> None:
        self.first = asyncio.Lock()  # held by the first one; it lets the others in as they came
        self.length = 0
        self.stirred = asyncio.Event()


class Lines:
    """A line for each meter that is used up. Only the first in a line asks the store: the others spare it."""

    def __init__(self) -> None:
        self._lines: dict[Meter, _Line] = {}

    def any_before(self, meters: Iterable[Meter]) -> Meter | None:
        """A meter for which others wait already: whoever comes now has to stand behind them."""
        if not self._lines:
            return None
        return next((meter for meter in meters if meter in self._lines), None)

    @asynccontextmanager
    async def first(self, meter: Meter, patience: float) -> AsyncGenerator[None, None]:
        """Stand in line until the first place is one's own. Raises TimeoutError after `patience` seconds."""
        line = self._lines.setdefault(meter, _Line())
        line.length += 1
        try:
            async with asyncio.timeout(patience):
                await line.first.acquire()
            try:
                yield
            finally:
                line.first.release()
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[meter]

    async def pause(self, meter: Meter, seconds: float) -> None:
        """Wait, as the first in line: so long, or until somebody here leaves a place."""
        stirred = self._lines[meter].stirred
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stirred.wait()
        stirred.clear()

    def stir(self, meters: Iterable[Meter]) -> None:
        """Somebody here has left a place."""
        for meter in meters:
            if meter in self._lines:
                self._lines[meter].stirred.set()
