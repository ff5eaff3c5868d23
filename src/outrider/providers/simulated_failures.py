"""The ways in which a simulated provider fails, with the status a real one would send."""

from __future__ import annotations

from typing import Final, NamedTuple

from outrider.core.errors import GenerationError, Reason


class Failure(NamedTuple):
    """What the sidecar makes of the failure. A status of 0: there was no answer."""

    reason: Reason
    status: int
    message: str
    retry_after: float | None = None  # seconds

    def error(self) -> GenerationError:
        """A fresh error."""
        return GenerationError(
            self.reason,
            f"simulated: {self.message}",
            upstream_status=self.status,
            retry_after=self.retry_after,
        )


FAILURES: Final = {
    "unreachable": Failure(Reason.PROVIDER_UNREACHABLE, 0, "the connection was refused"),
    "rate_limited": Failure(Reason.PROVIDER_RATE_LIMITED, 429, "too many requests", retry_after=1.0),
    "overloaded": Failure(Reason.PROVIDER_OVERLOADED, 503, "the provider is overloaded"),
    "error": Failure(Reason.PROVIDER_ERROR, 500, "the provider had an internal error"),
    "unauthorized": Failure(Reason.PROVIDER_CREDENTIALS_REFUSED, 401, "the key was refused"),
    "quota_spent": Failure(Reason.PROVIDER_QUOTA_SPENT, 429, "the account has no credit left"),
    "context_too_long": Failure(
        Reason.CONTEXT_TOO_LONG, 400, "the prompt is longer than the model's context"
    ),
    "malformed": Failure(Reason.PROVIDER_PROTOCOL_ERROR, 200, "the answer was not JSON"),
    "truncated": Failure(Reason.STREAM_TRUNCATED, 200, "the connection broke in mid-answer"),
}
