"""Quota stores whose time is moved by tests: in memory by the clock, in Redis by moving what it remembers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from outrider.core.quota import Charge, Concurrency, Meter, Period, Rate, Unit, Window
from outrider.stores.memory_quota import MemoryQuotaStore
from outrider.stores.redis_link import RedisLink, Script
from outrider.stores.redis_quota import RedisQuotaStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from outrider.core.quota import QuotaStore

HOLD_FOR = 900.0
DAY = 86_400.0

# Everything that is remembered happened ARGV[2] microseconds earlier.
_EARLIER = Script("""
local by = tonumber(ARGV[2])
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' and not string.find(key, ':once:', 1, true) then
    redis.call('SET', key, redis.call('GET', key) - by, 'KEEPTTL')
  elseif kind == 'zset' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -by, member)
    end
  elseif kind == 'hash' and redis.call('HGET', key, 'until') ~= '0' then
    redis.call('HINCRBY', key, 'until', -by)
  end
end
return true
""")


@dataclass
class Clocks:
    """Of the memory store: both stand still."""

    monotonic: float = 50.0
    wall: float = datetime(2026, 7, 15, 12, tzinfo=UTC).timestamp()

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


class Rig(Protocol):
    """A store, and its time."""

    store: QuotaStore

    async def advance(self, seconds: float) -> None:
        """Let time pass."""

    async def at_rest(self) -> None:
        """Wait until the store has given back what it had to."""


class MemoryRig:
    def __init__(self) -> None:
        self.clocks = Clocks()
        self.store = MemoryQuotaStore(
            lambda: self.clocks.monotonic, lambda: self.clocks.wall, hold_for=HOLD_FOR
        )

    async def advance(self, seconds: float) -> None:
        self.clocks.advance(seconds)

    async def at_rest(self) -> None:
        return


class RedisRig:
    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.store = RedisQuotaStore(link, hold_for=HOLD_FOR)

    async def advance(self, seconds: float) -> None:
        await self.link.script(
            _EARLIER, [f"{self.link.prefix}:*"], [f"{self.link.prefix}:*", int(seconds * 1e6)]
        )

    async def at_rest(self) -> None:
        await asyncio.gather(*self.store._giving_back)


@asynccontextmanager
async def redis_rig(url: str, prefix: str) -> AsyncIterator[RedisRig]:
    async with linked(url, prefix) as link:
        rig = RedisRig(link)
        yield rig
        await rig.store.aclose()


@asynccontextmanager
async def linked(url: str, prefix: str, *, timeout: float = 5.0) -> AsyncIterator[RedisLink]:  # noqa: ASYNC109
    """A link that is there. Its time limit is for tests on busy machines."""
    link = RedisLink(url, prefix=prefix, timeout=timeout)
    await link.start(patience=30.0)
    try:
        yield link
    finally:
        await link.aclose()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something that is seen from outside holds."""
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def requests(per_minute: float, burst: float, scope: str = "tenant=acme") -> Meter:
    return Meter(scope, Unit.REQUESTS, Rate(per_minute, burst))


def budget(limit: int, scope: str = "tenant=acme", period: Period = Period.DAY, **options: object) -> Meter:
    return Meter(scope, Unit.NANO_USD, Window(limit, period, **options))  # type: ignore[arg-type]


def places(limit: int, scope: str = "tenant=acme") -> Meter:
    return Meter(scope, Unit.CONCURRENT_REQUESTS, Concurrency(limit))


def one(meter: Meter, amount: int = 1) -> list[Charge]:
    return [Charge(meter, amount)]
