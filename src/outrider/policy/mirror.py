"""A copy of a stream, where other sidecars of the fleet can read it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS

if TYPE_CHECKING:
    from outrider.core.streams import Ending, SharedStreams, StreamName
    from outrider.policy.event_log import EventLog

_MOST_EVENTS = 256  # of a copy at once
_GATHERING = 0.05  # seconds between two copies: what comes meanwhile goes together
_AWAY = 0.5  # seconds between two tries while the store is away


class Mirror:
    """Keeps the copy up to date from a task of its own: the stream and its readers never wait for it.

    A store that was away, and may have forgotten everything, gets what it lacks when it is back.
    """

    def __init__(self, log: EventLog, name: StreamName, shared: SharedStreams, keep: float) -> None:
        self._log = log
        self._name = name
        self._shared = shared
        self._keep = keep
        self._copied = 0
        self._ending: Ending | None = None
        self._dropped = False
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name="stream-mirror")

    def wake(self) -> None:
        """There is more to copy."""
        self._news.set()

    def end(self, ending: Ending, keep: float) -> None:
        """Nothing more will come: copy the rest, and this, to be kept for so many seconds."""
        self._ending, self._keep = ending, keep
        self.wake()

    def drop(self) -> None:
        """The stream is not kept any more: remove the copy, unless it is whole."""
        self._dropped = True
        self.wake()

    async def attention(self) -> float:
        """Seconds for which who reads the copy keeps the stream going. Raises StoreUnavailableError."""
        return await self._shared.attention(self._name)

    async def _run(self) -> None:
        while not self._dropped:
            try:
                if await self._copy():
                    return
                await asyncio.sleep(_GATHERING)
                await self._wait()
            except StoreUnavailableError:
                await asyncio.sleep(_AWAY)
        with suppress(StoreUnavailableError):
            await self._shared.remove(self._name)

    async def _copy(self) -> bool:
        """Whether the copy is whole."""
        before = self._copied
        events = self._log.after(before, _MOST_EVENTS)
        # Alone: an append that may have been done before says only how many events there are.
        ending = None if events else self._ending
        self._copied = await self._shared.append(self._name, before, events, ending, self._keep)
        return ending is not None and self._copied == before

    async def _wait(self) -> None:
        """Until there is something to copy, or it is time to say that the stream is alive."""
        if self._copied < self._log.last or self._ending is not None:
            return
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEASE_SECONDS / 3):
                await self._news.wait()
