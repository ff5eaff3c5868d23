-- ARGV: what to do (renew, complete, fail or release), id, token; then
--       renew: milliseconds of a lease. complete: the outcome, bytes of the answer, most bytes of all answers.
--       fail: reason, message, milliseconds until the next try or -1, the outcome. release: the delay.
-- Gives 0: the claim is no longer good. 1: done, now or before. 2: done, and the job has ended. Then answers,
-- as they are called in `answers`, that had to make room: whoever is told removes them.
local todo, token = ARGV[1], ARGV[3]
local job = load(ARGV[2])

-- The same was done before, and the answer lost.
local function is_done()
  if job.token ~= token then
    return false
  end
  return (todo == 'complete' and job.state == COMPLETED)
    or (todo == 'fail' and (job.state == FAILED or job.state == QUEUED))
    or (todo == 'release' and job.state == QUEUED)
end

-- The oldest make room, but not the newest for itself.
local function make_room(most_bytes)
  local gone = {}
  while #gone < AT_ONCE and redis.call('ZCARD', answers) > 1
    and tonumber(redis.call('HGET', meta, 'answer_bytes') or 0) > most_bytes do
    local oldest = redis.call('ZPOPMIN', answers)[1]
    counter('answer_bytes', -tonumber(string.match(oldest, '%d+$')))
    gone[#gone + 1] = oldest
  end
  return gone
end

local settle = {}

function settle.renew()
  redis.call('XCLAIM', running, 'workers', job.worker, 0, job.entry, 'JUSTID')
  is_grace(tonumber(ARGV[4]))
end

function settle.complete()
  redis.call('HSET', root .. 'job:' .. job.id, 'outcome', ARGV[4])
  job.answer = tonumber(ARGV[5])
  finish(job, COMPLETED, now)
  return make_room(tonumber(ARGV[6]))
end

function settle.fail()
  local retry_in = tonumber(ARGV[6])
  redis.call('HSET', root .. 'job:' .. job.id, 'outcome', ARGV[7])
  job.reason, job.message = ARGV[4], ARGV[5]
  if retry_in < 0 or job.failures >= job.retries then
    finish(job, FAILED, now)
  else
    job.failures = job.failures + 1
    give_back(job, retry_in)
  end
end

function settle.release()
  give_back(job, tonumber(ARGV[4]))
end

if not job then
  return done({ 0 })
end
if job.state ~= PROCESSING or job.token ~= token then
  return done({ is_done() and 1 or 0 })
end
local gone = settle[todo]() or {}
return done({ ended(job) and 2 or 1, unpack(gone) })
