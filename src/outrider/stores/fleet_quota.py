"""Limits and budgets of a fleet: counted in Redis; while that is away, by each sidecar for its own share."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from outrider.core.quota import Charge, Concurrency, Crossing, Grant, Level, Meter, Refusal
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.memory_meters import ASK_AGAIN
from outrider.stores.memory_quota import MemoryQuotaStore
from outrider.stores.quota_debt import QuotaDebt
from outrider.stores.quota_share import QuotaShare
from outrider.stores.redis_quota import RedisQuotaStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.core.ports import Clock
    from outrider.stores.quota_share import Membership
    from outrider.stores.redis_link import RedisLink


_FIRST_PAUSE = 0.25  # seconds until Redis, which did not answer, is told again
_LONGEST_PAUSE = 5.0
_LAST_WORDS = 1.0


class FleetQuotaStore:
    """A QuotaStore that never raises for Redis, nor waits for it longer than the link does.

    While Redis is away, or for the one call that it does not answer, this sidecar goes on with its share of
    what was left. What it used then is charged to Redis once that is back, and the share forgotten.
    """

    def __init__(
        self,
        link: RedisLink,
        fleet: Membership,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        hold_for: float = 900.0,
        lease: float = 60.0,
    ) -> None:
        self._link = link
        self._clock = clock
        self._wall_clock = wall_clock
        self._hold_for = hold_for
        self._share = QuotaShare(fleet, clock, wall_clock)
        self._redis = RedisQuotaStore(link, hold_for=hold_for, lease=lease, on_level=self._share.saw)
        self._debt = QuotaDebt(self._redis, clock, self._share.saw)
        self._local = self._fresh()
        self._alone: dict[str, _Alone] = {}  # by holder
        self._returning: asyncio.Task[None] | None = None
        link.on_change(self._link_changed)

    @property
    def shared(self) -> bool:
        """See QuotaStore."""
        return self._link.available

    async def start(self) -> None:
        """Begin to keep places; the link and the fleet are started by their owner."""
        await self._redis.start()

    async def aclose(self) -> None:
        """Stop; to be called before the link's. What Redis has not been told after a second is lost."""
        if self._returning is not None:
            await asyncio.wait([self._returning], timeout=_LAST_WORDS if self._link.available else 0)
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        await self._redis.aclose()

    async def reserve(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        """See QuotaStore."""
        if self._link.available:
            try:
                return await self._redis.reserve(holder, charges, patience)
            except StoreUnavailableError:
                self._debt.unused(holder, charges)  # it may have been taken
                self._return_soon()
        return self._take_alone(holder, charges, patience)

    async def extend(self, holder: str, charges: Sequence[Charge]) -> Refusal | None:
        """See QuotaStore."""
        if self._link.available and holder not in self._alone:
            with suppress(StoreUnavailableError):
                return await self._redis.extend(holder, charges)
        verdict = self._take_alone(holder, charges, 0.0)
        return verdict if isinstance(verdict, Refusal) else None

    async def settle(self, holder: str, held: Sequence[Charge], used: Sequence[int]) -> Sequence[Crossing]:
        """See QuotaStore; at once while Redis is away."""
        alone = self._alone.pop(holder, None)
        if alone is not None:
            held = self._end_alone(holder, alone, held, used)
            if not any(charge.amount for charge in held):
                self._debt.used(held, used)
                if alone.has_places:
                    self._debt.unused(holder, held)
                self._return_soon()
                return self._debt.crossings()
        sent = self._link.available
        try:
            crossings = await self._redis.settle(holder, held, used)
        except StoreUnavailableError:
            self._debt.unsettled(holder, held, used, sent=sent)
            self._return_soon()
            return self._debt.crossings()
        return [*self._debt.crossings(), *crossings]

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        """See QuotaStore; of this sidecar's share while Redis is away."""
        if self._link.available:
            with suppress(StoreUnavailableError):
                return await self._redis.levels(meters)
        return [await self._level_alone(meter) for meter in meters]

    def _take_alone(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        for meter, _ in charges:
            taken = self._redis.places.taken(meter)
            if isinstance(meter.bound, Concurrency) and taken >= self._share.places(meter.bound):
                return Refusal(meter, ASK_AGAIN)
        verdict = self._local.reserve_now(holder, self._parts(charges), patience)
        if isinstance(verdict, Refusal):
            return replace(verdict, meter=next(meter for meter, _ in charges if _same(meter, verdict.meter)))
        self._debt.begin()
        self._alone.setdefault(holder, _Alone(self._local)).charges.extend(charges)
        self._redis.places.enter(holder, charges)
        return verdict

    def _end_alone(
        self, holder: str, alone: _Alone, held: Sequence[Charge], used: Sequence[int]
    ) -> list[Charge]:
        """End what a holder took here. Returns what of `held` is in Redis, mostly nothing."""
        here: dict[Meter, int] = {}
        for meter, amount in alone.charges:
            here[meter] = here.get(meter, 0) + amount
        rest = [Charge(meter, max(0, amount - here.get(meter, 0))) for meter, amount in held]
        parts = self._parts([Charge(meter, here.get(meter, 0)) for meter, _ in held])
        alone.store.settle_now(
            holder, parts, [n for (meter, _), n in zip(held, used, strict=True) if _is_sum(meter)]
        )
        self._redis.places.leave(holder, held)
        return rest

    async def _level_alone(self, meter: Meter) -> Level:
        if isinstance(meter.bound, Concurrency):
            taken = self._redis.places.taken(meter)
            return Level(max(0, self._share.places(meter.bound) - taken), taken)
        return (await self._local.levels([self._share.of(meter)]))[0]

    def _parts(self, charges: Sequence[Charge]) -> list[Charge]:
        return [Charge(self._share.of(meter), amount) for meter, amount in charges if _is_sum(meter)]

    def _fresh(self) -> MemoryQuotaStore:
        return MemoryQuotaStore(
            self._clock,
            self._wall_clock,
            hold_for=self._hold_for,
            opening_level=self._share.opening_level,
        )

    def _link_changed(self, available: bool) -> None:
        if available:
            self._return_soon()

    def _return_soon(self) -> None:
        if self._link.available and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        """Tell Redis what happened without it, and forget it here."""
        pause = _FIRST_PAUSE
        while self._link.available:
            try:
                await self._debt.pay()
                for alone in self._alone.values():
                    alone.has_places = True
                await self._redis.places.renew()
            except StoreUnavailableError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if not self._debt:
                    self._local = self._fresh()
                    return


@dataclass(slots=True)
class _Alone:
    """What a holder took of this sidecar's share, and where."""

    store: MemoryQuotaStore
    charges: list[Charge] = field(default_factory=list)
    has_places: bool = False  # in Redis, since that came back


def _is_sum(meter: Meter) -> bool:
    return not isinstance(meter.bound, Concurrency)


def _same(one: Meter, other: Meter) -> bool:
    return one.scope == other.scope and one.key == other.key
