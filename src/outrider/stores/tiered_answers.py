"""Answers in this sidecar's memory, in front of those that the fleet shares."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider.core.answers import LEASE_SECONDS, Lease, MemoryStats, StoredAnswer
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.answer_label import fits
from outrider.stores.invalidations import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from outrider import v1
    from outrider.stores.memory_answers import MemoryAnswers
    from outrider.stores.redis_answers import RedisAnswers

_SLICE = 500  # entries that are looked at before others have their turn: under a millisecond
_MOST_UNTOLD = 1_000


class TieredAnswers:
    """An AnswerStore. Without `shared`, or while Redis is away, it is this sidecar's memory alone.

    What another sidecar invalidates leaves memory within `poll` seconds, or that long after Redis is back.
    What is invalidated here while Redis is away is told to the fleet on its return; until then nothing is
    taken from there. Between `start` and `aclose` it owns a task.
    """

    def __init__(
        self, memory: MemoryAnswers, shared: RedisAnswers | None = None, *, poll: float = 1.0
    ) -> None:
        self._memory = memory
        self._shared = shared
        self._poll = poll
        self._untold: dict[bytes, v1.InvalidateCacheRequest] = {}
        self._unswept: list[v1.InvalidateCacheRequest] = []
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to follow what the fleet invalidates."""
        if self._shared is not None:
            self._shared.invalidations.on_news(self._hear)
            self._spawn(self._follow(self._shared))

    async def aclose(self) -> None:
        """End what runs. The link is its owner's to close."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def shared(self) -> bool:
        """Whether other sidecars see the same answers now."""
        return self._fleet() is not None

    def stats(self) -> MemoryStats:
        """How full this sidecar's memory is."""
        return self._memory.stats()

    def recall(self, key: str) -> StoredAnswer | None:
        """What memory holds, fresh or stale. Takes no time."""
        return self._memory.get(key)

    async def look_up(self, key: str, *, lease: bool) -> StoredAnswer | Lease | None:
        """What the fleet shares, in one round trip. See AnswerStore."""
        fleet = self._fleet()
        if fleet is None:
            return None
        wanted = Lease(key, secrets.token_hex(8)) if lease else None
        try:
            found = await fleet.look_up(key, wanted.token if wanted else "")
        except (StoreUnavailableError, asyncio.CancelledError) as error:
            if wanted is not None:
                # It may have been granted all the same, and nobody would ever use it.
                self._spawn(self.release(wanted))
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        if isinstance(found, StoredAnswer):
            self._memory.put(key, found)
            return found
        return wanted if found else None

    async def wait_for(self, key: str, patience: float) -> StoredAnswer | None:
        """What the sidecar that has the lease makes; None where it gave up, or took longer than that."""
        fleet = self._fleet()
        if fleet is None:
            return None
        try:
            found = await fleet.wait_for(key, patience)
        except StoreUnavailableError:
            return None
        if found is not None:
            self._memory.put(key, found)
        return found

    async def put(self, key: str, answer: StoredAnswer, lease: Lease | None) -> None:
        """Store, and end the lease."""
        self._memory.put(key, answer)
        if self._shared is not None:
            with suppress(StoreUnavailableError):
                await self._shared.put(key, answer, lease.token if lease else "")

    async def renew(self, lease: Lease) -> None:
        """Hold the lease for LEASE_SECONDS from now; one that is lost stays lost."""
        if self._shared is not None:
            with suppress(StoreUnavailableError):
                await self._shared.hold(lease, LEASE_SECONDS)

    async def release(self, lease: Lease) -> None:
        """End the lease without an answer; who waits goes on alone."""
        if self._shared is not None:
            with suppress(StoreUnavailableError):
                await self._shared.hold(lease, 0)

    async def invalidate(self, selector: v1.InvalidateCacheRequest) -> int:
        """Forget what fits; how many there were here and in the shared store. Takes a few seconds at most."""
        shared = self._shared
        told = shared is not None and await self._tell(shared, selector)
        removed = await self._sweep((selector,))
        if shared is not None and told:
            removed += await shared.remove(selector)
        return removed

    def _fleet(self) -> RedisAnswers | None:
        return self._shared if self._shared and self._shared.available and not self._untold else None

    def _hear(self, news: Sequence[v1.InvalidateCacheRequest]) -> None:
        self._unswept += news
        self._woken.set()

    async def _follow(self, shared: RedisAnswers) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()
            self._woken.clear()
            for selector in list(self._untold.values()):
                if not await self._tell(shared, selector):
                    break
            await shared.invalidations.catch_up()
            news, self._unswept = self._unswept, []
            await self._sweep(news)

    async def _tell(self, shared: RedisAnswers, selector: v1.InvalidateCacheRequest) -> bool:
        """Announce it now, or on Redis's return."""
        data = selector.SerializeToString(deterministic=True)
        try:
            await shared.invalidations.announce(selector)
        except StoreUnavailableError:
            self._untold[data] = selector
            if len(self._untold) > _MOST_UNTOLD:
                self._untold = {EVERYTHING.SerializeToString(deterministic=True): EVERYTHING}
            return False
        self._untold.pop(data, None)
        await shared.invalidations.catch_up()
        return True

    async def _sweep(self, selectors: Sequence[v1.InvalidateCacheRequest]) -> int:
        removed = 0
        for place, key in enumerate(self._memory.keys() if selectors else ()):
            label = self._memory.label(key)
            if label is not None and any(fits(selector, key, label) for selector in selectors):
                removed += self._memory.discard(key)
            if place % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        return removed

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
