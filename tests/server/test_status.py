import math

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.server.status import GrpcStatus, code_of, to_status


def failure(*, attempts: int = 1) -> v1.GenerationFailure:
    attempt = v1.Attempt(provider="p", model="m", reason="PROVIDER_ERROR", upstream_status=500)
    return v1.GenerationFailure(request_id="id", attempts=[attempt] * attempts, last_sequence=7)


def details(status: GrpcStatus) -> dict[type, object]:
    packed = Status.FromString(dict(status.trailers)["grpc-status-details-bin"])  # type: ignore[arg-type]
    found: dict[type, object] = {}
    for detail in packed.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo, QuotaFailure, v1.GenerationFailure):
            message = kind()
            if detail.Unpack(message):
                found[kind] = message
    return found


TABLE = [
    (Reason.INVALID_REQUEST, StatusCode.INVALID_ARGUMENT),
    (Reason.CONTEXT_TOO_LONG, StatusCode.INVALID_ARGUMENT),
    (Reason.MODEL_UNKNOWN, StatusCode.NOT_FOUND),
    (Reason.JOB_UNKNOWN, StatusCode.NOT_FOUND),
    (Reason.JOB_RESULT_DROPPED, StatusCode.NOT_FOUND),
    (Reason.JOB_NOT_ENDED, StatusCode.FAILED_PRECONDITION),
    (Reason.JOB_EXPIRED, StatusCode.DEADLINE_EXCEEDED),
    (Reason.KEY_REUSED, StatusCode.ALREADY_EXISTS),
    (Reason.QUEUED, StatusCode.UNAVAILABLE),
    (Reason.QUEUE_FULL, StatusCode.UNAVAILABLE),
    (Reason.WORKER_LOST, StatusCode.UNAVAILABLE),
    (Reason.REQUEST_LOST, StatusCode.INTERNAL),
    (Reason.MODEL_NOT_ALLOWED, StatusCode.PERMISSION_DENIED),
    (Reason.NOT_ADMIN, StatusCode.PERMISSION_DENIED),
    (Reason.CALLER_UNKNOWN, StatusCode.UNAUTHENTICATED),
    (Reason.PROVIDER_CREDENTIALS_REFUSED, StatusCode.FAILED_PRECONDITION),
    (Reason.PROVIDER_NOT_CONFIGURED, StatusCode.FAILED_PRECONDITION),
    (Reason.RATE_LIMITED, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.CALLER_RATE_LIMITED, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.BUDGET_SPENT, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.PROVIDER_BUDGET_SPENT, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.PROVIDER_RATE_LIMITED, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.PROVIDER_QUOTA_SPENT, StatusCode.RESOURCE_EXHAUSTED),
    (Reason.PROVIDER_ERROR, StatusCode.UNAVAILABLE),
    (Reason.PROVIDER_UNREACHABLE, StatusCode.UNAVAILABLE),
    (Reason.CONNECT_TIMEOUT, StatusCode.UNAVAILABLE),
    (Reason.BREAKER_OPEN, StatusCode.UNAVAILABLE),
    (Reason.LOAD_SHED, StatusCode.UNAVAILABLE),
    (Reason.STORE_UNAVAILABLE, StatusCode.UNAVAILABLE),
    (Reason.DRAINING, StatusCode.UNAVAILABLE),
    (Reason.FIRST_EVENT_TIMEOUT, StatusCode.DEADLINE_EXCEEDED),
    (Reason.IDLE_TIMEOUT, StatusCode.DEADLINE_EXCEEDED),
    (Reason.TOTAL_TIMEOUT, StatusCode.DEADLINE_EXCEEDED),
    (Reason.DEADLINE_EXCEEDED, StatusCode.DEADLINE_EXCEEDED),
    (Reason.INTERNAL, StatusCode.INTERNAL),
]


@pytest.mark.parametrize(("reason", "code"), TABLE)
def test_codes_are_those_of_the_published_table(reason: Reason, code: StatusCode) -> None:
    """A caller can tell by the code alone who has to act."""
    status = to_status(GenerationError(reason, "words"))
    assert (status.code, status.text) == (code, "words")
    info = details(status)[ErrorInfo]
    assert isinstance(info, ErrorInfo)
    assert (info.reason, info.domain) == (reason.value, "outrider.dev")


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.PROVIDER_OVERLOADED, StatusCode.ABORTED),
        (Reason.STREAM_TRUNCATED, StatusCode.ABORTED),
        (Reason.IDLE_TIMEOUT, StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_after_the_commit_point_a_cut_is_aborted(reason: Reason, code: StatusCode) -> None:
    """Row 4: ABORTED with the provider's reason; a timeout stays one."""
    error = GenerationError(reason, "cut")
    error.committed = True
    assert code_of(error) is code


def test_a_failure_tells_provider_model_status_and_attempts() -> None:
    """In the metadata of ErrorInfo, and whole in GenerationFailure."""
    error = GenerationError(Reason.PROVIDER_ERROR, "x", upstream_status=503).refine(provider="p", model="m")
    error.failure = failure(attempts=3)
    found = details(to_status(error))
    info = found[ErrorInfo]
    assert isinstance(info, ErrorInfo)
    assert dict(info.metadata) == {
        "provider": "p",
        "model": "m",
        "upstream_status": "503",
        "attempts": "3",
        "request_id": "id",
    }
    assert found[v1.GenerationFailure] == error.failure


def test_a_target_that_was_left_alone_was_not_tried() -> None:
    """Row 7: a rate limit that was heard of before: nothing was asked, and a client may come back itself."""
    error = GenerationError(Reason.PROVIDER_RATE_LIMITED, "x", retry_after=7.0)
    reason, skipped = Reason.PROVIDER_RATE_LIMITED, v1.Attempt.OUTCOME_SKIPPED
    error.failure = v1.GenerationFailure(attempts=[v1.Attempt(reason=reason, outcome=skipped)])
    assert dict(to_status(error).trailers).get("grpc-retry-pushback-ms") == "7000"


@pytest.mark.parametrize(
    ("error", "attempts", "retry_info", "pushback"),
    [
        (GenerationError(Reason.LOAD_SHED, "x", retry_after=2.0), 0, 2.0, "2000"),
        (GenerationError(Reason.RATE_LIMITED, "x", retry_after=0.5), 0, 0.5, "500"),
        (GenerationError(Reason.CALLER_RATE_LIMITED, "x", retry_after=math.inf), 0, None, "-1"),
        (GenerationError(Reason.BUDGET_SPENT, "x"), 0, None, "-1"),
        (GenerationError(Reason.PROVIDER_RATE_LIMITED, "x", retry_after=7.0), 1, 7.0, "-1"),
        (GenerationError(Reason.PROVIDER_ERROR, "x"), 3, 1.0, "-1"),
        (GenerationError(Reason.PROVIDER_QUOTA_SPENT, "x", retry_after=7.0), 0, None, "-1"),
        (GenerationError(Reason.DRAINING, "x"), 0, 1.0, "1000"),
        (GenerationError(Reason.QUEUED, "x", retry_after=math.inf), 0, None, "-1"),
        (GenerationError(Reason.QUEUE_FULL, "x", retry_after=5.0), 0, 5.0, "5000"),
        (GenerationError(Reason.INVALID_REQUEST, "x"), 0, None, None),
    ],
)
def test_when_to_come_back(
    error: GenerationError, attempts: int, retry_info: float | None, pushback: str | None
) -> None:
    """Row 7: RetryInfo for people, pushback for clients; -1 where the sidecar has spent its own tries."""
    if attempts:
        error.failure = failure(attempts=attempts)
    status = to_status(error)
    retry = details(status).get(RetryInfo)
    assert (retry.retry_delay.ToMilliseconds() / 1000 if isinstance(retry, RetryInfo) else None) == retry_info
    assert dict(status.trailers).get("grpc-retry-pushback-ms") == pushback


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"quota_subject": "tenant=acme", "provider": "p"}, "tenant=acme"),
        ({"provider": "p"}, "provider:p"),
        ({}, "caller"),
    ],
)
def test_a_limit_names_for_whom_it_counts(changes: dict[str, str], subject: str) -> None:
    """QuotaFailure has the scope as its subject, as far as it is known."""
    error = GenerationError(Reason.RATE_LIMITED, "words").refine(**changes)
    quota = details(to_status(error))[QuotaFailure]
    assert isinstance(quota, QuotaFailure)
    assert [(each.subject, each.description) for each in quota.violations] == [(subject, "words")]


def test_an_invalid_request_names_its_fields() -> None:
    """BadRequest, field by field."""
    violations = [Violation("sampling.top_p", "must be above 0")]
    found = details(to_status(GenerationError(Reason.INVALID_REQUEST, "x", violations=violations)))
    bad = found[BadRequest]
    assert isinstance(bad, BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("sampling.top_p", "must be above 0")]


@given(
    message=st.text(max_size=50_000),
    model=st.text(max_size=5_000),
    attempts=st.integers(0, 200),
    violations=st.lists(st.builds(Violation, st.text(max_size=50), st.text(max_size=2_000)), max_size=100),
    reason=st.sampled_from(Reason),
)
def test_no_status_is_too_large_to_arrive(
    message: str, model: str, attempts: int, violations: list[Violation], reason: Reason
) -> None:
    """Row 18: 4 KB at most for text and details, and the reason is always among them."""
    error = GenerationError(reason, message, violations=violations).refine(provider="p", model=model)
    error.failure = failure(attempts=attempts)
    status = to_status(error)
    packed = dict(status.trailers)["grpc-status-details-bin"]
    assert len(packed) + len(status.text.encode()) <= 8_000
    assert len(packed) <= 4_096 or not message.isascii()
    assert ErrorInfo in details(status)
