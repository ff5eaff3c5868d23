"""Hints in Redis: one hash for the fleet, which every sidecar writes and reads by one command."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.stores.redis_link import RedisLink

# KEYS: the hash. ARGV: who asks, then its hints, each a name and milliseconds. A field is a name, its value
# until when it holds and who left it. Of two that left the same one, the longer one stays.
_EXCHANGE = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, others, last = {}, {}, 0
for i = 2, #ARGV, 2 do own[ARGV[i]] = now + ARGV[i + 1] end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local name = fields[i]
  local till, who = string.match(fields[i + 1], '^(%d+) (.+)$')
  till = tonumber(till)
  if not till or till <= now or (who == ARGV[1] and not own[name]) then
    redis.call('HDEL', KEYS[1], name)
  elseif who ~= ARGV[1] then
    others[#others + 1] = name
    others[#others + 1] = string.format('%.0f', till - now)
    if (own[name] or 0) <= till then own[name] = nil end
    last = math.max(last, till)
  end
end
for name, till in pairs(own) do
  redis.call('HSET', KEYS[1], name, string.format('%.0f ', till) .. ARGV[1])
  last = math.max(last, till)
end
if last > 0 then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last)) end
return others
""")


class TargetHints:
    """The HintStore of a fleet. What an earlier process of this sidecar left counts as another's."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._key = f"{link.prefix}:hints"
        self._who = secrets.token_hex(8)

    async def exchange(self, own: Mapping[str, float]) -> dict[str, float]:
        """See HintStore. One round trip."""
        hints = [part for name, seconds in own.items() for part in (name, max(1, round(seconds * 1000)))]
        found = await self._link.script(_EXCHANGE, [self._key], [self._who, *hints])
        return {name.decode(): int(left) / 1000 for name, left in zip(found[::2], found[1::2], strict=True)}
