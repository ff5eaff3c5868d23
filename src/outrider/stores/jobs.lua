-- The jobs of a fleet: what each script of them begins with.
-- KEYS[1] is the root, with which the names of all keys begin; its hash tag puts them into one slot:
--
--   job:<id>       hash: job (v1.Job, what is fixed), state (MessagePack), outcome (v1.Job: usage and cost, or
--                  how the last try failed); or `is`, the id of the job that this one turned out to be
--   wait:<priority>:<tenant>:<group>   ids that wait for their turn, by arrival: who comes back has its old
--                                      place; each tenant with its length, as names may hold anything
--   groups:<priority>:<tenant>         groups of a tenant that have some waiting, by the arrival of the oldest;
--                                      by name, where these came in the same millisecond
--   turns:<priority>                   tenants that have some waiting, by whose turn it is
--   running        stream of what is worked on, pending for its worker; deleted from when that ends
--   delayed        ids, by when they may be tried again
--   ends           ids, by when they expire or, having ended, are forgotten
--   answers        <id>:<token>:<bytes> of those whose answers are kept, by when they ended
--   given_up       ids of those that ended by nobody's doing, until somebody is told
--   meta           hash: jobs and bytes that have not ended, whether closed, waiting:<priority>, turn,
--                  answer_bytes of all in `answers`;
--                  stirred, a number that is another one once there is something new to do;
--                  for those who look for dead workers: looked, seen, grace
--   key:<digest>   id of the job that has an idempotency key
--   all, of:<caller>, batch:<id>   ids, which sort by time of arrival
--   counts:<batch>                 hash: how many jobs stand how, by <state>:<group>
--
-- Times are milliseconds of Redis's clock, so that the clocks of sidecars do not matter.
local root = KEYS[1] .. ':'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local QUEUED, PROCESSING, COMPLETED, FAILED, EXPIRED, CANCELLED = 1, 2, 3, 4, 5, 6
local HIGH, LOW = 3, 1
local MARGIN = 60000 -- milliseconds that a key outlives its use
local AT_ONCE = 20 -- jobs whose time has come that are looked at in one call
local MOST_GROUPS = 100 -- that are looked at to tell how many come before a job
local meta, running, delayed, ends = root .. 'meta', root .. 'running', root .. 'delayed', root .. 'ends'
local given_up, answers = root .. 'given_up', root .. 'answers'
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
    redis.call('HINCRBY', key, job.state .. ':' .. job.group, change)
    keep(key, last_use(job))
  end
end

local function become(job, state)
  count(job, -1)
  job.state = state
  count(job, 1)
end

local function keys_of(priority, tenant)
  local place = priority .. ':' .. #tenant .. ':' .. tenant
  return root .. 'wait:' .. place .. ':', root .. 'groups:' .. place, root .. 'turns:' .. priority
end

-- After a change of a line: its group has the place of its oldest, and its tenant a turn.
local function arrange(priority, tenant, group)
  local lines, groups, turns = keys_of(priority, tenant)
  local oldest = redis.call('ZRANGE', lines .. group, 0, 0, 'WITHSCORES')
  if oldest[1] then
    redis.call('ZADD', groups, oldest[2], group)
    if not redis.call('ZSCORE', turns, tenant) then
      redis.call('ZADD', turns, counter('turn', 1), tenant)
    end
    return
  end
  redis.call('ZREM', groups, group)
  if redis.call('EXISTS', groups) == 0 then
    redis.call('ZREM', turns, tenant)
  end
end

local function enqueue(job)
  counter('stirred', 1)
  keep(meta, last_use(job))
  if job.not_before > now then
    add(delayed, job.not_before, job.id, job)
    return
  end
  job.not_before = 0
  local lines, groups, turns = keys_of(job.priority, job.tenant)
  add(lines .. job.group, job.at, job.id, job)
  arrange(job.priority, job.tenant, job.group)
  keep(groups, last_use(job))
  keep(turns, last_use(job))
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
  if redis.call('ZREM', keys_of(job.priority, job.tenant) .. job.group, job.id) == 0 then
    redis.call('ZREM', delayed, job.id)
    return
  end
  counter('waiting:' .. job.priority, -1)
  arrange(job.priority, job.tenant, job.group)
end

local function answer_of(job)
  return job.id .. ':' .. job.token .. ':' .. job.answer
end

local function keep_answer(job)
  if (job.answer or 0) > 0 then
    if redis.call('EXISTS', answers) == 0 then
      redis.call('HSET', meta, 'answer_bytes', 0)
    end
    add(answers, job.ended, answer_of(job), job)
    counter('answer_bytes', job.answer)
    keep(meta, last_use(job))
  end
end

local function drop_answer(job)
  if (job.answer or 0) > 0 and redis.call('ZREM', answers, answer_of(job)) == 1 then
    counter('answer_bytes', -job.answer)
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
  keep_answer(job)
  save(job)
end

-- Whoever looks for work next is told.
local function tell_of(job)
  redis.call('RPUSH', given_up, job.id)
  keep(given_up, last_use(job))
  keep(meta, last_use(job))
  counter('stirred', 1)
end

-- It ends by nobody's doing.
local function give_up(job, state, at)
  finish(job, state, at)
  tell_of(job)
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
  drop_answer(job)
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
    give_up(job, EXPIRED, job.expires)
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

-- Whether workers have time to come back: those that could not reach Redis for a while are all late. Once after
-- a silence: where they ask so seldom that it is always silent, the dead must be found too. This call ends it.
local function is_grace(lease)
  local last = redis.call('HMGET', meta, 'seen', 'grace')
  local seen, grace = tonumber(last[1] or now), tonumber(last[2] or 0)
  if redis.call('XLEN', running) > 0 and now - seen > lease / 2 and seen >= grace then
    grace = now + lease
  end
  redis.call('HSET', meta, 'seen', now, 'grace', grace)
  return now < grace
end

-- How many come before a job; 0 where it does not wait for its turn.
local function before(job)
  local lines, groups, turns = keys_of(job.priority, job.tenant)
  local rank = job.state == QUEUED and redis.call('ZRANK', lines .. job.group, job.id)
  if not rank then
    return 0
  end
  local older = redis.call('ZRANGE', groups, '-inf', job.at, 'BYSCORE', 'LIMIT', 0, MOST_GROUPS)
  for _, group in ipairs(older) do
    if group ~= job.group then
      local till = group < job.group and job.at or '(' .. job.at
      rank = rank + redis.call('ZCOUNT', lines .. group, '-inf', till)
    end
  end
  local waiting = redis.call('HMGET', meta, 'waiting:1', 'waiting:2', 'waiting:3')
  local earlier = rank * redis.call('ZCARD', turns) + redis.call('ZRANK', turns, job.tenant)
  local all = math.min(earlier, tonumber(waiting[job.priority] or 1) - 1)
  for priority = job.priority + 1, HIGH do
    all = all + tonumber(waiting[priority] or 0)
  end
  return all
end

-- As the sidecar reads it: what is fixed, the state, the outcome.
local function shown(job)
  local parts = redis.call('HMGET', root .. 'job:' .. job.id, 'job', 'state', 'outcome')
  return { parts[1], parts[2], parts[3] or '' }
end
