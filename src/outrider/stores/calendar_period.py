"""Where the calendar periods of budgets end, in UTC. `calendar_period.lua` says the same to Redis."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from outrider.core.quota import Period


def period_end(period: Period, now: float) -> float:
    """The first moment after the period that `now` is in; both in Unix seconds. A total never ends."""
    if period is Period.TOTAL:
        return math.inf
    moment = datetime.fromtimestamp(now, UTC)
    midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if period is Period.DAY:
        return (midnight + timedelta(days=1)).timestamp()
    if period is Period.WEEK:
        return (midnight + timedelta(days=7 - midnight.weekday())).timestamp()
    some_day_of_next_month = midnight.replace(day=1) + timedelta(days=31)
    return some_day_of_next_month.replace(day=1).timestamp()
