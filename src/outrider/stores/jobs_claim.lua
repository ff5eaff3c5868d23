-- ARGV: worker, token, milliseconds of a lease, most losses, reason and message of jobs that are given up
-- Gives the job, or false.
local worker, token = ARGV[1], ARGV[2]
local lease, most_losses = tonumber(ARGV[3]), tonumber(ARGV[4])

local function lose(job)
  job.losses = job.losses + 1
  job.token = ''
  if job.losses >= most_losses then
    job.reason, job.message = ARGV[5], ARGV[6]
    finish(job, FAILED, now)
  else
    give_back(job, 0)
  end
end

-- Workers that could not reach Redis for a while are all late: after a silence they have time to come back,
-- once: who asks so seldom that it is always silent must find the dead too.
local function is_grace(seen)
  local grace = tonumber(redis.call('HGET', meta, 'grace') or 0)
  if now - seen > lease / 2 and seen >= grace then
    grace = now + lease
    redis.call('HSET', meta, 'grace', grace)
  end
  return now < grace
end

local function find_lost()
  local cursor = '0-0'
  repeat
    local found = redis.call('XAUTOCLAIM', running, 'workers', worker, lease, cursor, 'COUNT', 50)
    cursor = found[1]
    for _, entry in ipairs(found[2]) do
      local job = load(entry[2][2])
      if job and job.state == PROCESSING and job.entry == entry[1] then
        lose(job)
      else
        redis.call('XACK', running, 'workers', entry[1])
        redis.call('XDEL', running, entry[1])
      end
    end
  until cursor == '0-0'
end

local function drop_workers()
  local gone = 100 * lease
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', running, 'workers')) do
    if about[6] > gone and about[4] == 0 then
      redis.call('XGROUP', 'DELCONSUMER', running, 'workers', about[2])
    end
  end
end

local function look_around()
  local last = redis.call('HMGET', meta, 'looked', 'seen')
  if now - tonumber(last[1] or 0) < lease / 8 then
    return
  end
  local seen = tonumber(last[2] or now)
  redis.call('HSET', meta, 'looked', now, 'seen', now)
  keep(meta, now + MARGIN)
  if redis.call('EXISTS', running) == 1 and not is_grace(seen) then
    find_lost()
    drop_workers()
  end
end

local function next_waiting()
  for priority = HIGH, LOW, -1 do
    local turns = root .. 'turns:' .. priority
    local tenant = redis.call('ZRANGE', turns, 0, 0)[1]
    while tenant do
      local line = root .. 'wait:' .. priority .. ':' .. tenant
      local id = redis.call('ZPOPMIN', line)[1]
      if id then
        counter('waiting:' .. priority, -1)
      end
      if redis.call('EXISTS', line) == 1 then
        redis.call('ZADD', turns, counter('turn', 1), tenant)
      else
        redis.call('ZREM', turns, tenant)
      end
      local job = id and load(id)
      if job and job.state == QUEUED then
        return job
      end
      tenant = redis.call('ZRANGE', turns, 0, 0)[1]
    end
  end
  return nil
end

local function deliver(job)
  if redis.call('EXISTS', running) == 0 then
    redis.call('XGROUP', 'CREATE', running, 'workers', '$', 'MKSTREAM')
  end
  job.entry = redis.call('XADD', running, '*', 'job', job.id)
  redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', 1, 'STREAMS', running, '>')
  keep(running, last_use(job))
end

sweep()
look_around()
local job = next_waiting()
if not job then
  return done(false)
end
deliver(job)
become(job, PROCESSING)
job.tries, job.started, job.token, job.worker = job.tries + 1, now, token, worker
save(job)
return done(shown(job))
