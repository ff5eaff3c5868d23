"""One provider with everything that guards it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.ports import Provider
    from outrider.policy.backoff import Backoff
    from outrider.policy.breaker import Breaker
    from outrider.policy.gate import Gate
    from outrider.policy.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, in seconds."""

    connect: float
    first_event: float  # until the first content event; comments and pings do not count
    idle: float  # between content events after that
    total: float


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a target is tried, and how far apart."""

    max_attempts: int
    backoff: Backoff
    max_retry_after: float  # seconds; a provider that asks for more is given up for this request


@dataclass(frozen=True, slots=True)
class Upstream:
    """A provider and its guards. All requests to the provider share them."""

    provider: Provider
    gate: Gate
    breaker: Breaker
    retry_budget: RetryBudget
    timeouts: Timeouts
    retries: Retries
