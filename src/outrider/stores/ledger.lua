-- Counts a batch of usage records once. All keys are those of one hour and shard.
-- KEYS: sums (hash), last number of each source (hash), records (stream)
-- ARGV: source, number, number before it, most keys, most records, end of the sums, end of the records (both
--       Unix seconds), number of sums; for each its key, the key of the crowd and its totals; then the records
-- Gives 1: counted. 0: it had been counted already. -1: what this source had counted before is gone.

local last = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
if last >= tonumber(ARGV[2]) then
  return 0
end
if last < tonumber(ARGV[3]) then
  return -1
end
local most_keys, sums = tonumber(ARGV[4]), tonumber(ARGV[8])
local keys = redis.call('HLEN', KEYS[1])
for place = 9, 6 + 3 * sums, 3 do
  local key = ARGV[place]
  local before = redis.call('HGET', KEYS[1], key)
  if not before then
    if keys >= most_keys then
      key = ARGV[place + 1]
      before = redis.call('HGET', KEYS[1], key)
    else
      keys = keys + 1
    end
  end
  local totals = cmsgpack.unpack(ARGV[place + 2])
  if before then
    for index, amount in ipairs(cmsgpack.unpack(before)) do
      totals[index] = amount + (totals[index] or 0)
    end
  end
  redis.call('HSET', KEYS[1], key, cmsgpack.pack(totals))
end
for place = 9 + 3 * sums, #ARGV do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'r', ARGV[place])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('EXPIREAT', KEYS[1], ARGV[6])
redis.call('EXPIREAT', KEYS[2], ARGV[6])
redis.call('EXPIREAT', KEYS[3], ARGV[7])
return 1
