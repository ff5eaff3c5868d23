"""What every QuotaStore does, wherever it counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from outrider.core.quota import Charge, Grant, Level, Period, Refusal
from tests.stores.quota_rig import DAY, HOLD_FOR, MemoryRig, budget, one, places, redis_rig, requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.stores.quota_rig import Rig

ABOUT = 0.5  # seconds that real Redis time may pass in a test


@pytest.fixture
def memory_rig() -> MemoryRig:
    return MemoryRig()


@pytest.fixture
async def shared_rig(redis_url: str, prefix: str) -> AsyncIterator[Rig]:
    async with redis_rig(redis_url, prefix) as rig:
        yield rig


@pytest.fixture(params=["memory_rig", "shared_rig"])
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue(request.param)
    return found


async def delay_of(rig: Rig, *charges: Charge, holder: str = "h", patience: float = 1e5) -> float:
    verdict = await rig.store.reserve(holder, charges, patience)
    assert isinstance(verdict, Grant)
    return verdict.delay


async def refusal_of(rig: Rig, *charges: Charge, holder: str = "h", patience: float = 0.0) -> Refusal:
    verdict = await rig.store.reserve(holder, charges, patience)
    assert isinstance(verdict, Refusal)
    return verdict


async def test_a_rate_gives_its_burst_and_then_places_in_line(rig: Rig) -> None:
    """The burst passes at once; each further one gets the next place in the future."""
    meter = requests(6, 3)
    delays = [await delay_of(rig, Charge(meter, 1)) for _ in range(5)]
    assert delays == pytest.approx([0, 0, 0, 10, 20], abs=ABOUT)
    refused = await refusal_of(rig, Charge(meter, 1), patience=20)
    assert refused.meter == meter
    assert refused.retry_after == pytest.approx(30, abs=ABOUT)
    assert refused.remaining == 0
    await rig.advance(30)
    assert await delay_of(rig, Charge(meter, 1)) == pytest.approx(0, abs=ABOUT)


async def test_a_rate_refills_evenly_up_to_its_burst(rig: Rig) -> None:
    """After any time of rest no more than the burst is there."""
    meter = requests(60, 5)
    await delay_of(rig, Charge(meter, 5))
    await rig.advance(3)
    assert (await rig.store.levels([meter]))[0].remaining == 3
    await rig.advance(1000)
    assert await rig.store.levels([meter]) == [Level(5)]


async def test_a_large_take_passes_and_owes(rig: Rig) -> None:
    """More than the burst passes when the bucket is full; who comes next waits for what it cost."""
    meter = requests(60, 10)
    assert await delay_of(rig, Charge(meter, 40)) == 0
    assert await delay_of(rig, Charge(meter, 10)) == pytest.approx(40, abs=ABOUT)


async def test_a_large_take_does_not_starve(rig: Rig) -> None:
    """Small takes that come after a large one that waits wait behind it."""
    meter = requests(60, 10)
    await delay_of(rig, Charge(meter, 5))
    large = await delay_of(rig, Charge(meter, 40))
    small = await delay_of(rig, Charge(meter, 1))
    assert large == pytest.approx(5, abs=ABOUT)
    assert small > large


async def test_what_no_minute_gives_never_passes(rig: Rig) -> None:
    """An amount above what a minute brings is refused for good, whatever the patience."""
    meter = requests(60, 10)
    assert (await refusal_of(rig, Charge(meter, 61), patience=1e5)).retry_after is None
    assert await delay_of(rig, Charge(meter, 60)) == 0


async def test_what_is_given_back_can_be_had_again(rig: Rig) -> None:
    """A reservation that is not used leaves no trace; what is used beyond it is owed."""
    meter = requests(6, 10)
    for _ in range(3):
        assert await delay_of(rig, Charge(meter, 10)) == pytest.approx(0, abs=ABOUT)
        await rig.store.settle("h", one(meter, 10), [0])
    await delay_of(rig, Charge(meter, 5))
    await rig.store.settle("h", one(meter, 5), [12])
    assert await delay_of(rig, Charge(meter, 1)) == pytest.approx(30, abs=ABOUT)


async def test_giving_back_never_overfills(rig: Rig) -> None:
    """What comes back late, after the bucket has refilled, makes no more than the burst."""
    meter = requests(60, 5)
    await delay_of(rig, Charge(meter, 5))
    await rig.advance(60)
    await rig.store.settle("h", one(meter, 5), [0])
    assert (await rig.store.levels([meter]))[0].remaining == 5


@pytest.mark.parametrize("scope", ["tenant=acme", "provider=groq"])
async def test_all_or_none(rig: Rig, scope: str) -> None:
    """Where one of several refuses, in one scope or in another, nothing is taken of any."""
    rate, spent, few = requests(60, 10), budget(100), places(1, scope)
    await delay_of(rig, Charge(few, 1), holder="first")
    refused = await refusal_of(rig, Charge(rate, 10), Charge(spent, 100), Charge(few, 1))
    assert refused.meter == few
    await rig.at_rest()
    assert [level.remaining for level in await rig.store.levels([rate, spent, few])] == [10, 100, 0]
    await rig.store.settle("first", one(few), [0])
    assert await delay_of(rig, Charge(rate, 10), Charge(spent, 100), Charge(few, 1)) == 0


async def test_the_longest_refusal_is_told(rig: Rig) -> None:
    """Of several refusals the one that lasts longest is told: who waits for another is only refused again."""
    rate, spent, other = requests(60, 1), budget(10), budget(10, "provider=groq", Period.TOTAL)
    await delay_of(rig, Charge(rate, 1), Charge(spent, 10))
    refused = await refusal_of(rig, Charge(rate, 1), Charge(spent, 5))
    assert refused.meter == spent
    await delay_of(rig, Charge(other, 10))
    refused = await refusal_of(rig, Charge(spent, 5), Charge(other, 5), Charge(requests(60, 1, "x"), 1))
    assert (refused.meter, refused.retry_after) == (other, None)


async def test_a_window_holds_and_counts(rig: Rig) -> None:
    """What is held cannot be had; what was used stays, also beyond what was held; the rest comes back."""
    meter = budget(100)
    await delay_of(rig, Charge(meter, 60), holder="a")
    refused = await refusal_of(rig, Charge(meter, 41), holder="b")
    assert (refused.meter, refused.remaining) == (meter, 40)
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= DAY
    await rig.store.settle("a", one(meter, 60), [10])
    await delay_of(rig, Charge(meter, 90), holder="b")
    await rig.store.settle("b", one(meter, 90), [95])
    level = (await rig.store.levels([meter]))[0]
    assert (level.remaining, level.reserved) == (0, 0)
    assert (await refusal_of(rig, Charge(meter, 1))).remaining == 0


@pytest.mark.parametrize("period", [Period.DAY, Period.WEEK, Period.MONTH])
async def test_a_period_ends(rig: Rig, period: Period) -> None:
    """A new period begins with nothing spent; what is held stays held, and counts once it is settled."""
    meter = budget(100, period=period, soft=(0.5,))
    await delay_of(rig, Charge(meter, 60), holder="a")
    assert len(await rig.store.settle("a", one(meter, 60), [60])) == 1
    resets_in = (await rig.store.levels([meter]))[0].resets_in
    assert resets_in is not None
    await rig.advance(resets_in - 10)
    await delay_of(rig, Charge(meter, 40), holder="b")
    await rig.advance(11)
    assert (await rig.store.levels([meter]))[0].remaining == 60
    assert len(await rig.store.settle("b", one(meter, 40), [70])) == 1
    assert (await rig.store.levels([meter]))[0].remaining == 30


async def test_a_total_never_ends(rig: Rig) -> None:
    """What a total has spent stays spent; nobody is told to come again."""
    meter = budget(100, period=Period.TOTAL)
    await delay_of(rig, Charge(meter, 100))
    await rig.store.settle("h", one(meter, 100), [100])
    await rig.advance(40 * DAY)
    assert (await refusal_of(rig, Charge(meter, 1))).retry_after is None
    assert await rig.store.levels([meter]) == [Level(0)]


async def test_a_hold_ends_by_itself(rig: Rig) -> None:
    """What nobody settles is free again after a time; settled later, what was used counts all the same."""
    meter = budget(100)
    await delay_of(rig, Charge(meter, 100), holder="crashed")
    await rig.advance(HOLD_FOR - 5)
    await refusal_of(rig, Charge(meter, 1))
    await rig.advance(10)
    assert await rig.store.levels([meter]) == [Level(100)]
    await delay_of(rig, Charge(meter, 10), holder="next")
    await rig.store.settle("crashed", one(meter, 100), [30])
    level = (await rig.store.levels([meter]))[0]
    assert (level.remaining, level.reserved) == (60, 10)


async def test_soft_thresholds_are_told_once(rig: Rig) -> None:
    """Each share that spending crosses is told once in a period, in order, and a reservation crosses none."""
    meter = budget(100, soft=(0.95, 0.5, 0.8))
    told = []
    for amount in (49, 1, 40, 4, 6):
        await delay_of(rig, Charge(meter, amount))
        told.append(await rig.store.settle("h", one(meter, amount), [amount]))
    assert [[(c.share, c.spent) for c in each] for each in told] == [
        [],
        [(0.5, 50)],
        [(0.8, 90)],
        [],
        [(0.95, 100)],
    ]
    assert all(crossing.meter == meter for each in told for crossing in each)


async def test_a_soft_budget_never_refuses(rig: Rig) -> None:
    """One that is not hard only counts, also beyond its end."""
    meter = budget(100, hard=False, soft=(1.0,))
    await delay_of(rig, Charge(meter, 90), holder="a")
    await delay_of(rig, Charge(meter, 90), holder="b")
    await rig.store.settle("a", one(meter, 90), [90])
    assert len(await rig.store.settle("b", one(meter, 90), [90])) == 1
    assert (await rig.store.levels([meter]))[0].remaining == 0


async def test_so_many_at_once(rig: Rig) -> None:
    """A place is taken until it is left; who finds none is told to ask again soon."""
    meter = places(2)
    await delay_of(rig, Charge(meter, 1), holder="a")
    await delay_of(rig, Charge(meter, 1), holder="b")
    refused = await refusal_of(rig, Charge(meter, 1), holder="c")
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 1
    assert await rig.store.levels([meter]) == [Level(0, 2)]
    await rig.store.settle("a", one(meter), [0])
    await delay_of(rig, Charge(meter, 1), holder="c")


async def test_a_holder_that_runs_takes_more(rig: Rig) -> None:
    """An extension is held and settled with the rest; what is not there is refused, and nothing taken."""
    spent, rate = budget(100), requests(60, 10)
    await delay_of(rig, Charge(spent, 60), Charge(rate, 5))
    assert await rig.store.extend("h", [Charge(spent, 30), Charge(rate, 5)]) is None
    refused = await rig.store.extend("h", [Charge(spent, 20)])
    assert refused is not None
    assert (refused.meter, refused.remaining) == (spent, 10)
    await rig.store.settle("h", [Charge(spent, 90), Charge(rate, 10)], [70, 0])
    levels = await rig.store.levels([spent, rate])
    assert [(level.remaining, level.reserved) for level in levels] == [(30, 0), (10, 0)]


async def test_levels_take_nothing(rig: Rig) -> None:
    """Levels say what is left, what is held and when all is back, and change none of it."""
    meters = [requests(6, 10), budget(100), places(3), budget(7, "user=eve", Period.TOTAL)]
    assert await rig.store.levels(meters) == [Level(10), Level(100), Level(3), Level(7)]
    await delay_of(rig, Charge(meters[0], 4), Charge(meters[1], 30), Charge(meters[2], 1))
    for _ in range(2):
        rate, day, few, total = await rig.store.levels(meters)
        assert (rate.remaining, rate.reserved, rate.resets_in) == (6, 0, pytest.approx(40, abs=ABOUT))
        assert (day.remaining, day.reserved) == (70, 30)
        assert day.resets_in is not None
        assert 0 < day.resets_in <= DAY
        assert (few, total) == (Level(2, 1), Level(7))


async def test_nothing_to_take(rig: Rig) -> None:
    """No charges are granted, settled and levelled at once."""
    assert await rig.store.reserve("h", [], 0.0) == Grant()
    assert list(await rig.store.settle("h", [], [])) == []
    assert list(await rig.store.levels([])) == []


async def test_parallel_callers_never_overshoot(rig: Rig) -> None:
    """Row 29: of 200 parallel reservations on one budget as many pass as fit, and all their use counts."""
    meter = budget(10_000)

    async def call(i: int) -> int:
        if isinstance(await rig.store.reserve(f"h{i}", one(meter, 130), 0.0), Refusal):
            return 0
        await asyncio.sleep(0)
        await rig.store.settle(f"h{i}", one(meter, 130), [100 + i % 31])
        return 100 + i % 31

    held = await asyncio.gather(*(rig.store.reserve(f"held{i}", one(meter, 100), 0.0) for i in range(50)))
    assert all(isinstance(verdict, Grant) for verdict in held)
    used = await asyncio.gather(*(call(i) for i in range(200)))
    level = (await rig.store.levels([meter]))[0]
    assert level.reserved == 5_000
    assert level.remaining == 5_000 - sum(used)
    assert 3_800 <= sum(used) <= 5_000
