"""One provider with everything that guards it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.core.ports import Provider
    from outrider.policy.backoff import Backoff
    from outrider.policy.breakers import Breakers
    from outrider.policy.gate import Gate
    from outrider.policy.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, in seconds."""

    connect: float
    first_event: float  # until the first content event; comments and pings do not count
    idle: float  # between content events after that
    total: float

    def but(self, others: Mapping[str, float]) -> Timeouts:
        """The same, with others in place of some, by name."""
        return replace(self, **others) if others else self


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
    breakers: Breakers
    retry_budget: RetryBudget
    timeouts: Timeouts
    retries: Retries
