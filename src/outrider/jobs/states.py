"""What the states of a job mean to those who deal with jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.events import Event, EventType, Fact

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    OnEvent: TypeAlias = Callable[[Event], None]

FAILURES = (v1.JOB_STATE_FAILED, v1.JOB_STATE_EXPIRED, v1.JOB_STATE_CANCELLED)
FINAL = (v1.JOB_STATE_COMPLETED, *FAILURES)


def has_ended(job: v1.Job) -> bool:
    """Whether its state is final."""
    return job.state in FINAL


def word_of(state: v1.JobState) -> str:
    """Such as "completed"."""
    return v1.JobState.Name(state).removeprefix("JOB_STATE_").lower()


def changed(job: v1.Job, *, traceparent: str = "") -> Event:
    """The event that a job stands so now."""
    facts: dict[str, Fact] = {
        "state": word_of(job.state),
        "model": job.model,
        "tenant": job.attribution.tenant,
        "caller": job.caller,
        "batch": job.batch_id,
        "tries": job.tries,
        "reason": job.reason,
    }
    return Event(EventType.JOB_CHANGED, job.job_id, facts, traceparent)
