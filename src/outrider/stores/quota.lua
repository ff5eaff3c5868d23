-- Limits and budgets of one scope, whole or not at all. Follows calendar_period.lua in one script.
-- Times are microseconds of Redis's own clock, so that the clocks of sidecars do not matter.
--
-- ARGV: what to do (reserve, give_back, settle, charge, level or renew), holder, two numbers for it;
-- then six for each meter: kind, a, b, c, amount, used.
-- KEYS: one for each meter, two for a window; before them, for `charge`, one that says it was done.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local todo, holder = ARGV[1], ARGV[2]
local ASK_AGAIN = 200000
local KEPT_IDLE = 400 * 86400000 -- milliseconds that a total is kept without use
local RETURNING = 120000 -- milliseconds in which a fleet reports what it used while Redis was away

-- A rate is when its bucket will be full again. a: microseconds for each, b: burst, c: most that can pass.
local rate = {}

local function full_at(m, earliest)
  return math.max(tonumber(redis.call('GET', m.key) or earliest), earliest)
end

local function left_of_bucket(m, full)
  return math.max(0, math.floor((now + m.b * m.a - full) / m.a))
end

local function store_full_at(m, full, shortest)
  local kept = math.max(shortest, math.ceil((full - now) / 1000))
  if kept > 0 then
    redis.call('SET', m.key, full, 'PX', kept)
  else
    redis.call('DEL', m.key)
  end
end

function rate.check(m, patience)
  local full = full_at(m, now)
  if m.amount > m.c then
    return nil, -1, left_of_bucket(m, full)
  end
  local price = math.ceil(m.amount * m.a)
  -- More than the bucket holds passes when it is full, and leaves it in debt: nothing starves.
  local delay = full + price - math.max(math.floor(m.b * m.a), price) - now
  if delay > patience then
    return nil, delay, left_of_bucket(m, full)
  end
  m.full = full + price
  return math.max(0, delay)
end

function rate.take(m)
  store_full_at(m, m.full, 0)
  return left_of_bucket(m, m.full)
end

function rate.settle(m)
  local change = m.used * m.a - m.amount * m.a
  store_full_at(m, full_at(m, now) + math.ceil(change), 0)
  return 0, 0, 0
end

rate.give_back = rate.settle

-- What was used while Redis was `away` so long: as if it had been taken here, all that time.
function rate.charge(m, away)
  store_full_at(m, full_at(m, now - away) + math.ceil(m.used * m.a), RETURNING)
  return 0, 0, 0
end

function rate.level(m)
  local full = full_at(m, now)
  return left_of_bucket(m, full), 0, full > now and full - now or -1
end

-- A window is the sum of a calendar period, and who holds how much of it.
-- a: period; b: limit; c: to reserve: 1 if hard; to settle: the sums to report, in order, as "800,950".
local window = {}

local function load(m)
  local stored = redis.call('HMGET', m.key, 'until', 'spent', 'held', 'told', 'h:' .. holder)
  m.ends, m.spent = tonumber(stored[1] or -1), tonumber(stored[2] or 0)
  m.held, m.told, m.mine = tonumber(stored[3] or 0), tonumber(stored[4] or 0), tonumber(stored[5] or 0)
  if m.ends < 0 or (m.ends > 0 and now >= m.ends) then
    m.ends, m.spent, m.told, m.is_new = period_end(m.a, now), 0, 0, true
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', m.holds, '-inf', now, 'LIMIT', 0, 100)) do
    local amount = tonumber(redis.call('HGET', m.key, 'h:' .. gone) or 0)
    m.held, m.mine = m.held - amount, gone ~= holder and m.mine or 0
    redis.call('HDEL', m.key, 'h:' .. gone)
    redis.call('HINCRBY', m.key, 'held', -amount)
    redis.call('ZREM', m.holds, gone)
  end
end

local function save(m, ...)
  redis.call('HSET', m.key, 'until', m.ends, 'spent', m.spent, 'held', m.held, 'told', m.told, ...)
  if m.ends == 0 then
    redis.call('PEXPIRE', m.key, KEPT_IDLE)
  elseif m.is_new then
    redis.call('PEXPIRE', m.key, math.ceil((m.ends - now) / 1000) + 86400000)
  end
end

local function hold(m, amount)
  m.held, m.mine = m.held + amount - m.mine, amount
  if amount > 0 then
    save(m, 'h:' .. holder, amount)
  else
    redis.call('HDEL', m.key, 'h:' .. holder)
    redis.call('ZREM', m.holds, holder)
  end
end

local function left_of_window(m)
  return math.max(0, m.b - m.spent - m.held)
end

function window.check(m)
  load(m)
  if m.c == '1' and m.spent + m.held + m.amount > m.b then
    local comes_back = m.ends > 0 and m.amount <= m.b
    return nil, comes_back and m.ends - now or -1, left_of_window(m)
  end
  return 0
end

function window.take(m, hold_for)
  hold(m, m.mine + m.amount)
  redis.call('ZADD', m.holds, now + hold_for, holder)
  redis.call('PEXPIRE', m.holds, math.ceil(hold_for / 1000) + 60000)
  return left_of_window(m)
end

local function spend(m)
  m.spent = m.spent + m.used
  local before, crossed = m.told, 0
  for sum in string.gmatch(m.c, '%d+') do
    if m.spent >= tonumber(sum) then
      crossed = crossed + 1
    end
  end
  m.told = math.max(before, crossed)
  save(m)
  return before, m.told, m.spent
end

function window.settle(m, only_if_held)
  load(m)
  if m.mine == 0 and only_if_held == 1 then
    return 0, 0, 0
  end
  hold(m, 0)
  return spend(m)
end

-- What was just taken: another scope refused.
function window.give_back(m)
  load(m)
  if m.mine > 0 then
    hold(m, math.max(0, m.mine - m.amount))
    save(m)
  end
  return 0, 0, 0
end

function window.charge(m)
  load(m)
  return spend(m)
end

function window.level(m)
  load(m)
  local ends = m.ends > 0 and m.spent + m.held > 0
  return left_of_window(m), m.held, ends and m.ends - now or -1
end

-- Places are who is there, and until when unless renewed. a: limit; b: microseconds until then.
local places = {}

local function taken(m)
  redis.call('ZREMRANGEBYSCORE', m.key, '-inf', now)
  return redis.call('ZCARD', m.key)
end

local function keep_places(m)
  redis.call('PEXPIRE', m.key, math.ceil(m.b / 1000) + 1000)
end

function places.check(m)
  if taken(m) < m.a or redis.call('ZSCORE', m.key, holder) then
    return 0
  end
  return nil, m.a > 0 and ASK_AGAIN or -1, 0
end

function places.take(m)
  redis.call('ZADD', m.key, now + m.b, holder)
  keep_places(m)
  return math.max(0, m.a - redis.call('ZCARD', m.key))
end

function places.settle(m)
  redis.call('ZREM', m.key, holder)
  return 0, 0, 0
end

places.give_back = places.settle

function places.charge()
  return 0, 0, 0
end

function places.level(m)
  local count = taken(m)
  return math.max(0, m.a - count), count, -1
end

-- ARGV from 5: who is still there, or was put in elsewhere while Redis was away.
local function renew(lease)
  for i = 5, #ARGV do
    redis.call('ZADD', KEYS[1], now + lease, ARGV[i])
  end
  keep_places({ key = KEYS[1], b = lease })
  return #ARGV - 4
end

local KINDS = { rate = rate, window = window, places = places }

local function read_meters(first_key)
  local meters, key = {}, first_key
  for i = 5, #ARGV, 6 do
    local m = { kind = KINDS[ARGV[i]], key = KEYS[key], amount = tonumber(ARGV[i + 4]),
      used = tonumber(ARGV[i + 5]), b = tonumber(ARGV[i + 2]) }
    if m.kind == window then
      m.a, m.c, m.holds = ARGV[i + 1], ARGV[i + 3], KEYS[key + 1]
      key = key + 1
    else
      m.a, m.c = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3])
    end
    meters[#meters + 1], key = m, key + 1
  end
  return meters
end

-- Gives the delay and what each meter has left; or -1, which meter refuses for longest, how long, what is left.
local function reserve(meters, patience, hold_for)
  local delay, refusal = 0, nil
  for i, m in ipairs(meters) do
    local wait, retry, left = m.kind.check(m, patience)
    if wait then
      delay = math.max(delay, wait)
    elseif not refusal or (refusal[3] >= 0 and (retry < 0 or retry > refusal[3])) then
      refusal = { -1, i - 1, retry, left }
    end
  end
  if refusal then
    return refusal
  end
  local answer = { delay }
  for i, m in ipairs(meters) do
    answer[i + 1] = m.kind.take(m, hold_for)
  end
  return answer
end

-- Three numbers for each meter: of a window, sums reported before and now, and what is spent; or its level.
local function for_each(meters, what, extra)
  local answer = {}
  for _, m in ipairs(meters) do
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = m.kind[what](m, extra)
  end
  return answer
end

local first, second = tonumber(ARGV[3]), tonumber(ARGV[4])
if todo == 'reserve' then
  return reserve(read_meters(1), first, second)
elseif todo == 'renew' then
  return renew(first)
elseif todo == 'charge' then
  -- The answer may be lost and the charge sent again: it counts once.
  local is_new = redis.call('SET', KEYS[1], 1, 'NX', 'PX', 86400000)
  return is_new and for_each(read_meters(2), 'charge', first)
end
return for_each(read_meters(1), todo, first)
