"""Copies of streams in Redis, where any sidecar of the fleet can read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import ResponseError

from outrider import v1
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS, Ending, Excerpt, StreamName
from outrider.stores.redis_link import Script
from outrider.stores.stream_ending import decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.stores.redis_link import RedisLink

FORM: Final = 1  # of the entries; sidecars that write another one use other keys

_MOST_ENTRIES = 16_384  # of a stream; beyond it its beginning is lost
_ENTRIES_READ = 8  # at once
_LARGEST_NUMBER = 2**63
_LEASE_MS = int(LEASE_SECONDS * 1_000)

# An entry is one append. Its id is the number of its last event; that of the ending is the same, and "-1".

# KEYS: stream, lease. ARGV: number of the last event that is expected, entry or "", its number, ending or "",
# milliseconds the stream is kept, milliseconds of the lease, most entries. Gives the last event's number.
_APPEND: Final = Script("""
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = newest and newest[1] or '0-0'
local last = string.match(id, '^%d+')
if last ~= ARGV[1] or string.sub(id, -2) == '-1' then return last end
if ARGV[2] ~= '' then
  last = ARGV[3]
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[7], last .. '-0', 'e', ARGV[2])
end
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[1], last .. '-1', 'x', ARGV[4])
  redis.call('DEL', KEYS[2])
else
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return last
""")

# KEYS: stream, lease, mark of the readers. ARGV: number of the last event that is had, most entries,
# milliseconds of the mark. Gives the entries that follow, or the ending, and whether the lease is held.
_READ: Final = Script("""
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return false end
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
if #found == 0 then
  local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
  if newest[1] and string.sub(newest[1][1], -2) == '-1' then found = newest end
end
local alive = redis.call('EXISTS', KEYS[2])
if alive == 1 then redis.call('SET', KEYS[3], '1', 'PX', ARGV[3]) end
return {found, alive}
""")

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


class RedisStreams:
    """See the port, SharedStreams. `grace` is in seconds."""

    def __init__(self, link: RedisLink, *, grace: float) -> None:
        self._link = link
        self._grace_ms = max(1, int(grace * 1_000))

    async def append(
        self, name: StreamName, after: int, events: Sequence[bytes], ending: Ending | None, keep: float
    ) -> int:
        """Add events and, perhaps, the ending."""
        stream, lease, _ = self._keys(name)
        return int(
            await self._script(
                _APPEND,
                (stream, lease),
                (
                    after,
                    _pack(events) if events else "",
                    after + len(events),
                    "" if ending is None else encode(ending),
                    # While it runs, what is kept has to outlive the time until the next sign of life.
                    max(1, int(keep * 1_000)) + (_LEASE_MS if ending is None else 0),
                    _LEASE_MS,
                    _MOST_ENTRIES,
                ),
            )
        )

    async def read(self, name: StreamName, after: int) -> Excerpt | None:
        """What follows."""
        after = min(after, _LARGEST_NUMBER)
        reply = await self._script(_READ, self._keys(name), (after, _ENTRIES_READ, self._grace_ms))
        if reply is None:
            return None
        entries, alive = reply
        events, ending = _decode(entries, after)
        if events and events[0].sequence > after + 1:
            return None  # the beginning is lost
        return Excerpt(events, ending, alive == 1)

    async def attention(self, name: StreamName) -> float:
        """How long the mark of the readers lasts."""
        mark = self._keys(name)[2]
        left: int = await self._run("PTTL", mark)
        return max(0, left) / 1_000

    async def remove(self, name: StreamName) -> None:
        """Forget a stream."""
        await self._run("UNLINK", *self._keys(name))

    def _keys(self, name: StreamName) -> tuple[str, str, str]:
        tag = f"{self._link.prefix}:stream:{FORM}:{{{name.request_id}}}:{name.caller}"
        return tag, f"{tag}:lease", f"{tag}:read"

    async def _script(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._link.script(script, keys, args)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused a script of the streams") from error

    async def _run(self, *command: str | bytes | int) -> Any:
        try:
            return await self._link.run(*command)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused a command of the streams") from error


def _decode(
    entries: Sequence[tuple[bytes, Sequence[bytes]]], after: int
) -> tuple[list[v1.GenerateResponse], Ending | None]:
    events: list[v1.GenerateResponse] = []
    for _, (field, data) in entries:
        if field == b"x":
            return events, decode(data)
        found = map(v1.GenerateResponse.FromString, _unpack(data))
        events += (event for event in found if event.sequence > after)
    return events, None
