"""What a caller is told whose request a limit or a budget refuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason
from outrider.core.quota import Concurrency, Rate, Unit
from outrider.policy.limit_rules import is_budget

if TYPE_CHECKING:
    from outrider.core.quota import Meter, Refusal

_NANO = 1_000_000_000
_WORDS = {Unit.REQUESTS: "requests", Unit.TOKENS: "tokens", Unit.NANO_USD: "USD"}


def refused(refusal: Refusal, *, of_target: bool) -> GenerationError:
    """The error for a refusal. One that a target's limits have caused may be none elsewhere."""
    meter = refusal.meter
    if is_budget(meter):
        reason = Reason.PROVIDER_BUDGET_SPENT if of_target else Reason.BUDGET_SPENT
        message = f"the budget of {_bound(meter)} for {meter.scope} is spent, or too small for this request"
        return GenerationError(reason, message).refine(quota_subject=meter.scope)
    reason = Reason.RATE_LIMITED if of_target else Reason.CALLER_RATE_LIMITED
    retry_after = math.inf if refusal.retry_after is None else refusal.retry_after
    ends = "is used up" if math.isfinite(retry_after) else "is less than this request needs"
    message = f"the limit of {_bound(meter)} for {meter.scope} {ends}"
    return GenerationError(reason, message, retry_after=retry_after).refine(quota_subject=meter.scope)


def _bound(meter: Meter) -> str:
    """A bound in words: "10 requests a minute"."""
    bound = meter.bound
    if isinstance(bound, Concurrency):
        return f"{bound.limit} requests at the same time"
    if isinstance(bound, Rate):
        return f"{bound.per_minute:.12g} {_WORDS[meter.unit]} a minute"
    amount = bound.limit / _NANO if meter.unit is Unit.NANO_USD else bound.limit
    period = "in total" if bound.period == "total" else f"a {bound.period}"
    return f"{amount:.12g} {_WORDS[meter.unit]} {period}"
