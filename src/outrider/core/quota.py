"""What is limited: rates, concurrency and budgets, and what a request takes of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


class Unit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    NANO_USD = "nano_usd"
    CONCURRENT_REQUESTS = "concurrent_requests"


class Period(StrEnum):
    """A calendar time in UTC, by the store's clock; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: so much a minute on average, and at most `burst` at once."""

    per_minute: float
    burst: float


@dataclass(frozen=True, slots=True)
class Window:
    """A cap on the sum of a calendar period. `soft` are shares of it that are reported when crossed."""

    limit: int
    period: Period
    soft: tuple[float, ...] = ()
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Concurrency:
    """So many at the same time."""

    limit: int


Bound: TypeAlias = Rate | Window | Concurrency


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that is counted, for one scope, such as "tenant=acme"."""

    scope: str
    unit: Unit
    bound: Bound
    tier: str = ""

    @property
    def key(self) -> str:
        """Tells it apart from every other meter of its scope."""
        period = self.bound.period if isinstance(self.bound, Window) else "minute"
        return self.unit if self.unit is Unit.CONCURRENT_REQUESTS else f"{self.unit}:{period}"


class Charge(NamedTuple):
    """An amount of what a meter counts, above zero."""

    meter: Meter
    amount: int


@dataclass(frozen=True, slots=True)
class Grant:
    """All was taken. It may be used after `delay` seconds; its place in the rate's queue is its own."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was taken. `retry_after` seconds may help; None: only a new period or another limit will."""

    meter: Meter
    retry_after: float | None
    remaining: int = 0


class Crossing(NamedTuple):
    """A soft threshold of a Window was crossed; told once per period, to one sidecar of the fleet."""

    meter: Meter
    share: float
    spent: int


@dataclass(frozen=True, slots=True)
class Level:
    """How a meter stands."""

    remaining: int
    reserved: int = 0
    resets_in: float | None = None  # seconds until all of it is there again; None: it is, or never


class QuotaStore(Protocol):
    """Where amounts are taken and given back, all or none. Contract: tests/stores/quota_contract.py."""

    @property
    def shared(self) -> bool:
        """Whether the whole fleet counts together now; False: each sidecar has its own share."""

    async def reserve(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        """Take every charge, or none. Never raises for a store that is away.

        `patience`: seconds that the holder would wait for its rates. A concurrency that is used up refuses
        with a short `retry_after`: ask again. What is never settled (a crash) ends by itself after a time.
        """

    async def extend(self, holder: str, charges: Sequence[Charge]) -> Refusal | None:
        """Take more for a holder that runs; no waiting."""

    async def settle(self, holder: str, held: Sequence[Charge], used: Sequence[int]) -> Sequence[Crossing]:
        """End a reservation: `used[i]` of `held[i]` was really used, more or less; the rest goes back."""

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        """How each stands. Takes nothing."""
