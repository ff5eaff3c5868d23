-- ARGV: most jobs and bytes that have not ended; those of the high and of the low watermark, again jobs and
--       bytes; jobs and bytes that are to follow; "adopt" for jobs that another store has accepted; when those
--       before them arrived; then for each its state with times as distances from now, what is fixed of it, and
--       its outcome
-- Gives false: the queue is full. For each: 1 where another one has its idempotency key, 0 otherwise; it; and how
-- many come before it, where it is the only one.
local most_jobs, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local adopting, earliest = ARGV[9] == 'adopt', tonumber(ARGV[10])

local function is_level(first)
  local jobs, bytes = unpack(redis.call('HMGET', meta, 'jobs', 'bytes'))
  return tonumber(jobs or 0) >= tonumber(ARGV[first]) or tonumber(bytes or 0) >= tonumber(ARGV[first + 1])
end

local function holder(key)
  local id = key ~= '' and redis.call('GET', root .. 'key:' .. key)
  return id and load(id) or nil
end

local function is_closed()
  local closed = redis.call('HGET', meta, 'closed') == '1'
  if closed and not is_level(5) then
    redis.call('HSET', meta, 'closed', 0)
    return false
  end
  return closed
end

local function has_room(news)
  local jobs, bytes = tonumber(ARGV[7]), tonumber(ARGV[8])
  local keys = {}
  for _, new in ipairs(news) do
    if not keys[new.key] and not load(new.id) and not holder(new.key) then
      jobs, bytes = jobs + 1, bytes + new.size
      keys[new.key] = new.key ~= '' or nil
    end
  end
  if jobs == 0 then
    return true
  end
  local before = redis.call('HMGET', meta, 'jobs', 'bytes')
  local room = tonumber(before[1] or 0) + jobs <= most_jobs and tonumber(before[2] or 0) + bytes <= most_bytes
  return room and not is_closed()
end

local function accept(job, fixed, outcome)
  local key = root .. 'job:' .. job.id
  redis.call('HSET', key, 'job', fixed, 'outcome', outcome)
  if not ended(job) then
    counter('jobs', 1)
    counter('bytes', job.size)
    enqueue(job)
  else
    keep_answer(job)
    if job.untold then
      tell_of(job)
    end
  end
  save(job)
  count(job, 1)
  add(ends, job.expires, job.id, job)
  add(root .. 'all', 0, job.id, job)
  add(root .. 'of:' .. job.caller, 0, job.id, job)
  if job.batch ~= '' then
    add(root .. 'batch:' .. job.batch, 0, job.id, job)
  end
  if job.key ~= '' then
    redis.call('SET', root .. 'key:' .. job.key, job.id, 'PXAT', last_use(job))
  end
  keep(meta, last_use(job))
end

-- What another store knows of a job that is known here too: of two ends, the one that was told here stands.
local function reconcile(job, new, outcome)
  if ended(new) and not ended(job) then
    redis.call('HSET', root .. 'job:' .. job.id, 'outcome', outcome)
    job.reason, job.message, job.token, job.answer = new.reason, new.message, new.token, new.answer
    local conclude = new.untold and give_up or finish
    conclude(job, new.state, new.ended)
  end
end

local function submit(new, fixed, outcome)
  local job = load(new.id)
  if job then
    if adopting then
      reconcile(job, new, outcome)
    end
    return job, 0
  end
  job = holder(new.key)
  if not job then
    accept(new, fixed, outcome)
    return new, 0
  end
  if adopting and ended(new) then
    new.key = ''
    accept(new, fixed, outcome)
    return new, 0
  end
  if adopting then
    redis.call('HSET', root .. 'job:' .. new.id, 'is', job.id)
    redis.call('PEXPIREAT', root .. 'job:' .. new.id, last_use(job))
  end
  return job, 1
end

sweep()
local news = {}
for place = 11, #ARGV, 3 do
  local new = cmsgpack.unpack(ARGV[place])
  new.at, new.expires = math.max(now - new.at, earliest), now + new.expires
  new.not_before = new.not_before > 0 and now + new.not_before or 0
  new.started = new.started > 0 and now - new.started or 0
  new.ended = ended(new) and now - new.ended or 0
  news[#news + 1] = new
end
if not adopting and not has_room(news) then
  return done(false)
end
local answer = {}
for number, new in ipairs(news) do
  local place = 8 + 3 * number
  local job, existing = submit(new, ARGV[place + 1], ARGV[place + 2])
  answer[number] = { existing, shown(job), #news == 1 and before(job) or 0 }
end
if is_level(3) then
  redis.call('HSET', meta, 'closed', 1)
end
return done(answer)
