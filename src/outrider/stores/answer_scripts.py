"""What Redis does for the cache in one step. Numbers beyond 2^32 are formatted: Lua would round them."""

from __future__ import annotations

from typing import Final

from outrider.stores.redis_link import Script

# KEYS: entry, lease. ARGV: token or "", milliseconds of the lease.
# An entry begins with how many milliseconds it is kept when no longer fresh, in 4 bytes.
LOOK_UP: Final = Script("""
local entry = redis.call('GET', KEYS[1])
if entry then
  local left = redis.call('PTTL', KEYS[1])
  if ARGV[1] == '' or (#entry >= 4 and left > struct.unpack('>I4', entry)) then return {entry, left} end
end
if ARGV[1] ~= '' and redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
""")

# KEYS: entry, lease. A fresh entry, else whether somebody has the lease.
AWAIT: Final = Script("""
local entry = redis.call('GET', KEYS[1])
if entry then
  local left = redis.call('PTTL', KEYS[1])
  if #entry >= 4 and left > struct.unpack('>I4', entry) then return {entry, left} end
end
return redis.call('EXISTS', KEYS[2])
""")

# KEYS: entry, lease. ARGV: entry, milliseconds it is kept, token or "".
PUT: Final = Script("""
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' and redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
return 1
""")

# KEYS: lease. ARGV: token, milliseconds from now; 0 ends it.
HOLD: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

# KEYS: table. ARGV: selector, the newest number known, seconds a row is kept, most rows, the selector of all.
# Gives the number. The older half of too many rows becomes one, which everything fits: nothing is missed.
ANNOUNCE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local number = string.format('%.0f', math.max(now, ARGV[2] + 1, (last[2] or 0) + 1))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[3] * 1000000))
redis.call('ZADD', KEYS[1], number, ARGV[1])
local count = redis.call('ZCARD', KEYS[1])
if count > tonumber(ARGV[4]) then
  local rank = math.floor(count / 2)
  local dropped = redis.call('ZRANGE', KEYS[1], rank, rank, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, rank)
  redis.call('ZADD', KEYS[1], 'GT', dropped[2], ARGV[5])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return number
""")
