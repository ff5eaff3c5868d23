"""What one sidecar may take of a limit on its own, so that a fleet without Redis does not exceed it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from outrider.core.quota import Bound, Concurrency, Meter, Rate, Window
from outrider.stores.calendar_period import period_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.ports import Clock

_REMEMBERED = 10_000  # meters


class Membership(Protocol):
    """How many sidecars there are, and which of them this is; None: not known."""

    @property
    def size(self) -> int:
        """At least 1."""

    @property
    def rank(self) -> int | None:
        """From 0."""


@dataclass(frozen=True, slots=True)
class _RatePart(Rate):
    """A part of a rate. What passes the whole passes the part too, and leaves it in debt for longer."""

    whole: Rate

    @property
    def most(self) -> float:
        return self.whole.most


class _Seen(NamedTuple):
    remaining: int
    at: float  # of the clock
    until: float  # of the wall clock: end of the period


class QuotaShare:
    """Splits limits by the last known size of the fleet, and by what was last known to be left of them.

    The shares of a count add up to what is left where every sidecar saw the same; a rate's to the rate.
    """

    def __init__(self, fleet: Membership, clock: Clock, wall_clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._wall_clock = wall_clock
        self._seen: dict[tuple[str, str], _Seen] = {}

    def saw(self, meter: Meter, remaining: int) -> None:
        """Remember what was left of a limit for the whole fleet."""
        if isinstance(meter.bound, Concurrency):
            return
        key = (meter.scope, meter.key)
        before = self._seen.pop(key, None)
        now = self._wall_clock()
        until = before.until if before is not None else 0.0
        if isinstance(meter.bound, Window) and now >= until:
            until = period_end(meter.bound.period, now)
        self._seen[key] = _Seen(remaining, self._clock(), until)
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def of(self, meter: Meter) -> Meter:
        """A meter of a sum with this sidecar's part of its bound."""
        return replace(meter, bound=self._part(meter))

    def places(self, bound: Concurrency) -> int:
        """This sidecar's part of the places."""
        return self._count(bound.limit)

    def opening_level(self, meter: Meter) -> float | None:
        """What a bucket of this sidecar's part of a rate holds at first; None: all that it can.

        It is a part of what was left when the fleet was last heard of, so that an outage is no fresh burst.
        """
        seen = self._seen.get((meter.scope, meter.key))
        if seen is None or not isinstance(meter.bound, Rate):
            return None
        refilled = (self._clock() - seen.at) * meter.bound.per_minute / 60
        return min(meter.bound.burst, seen.remaining / self._fleet.size + refilled)

    def _part(self, meter: Meter) -> Bound:
        bound, size = meter.bound, self._fleet.size
        if isinstance(bound, Rate):
            return _RatePart(bound.per_minute / size, bound.burst / size, bound)
        if isinstance(bound, Window):
            seen = self._seen.get((meter.scope, meter.key))
            known = seen is not None and self._wall_clock() < seen.until
            return replace(bound, limit=self._count(seen.remaining if seen and known else bound.limit))
        return bound

    def _count(self, whole: int) -> int:
        size, rank = self._fleet.size, self._fleet.rank
        if rank is None:  # Redis was never seen: who cannot tell what is its own takes a little, not nothing
            return max(min(1, whole), whole // size)
        return whole // size + (rank % size < whole % size)
