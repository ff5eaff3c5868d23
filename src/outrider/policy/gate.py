"""How many calls a provider gets: so many per minute, so many at once, and a bounded queue before that."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from outrider.core.errors import GenerationError, Reason


class Gate:
    """Admits calls in the order they came. A permit is held for as long as its stream is open.

    Waiting callers are bounded in number (`max_waiting`) and in time; beyond that load is shed at once, so
    that a caller can go elsewhere while it still has time.
    """

    def __init__(
        self,
        *,
        max_concurrency: int,
        max_waiting: int,
        max_wait: float,
        requests_per_minute: float | None = None,
    ) -> None:
        self._permits = asyncio.Semaphore(max_concurrency)
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._waiting = 0
        self._rate = requests_per_minute
        self._pace = _pace(requests_per_minute) if requests_per_minute else None

    async def enter(self, remaining: float) -> None:
        """Wait for a permit, at most `remaining` seconds; give it back by `leave`.

        Raises GenerationError: LOAD_SHED where the queue is full or a permit did not come in time,
        RATE_LIMITED where the rate would not allow the call in time.
        """
        if not self._permits.locked() and (self._pace is None or self._pace.has_capacity()):
            await self._permits.acquire()  # these two do not suspend
            if self._pace is not None:
                await self._pace.acquire()
            return
        if self._waiting >= self._max_waiting:
            raise GenerationError(
                Reason.LOAD_SHED, f"{self._waiting} calls already wait for this provider", retry_after=1.0
            )
        self._waiting += 1
        try:
            await self._wait(min(remaining, self._max_wait))
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the permit back."""
        self._permits.release()

    async def _wait(self, patience: float) -> None:
        until = asyncio.get_running_loop().time() + patience
        try:
            async with asyncio.timeout_at(until):
                await self._permits.acquire()
        except TimeoutError:
            raise GenerationError(
                Reason.LOAD_SHED, f"no call to this provider ended within {patience:.1f} s", retry_after=1.0
            ) from None
        if self._pace is None or self._rate is None:
            return
        try:
            async with asyncio.timeout_at(until):
                await self._pace.acquire()
        except TimeoutError:
            self.leave()
            raise GenerationError(
                Reason.RATE_LIMITED,
                f"the limit of {self._rate:g} requests a minute to this provider is used up",
                retry_after=60 / self._rate,
            ) from None
        except asyncio.CancelledError:
            self.leave()
            raise


def _pace(requests_per_minute: float) -> AsyncLimiter:
    # The bucket holds ten seconds' worth: small bursts pass, and no minute begins with a storm.
    burst = max(1.0, requests_per_minute / 6)
    return AsyncLimiter(burst, burst * 60 / requests_per_minute)
