"""Makes events of settled requests: who asked whom, how it ended, what it took; never what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.context import Outcome
from outrider.core.errors import Reason
from outrider.core.events import Event, EventType
from outrider.core.spent import spent
from outrider.telemetry.names import CACHE_STATUSES, FINISH_REASONS, USAGE_SOURCES

if TYPE_CHECKING:
    from outrider import v1
    from outrider.core.context import Record
    from outrider.core.events import Fact, SelectiveSink

_LONGEST = 256  # characters of a name that a caller has made up


class RequestEvents:
    """The Observer that emits. Nothing is made where nobody listens."""

    def __init__(self, sink: SelectiveSink) -> None:
        self._sink = sink

    def request_started(self, record: Record) -> None:
        """Nothing: the event comes at the end."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Nothing: the event tells how many there were."""

    def request_finished(self, record: Record) -> None:
        """Emit the event, if anybody wants it. A request that its caller has cancelled has failed."""
        succeeded = record.outcome is Outcome.SUCCEEDED
        type_ = EventType.REQUEST_COMPLETED if succeeded else EventType.REQUEST_FAILED
        if self._sink.wants(type_):
            self._sink.emit(Event(type_, record.request_id, _facts(record), record.traceparent))


def _facts(record: Record) -> dict[str, Fact]:
    """What is known; what is not is left out."""
    first = record.first_content_at
    usage, cost = spent(record)
    facts: dict[str, Fact] = {
        "method": record.method,
        "caller": record.principal,
        **_attribution(record),
        "requested_model": record.requested_model[:_LONGEST],
        "provider": record.provider,
        "model": record.model[:_LONGEST],
        "outcome": record.outcome.value,
        "reason": record.reason.value if record.reason else "",
        "finish_reason": FINISH_REASONS.get(record.finish_reason, "OTHER") if record.finish_reason else "",
        "cache_status": CACHE_STATUSES.get(record.cache_status, ""),
        "attempts": len(record.attempts),
        "seconds": round(record.finished_at - record.started_at, 6),
        "seconds_to_first_content": round(first - record.started_at, 6) if first is not None else None,
        "seconds_waited": round(record.waited, 6),
        "cost_nano_usd": cost.total_nano_usd if cost is not None else None,
    }
    if usage is not None:  # unknown, which is not zero
        facts |= _tokens(usage)
    return {name: fact for name, fact in facts.items() if fact not in ("", None)}


def _attribution(record: Record) -> dict[str, Fact]:
    """On whose behalf; not the person, and no free text. Whoever is not known speaks for nobody."""
    said = record.attribution
    if record.reason is Reason.CALLER_UNKNOWN or (said is None and not record.tenant):
        return {}
    return {
        "tenant": (record.tenant or (said.tenant if said else ""))[:_LONGEST],
        "project": said.project[:_LONGEST] if said else "",
        "agent": said.agent[:_LONGEST] if said else "",
    }


def _tokens(usage: v1.Usage) -> dict[str, Fact]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "reasoning_output_tokens": usage.reasoning_output_tokens,
        "usage_source": USAGE_SOURCES.get(usage.source, ""),
    }
