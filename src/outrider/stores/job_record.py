"""A job as it is kept: in memory and on disk, and as one store hands it to another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import msgspec

from outrider import v1
from outrider.stores.job_codec import pack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

    from outrider.core.jobs import Submission

DEFAULT_TTL = 4 * 3600.0  # seconds
WORKER_LOST = "WORKER_LOST"
"""The reason of jobs that were given up because worker after worker did not come back from them."""
WORKER_LOST_MESSAGE = "no worker came back from it"
REQUEST_LOST = "REQUEST_LOST"
"""The reason of jobs whose request cannot be read any more."""
REQUEST_LOST_MESSAGE = "the store does not have the request any more"

_KEPT_BESIDE = 600  # bytes of memory that a job takes beyond its messages, about
_NANO = 1_000_000_000

QUEUED, PROCESSING = v1.JOB_STATE_QUEUED, v1.JOB_STATE_PROCESSING
COMPLETED, FAILED = v1.JOB_STATE_COMPLETED, v1.JOB_STATE_FAILED
EXPIRED, CANCELLED = v1.JOB_STATE_EXPIRED, v1.JOB_STATE_CANCELLED
PRIORITIES = (v1.JOB_PRIORITY_HIGH, v1.JOB_PRIORITY_NORMAL, v1.JOB_PRIORITY_LOW)
"""First those that come first."""


class Standing(msgspec.Struct, array_like=True):
    """The part that changes. Times are seconds of the Unix clock; 0: not yet."""

    expires_at: float
    state: int = QUEUED
    tries: int = 0
    failures: int = 0  # tries that failed and were to be followed by another
    losses: int = 0  # tries from which the worker did not come back
    not_before: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    reason: str = ""
    message: str = ""
    held: bool = False  # Redis may have it too: not to be worked on here


class JobRecord(msgspec.Struct, array_like=True, eq=False):
    """A job. `request` and `result` are packed; the request is dropped when the job ends."""

    job_id: str
    job: bytes  # v1.Job, without what changes
    priority: int
    tenant: str
    caller: str
    batch: str
    key: str  # of the idempotency key, with caller and tenant; empty: none
    ttl: float  # seconds
    submitted_at: float
    max_retries: int
    traceparent: str
    request: bytes
    standing: Standing
    outcome: bytes = b""  # v1.Job: usage and cost, or how the last try failed
    result: bytes = b""
    group: str = ""

    @property
    def state(self) -> v1.JobState:
        """How it stands."""
        return cast("v1.JobState", self.standing.state)

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.standing.state > PROCESSING

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.job) + len(self.request) + len(self.result) + _KEPT_BESIDE

    def view(self, position: int = 0) -> v1.Job:
        """As callers see it."""
        now = self.standing
        return view(
            self.job,
            self.outcome,
            {
                "submitted_at": self.submitted_at,
                "started_at": now.started_at,
                "ended_at": now.ended_at,
                "expires_at": now.expires_at,
            },
            job_id=self.job_id,
            state=now.state,
            tries=now.tries,
            reason=now.reason,
            message=now.message,
            position=position,
        )


def view(
    job: bytes,
    outcome: bytes,
    times: Mapping[str, float],
    *,
    job_id: str,
    state: int,
    tries: int,
    reason: str,
    message: str,
    position: int,
) -> v1.Job:
    """A job as callers see it, from its parts."""
    seen = v1.Job.FromString(job)
    if outcome:
        seen.MergeFromString(outcome)
    seen.job_id = job_id
    seen.state = state  # type: ignore[assignment]
    seen.tries = tries
    seen.reason, seen.message = reason, message
    seen.position = position
    for name, seconds in times.items():
        if seconds:
            _set(getattr(seen, name), seconds)
    return seen


async def record_of(submission: Submission, now: float) -> JobRecord:
    """A job that is accepted now."""
    job = submission.job
    fixed = v1.Job(
        model=job.model,
        attribution=job.attribution,
        caller=job.caller,
        batch_id=job.batch_id,
        batch_index=job.batch_index,
        target=job.target,
    )
    fixed.priority = job.priority if job.priority in PRIORITIES else v1.JOB_PRIORITY_NORMAL
    tenant = job.attribution.tenant
    ttl = _ttl_of(job, now)
    return JobRecord(
        job_id=job.job_id,
        job=fixed.SerializeToString(),
        priority=fixed.priority,
        tenant=tenant,
        caller=job.caller,
        batch=job.batch_id,
        key=key_of(submission),
        ttl=ttl,
        submitted_at=now,
        max_retries=submission.max_retries,
        traceparent=submission.traceparent,
        request=await pack(submission.request),
        standing=Standing(now + ttl),
        group=submission.group,
    )


def outcome_of(response: v1.CompleteResponse) -> bytes:
    """What a job tells of its answer."""
    outcome = v1.Job()
    if response.completed.HasField("usage"):
        outcome.usage.CopyFrom(response.completed.usage)
    if response.completed.HasField("cost"):
        outcome.cost.CopyFrom(response.completed.cost)
    return outcome.SerializeToString()


def failed_outcome_of(failure: v1.GenerationFailure | None) -> bytes:
    """What a job tells of its last try, which failed."""
    return v1.Job(failure=failure).SerializeToString()


def key_of(submission: Submission) -> str:
    """What stands for the idempotency key, of this caller and tenant; empty where there is none."""
    job, key = submission.job, submission.request.idempotency_key
    if not key:
        return ""
    whole = msgspec.msgpack.encode((job.caller, job.attribution.tenant, key))
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _ttl_of(job: v1.Job, now: float) -> float:
    if not job.HasField("expires_at"):
        return DEFAULT_TTL
    submitted = _seconds(job.submitted_at) if job.HasField("submitted_at") else now
    return max(_seconds(job.expires_at) - submitted, 0.001)


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / _NANO


def _set(moment: Timestamp, seconds: float) -> None:
    moment.FromMicroseconds(round(seconds * 1_000_000))
