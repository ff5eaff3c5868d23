-- ARGV: worker, token or "" where no job is wanted, milliseconds of a lease, most losses, reason and message of
--       jobs that are lost too often, then the groups that are left out
-- Gives how many wait; while none waits for its turn, what `stirred` is and the milliseconds until something is
-- to be done without that; the jobs that ended by nobody's doing; the job, if there is one.
local worker, token = ARGV[1], ARGV[2]
local lease, most_losses = tonumber(ARGV[3]), tonumber(ARGV[4])
local MOST_SKIPPED = 50 -- tenants all of whose groups are left out, in one call

local left_out = {}
for place = 7, #ARGV do
  left_out[ARGV[place]] = true
end

local function lose(job)
  job.losses = job.losses + 1
  job.token = ''
  if job.losses >= most_losses then
    job.reason, job.message = ARGV[5], ARGV[6]
    give_up(job, FAILED, now)
  else
    give_back(job, 0)
  end
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
  if now - tonumber(redis.call('HGET', meta, 'looked') or 0) < lease / 8 then
    return
  end
  redis.call('HSET', meta, 'looked', now)
  keep(meta, now + MARGIN)
  if not is_grace(lease) and redis.call('EXISTS', running) == 1 then
    find_lost()
    drop_workers()
  end
end

local function open_group(groups)
  for _, group in ipairs(redis.call('ZRANGE', groups, 0, #ARGV - 6)) do
    if not left_out[group] then
      return group
    end
  end
  return nil
end

-- The next of a tenant, which then has had its turn; and whether it had one that is not left out.
local function take(priority, tenant)
  local lines, groups, turns = keys_of(priority, tenant)
  local group = open_group(groups)
  local id = group and redis.call('ZPOPMIN', lines .. group)[1]
  if id then
    counter('waiting:' .. priority, -1)
  end
  if group then
    arrange(priority, tenant, group)
  end
  if redis.call('ZSCORE', turns, tenant) then
    redis.call('ZADD', turns, counter('turn', 1), tenant)
  end
  return id and load(id), group
end

local function next_waiting()
  for priority = HIGH, LOW, -1 do
    local turns = root .. 'turns:' .. priority
    local skips = math.min(redis.call('ZCARD', turns), MOST_SKIPPED)
    while skips > 0 do
      local tenant = redis.call('ZRANGE', turns, 0, 0)[1]
      if not tenant then
        break
      end
      local job, group = take(priority, tenant)
      if job and job.state == QUEUED then
        return job
      end
      if not group then
        skips = skips - 1
      end
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

local function told()
  local jobs = {}
  for _, id in ipairs(redis.call('LPOP', given_up, AT_ONCE) or {}) do
    local job = load(id)
    if job then
      jobs[#jobs + 1] = shown(job)
    end
  end
  return jobs
end

local function due_in()
  if redis.call('EXISTS', given_up) == 1 then
    return 0
  end
  local due = redis.call('XLEN', running) > 0 and now + lease / 8 or now + lease
  for _, key in ipairs({ delayed, ends }) do
    due = math.min(due, tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or due))
  end
  return math.max(0, math.floor(due - now))
end

local function report(job)
  local counts = redis.call('HMGET', meta, 'jobs', 'waiting:1', 'waiting:2', 'waiting:3', 'stirred')
  local ready = tonumber(counts[2] or 0) + tonumber(counts[3] or 0) + tonumber(counts[4] or 0)
  local waiting = tonumber(counts[1] or 0) - redis.call('XLEN', running)
  local jobs = told()
  if job or ready > 0 then
    return { waiting, false, false, jobs, job and shown(job) or false }
  end
  return { waiting, counts[5] or '', due_in(), jobs, false }
end

sweep()
look_around()
local job = token ~= '' and next_waiting() or nil
if job then
  deliver(job)
  become(job, PROCESSING)
  job.tries, job.started, job.token, job.worker = job.tries + 1, now, token, worker
  save(job)
end
return done(report(job))
