"""What this sidecar has to tell Redis about limits and budgets once that is back."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from outrider.core.quota import Charge, Concurrency, Crossing, Meter
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_quota import is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.core.ports import Clock
    from outrider.stores.redis_quota import RedisQuotaStore

_MOST = 10_000  # reservations that are not settled; meters that something is owed on; crossings not yet told
_AT_ONCE = 100


class _Unsettled(NamedTuple):
    holder: str
    held: Sequence[Charge]
    used: Sequence[int]
    sent: bool  # without an answer: Redis may have it

    def sent_once(self) -> _Unsettled:
        """What may be sent again: the holds, which are ended once. Of a rate too much might come back."""
        again = [pair for pair in zip(self.held, self.used, strict=True) if is_held(pair[0])]
        return _Unsettled(self.holder, [held for held, _ in again], [used for _, used in again], sent=True)


@dataclass(frozen=True, slots=True)
class _Bill:
    """Sent under one name until it is answered, so that it counts once."""

    name: str
    charges: Sequence[Charge]
    since: float


class QuotaDebt:
    """Settlements that Redis did not confirm, and what was used of this sidecar's share.

    Bounded: beyond that the oldest settlement is dropped, whose hold ends by itself, and meters that come
    new are not charged. `saw` is told what Redis has left of a meter that was charged.
    """

    def __init__(self, redis: RedisQuotaStore, clock: Clock, saw: Callable[[Meter, int], None]) -> None:
        self._redis = redis
        self._clock = clock
        self._saw = saw
        self._unsettled: deque[_Unsettled] = deque(maxlen=_MOST)
        self._used: dict[tuple[str, str], Charge] = {}
        self._since: float | None = None  # when the first of it was taken
        self._bills: deque[_Bill] = deque()
        self._crossings: deque[Crossing] = deque(maxlen=_MOST)

    def __bool__(self) -> bool:
        return bool(self._unsettled or self._used or self._bills)

    def unsettled(self, holder: str, held: Sequence[Charge], used: Sequence[int], *, sent: bool) -> None:
        """A reservation in Redis ended. `sent`: Redis may know."""
        one = _Unsettled(holder, held, used, sent=False)
        self._unsettled.append(one.sent_once() if sent else one)

    def unused(self, holder: str, charges: Sequence[Charge]) -> None:
        """What Redis may hold for a holder ended without use."""
        self.unsettled(holder, charges, [0] * len(charges), sent=True)

    def used(self, charges: Sequence[Charge], used: Sequence[int]) -> None:
        """So much was used of this sidecar's share."""
        self.begin()
        for (meter, _), amount in zip(charges, used, strict=True):
            key = (meter.scope, meter.key)
            before = self._used.get(key)
            if not amount or isinstance(meter.bound, Concurrency):
                continue
            if before is not None or len(self._used) < _MOST:
                self._used[key] = Charge(meter, amount + (before.amount if before else 0))

    def begin(self) -> None:
        """This sidecar takes of its share, from now on if not already."""
        if self._since is None:
            self._since = self._clock()

    def crossings(self) -> list[Crossing]:
        """Thresholds that were crossed when Redis was told, each once."""
        told = list(self._crossings)
        self._crossings.clear()
        return told

    async def pay(self) -> None:
        """Tell Redis everything. Raises StoreUnavailableError; what is left is told by the next call."""
        while self._unsettled:
            await self._settle_some()
        self._write_bills()
        while self._bills:
            bill = self._bills[0]
            away = self._clock() - bill.since
            self._crossings += await self._redis.charge(bill.name, bill.charges, away)
            self._bills.popleft()
            meters = [charge.meter for charge in bill.charges]
            for meter, level in zip(meters, await self._redis.levels(meters), strict=True):
                self._saw(meter, level.remaining)

    async def _settle_some(self) -> None:
        some = list(islice(self._unsettled, _AT_ONCE))
        for _ in some:
            self._unsettled.popleft()
        settling = [self._redis.settle(one.holder, one.held, one.used, only_if_held=one.sent) for one in some]
        answers = await asyncio.gather(*settling, return_exceptions=True)
        failed: BaseException | None = None
        for one, answer in zip(some, answers, strict=True):
            if isinstance(answer, BaseException):
                failed = answer
                if isinstance(answer, StoreUnavailableError):
                    self._unsettled.append(one.sent_once())
            else:
                self._crossings += answer
        if failed is not None:
            raise failed

    def _write_bills(self) -> None:
        charges = list(self._used.values())
        since = self._clock() if self._since is None else self._since
        self._used.clear()
        self._since = None
        for start in range(0, len(charges), _AT_ONCE):
            self._bills.append(_Bill(uuid.uuid4().hex, charges[start : start + _AT_ONCE], since))
