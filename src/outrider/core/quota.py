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

    @property
    def most(self) -> float:
        """The largest amount that can ever pass."""
        return max(self.per_minute, self.burst)


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
        return _KEYS[self.unit, self.bound.period if isinstance(self.bound, Window) else None]


_KEYS: dict[tuple[Unit, Period | None], str] = {
    (unit, period): unit.value if unit is Unit.CONCURRENT_REQUESTS else f"{unit}:{period or 'minute'}"
    for unit in Unit
    for period in (None, *Period)
}


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
    """Where amounts are taken and given back, all or none. Contract: tests/stores/test_quota_contract.py.

    A meter comes at most once in a call. A rate gives places in the order in which they are asked for; an
    amount above its burst passes when the bucket is full, which then owes. What is given back is had by who
    asks next; who waits already keeps its place. What a window holds outlives its period, and what was used
    counts in the period in which it is settled.
    """

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
        """End a reservation: `used[i]` of `held[i]` was really used, more or less; the rest goes back.

        An amount of zero is held by nobody: what was used of it is counted all the same.
        """

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        """How each stands. Takes nothing."""
