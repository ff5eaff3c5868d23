"""What holds of limits and budgets for any schedule, in memory and in Redis."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.core.quota import Charge, Grant, Period
from tests.stores.quota_rig import MemoryRig, budget, one, places, redis_rig, requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.quota import Meter
    from tests.stores.quota_rig import Rig

RATE, BURST = 60.0, 10.0  # one a second
METER = requests(RATE, BURST)
ROUNDING = 1e-3

TAKE = st.tuples(st.just("take"), st.integers(1, 10) | st.sampled_from([10, 10, 40]))
WAIT = st.tuples(st.just("wait"), st.integers(1, 200).map(lambda tenths: tenths / 10))
GIVE_BACK = st.tuples(st.just("give back"), st.integers(0, 10))
TAKES = st.lists(TAKE | WAIT, max_size=30)
TAKES_AND_RETURNS = st.lists(TAKE | WAIT | GIVE_BACK, max_size=30)

in_redis = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class History:
    """When how much could be used, in the order in which it was asked for, and what was given back."""

    taken: list[tuple[float, int]] = field(default_factory=list)
    returned: list[tuple[float, int]] = field(default_factory=list)
    slack: float = ROUNDING  # seconds that may lie between an event and its time here

    def net(self, start: float, end: float) -> float:
        within = [(self.taken, 1), (self.returned, -1)]
        return sum(sign * amount for kind, sign in within for at, amount in kind if start <= at <= end)

    def bound(self, seconds: float) -> float:
        """Rate times time + burst, or the one large take that passes a full bucket."""
        largest = max((amount for _, amount in self.taken), default=0)
        return RATE / 60 * (seconds + self.slack) + max(BURST, largest) + ROUNDING

    def times(self) -> list[float]:
        return sorted({at for at, _ in self.taken + self.returned})

    def never_exceeds_in_any_window(self) -> bool:
        windows = itertools.combinations_with_replacement(self.times(), 2)
        return all(self.net(start, end) <= self.bound(end - start) for start, end in windows)

    def never_exceeds_from_the_start(self) -> bool:
        return all(self.net(0, end) <= self.bound(end) for end in self.times())


async def play(rig: Rig, steps: Sequence[tuple[str, float]], patience: float) -> History:
    """Play a schedule on one rate."""
    history, passed, began = History(), 0.0, time.monotonic()
    real = 0.0 if isinstance(rig, MemoryRig) else 1.0
    open_ones: list[int] = []
    for what, value in steps:
        if what == "wait":
            await rig.advance(value)
            passed += value
            continue
        now = passed + real * (time.monotonic() - began)
        if what == "take":
            verdict = await rig.store.reserve("h", one(METER, int(value)), patience)
            if isinstance(verdict, Grant):
                history.taken.append((now + verdict.delay, int(value)))
                open_ones.append(int(value))
        elif open_ones:
            held = open_ones.pop(0)
            used = min(held, int(value))
            await rig.store.settle("h", one(METER, held), [used])
            history.returned.append((now, held - used))
    history.slack += real * (time.monotonic() - began)
    return history


def in_memory(steps: Sequence[tuple[str, float]], patience: float) -> History:
    return asyncio.run(play(MemoryRig(), steps, patience))


def on_redis(url: str, prefix: str, steps: Sequence[tuple[str, float]], patience: float) -> History:
    async def run() -> History:
        async with redis_rig(url, f"{prefix}{next(_RUNS)}") as rig:
            return await play(rig, steps, patience)

    return asyncio.run(run())


_RUNS = itertools.count()


@given(TAKES_AND_RETURNS)
def test_a_bucket_never_exceeds_its_rate(steps: list[tuple[str, float]]) -> None:
    """No window of any schedule brings more than rate times time + burst, net of what is given back."""
    assert in_memory(steps, 0.0).never_exceeds_in_any_window()


@given(TAKES, st.sampled_from([0.0, 3.0, 60.0, 1e4]))
def test_nor_with_those_that_wait(steps: list[tuple[str, float]], patience: float) -> None:
    """The same holds for the times at which those that wait for their place may go."""
    assert in_memory(steps, patience).never_exceeds_in_any_window()


@given(TAKES_AND_RETURNS, st.sampled_from([3.0, 60.0]))
def test_nor_in_sum(steps: list[tuple[str, float]], patience: float) -> None:
    """With waits and give-backs, the sum since the beginning is never more than the rate has brought."""
    assert in_memory(steps, patience).never_exceeds_from_the_start()


@given(TAKES, st.sampled_from([3.0, 60.0, 1e4]))
def test_places_are_given_in_order(steps: list[tuple[str, float]], patience: float) -> None:
    """Nobody goes before one who came earlier, whatever they ask for."""
    ready = [at for at, _ in in_memory(steps, patience).taken]
    assert all(earlier <= later + ROUNDING for earlier, later in itertools.pairwise(ready))


@in_redis
@given(TAKES_AND_RETURNS)
def test_a_bucket_in_redis_never_exceeds_its_rate(
    redis_url: str, prefix: str, steps: list[tuple[str, float]]
) -> None:
    """The same in Redis, within the time that the test took."""
    assert on_redis(redis_url, prefix, steps, 0.0).never_exceeds_in_any_window()


@in_redis
@given(TAKES, st.sampled_from([3.0, 60.0]))
def test_places_in_redis_are_given_in_order(
    redis_url: str, prefix: str, steps: list[tuple[str, float]], patience: float
) -> None:
    """The same in Redis: bounded in any window, and in order."""
    history = on_redis(redis_url, prefix, steps, patience)
    assert history.never_exceeds_in_any_window()
    assert all(
        earlier <= later + history.slack for (earlier, _), (later, _) in itertools.pairwise(history.taken)
    )


DAY_BUDGET, TOTAL, FEW = budget(500), budget(900, "user=eve", Period.TOTAL), places(4)
METERS = [DAY_BUDGET, TOTAL, FEW]
HOLDERS = st.integers(0, 5)
BOOKINGS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "extend", "settle"]), HOLDERS, st.integers(1, 200), st.integers(0, 250)
    ),
    max_size=40,
)


@dataclass
class Books:
    """What the callers know of what they hold and have used."""

    rig: Rig
    held: dict[str, Counter[Meter]] = field(default_factory=dict)
    used: Counter[Meter] = field(default_factory=Counter)

    async def book(self, what: str, holder: str, amount: int, used: int) -> None:
        if what == "settle":
            await self.settle(holder, used)
        elif what == "extend" and holder in self.held:
            more = [Charge(DAY_BUDGET, amount), Charge(TOTAL, amount)]
            if await self.rig.store.extend(holder, more) is None:
                self.held[holder].update({charge.meter: amount for charge in more})
        elif what == "reserve" and holder not in self.held:
            charges = [Charge(DAY_BUDGET, amount), Charge(TOTAL, amount), Charge(FEW, 1)]
            if isinstance(await self.rig.store.reserve(holder, charges, 0.0), Grant):
                self.held[holder] = Counter({charge.meter: charge.amount for charge in charges})

    async def settle(self, holder: str, used: int) -> None:
        held = self.held.pop(holder, None)
        if held is None:
            return
        amounts = [0 if meter is FEW else min(used, held[meter]) for meter in METERS]
        await self.rig.store.settle(holder, [Charge(meter, held[meter]) for meter in METERS], amounts)
        self.used.update(dict(zip(METERS, amounts, strict=True)))

    async def are_right(self) -> bool:
        levels = await self.rig.store.levels(METERS)
        reserved = Counter[str]()
        for held in self.held.values():
            reserved.update(held)
        return all(
            level.reserved == reserved[meter]
            and level.remaining == meter.bound.limit - self.used[meter] - reserved[meter]
            for meter, level in zip(METERS, levels, strict=True)
        )


async def keep_books(rig: Rig, bookings: Sequence[tuple[str, int, int, int]], *, at_once: int) -> None:
    books = Books(rig)
    for start in range(0, len(bookings), at_once):
        some = {
            str(holder): (what, amount, used)
            for what, holder, amount, used in bookings[start : start + at_once]
        }
        await asyncio.gather(*(books.book(what, holder, n, used) for holder, (what, n, used) in some.items()))
        await rig.at_rest()
        assert await books.are_right()
    for holder in list(books.held):
        await books.settle(holder, 1)
    assert not books.held
    assert await books.are_right()


@given(BOOKINGS)
def test_reserve_and_settle_conserve(bookings: list[tuple[str, int, int, int]]) -> None:
    """After any order of calls, what is held and spent is what callers hold and have used."""
    asyncio.run(keep_books(MemoryRig(), bookings, at_once=1))


@in_redis
@given(BOOKINGS, st.integers(1, 5))
def test_reserve_and_settle_conserve_in_redis(
    redis_url: str, prefix: str, bookings: list[tuple[str, int, int, int]], at_once: int
) -> None:
    """The same in Redis, with several at the same time."""

    async def run() -> None:
        async with redis_rig(redis_url, f"{prefix}{next(_RUNS)}") as rig:
            await keep_books(rig, bookings, at_once=at_once)

    asyncio.run(run())
