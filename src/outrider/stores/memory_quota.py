"""Limits and budgets that are counted in this process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outrider.core.quota import Charge, Concurrency, Crossing, Grant, Level, Meter, Rate, Refusal, Window
from outrider.stores.memory_meters import Bucket, MeterState, Places, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.core.ports import Clock

_AT_ONCE = Grant()
_SWEEP = 32  # meters that are added between two looks for those at rest


class MemoryQuotaStore:
    """A QuotaStore in memory. `clock` is monotonic, `wall_clock` says Unix seconds, for calendar periods.

    A hold ends by itself after `hold_for` seconds. Meters at rest are forgotten; beyond about `max_meters`
    those that are seldom used are forgotten too, whatever was spent. `opening_level` says what the bucket of
    a rate holds at first; None: all that it can.
    """

    shared = True  # nobody else counts

    def __init__(
        self,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        *,
        hold_for: float = 900.0,
        max_meters: int = 50_000,
        opening_level: Callable[[Meter], float | None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._hold_for = hold_for
        self._max_meters = max_meters
        self._opening_level = opening_level
        self._states: dict[tuple[str, str], MeterState] = {}
        self._added = 0  # since some were last forgotten

    def __len__(self) -> int:
        """How many meters are remembered."""
        return len(self._states)

    async def reserve(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        """See QuotaStore."""
        return self.reserve_now(holder, charges, patience)

    async def extend(self, holder: str, charges: Sequence[Charge]) -> Refusal | None:
        """See QuotaStore."""
        verdict = self.reserve_now(holder, charges, 0.0)
        return verdict if isinstance(verdict, Refusal) else None

    async def settle(self, holder: str, held: Sequence[Charge], used: Sequence[int]) -> Sequence[Crossing]:
        """See QuotaStore."""
        return self.settle_now(holder, held, used)

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        """See QuotaStore."""
        now = self._begin()
        return [self.state(meter).level(now) for meter in meters]

    def reserve_now(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        """Reserve without a loop."""
        now = self._begin()
        delay = 0.0
        worst: Refusal | None = None
        asked: list[tuple[MeterState, int]] = []
        for meter, amount in charges:
            state = self.state(meter)
            verdict = state.check(amount, patience, now)
            if isinstance(verdict, Refusal):
                worst = verdict if worst is None else longer(worst, verdict)
            elif verdict > delay:
                delay = verdict
            asked.append((state, amount))
        if worst is not None:
            return worst
        for state, amount in asked:
            state.take(holder, amount, now)
        return Grant(delay) if delay else _AT_ONCE

    def settle_now(self, holder: str, held: Sequence[Charge], used: Sequence[int]) -> Sequence[Crossing]:
        """Settle without a loop."""
        now = self._begin()
        crossings: list[Crossing] = []
        for (meter, amount), really in zip(held, used, strict=True):
            crossings += self.state(meter).settle(holder, amount, really, now)
        return crossings

    def state(self, meter: Meter) -> MeterState:
        """What is remembered of a meter, under its numbers of today; good until the next call."""
        state = self._states.get((meter.scope, meter.key))
        if state is None:
            state = self._states[meter.scope, meter.key] = self._new(meter)
            self._added += 1
            return state
        if state.meter.bound is not meter.bound:
            _rebind(state, meter)
        state.touched = True
        return state

    def _begin(self) -> float:
        now = self._clock()
        if self._added >= _SWEEP or len(self._states) > self._max_meters:
            self._forget_some(now)
        return now

    def _new(self, meter: Meter) -> MeterState:
        match meter.bound:
            case Rate() as bound:
                bucket = Bucket(meter, bound)
                level = self._opening_level(meter)
                if level is not None:
                    bucket.fill(level, self._clock())
                return bucket
            case Window() as bound:
                return Tally(meter, bound, self._wall_clock, self._hold_for)
            case bound:
                return Places(meter, bound, self._hold_for)

    def _forget_some(self, now: float) -> None:
        # Two are looked at for each that was added: never long at a time, and ahead of any growth.
        looks, self._added = 2 * self._added, 0
        for _ in range(min(looks, len(self._states))):
            key = next(iter(self._states))
            state = self._states.pop(key)
            crowded = len(self._states) >= self._max_meters
            if not state.is_idle(now) and (state.touched or not crowded):
                state.touched = False
                self._states[key] = state
        while len(self._states) > self._max_meters:
            del self._states[next(iter(self._states))]


def longer(one: Refusal, other: Refusal) -> Refusal:
    """The refusal that lasts longer: who waits for the shorter one would only be refused again."""
    if one.retry_after is None:
        return one
    return other if other.retry_after is None or other.retry_after > one.retry_after else one


def _rebind(state: MeterState, meter: Meter) -> None:
    match state, meter.bound:
        case (Bucket(), Rate() as rate):
            state.rebind(meter, rate)
        case (Tally(), Window() as window):
            state.rebind(meter, window)
        case (Places(), Concurrency() as concurrency):
            state.rebind(meter, concurrency)
        case _:
            raise TypeError(f"{meter.key} of {meter.scope} is bound in two ways")
