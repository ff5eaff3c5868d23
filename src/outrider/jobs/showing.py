"""The events of an answer on their way to those who watch: gathered, so that a token costs no round trip."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from types import TracebackType

    from outrider import v1
    from outrider.core.jobs import Claim, JobStore

_PAUSE = 0.1  # seconds between two batches


class Showing:
    """Publishes what is added within its block, all of it by the end; what the store refuses is lost."""

    def __init__(self, store: JobStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._events: list[v1.GenerateResponse] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Showing:
        self._task = asyncio.create_task(self._publish_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not isinstance(error, asyncio.CancelledError):
            await self._publish()

    def add(self, event: v1.GenerateResponse) -> None:
        """One more; not to be changed from now on."""
        self._events.append(event)
        self._news.set()

    async def _publish_all(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._publish()
            await asyncio.sleep(_PAUSE)

    async def _publish(self) -> None:
        events, self._events = self._events, []  # one that is cancelled here has handed them over
        if events:
            with suppress(StoreUnavailableError):
                await self._store.publish(self._claim, events)
