"""What a meter remembers in this process: a bucket, a sum, or who is there now.

Each is first asked by `check`, which changes nothing, and then taken from; no other call comes between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from outrider.core.quota import Concurrency, Crossing, Level, Meter, Rate, Refusal, Window
from outrider.stores.calendar_period import period_end

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds after which a holder that found every place taken may ask again.
ASK_AGAIN = 0.2


class Bucket:
    """A rate, as GCRA: all that is remembered is when the bucket will be full again."""

    __slots__ = ("_depth", "_full_at", "_interval", "_most", "meter", "touched")

    def __init__(self, meter: Meter, bound: Rate) -> None:
        self._full_at = -math.inf
        self.touched = False  # since it was last looked at
        self.rebind(meter, bound)

    def rebind(self, meter: Meter, bound: Rate) -> None:
        """Go on under other numbers."""
        self.meter = meter
        self._interval = 60 / bound.per_minute
        self._depth = bound.burst * self._interval
        self._most = bound.most

    def check(self, amount: int, patience: float, now: float) -> float | Refusal:
        """Seconds until so much can be used, at most `patience`."""
        if amount > self._most:
            return Refusal(self.meter, None, self._remaining(now))
        price = amount * self._interval
        # More than the bucket holds passes when it is full, and leaves it in debt: nothing starves.
        delay = max(self._full_at - now, 0.0) + min(price - self._depth, 0.0)
        if delay <= 0:
            return 0.0
        return delay if delay <= patience else Refusal(self.meter, delay, self._remaining(now))

    def take(self, _: str, amount: int, now: float) -> None:
        """Take it, also out of the future."""
        self._full_at = max(self._full_at, now) + amount * self._interval

    def settle(self, _: str, held: int, used: int, now: float) -> list[Crossing]:
        """Give back what was not used, or take what was used beyond it."""
        self._full_at = max(self._full_at, now) + (used - held) * self._interval
        return []

    def fill(self, level: float, now: float) -> None:
        """Hold so much now."""
        self._full_at = now + max(0.0, self._depth - level * self._interval)

    def level(self, now: float) -> Level:
        """How it stands."""
        resets_in = self._full_at - now
        return Level(self._remaining(now), resets_in=resets_in if resets_in > 0 else None)

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        return self._full_at <= now

    def _remaining(self, now: float) -> int:
        return max(0, int((now + self._depth - max(self._full_at, now)) / self._interval))


class Tally:
    """The sum of a calendar period. Holds outlive it: what was used counts when it is settled."""

    __slots__ = (
        "_bound",
        "_clock",
        "_hold_for",
        "_holds",
        "_told",
        "_until",
        "held",
        "meter",
        "spent",
        "touched",
    )

    def __init__(self, meter: Meter, bound: Window, clock: Callable[[], float], hold_for: float) -> None:
        self._clock = clock
        self._hold_for = hold_for
        self._holds: dict[str, tuple[float, int]] = {}  # the oldest first
        self._until = -math.inf
        self._told = 0
        self.spent = self.held = 0
        self.touched = False  # since it was last looked at
        self.rebind(meter, bound)

    def rebind(self, meter: Meter, bound: Window) -> None:
        """Go on under other numbers."""
        self.meter = meter
        self._bound = bound

    def check(self, amount: int, _: float, now: float) -> float | Refusal:
        """Zero: there is so much."""
        self._move_on(now)
        remaining = self._bound.limit - self.spent - self.held
        if amount <= remaining or not self._bound.hard:
            return 0.0
        comes_back = amount <= self._bound.limit and self._until < math.inf
        return Refusal(self.meter, self._until - self._clock() if comes_back else None, max(0, remaining))

    def take(self, holder: str, amount: int, now: float) -> None:
        """Hold it, for a bounded time."""
        _, before = self._holds.pop(holder, (0.0, 0))
        self._holds[holder] = (now + self._hold_for, before + amount)
        self.held += amount

    def settle(self, holder: str, _: int, used: int, now: float) -> list[Crossing]:
        """Turn what the holder held into what it used."""
        self._move_on(now)
        self.held -= self._holds.pop(holder, (0.0, 0))[1]
        self.spent += used
        shares = sorted(self._bound.soft)
        crossed = [share for share in shares if self.spent >= share * self._bound.limit]
        told, self._told = self._told, max(self._told, len(crossed))
        return [Crossing(self.meter, share, self.spent) for share in crossed[told:]]

    def level(self, now: float) -> Level:
        """How it stands."""
        self._move_on(now)
        ends = (self.spent or self.held) and self._until < math.inf
        return Level(
            max(0, self._bound.limit - self.spent - self.held),
            self.held,
            self._until - self._clock() if ends else None,
        )

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        self._move_on(now)
        return not self.spent and not self.held

    def _move_on(self, now: float) -> None:
        if self._clock() >= self._until:
            self._until = period_end(self._bound.period, self._clock())
            self.spent = self._told = 0
        while self._holds:
            oldest = next(iter(self._holds))
            expires_at, amount = self._holds[oldest]
            if expires_at > now:
                return
            del self._holds[oldest]
            self.held -= amount


class Places:
    """Who is there at the same time."""

    __slots__ = ("_bound", "_hold_for", "_holders", "meter", "touched")

    def __init__(self, meter: Meter, bound: Concurrency, hold_for: float) -> None:
        self._hold_for = hold_for
        self._holders: dict[str, float] = {}  # until when; the oldest first
        self.touched = False  # since it was last looked at
        self.rebind(meter, bound)

    def rebind(self, meter: Meter, bound: Concurrency) -> None:
        """Go on under other numbers."""
        self.meter = meter
        self._bound = bound

    def check(self, _amount: int, _patience: float, now: float) -> float | Refusal:
        """Zero: there is a place."""
        self._move_on(now)
        if len(self._holders) < self._bound.limit:
            return 0.0
        return Refusal(self.meter, ASK_AGAIN if self._bound.limit else None)

    def take(self, holder: str, _amount: int, now: float) -> None:
        """Hold a place, for a bounded time."""
        self._holders.pop(holder, None)
        self._holders[holder] = now + self._hold_for

    def settle(self, holder: str, _held: int, _used: int, _now: float) -> list[Crossing]:
        """Leave it."""
        self._holders.pop(holder, None)
        return []

    def level(self, now: float) -> Level:
        """How it stands."""
        self._move_on(now)
        taken = len(self._holders)
        return Level(max(0, self._bound.limit - taken), taken)

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        self._move_on(now)
        return not self._holders

    def _move_on(self, now: float) -> None:
        while self._holders:
            oldest = next(iter(self._holders))
            if self._holders[oldest] > now:
                return
            del self._holders[oldest]


MeterState: TypeAlias = Bucket | Tally | Places
