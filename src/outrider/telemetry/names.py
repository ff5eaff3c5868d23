"""Words for the numbers of the API's enums, as logs and metrics show them."""

from __future__ import annotations

from outrider import v1

FINISH_REASONS = {number: name.removeprefix("FINISH_REASON_") for name, number in v1.FinishReason.items()}
USAGE_SOURCES = {number: name.removeprefix("USAGE_SOURCE_") for name, number in v1.UsageSource.items()}
CACHE_STATUSES = {number: name.removeprefix("CACHE_STATUS_") for name, number in v1.CacheStatus.items()}
ATTEMPT_OUTCOMES = {
    number: name.removeprefix("OUTCOME_").lower() for name, number in v1.Attempt.Outcome.items()
}
