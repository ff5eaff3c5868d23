"""What a request carries from the servicer to the provider."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol

from outrider import v1

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.core.errors import Reason


class Target(NamedTuple):
    """A provider, by its name in the configuration, and one of its models; written "provider/model"."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `models` are the names and patterns ("openai/*") that the caller may use."""

    name: str
    models: tuple[str, ...] = ("*",)
    tenant: str = ""  # whose the caller is, whatever its requests say; empty: as they say
    admin: bool = False  # whether it may change how the sidecar works

    def may_use(self, name: str) -> bool:
        """Whether a model name, route or "provider/model" is allowed."""
        return "*" in self.models or any(fnmatchcase(name, pattern) for pattern in self.models)


ANYONE = Principal("anyone", admin=True)
NOBODY = Principal("nobody", ())


class Outcome(StrEnum):
    """How a request ended. A metric label."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Record:
    """What happened to one request; filled in on its way, settled exactly once by the `account` stage.

    Times are seconds of the sidecar's monotonic clock.
    """

    request_id: str
    method: str
    principal: str
    requested_model: str
    started_at: float
    attribution: v1.Attribution | None = None
    outcome: Outcome = Outcome.SUCCEEDED
    reason: Reason | None = None
    provider: str = ""  # of the last target tried
    model: str = ""
    attempts: list[v1.Attempt] = field(default_factory=list)
    warnings: list[v1.Warning] = field(default_factory=list)
    progress: Progress | None = None  # of the attempt that has begun to answer
    lost: tuple[tuple[v1.Attempt, Progress], ...] = ()  # of others, that their providers may bill for
    finish_reason: int = 0
    usage: v1.Usage | None = None
    cost: v1.Cost | None = None
    first_content_at: float | None = None
    finished_at: float = 0.0
    waited: float = 0.0  # seconds spent in queues, limits and backoff
    last_sequence: int = 0
    tenant: str = ""
    cache_status: v1.CacheStatus = v1.CACHE_STATUS_BYPASS
    cache_key: str = ""  # where a cache was asked
    traceparent: str = ""  # W3C trace context of the caller, where it sent one


@dataclass(slots=True)
class Progress:
    """What one attempt has brought so far; the decoder writes it, and it outlives a cut or a cancel."""

    usage: v1.Usage | None = None  # as the provider said, complete only at the end
    output_chars: int = 0  # of text, reasoning and tool arguments
    upstream_status: int = 0
    began_at: float | None = None  # when the first content came


class Reservation(Protocol):
    """What a request has reserved of limits and budgets."""

    @property
    def hard(self) -> bool:
        """Whether there is a budget in it that must not be exceeded."""

    def begin(self) -> None:
        """Ask for what the first try needs, without waiting for the answer. More than once is once."""

    async def enter(self, target: Target, since: float, patience: float) -> None:
        """Wait for leave to try a target; a second try at a target is charged to its provider again.

        `patience`: seconds after `since` for which the target's own limits are waited for at most; infinite:
        as long as may be. Where more would be allowed, `Fact.free_in` says whether that may help.
        Raises GenerationError: CALLER_RATE_LIMITED, BUDGET_SPENT, RATE_LIMITED, PROVIDER_BUDGET_SPENT.
        """

    def leave(self, target: Target) -> None:
        """The target is not tried after all, or is no longer waited for: give back what was taken for it."""


class Unlimited:
    """The reservation of a request that nothing limits."""

    hard = False

    def begin(self) -> None:
        """Nothing to ask for."""

    async def enter(self, target: Target, since: float, patience: float) -> None:
        """Leave is always there."""

    def leave(self, target: Target) -> None:
        """Nothing was taken."""


UNLIMITED = Unlimited()


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """What the route that a request takes says of every request."""

    name: str = ""  # as the request has it; empty: it names a model directly
    timeouts: Mapping[str, float] = field(default_factory=dict)  # over those of a target's provider, by name
    on_content_filter: bool = False  # whether the next target is asked where one has withheld its answer


DIRECT = RouteSettings()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request. Frozen but for `record`, which stages fill in."""

    id: str
    request: v1.GenerateRequest
    principal: Principal
    record: Record
    streaming: bool = True  # False: the caller wants the answer in one piece
    deadline: float = math.inf  # the caller's, on the sidecar's monotonic clock
    plan: tuple[Target, ...] = ()  # set by the route stage
    reservation: Reservation = UNLIMITED  # set by the reserve stage
    route: RouteSettings = DIRECT  # set by the route stage
    meant_for: Target | None = None  # set by the route stage where the plan begins with another one

    @property
    def choice(self) -> Target:
        """The target that the request is meant for. While that is unwell the plan begins with another one."""
        return self.meant_for or self.plan[0]

    @property
    def tenant(self) -> str:
        """On whose behalf: the caller's own tenant, else the one that the request names."""
        return self.principal.tenant or self.request.attribution.tenant
