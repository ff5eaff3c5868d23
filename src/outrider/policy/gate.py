"""How many calls a provider gets from this sidecar at once, and a bounded queue before that."""

from __future__ import annotations

import asyncio

from outrider.core.errors import GenerationError, Reason


class Gate:
    """Admits calls in the order they came. A permit is held for as long as its stream is open.

    Waiting callers are bounded in number (`max_waiting`) and in time; beyond that load is shed at once, so
    that a caller can go elsewhere while it still has time.
    """

    def __init__(self, *, max_concurrency: int, max_waiting: int, max_wait: float) -> None:
        self._permits = asyncio.Semaphore(max_concurrency)
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._waiting = 0

    @property
    def is_free(self) -> bool:
        """Whether a call would be let through without a wait."""
        return not self._permits.locked()

    async def enter(self, remaining: float) -> None:
        """Wait for a permit, at most `remaining` seconds; give it back by `leave`.

        Raises GenerationError LOAD_SHED where the queue is full or a permit did not come in time. Of one that
        had no time to wait, `Fact.free_in` says whether the queue has room.
        """
        if not self._permits.locked():
            await self._permits.acquire()  # does not suspend
            return
        if self._waiting >= self._max_waiting:
            raise GenerationError(
                Reason.LOAD_SHED, f"{self._waiting} calls already wait for this provider", retry_after=1.0
            )
        if remaining <= 0:
            raise GenerationError(
                Reason.LOAD_SHED, "as many calls to this provider run as may", retry_after=1.0
            ).refine(free_in=0.0)
        self._waiting += 1
        try:
            await self._wait(min(remaining, self._max_wait))
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the permit back."""
        self._permits.release()

    async def _wait(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._permits.acquire()
        except TimeoutError:
            raise GenerationError(
                Reason.LOAD_SHED, f"no call to this provider ended within {patience:.1f} s", retry_after=1.0
            ) from None
