"""Limits and budgets that a fleet counts together in Redis: exact, whatever the sidecars' clocks say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from redis.exceptions import ResponseError

from outrider.core.quota import Charge, Crossing, Grant, Level, Meter, Rate, Refusal, Window
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.memory_quota import longer
from outrider.stores.places import Places
from outrider.stores.quota_script import SCRIPT, SECOND, arguments_of, keys_of, once_key
from outrider.stores.redis_link import Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from outrider.stores.redis_link import RedisLink

_log = structlog.get_logger("outrider.quota")

_AT_ONCE = Grant()
_LONGEST_PATIENCE = 86_400.0


class RedisQuotaStore:
    """A QuotaStore whose amounts are in Redis; raises StoreUnavailableError where that is away.

    One script call for each scope, all in one round trip. What a window holds for a request ends by itself
    `hold_for` seconds after it was taken. A place of a concurrency ends `lease` seconds after its sidecar was
    last alive: places are renewed between `start` and `aclose`. `on_level` is told what a reservation left.
    """

    shared = True

    def __init__(
        self,
        link: RedisLink,
        *,
        hold_for: float = 900.0,
        lease: float = 60.0,
        on_level: Callable[[Meter, int], None] = lambda _meter, _remaining: None,
    ) -> None:
        self._link = link
        self._hold_for = int(hold_for * SECOND)
        self._on_level = on_level
        self._giving_back: set[asyncio.Task[None]] = set()
        self._told = False  # that Redis refuses the script
        self.places = Places(link, lease)

    async def start(self) -> None:
        """Begin to renew places."""
        self.places.start()

    async def aclose(self) -> None:
        """Stop, and let what is under way end: the link bounds it."""
        await self.places.aclose()
        await asyncio.gather(*self._giving_back, return_exceptions=True)

    async def reserve(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        """See QuotaStore; one round trip."""
        scopes = _by_scope((charge, 0) for charge in charges)
        numbers = (int(min(patience, _LONGEST_PATIENCE) * SECOND), self._hold_for)
        try:
            replies = await self._ask("reserve", holder, numbers, scopes)
        except asyncio.CancelledError:
            # Nobody knows whether it was taken. What is kept by holder goes back; of a rate too much might.
            self.release(holder, [charge for charge in charges if is_held(charge)])
            raise
        return self._judge(holder, scopes, replies)

    async def extend(self, holder: str, charges: Sequence[Charge]) -> Refusal | None:
        """See QuotaStore."""
        verdict = await self.reserve(holder, charges, 0.0)
        return verdict if isinstance(verdict, Refusal) else None

    async def settle(
        self, holder: str, held: Sequence[Charge], used: Sequence[int], *, only_if_held: bool = False
    ) -> Sequence[Crossing]:
        """See QuotaStore; one round trip.

        `only_if_held`: this was asked before, and the answer lost: windows that hold nothing for the holder
        have been settled, and count nothing.
        """
        if not only_if_held:
            self.places.leave(holder, held)
        changes = [
            (charge, really)
            for charge, really in zip(held, used, strict=True)
            if charge.amount != really or is_held(charge)
        ]
        return await self._count("settle", holder, (int(only_if_held), 0), changes)

    async def charge(self, name: str, used: Sequence[Charge], away: float) -> Sequence[Crossing]:
        """Count what was used in the last `away` seconds without having been reserved here.

        Sent again under the same `name`, because an answer was lost, it counts nothing again.
        """
        changes = [(charge, charge.amount) for charge in used]
        return await self._count("charge", name, (int(away * SECOND), 0), changes)

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        """See QuotaStore; one round trip."""
        scopes = _by_scope((Charge(meter, 0), 0) for meter in meters)
        replies = await self._ask("level", "", (0, 0), scopes)
        found: dict[Meter, Level] = {}
        for scope, reply in zip(scopes, _answers(replies), strict=True):
            for charge, (remaining, reserved, resets_in) in zip(scope.charges, _threes(reply), strict=True):
                seconds = resets_in / SECOND if resets_in > 0 else None
                found[charge.meter] = Level(remaining, reserved, seconds)
        return [found[meter] for meter in meters]

    def release(self, holder: str, charges: Sequence[Charge]) -> None:
        """Give everything back, without waiting for it."""
        if charges:
            task = asyncio.create_task(self._give_back(holder, charges))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, holder: str, charges: Sequence[Charge]) -> None:
        try:
            await self._count("give_back", holder, (0, 0), ((charge, 0) for charge in charges))
        except StoreUnavailableError:
            return  # holds end by themselves

    def _judge(self, holder: str, scopes: Sequence[_Scope], replies: Sequence[Any]) -> Grant | Refusal:
        granted: list[Charge] = []
        delay = 0
        worst: Refusal | None = None
        error: BaseException | None = None
        for (charges, _), reply in zip(scopes, replies, strict=True):
            if isinstance(reply, BaseException):
                error = reply
            elif reply[0] < 0:
                refusal = _refusal(charges, reply)
                worst = refusal if worst is None else longer(worst, refusal)
            else:
                granted += charges
                delay = max(delay, reply[0])
                for charge, remaining in zip(charges, reply[1:], strict=True):
                    self._on_level(charge.meter, remaining)
        if worst is None and error is None:
            self.places.enter(holder, granted)
            return Grant(delay / SECOND) if delay else _AT_ONCE
        self.release(holder, granted)
        if worst is not None:
            return worst
        raise StoreUnavailableError("Redis did not answer for every scope") from error

    async def _count(
        self, todo: str, holder: str, numbers: tuple[int, int], changes: Iterable[tuple[Charge, int]]
    ) -> Sequence[Crossing]:
        scopes = _by_scope(changes)
        replies = await self._ask(todo, holder, numbers, scopes)
        crossings: list[Crossing] = []
        for scope, reply in zip(scopes, _answers(replies), strict=True):
            if reply is not None:  # None: it was counted before
                crossings += _crossings(scope.charges, reply)
        return crossings

    async def _ask(
        self, todo: str, holder: str, numbers: tuple[int, int], scopes: Sequence[_Scope]
    ) -> list[Any]:
        """What Redis says of every scope, or StoreUnavailableError. They are asked in this very step."""
        sent = [self._send(todo, holder, numbers, scope) for scope in scopes]
        try:
            return [await self._reply(each) for each in sent]
        except asyncio.CancelledError:
            for each in sent:
                if isinstance(each, Sent):
                    each.drop()
            raise

    def _send(
        self, todo: str, holder: str, numbers: tuple[int, int], scope: _Scope
    ) -> Sent | StoreUnavailableError:
        prefix = self._link.prefix
        keys = keys_of(prefix, scope.charges)
        if todo == "charge":
            keys.insert(0, once_key(prefix, scope.charges[0].meter.scope, holder))
        what = arguments_of(*scope, self.places.lease, taking=todo == "reserve")
        try:
            return self._link.send(SCRIPT, keys, [todo, holder, *numbers, *what])
        except StoreUnavailableError as error:
            return error

    async def _reply(self, sent: Sent | StoreUnavailableError) -> Any:
        if isinstance(sent, StoreUnavailableError):
            return sent
        try:
            return await sent
        except StoreUnavailableError as error:
            return error
        except ResponseError as error:
            if not self._told:
                self._told = True
                _log.error("quota_script_refused", error=str(error))
            return StoreUnavailableError(f"Redis refused the script: {error}")


class _Scope(NamedTuple):
    """What one call is about."""

    charges: list[Charge]
    used: list[int]


def is_held(charge: Charge) -> bool:
    """Whether Redis knows who holds it: giving back what was never taken does nothing then."""
    return not isinstance(charge.meter.bound, Rate)


def _by_scope(changes: Iterable[tuple[Charge, int]]) -> list[_Scope]:
    scopes: dict[str, _Scope] = {}
    for charge, used in changes:
        scope = scopes.get(charge.meter.scope)
        if scope is None:
            scope = scopes[charge.meter.scope] = _Scope([], [])
        scope.charges.append(charge)
        scope.used.append(used)
    return list(scopes.values())


def _answers(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, StoreUnavailableError):
            raise reply
    return replies


def _refusal(charges: Sequence[Charge], reply: Sequence[int]) -> Refusal:
    _, index, microseconds, remaining = reply
    return Refusal(charges[index].meter, microseconds / SECOND if microseconds >= 0 else None, remaining)


def _crossings(charges: Sequence[Charge], reply: Sequence[int]) -> Iterable[Crossing]:
    for (meter, _), (before, told, spent) in zip(charges, _threes(reply), strict=True):
        if isinstance(meter.bound, Window) and told > before:
            for share in sorted(meter.bound.soft)[before:told]:
                yield Crossing(meter, share, spent)


def _threes(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
