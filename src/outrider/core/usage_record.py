"""From the record of a request to its entry in the usage ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.durations import to_duration
from outrider.core.errors import Reason
from outrider.core.spent import spent

if TYPE_CHECKING:
    from outrider.core.context import Record

# Callers invent names; validation refuses longer ones, but a refused request is on record too.
_MAX_BYTES = 256
_MAX_LABELS = 16


def usage_record(record: Record, ended_at: float) -> v1.UsageRecord:
    """The ledger's entry for a settled request. `ended_at` is in seconds of the Unix clock.

    Its size is bounded. Its tenant is the one on whose behalf the request ran, whatever it said itself.
    """
    usage, cost = spent(record)
    entry = v1.UsageRecord(
        request_id=record.request_id,
        method=record.method,
        caller=record.principal,
        requested_model=_cut(record.requested_model),
        provider=record.provider,
        model=_cut(record.model),
        outcome=record.outcome.value,
        reason=record.reason.value if record.reason is not None else "",
        finish_reason=record.finish_reason,  # type: ignore[arg-type]
        usage=usage,
        cost=cost,
        cache_status=record.cache_status,
        attempts=len(record.attempts),
    )
    micros = round(ended_at * 1_000_000)
    entry.ended_at.seconds, rest = divmod(micros, 1_000_000)
    entry.ended_at.nanos = rest * 1_000
    to_duration(record.finished_at - record.started_at, entry.duration)
    if record.first_content_at is not None:
        to_duration(record.first_content_at - record.started_at, entry.time_to_first_content)
    # Whoever is not known speaks for nobody.
    if record.reason is not Reason.CALLER_UNKNOWN:
        _attribute(entry, record)
    return entry


def _attribute(entry: v1.UsageRecord, record: Record) -> None:
    said = record.attribution
    if said is not None:
        to = entry.attribution
        to.project, to.agent, to.user = _cut(said.project), _cut(said.agent), _cut(said.user)
        if said.labels:
            for key in sorted(said.labels)[:_MAX_LABELS]:
                to.labels[_cut(key)] = _cut(said.labels[key])
    tenant = record.tenant or (said.tenant if said is not None else "")
    if tenant:
        entry.attribution.tenant = _cut(tenant)


def _cut(text: str) -> str:
    if 4 * len(text) <= _MAX_BYTES:
        return text
    return text.encode()[:_MAX_BYTES].decode(errors="ignore")
