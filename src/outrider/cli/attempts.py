"""The tries of a generation, as a person reads them."""

from __future__ import annotations

from outrider import v1
from outrider.cli import units


def target(attempt: v1.Attempt) -> str:
    """What was tried, as "provider/model"."""
    return f"{attempt.provider}/{attempt.model}"


def ending(attempt: v1.Attempt) -> str:
    """How it ended: "failed after 812 ms (PROVIDER_OVERLOADED, HTTP 529, waited 1.5 s)"."""
    text = units.words(units.name_of(v1.Attempt.Outcome, attempt.outcome, "OUTCOME_"))
    if attempt.HasField("duration"):
        text += f" after {units.duration(attempt.duration)}"
    notes = [attempt.reason] if attempt.reason else []
    if attempt.hedge:
        notes.append("beside another")
    if attempt.upstream_status and attempt.reason:
        notes.append(f"HTTP {attempt.upstream_status}")
    if units.seconds_of(attempt.waited) >= units.NOTABLE:
        notes.append(f"waited {units.duration(attempt.waited)}")
    return f"{text} ({', '.join(notes)})" if notes else text
