-- The jobs of a fleet: what each script of them begins with.
-- KEYS[1] is the root, with which the names of all keys begin; its hash tag puts them into one slot:
--
--   job:<id>       hash: job (v1.Job, what is fixed), state (MessagePack), outcome (v1.Job, usage and cost);
--                  or `is`, the id of the job that this one turned out to be
--   wait:<priority>:<tenant>       ids that wait for their turn, by arrival: who comes back has its old place
--   turns:<priority>               tenants that have some waiting, by whose turn it is
--   running        stream of what is worked on, pending for its worker; deleted from when that ends
--   delayed        ids, by when they may be tried again
--   ends           ids, by when they expire or, having ended, are forgotten
--   meta           hash: jobs and bytes that have not ended, whether closed, waiting:<priority>, turn;
--                  for those who look for dead workers: looked, seen, grace
--   key:<digest>   id of the job that has an idempotency key
--   all, of:<caller>, batch:<id>   ids, which sort by time of arrival
--   counts:<batch>                 hash: how many jobs stand how
--
-- Times are milliseconds of Redis's clock, so that the clocks of sidecars do not matter.
local root = KEYS[1] .. ':'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local QUEUED, PROCESSING, COMPLETED, FAILED, EXPIRED, CANCELLED = 1, 2, 3, 4, 5, 6
local HIGH, LOW = 3, 1
local MARGIN = 60000 -- milliseconds that a key outlives its use
local AT_ONCE = 20 -- jobs whose time has come that are looked at in one call
local meta, running, delayed, ends = root .. 'meta', root .. 'running', root .. 'delayed', root .. 'ends'
local kept = {}

local function keep(key, till)
  kept[key] = math.max(kept[key] or 0, till)
end

-- What a script returns with: no key is left without an end.
local function done(answer)
  for key, till in pairs(kept) do
    if redis.call('PEXPIREAT', key, till, 'NX') == 0 then
      redis.call('PEXPIREAT', key, till, 'GT')
    end
  end
  return answer
end

local function ended(job)
  return job.state > PROCESSING
end

local function last_use(job)
  return job.expires + MARGIN + (ended(job) and 0 or job.ttl)
end

local function add(key, score, member, job)
  redis.call('ZADD', key, score, member)
  keep(key, last_use(job))
end

local function counter(field, change)
  return redis.call('HINCRBY', meta, field, change)
end

local function save(job)
  local key = root .. 'job:' .. job.id
  redis.call('HSET', key, 'state', cmsgpack.pack(job))
  redis.call('PEXPIREAT', key, last_use(job))
end

local function count(job, change)
  if job.batch ~= '' then
    local key = root .. 'counts:' .. job.batch
    redis.call('HINCRBY', key, job.state, change)
    keep(key, last_use(job))
  end
end

local function become(job, state)
  count(job, -1)
  job.state = state
  count(job, 1)
end

local function line_of(job)
  return root .. 'wait:' .. job.priority .. ':' .. job.tenant, root .. 'turns:' .. job.priority
end

local function enqueue(job)
  if job.not_before > now then
    add(delayed, job.not_before, job.id, job)
    return
  end
  job.not_before = 0
  local line, turns = line_of(job)
  add(line, job.at, job.id, job)
  if not redis.call('ZSCORE', turns, job.tenant) then
    redis.call('ZADD', turns, counter('turn', 1), job.tenant)
  end
  keep(turns, last_use(job))
  keep(meta, last_use(job))
  counter('waiting:' .. job.priority, 1)
end

-- From where it waits, or is worked on.
local function leave(job)
  if job.state == PROCESSING then
    redis.call('XACK', running, 'workers', job.entry)
    redis.call('XDEL', running, job.entry)
    job.entry = ''
    return
  end
  local line, turns = line_of(job)
  if redis.call('ZREM', line, job.id) == 0 then
    redis.call('ZREM', delayed, job.id)
    return
  end
  counter('waiting:' .. job.priority, -1)
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZREM', turns, job.tenant)
  end
end

-- The only way into a final state.
local function finish(job, state, at)
  leave(job)
  counter('jobs', -1)
  counter('bytes', -job.size)
  become(job, state)
  job.ended, job.expires, job.not_before = at, at + job.ttl, 0
  add(ends, job.expires, job.id, job)
  save(job)
end

local function give_back(job, delay)
  leave(job)
  become(job, QUEUED)
  job.not_before = delay > 0 and now + delay or 0
  enqueue(job)
  save(job)
end

local function forget(job)
  count(job, -1)
  redis.call('DEL', root .. 'job:' .. job.id)
  redis.call('ZREM', ends, job.id)
  redis.call('ZREM', root .. 'all', job.id)
  redis.call('ZREM', root .. 'of:' .. job.caller, job.id)
  redis.call('ZREM', root .. 'batch:' .. job.batch, job.id)
  if job.key ~= '' and redis.call('GET', root .. 'key:' .. job.key) == job.id then
    redis.call('DEL', root .. 'key:' .. job.key)
  end
end

-- A job as it stands now; nil where it is not known.
local function load(id)
  local found = redis.call('HMGET', root .. 'job:' .. id, 'state', 'is')
  if found[2] then
    return load(found[2])
  end
  if not found[1] then
    return nil
  end
  local job = cmsgpack.unpack(found[1])
  if job.expires <= now and not ended(job) then
    finish(job, EXPIRED, job.expires)
  end
  if job.expires <= now then
    forget(job)
    return nil
  end
  return job
end

local function sweep()
  for _, id in ipairs(redis.call('ZRANGE', ends, '-inf', now, 'BYSCORE', 'LIMIT', 0, AT_ONCE)) do
    if not load(id) then
      redis.call('ZREM', ends, id)
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, AT_ONCE)) do
    redis.call('ZREM', delayed, id)
    local job = load(id)
    if job and job.state == QUEUED then
      enqueue(job)
      save(job)
    end
  end
end

-- As the sidecar reads it: what is fixed, the state, the outcome.
local function shown(job)
  local parts = redis.call('HMGET', root .. 'job:' .. job.id, 'job', 'state', 'outcome')
  return { parts[1], parts[2], parts[3] or '' }
end
