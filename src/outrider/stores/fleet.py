"""Which sidecars live: how many they are, and which of them this one is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from outrider.stores.redis_link import RedisLink

_log = structlog.get_logger("outrider.fleet")

# By Redis's clock. All names have the same score in the one key, so that ranks follow names and stand still.
_BEAT = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local name, silent = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], 0, name)
redis.call('ZADD', KEYS[2], now, name)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - silent, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('ZREM', KEYS[2], gone)
end
redis.call('PEXPIRE', KEYS[1], 2 * silent)
redis.call('PEXPIRE', KEYS[2], 2 * silent)
return {redis.call('ZCARD', KEYS[1]), redis.call('ZRANK', KEYS[1], name)}
""")
_LEAVE = Script("return redis.call('ZREM', KEYS[1], ARGV[1]) + redis.call('ZREM', KEYS[2], ARGV[1])")

_SILENT_BEATS = 3  # after so many, a sidecar does not live


class Fleet:
    """Tells the fleet every `beat` seconds that `name` lives, and remembers what it was told last.

    `expected` is the size until Redis has said otherwise. A fleet that seems smaller is believed only once
    everybody has had time to be counted: a Redis that comes back empty must not leave each sidecar alone.
    """

    def __init__(self, link: RedisLink, name: str, *, expected: int = 1, beat: float = 5.0) -> None:
        self._link = link
        self._name = name
        self._beat = beat
        self._counts: deque[int] = deque([max(1, expected)], maxlen=_SILENT_BEATS + 1)
        self._keys = [f"{link.prefix}:{{fleet}}:{part}" for part in ("names", "beats")]
        self._task: asyncio.Task[None] | None = None
        self.rank: int | None = None  # which sidecar of the fleet this is, from 0; None: not known yet

    @property
    def size(self) -> int:
        """How many sidecars live, as far as is known; at least 1."""
        return max(self._counts)

    async def start(self) -> None:
        """Begin to beat; the first beat has been tried on return."""
        await self.beat()
        self._task = asyncio.create_task(self._beat_for_ever())

    async def aclose(self) -> None:
        """Leave the fleet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._link.script(_LEAVE, self._keys, [self._name])
        except (StoreUnavailableError, ResponseError):
            return  # it will be missed

    async def beat(self) -> None:
        """Tell once."""
        silent = int(_SILENT_BEATS * self._beat * 1_000)
        try:
            size, self.rank = await self._link.script(_BEAT, self._keys, [self._name, silent])
        except StoreUnavailableError:
            return
        except ResponseError as error:
            _log.error("fleet_not_counted", error=str(error))
            return
        self._counts.append(size)

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._beat)
            await self.beat()
