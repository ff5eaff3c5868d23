from __future__ import annotations

import pytest

from outrider.core.quota import Charge, Grant, Level, Meter, Period, Refusal, Unit, Window
from outrider.stores.memory_quota import MemoryQuotaStore
from tests.stores.quota_rig import DAY, Clocks, MemoryRig, budget, one, places, requests


async def test_made_up_tenants_are_forgotten() -> None:
    """10,000 made-up tenants leave next to nothing once their buckets are full again."""
    rig = MemoryRig()
    for i in range(10_000):
        await rig.store.reserve("h", one(requests(60, 10, f"tenant={i}")), 0.0)
        await rig.advance(0.5)
    assert len(rig.store) < 100


async def test_memory_is_bounded() -> None:
    """Beyond the most that is remembered, who is seldom seen is forgotten, and who is often seen is not."""
    clocks = Clocks()
    store = MemoryQuotaStore(lambda: clocks.monotonic, lambda: clocks.wall, max_meters=100)
    busy = budget(10_000, "tenant=busy", Period.TOTAL)
    for i in range(3_000):
        charges = [Charge(budget(10, f"tenant={i}", Period.TOTAL), 1), Charge(busy, 1)]
        assert isinstance(await store.reserve(f"h{i}", charges, 0.0), Grant)
        await store.settle(f"h{i}", charges, [1, 1])
        assert len(store) <= 102
    assert await store.levels([busy]) == [Level(7_000)]


async def test_numbers_may_change() -> None:
    """A limit that is changed holds from then on for what was taken before."""
    store = MemoryRig().store
    await store.reserve("h", [*one(budget(100), 60), *one(requests(60, 10), 10), *one(places(1))], 0.0)
    assert isinstance(await store.reserve("i", one(budget(80), 30), 0.0), Refusal)
    assert isinstance(await store.reserve("i", one(budget(90), 30), 0.0), Grant)
    assert isinstance(await store.reserve("i", one(requests(60, 20), 10), 0.0), Grant)
    assert isinstance(await store.reserve("i", one(places(2)), 0.0), Grant)
    with pytest.raises(TypeError):
        await store.reserve(
            "i", one(Meter("tenant=acme", Unit.CONCURRENT_REQUESTS, Window(1, Period.DAY))), 0.0
        )


async def test_a_place_that_is_never_left_ends() -> None:
    """A holder that is never settled loses its place after a time."""
    rig = MemoryRig()
    await rig.store.reserve("h", one(places(1)), 0.0)
    await rig.advance(DAY)
    assert await rig.store.levels([places(1)]) == [Level(1)]
