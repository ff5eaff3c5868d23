-- ARGV: what to do, then
--   get, cancel: the id. Gives the job and how many come before it, or false.
--   list: the set of ids, the id before which to begin or "", most that are looked at, most that are given,
--         caller, tenant and batch or "", and the states as digits or "". Gives the id that was looked at last,
--         "" where there are no more; then the jobs.
--   progress: the batch. Gives <state>:<group>, and counts.
local read = {}

function read.get()
  local job = load(ARGV[2])
  return job and { shown(job), before(job) }
end

function read.cancel()
  local job = load(ARGV[2])
  if job and not ended(job) then
    finish(job, CANCELLED, now)
  end
  return job and { shown(job), 0 }
end

local function fits(job)
  local caller, tenant, batch, states = unpack(ARGV, 6, 9)
  return (caller == '' or job.caller == caller)
    and (tenant == '' or job.tenant == tenant)
    and (batch == '' or job.batch == batch)
    and (states == '' or string.find(states, job.state, 1, true))
end

function read.list()
  local set, most_seen, most = root .. ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
  local start = ARGV[3] == '' and '+' or '(' .. ARGV[3]
  local ids = redis.call('ZRANGE', set, start, '-', 'BYLEX', 'REV', 'LIMIT', 0, most_seen)
  local answer = { '' }
  for _, id in ipairs(ids) do
    if #answer > most then
      return answer
    end
    local job = load(id)
    if not job then
      redis.call('ZREM', set, id)
    elseif fits(job) then
      answer[#answer + 1] = shown(job)
    end
    answer[1] = id
  end
  if #ids < most_seen then
    answer[1] = ''
  end
  return answer
end

function read.progress()
  sweep()
  return redis.call('HGETALL', root .. 'counts:' .. ARGV[2])
end

return done(read[ARGV[1]]() or false)
