"""The only place where an error becomes a gRPC status, with google.rpc details.

The table of codes is the API's; see docs/errors.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from outrider.core.durations import to_duration
from outrider.core.errors import GenerationError, Reason
from outrider.v1 import Attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

DOMAIN = "outrider.dev"

# Callers lose the whole error once its text and details pass 8 KB of metadata; half of that is safe.
_MAX_BYTES = 4096
_MAX_TEXT = 1024

_CODES: dict[Reason, StatusCode] = {
    Reason.INVALID_REQUEST: StatusCode.INVALID_ARGUMENT,
    Reason.CONTEXT_TOO_LONG: StatusCode.INVALID_ARGUMENT,
    Reason.CONTENT_FILTERED: StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_UNKNOWN: StatusCode.NOT_FOUND,
    Reason.CACHE_MISS: StatusCode.NOT_FOUND,
    Reason.REQUEST_UNKNOWN: StatusCode.NOT_FOUND,
    Reason.NOT_RECORDED: StatusCode.NOT_FOUND,
    Reason.JOB_UNKNOWN: StatusCode.NOT_FOUND,
    Reason.JOB_RESULT_DROPPED: StatusCode.NOT_FOUND,
    Reason.JOB_NOT_ENDED: StatusCode.FAILED_PRECONDITION,
    Reason.JOB_EXPIRED: StatusCode.DEADLINE_EXCEEDED,
    Reason.KEY_REUSED: StatusCode.ALREADY_EXISTS,
    Reason.MODEL_NOT_ALLOWED: StatusCode.PERMISSION_DENIED,
    Reason.NOT_ADMIN: StatusCode.PERMISSION_DENIED,
    Reason.CALLER_UNKNOWN: StatusCode.UNAUTHENTICATED,
    Reason.PROVIDER_NOT_CONFIGURED: StatusCode.FAILED_PRECONDITION,
    Reason.PROVIDER_CREDENTIALS_REFUSED: StatusCode.FAILED_PRECONDITION,
    Reason.RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
    Reason.CALLER_RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
    Reason.BUDGET_SPENT: StatusCode.RESOURCE_EXHAUSTED,
    Reason.PROVIDER_BUDGET_SPENT: StatusCode.RESOURCE_EXHAUSTED,
    Reason.PROVIDER_RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
    Reason.PROVIDER_QUOTA_SPENT: StatusCode.RESOURCE_EXHAUSTED,
    Reason.CANCELLED: StatusCode.CANCELLED,
    Reason.REQUEST_LOST: StatusCode.INTERNAL,
    Reason.INTERNAL: StatusCode.INTERNAL,
}
_TIMEOUTS = frozenset(
    {Reason.FIRST_EVENT_TIMEOUT, Reason.IDLE_TIMEOUT, Reason.TOTAL_TIMEOUT, Reason.DEADLINE_EXCEEDED}
)
# These come back only with a new period, or a new contract: waiting does not help.
_SPENT = frozenset({Reason.BUDGET_SPENT, Reason.PROVIDER_BUDGET_SPENT, Reason.PROVIDER_QUOTA_SPENT})
_LIMITS = _SPENT | {Reason.RATE_LIMITED, Reason.CALLER_RATE_LIMITED, Reason.PROVIDER_RATE_LIMITED}


class GrpcStatus(NamedTuple):
    """What `context.abort` takes."""

    code: StatusCode
    text: str
    trailers: tuple[tuple[str, str | bytes], ...]


def code_of(error: GenerationError) -> StatusCode:
    """The code of an error; ABORTED once the answer had begun, unless it was a timeout."""
    if error.reason in _TIMEOUTS:
        return StatusCode.DEADLINE_EXCEEDED
    if error.committed:
        return StatusCode.ABORTED
    return _CODES.get(error.reason, StatusCode.UNAVAILABLE)


def to_status(error: GenerationError) -> GrpcStatus:
    """The status of an error, small enough to reach every caller."""
    code = code_of(error)
    text = _truncate(error.fact.message, _MAX_TEXT)
    status = Status(code=code.value[0], message=text)
    for detail in _details(error, code):
        packed = Any()
        packed.Pack(detail)
        # The first details matter most; what does not fit is left out, never the whole error.
        if status.ByteSize() + packed.ByteSize() < _MAX_BYTES:
            status.details.append(packed)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    pushback = _pushback(error, code)
    if pushback is not None:
        trailers.append(("grpc-retry-pushback-ms", str(pushback)))
    return GrpcStatus(code, text, tuple(trailers))


def _details(error: GenerationError, code: StatusCode) -> Iterator[Message]:
    fact = error.fact
    info = ErrorInfo(reason=fact.reason, domain=DOMAIN)
    facts = {
        "provider": fact.provider,
        "model": _truncate(fact.model, 128),
        "upstream_status": str(fact.upstream_status or ""),
        "attempts": str(len(error.failure.attempts)) if error.failure else "",
        "request_id": error.failure.request_id if error.failure else "",
        "job_id": fact.job_id,
    }
    info.metadata.update({key: value for key, value in facts.items() if value})
    yield info
    if fact.violations:
        yield BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field=v.field, description=_truncate(v.description, 256))
                for v in fact.violations[:8]
            ]
        )
    delay = _retry_delay(error, code)
    if delay is not None:
        retry = RetryInfo()
        to_duration(delay, retry.retry_delay)
        yield retry
    if fact.reason in _LIMITS:
        subject = _truncate(fact.quota_subject, 256)
        subject = subject or (f"provider:{fact.provider}" if fact.provider else "caller")
        violation = QuotaFailure.Violation(subject=subject, description=_truncate(fact.message, 256))
        yield QuotaFailure(violations=[violation])
    if error.failure is not None:
        yield error.failure


def _retry_delay(error: GenerationError, code: StatusCode) -> float | None:
    """Seconds after which another call may do better; None where it will not."""
    if error.reason in _SPENT or error.fact.retry_after == math.inf:
        return None
    if code is StatusCode.UNAVAILABLE or code is StatusCode.RESOURCE_EXHAUSTED:
        return error.fact.retry_after if error.fact.retry_after is not None else 1.0
    return None


def _pushback(error: GenerationError, code: StatusCode) -> int | None:
    """Milliseconds for the caller's own retry policy; -1 forbids it where the sidecar has spent its tries."""
    if error.reason is Reason.QUEUED:
        return -1  # it would be left with the sidecar once more
    if error.failure is not None and any(map(_was_tried, error.failure.attempts)):
        return -1
    delay = _retry_delay(error, code)
    if delay is None:
        return -1 if code is StatusCode.RESOURCE_EXHAUSTED else None
    return math.ceil(delay * 1000)


def _was_tried(attempt: Attempt) -> bool:
    if attempt.reason == Reason.PROVIDER_RATE_LIMITED:
        return attempt.outcome != Attempt.OUTCOME_SKIPPED  # it may have been told so at an earlier request
    return attempt.upstream_status > 0 or attempt.reason not in _UNTRIED


_UNTRIED = frozenset(
    {
        Reason.LOAD_SHED,
        Reason.RATE_LIMITED,
        Reason.CALLER_RATE_LIMITED,
        Reason.BUDGET_SPENT,
        Reason.PROVIDER_BUDGET_SPENT,
        Reason.BREAKER_OPEN,
    }
)


def _truncate(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
