"""Events of answers, and ways to fail."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from outrider import v1
from outrider.core.errors import GenerationError, Reason


def milliseconds(number: int) -> Duration:
    """A duration."""
    return Duration(seconds=number // 1000, nanos=number % 1000 * 1_000_000)


def text(text: str) -> v1.GenerateResponse:
    """More text."""
    return v1.GenerateResponse(text_delta=v1.TextDelta(text=text))


def reasoning(text: str) -> v1.GenerateResponse:
    """More reasoning."""
    return v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(text=text, part=1))


STARTED = v1.GenerateResponse(
    started=v1.Started(request_id="0192f00d", provider="openai", model="gpt", attempt=1)
)

FAILED = v1.Attempt(
    provider="anthropic",
    model="claude",
    outcome=v1.Attempt.OUTCOME_FAILED,
    reason="PROVIDER_OVERLOADED",
    upstream_status=529,
    duration=milliseconds(812),
)
SUCCEEDED = v1.Attempt(
    provider="openai",
    model="gpt",
    outcome=v1.Attempt.OUTCOME_SUCCEEDED,
    duration=milliseconds(1240),
    waited=milliseconds(400),
)

COMPLETED = v1.GenerateResponse(
    completed=v1.Completed(
        finish_reason=v1.FINISH_REASON_STOP,
        usage=v1.Usage(input_tokens=12, output_tokens=34, source=v1.USAGE_SOURCE_PROVIDER),
        cost=v1.Cost(total_nano_usd=123_000),
        attempts=[SUCCEEDED],
        timings=v1.Timings(total=milliseconds(1250), time_to_first_content=milliseconds(112)),
    )
)


def completed(**changes: object) -> v1.GenerateResponse:
    """The end of an answer, with some of it changed; None takes a field away."""
    event = v1.GenerateResponse()
    event.CopyFrom(COMPLETED)
    for name, value in changes.items():
        event.completed.ClearField(name)
        if value is not None:
            event.completed.MergeFrom(v1.Completed(**{name: value}))  # type: ignore[arg-type]
    return event


def answer(*texts: str) -> list[v1.GenerateResponse]:
    """A whole answer."""
    return [STARTED, *map(text, texts), COMPLETED]


def failure(
    reason: Reason = Reason.PROVIDER_OVERLOADED,
    message: str = "anthropic is overloaded",
    *,
    committed: bool = False,
    retry_after: float | None = None,
    attempts: tuple[v1.Attempt, ...] = (),
) -> GenerationError:
    """A failure as a sidecar reports it."""
    error = GenerationError(reason, message, retry_after=retry_after)
    error.committed = committed
    if attempts:
        error.failure = v1.GenerationFailure(request_id="0192f00d", attempts=attempts)
    return error
