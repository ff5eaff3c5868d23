"""Every way a generation can fail, classified once.

`GenerationError` is the only error that crosses rooms. Its `reason` says what happened; `TRAITS` says what
follows from it. `server/status.py` turns it into a gRPC status, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.v1 import GenerationFailure


class Reason(StrEnum):
    """What happened. The names are public: they are `ErrorInfo.reason`, log fields and metric labels."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    INVALID_REQUEST = auto()
    CONTEXT_TOO_LONG = auto()
    MODEL_UNKNOWN = auto()
    MODEL_NOT_ALLOWED = auto()
    NOT_ADMIN = auto()
    CALLER_UNKNOWN = auto()
    CACHE_MISS = auto()
    REQUEST_UNKNOWN = auto()
    NOT_RECORDED = auto()
    JOB_UNKNOWN = auto()
    JOB_NOT_ENDED = auto()
    JOB_EXPIRED = auto()
    JOB_RESULT_DROPPED = auto()
    KEY_REUSED = auto()
    QUEUED = auto()
    QUEUE_FULL = auto()
    REQUEST_LOST = auto()
    WORKER_LOST = auto()
    RATE_LIMITED = auto()
    CALLER_RATE_LIMITED = auto()
    BUDGET_SPENT = auto()
    PROVIDER_BUDGET_SPENT = auto()
    LOAD_SHED = auto()
    STORE_UNAVAILABLE = auto()
    SIDECAR_LOST = auto()
    DRAINING = auto()
    BREAKER_OPEN = auto()
    PROVIDER_NOT_CONFIGURED = auto()
    PROVIDER_CREDENTIALS_REFUSED = auto()
    PROVIDER_RATE_LIMITED = auto()
    PROVIDER_QUOTA_SPENT = auto()
    PROVIDER_UNREACHABLE = auto()
    PROVIDER_OVERLOADED = auto()
    PROVIDER_ERROR = auto()
    PROVIDER_PROTOCOL_ERROR = auto()
    STREAM_TRUNCATED = auto()
    RESPONSE_TOO_LARGE = auto()
    CONTENT_FILTERED = auto()
    CONNECT_TIMEOUT = auto()
    FIRST_EVENT_TIMEOUT = auto()
    IDLE_TIMEOUT = auto()
    TOTAL_TIMEOUT = auto()
    DEADLINE_EXCEEDED = auto()
    CANCELLED = auto()
    INTERNAL = auto()


class Remedy(Enum):
    """What may help before the commit point."""

    RETRY = auto()  # the same target again, then the next one
    NEXT_TARGET = auto()  # this target will fail again; another may not
    NONE = auto()  # it would fail everywhere, or nobody waits for it


class Fault(StrEnum):
    """Who has to act. A metric label."""

    CALLER = auto()
    SIDECAR = auto()  # load, limits and drain of the sidecar
    OPERATOR = auto()  # the sidecar's configuration or account
    PROVIDER = auto()


@dataclass(frozen=True, slots=True)
class Traits:
    """What follows from a reason."""

    remedy: Remedy
    fault: Fault
    trips_breaker: bool = False
    timeout: bool = False


_CALLER = Traits(Remedy.NONE, Fault.CALLER)
_OPERATOR = Traits(Remedy.NEXT_TARGET, Fault.OPERATOR)
_TRANSIENT = Traits(Remedy.RETRY, Fault.PROVIDER, trips_breaker=True)
_SLOW = Traits(Remedy.RETRY, Fault.PROVIDER, trips_breaker=True, timeout=True)

TRAITS: dict[Reason, Traits] = {
    Reason.INVALID_REQUEST: _CALLER,
    Reason.CONTEXT_TOO_LONG: _CALLER,
    Reason.MODEL_UNKNOWN: _CALLER,
    Reason.MODEL_NOT_ALLOWED: _CALLER,
    Reason.NOT_ADMIN: _CALLER,
    Reason.CALLER_UNKNOWN: _CALLER,
    Reason.CACHE_MISS: _CALLER,
    Reason.REQUEST_UNKNOWN: _CALLER,
    Reason.NOT_RECORDED: _CALLER,
    Reason.JOB_UNKNOWN: _CALLER,
    Reason.JOB_NOT_ENDED: _CALLER,
    Reason.JOB_RESULT_DROPPED: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.JOB_EXPIRED: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.KEY_REUSED: _CALLER,
    Reason.QUEUED: Traits(Remedy.NONE, Fault.PROVIDER),
    Reason.QUEUE_FULL: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.REQUEST_LOST: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.WORKER_LOST: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.RATE_LIMITED: Traits(Remedy.NEXT_TARGET, Fault.SIDECAR),
    Reason.CALLER_RATE_LIMITED: _CALLER,
    Reason.BUDGET_SPENT: _CALLER,
    Reason.PROVIDER_BUDGET_SPENT: _OPERATOR,
    Reason.LOAD_SHED: Traits(Remedy.NEXT_TARGET, Fault.SIDECAR),
    Reason.STORE_UNAVAILABLE: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.SIDECAR_LOST: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.DRAINING: Traits(Remedy.NONE, Fault.SIDECAR),
    Reason.BREAKER_OPEN: Traits(Remedy.NEXT_TARGET, Fault.PROVIDER),
    Reason.PROVIDER_NOT_CONFIGURED: _OPERATOR,
    Reason.PROVIDER_CREDENTIALS_REFUSED: _OPERATOR,
    Reason.PROVIDER_RATE_LIMITED: Traits(Remedy.RETRY, Fault.PROVIDER),
    Reason.PROVIDER_QUOTA_SPENT: _OPERATOR,
    Reason.PROVIDER_UNREACHABLE: _TRANSIENT,
    Reason.PROVIDER_OVERLOADED: _TRANSIENT,
    Reason.PROVIDER_ERROR: _TRANSIENT,
    Reason.PROVIDER_PROTOCOL_ERROR: _TRANSIENT,
    Reason.STREAM_TRUNCATED: _TRANSIENT,
    Reason.RESPONSE_TOO_LARGE: Traits(Remedy.NONE, Fault.PROVIDER),
    Reason.CONTENT_FILTERED: Traits(Remedy.NONE, Fault.CALLER),
    Reason.CONNECT_TIMEOUT: Traits(Remedy.RETRY, Fault.PROVIDER, trips_breaker=True),
    Reason.FIRST_EVENT_TIMEOUT: _SLOW,
    Reason.IDLE_TIMEOUT: _SLOW,
    Reason.TOTAL_TIMEOUT: _SLOW,
    Reason.DEADLINE_EXCEEDED: Traits(Remedy.NONE, Fault.CALLER, timeout=True),
    Reason.CANCELLED: _CALLER,
    Reason.INTERNAL: Traits(Remedy.NONE, Fault.SIDECAR),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is wrong, and what would be right."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a failure. `message` is for people and free of secrets."""

    reason: Reason
    message: str
    provider: str = ""
    model: str = ""
    upstream_status: int = 0
    retry_after: float | None = None  # seconds; infinite: waiting does not help
    violations: Sequence[Violation] = ()
    job_id: str = ""  # of the job that the request was left as
    quota_subject: str = ""  # of a limit: the scope that it counts for, such as "tenant=acme"
    free_in: float | None = None  # seconds until a limit that may be waited for may let the request in


class GenerationError(Exception):
    """A generation failed. `fact` says how; `failure` is set once something had already happened."""

    __slots__ = ("committed", "fact", "failure")

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        upstream_status: int = 0,
        retry_after: float | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.fact = Fact(
            reason,
            message,
            upstream_status=upstream_status,
            retry_after=retry_after,
            violations=violations,
        )
        self.committed = False
        self.failure: GenerationFailure | None = None

    def __str__(self) -> str:
        return f"{self.fact.reason}: {self.fact.message}"

    @property
    def reason(self) -> Reason:
        """What happened."""
        return self.fact.reason

    @property
    def traits(self) -> Traits:
        """What follows from it."""
        return TRAITS[self.fact.reason]

    def refine(self, **changes: object) -> GenerationError:
        """Change fields of `fact` in place and return self."""
        self.fact = replace(self.fact, **changes)  # type: ignore[arg-type]
        return self
