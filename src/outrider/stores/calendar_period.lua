-- Where the calendar periods of budgets end, in UTC: calendar_period.py says the same.
-- Times are microseconds of the Unix clock. 0: never.
local DAY = 86400 * 1000000

-- The day of the month, from 1, of a day counted from the epoch.
-- Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years begin in March.
local function day_of_month(day)
  local of_era = (day + 719468) % 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  return of_year - math.floor((153 * month + 2) / 5) + 1
end

local function period_end(period, now)
  local today = math.floor(now / DAY)
  if period == 'day' then
    return (today + 1) * DAY
  elseif period == 'week' then
    return (today + 7 - (today + 3) % 7) * DAY -- the epoch was a Thursday
  elseif period == 'month' then
    local some_day_of_next_month = today - day_of_month(today) + 32
    return (some_day_of_next_month - day_of_month(some_day_of_next_month) + 1) * DAY
  end
  return 0
end
