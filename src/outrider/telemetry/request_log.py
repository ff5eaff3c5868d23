"""One log line for every request: who asked whom, how it ended, what it took; never what was said."""

from __future__ import annotations

import logging
import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from outrider.core.context import Outcome
from outrider.core.spent import spent
from outrider.telemetry.log_event import Event
from outrider.telemetry.names import ATTEMPT_OUTCOMES, FINISH_REASONS, USAGE_SOURCES

if TYPE_CHECKING:
    from outrider import v1
    from outrider.core.context import Record
    from outrider.telemetry.log_event import Fields
    from outrider.telemetry.logs import LogPipeline

_MAX_ATTEMPTS = 10
_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
)


class RequestLog:
    """The Observer that logs: failures as warnings, the rest as information.

    The event loop only hands the record over. It must not change after `request_finished`.
    """

    def __init__(self, log: LogPipeline) -> None:
        self._log = log
        self._logs_all = log.level <= logging.INFO
        self._logs_failures = log.level <= logging.WARNING

    def request_started(self, record: Record) -> None:
        """Nothing: the line comes at the end."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Nothing: the line names the attempts."""

    def request_finished(self, record: Record) -> None:
        """Log the request."""
        failed = record.outcome is Outcome.FAILED
        if self._logs_all or (failed and self._logs_failures):
            self._log.put(partial(_event, record, "warning" if failed else "info", time.time()))


def _event(record: Record, level: str, timestamp: float) -> Event:
    return Event(timestamp, level, "request", _fields(record))


def _fields(record: Record) -> Fields:
    started = record.started_at
    first = record.first_content_at
    usage, cost = spent(record)
    fields: Fields = {
        "request_id": record.request_id,
        "method": record.method,
        "caller": record.principal,
        "requested_model": record.requested_model,
        "provider": record.provider or None,
        "model": record.model or None,
        "outcome": record.outcome.value,
        "reason": record.reason.value if record.reason else None,
        "finish_reason": FINISH_REASONS.get(record.finish_reason, "OTHER") if record.finish_reason else None,
        **_tokens(usage),
        "cost_usd": _usd(cost.total_nano_usd) if cost is not None else None,
        "attempt_count": len(record.attempts),
        "attempts": [_attempt(attempt) for attempt in record.attempts[-_MAX_ATTEMPTS:]],
        "seconds": round(record.finished_at - started, 6),
        "time_to_first_content": round(first - started, 6) if first is not None else None,
        "waited": round(record.waited, 6),
    }
    if record.warnings:
        fields["warnings"] = [f"{warning.code} {warning.field}" for warning in record.warnings]
    if record.attribution is not None:
        fields.update(_attribution(record.attribution))
    return fields


def _tokens(usage: v1.Usage | None) -> Fields:
    if usage is None:  # unknown, which is not zero
        return dict.fromkeys((*_TOKENS, "usage_source"))
    tokens: Fields = {name: getattr(usage, name) for name in _TOKENS}
    tokens["usage_source"] = USAGE_SOURCES.get(usage.source)
    return tokens


def _usd(nano: int) -> str:
    """Exact and without an exponent, which a float would have."""
    return format(Decimal(nano).scaleb(-9).normalize(), "f")


def _attempt(attempt: v1.Attempt) -> Fields:
    duration = attempt.duration
    return {
        "provider": attempt.provider,
        "model": attempt.model,
        "outcome": ATTEMPT_OUTCOMES.get(attempt.outcome),
        "reason": attempt.reason or None,
        "upstream_status": attempt.upstream_status or None,
        "ms": round(duration.seconds * 1_000 + duration.nanos / 1_000_000, 3),
    }


def _attribution(attribution: v1.Attribution) -> Fields:
    """Who asked, as far as it is said; not the person, and no free text."""
    named = {
        "tenant": attribution.tenant,
        "project": attribution.project,
        "agent": attribution.agent,
    }
    return {key: value for key, value in named.items() if value}
