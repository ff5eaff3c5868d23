from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.core.quota import Charge, Grant, Level, Period, Refusal
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.calendar_period import period_end
from outrider.stores.redis_link import RedisLink, Script
from outrider.stores.redis_quota import RedisQuotaStore
from tests.stores.quota_rig import RedisRig, budget, linked, one, places, redis_rig, requests, until
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def rig(redis_url: str, prefix: str) -> AsyncIterator[RedisRig]:
    async with redis_rig(redis_url, prefix) as one_of_redis:
        yield one_of_redis


async def test_every_key_ends(rig: RedisRig) -> None:
    """Row 24: whatever is done, no key is left without a time to live."""
    meters = [requests(60, 10), budget(100), budget(100, "user=eve", Period.TOTAL), places(3)]
    await rig.store.levels(meters)
    await rig.store.reserve("h", [Charge(meter, 2) for meter in meters], 0.0)
    await rig.store.extend("h", one(meters[0], 20))
    await rig.store.settle("other", one(meters[2], 1), [1])
    await rig.store.charge("away", [Charge(meter, 1) for meter in meters[:3]], 10.0)
    await rig.store.places.renew()
    keys = await rig.link.run("KEYS", f"{rig.link.prefix}:*")
    assert len(keys) >= 8
    left = await asyncio.gather(*(rig.link.run("PTTL", key) for key in keys))
    assert all(milliseconds > 0 for milliseconds in left), dict(zip(keys, left, strict=True))


async def test_many_sidecars_hold_one_limit(redis_url: str, prefix: str) -> None:
    """Row 24: a burst, a budget and places asked for by eight sidecars at once are given exactly once."""
    meters = [requests(0.001, 50), budget(170, "project=x"), places(30, "provider=groq")]
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(redis_rig(redis_url, prefix)) for _ in range(8)]
        for meter, amount, fit in zip(meters, (1, 10, 1), (50, 17, 30), strict=True):
            verdicts = await asyncio.gather(
                *(rigs[i % 8].store.reserve(f"h{i}", one(meter, amount), 0.0) for i in range(200))
            )
            assert sum(isinstance(verdict, Grant) for verdict in verdicts) == fit


async def test_a_crossing_is_told_to_one_sidecar(redis_url: str, prefix: str) -> None:
    """Of a fleet whose spending crosses a threshold, one is told, once."""
    meter = budget(1000, soft=(0.5,))
    async with redis_rig(redis_url, prefix) as one_rig, redis_rig(redis_url, prefix) as other_rig:
        stores = [one_rig.store, other_rig.store]
        told = await asyncio.gather(
            *(stores[i % 2].settle(f"h{i}", one(meter, 10), [10]) for i in range(100))
        )
    assert sum(map(len, told)) == 1


async def test_who_leaves_while_asking_holds_nothing(rig: RedisRig) -> None:
    """Row 22: a caller that is cancelled at any moment of its reservation leaves no hold and no place."""
    meters = [budget(1000), places(50, "provider=groq")]
    for ticks in range(20):
        asking = asyncio.create_task(rig.store.reserve(f"h{ticks}", [Charge(m, 1) for m in meters], 0.0))
        for _ in range(ticks % 5):
            await asyncio.sleep(0)
        asking.cancel()
        verdict = (await asyncio.gather(asking, return_exceptions=True))[0]
        if isinstance(verdict, Grant):
            await rig.store.settle(f"h{ticks}", [Charge(m, 1) for m in meters], [0, 0])
    await rig.at_rest()
    assert await rig.store.levels(meters) == [Level(1000), Level(50)]


async def test_the_places_of_a_crashed_sidecar_are_free_again(rig: RedisRig) -> None:
    """Places last for as long as they are renewed, and no longer than the lease after that."""
    meter = places(1)
    await rig.store.reserve("h", one(meter), 0.0)
    for _ in range(3):
        await rig.advance(50)
        assert isinstance(await rig.store.reserve("other", one(meter), 0.0), Refusal)
        await rig.store.places.renew()
    await rig.advance(61)
    assert isinstance(await rig.store.reserve("other", one(meter), 0.0), Grant)


async def test_places_are_renewed_until_they_are_left(redis_url: str, prefix: str) -> None:
    """A store that runs renews by itself, and forgets who has left."""
    meter = places(1)
    async with linked(redis_url, prefix) as link:
        store = RedisQuotaStore(link, lease=0.3)
        await store.start()
        await store.reserve("h", one(meter), 0.0)
        key = f"{prefix}:quota:{{tenant=acme}}:concurrent_requests"
        first = await link.run("ZSCORE", key, "h")

        async def renewed() -> bool:
            return await link.run("ZSCORE", key, "h") not in (first, None)

        await until(renewed)
        await store.settle("h", one(meter), [0])
        assert store.places.taken(meter) == 0
        assert await store.levels([meter]) == [Level(1)]
        await store.aclose()


async def test_places_taken_without_redis_are_told_later(prefix: str) -> None:
    """Renewal goes on while Redis is away, and tells it who is there as soon as it comes."""
    async with redis_server() as server:
        await server.kill()
        async with linked(server.url, prefix) as link:
            store = RedisQuotaStore(link, lease=0.06)
            await store.start()
            store.places.enter("h", one(places(1)))
            await server.start()

            async def told() -> bool:
                key = f"{prefix}:quota:{{tenant=acme}}:concurrent_requests"
                return link.available and await link.run("ZSCORE", key, "h") is not None

            await until(told)
            await store.aclose()


async def test_a_settlement_that_is_sent_again_counts_once(rig: RedisRig) -> None:
    """Where an answer was lost, the same settlement or charge sent again changes nothing."""
    meter, rate = budget(100), requests(6, 10)
    await rig.store.reserve("h", one(meter, 50), 0.0)
    for _ in range(3):
        await rig.store.settle("h", one(meter, 50), [20], only_if_held=True)
        await rig.store.charge("outage", [Charge(meter, 30), Charge(rate, 5)], 0.0)
    levels = await rig.store.levels([meter, rate])
    assert [level.remaining for level in levels] == [50, 5]


@pytest.mark.parametrize(("away", "remaining"), [(0.0, 1), (20.0, 3), (1000.0, 10)])
async def test_what_was_used_while_away_counts_when_it_was_used(
    rig: RedisRig, away: float, remaining: int
) -> None:
    """A bucket that had time to refill since is charged no more than what it would lack; others add up."""
    rate = requests(6, 10)
    for name in ("one sidecar", "another", "a third"):
        await rig.store.charge(name, one(rate, 3), away)
    assert (await rig.store.levels([rate]))[0].remaining == remaining


async def test_redis_away_is_told(prefix: str) -> None:
    """Each call raises StoreUnavailableError at once where there is no Redis."""
    store = RedisQuotaStore(RedisLink("redis://127.0.0.1:1", prefix=prefix))
    charges = [*one(budget(10)), *one(places(1, "x"))]
    for call in (
        store.reserve("h", charges, 0.0),
        store.extend("h", charges),
        store.settle("h", charges, [0, 0]),
        store.levels([charge.meter for charge in charges]),
    ):
        with pytest.raises(StoreUnavailableError):
            await call
    await store.aclose()


async def test_a_spoilt_key_is_like_redis_away(rig: RedisRig) -> None:
    """A key of another type, or whatever else makes the script fail, is told as StoreUnavailableError."""
    meter = budget(100)
    await rig.link.run("SET", f"{rig.link.prefix}:quota:{{tenant=acme}}:nano_usd:day", "spoilt", "PX", 60_000)
    with pytest.raises(StoreUnavailableError):
        await rig.store.reserve("h", one(meter), 0.0)
    whole = requests(60, 10, "provider=groq")
    with pytest.raises(StoreUnavailableError):
        await rig.store.reserve("h", [Charge(meter, 1), Charge(whole, 5)], 0.0)
    await rig.at_rest()
    assert await rig.store.levels([whole]) == [Level(10)]


_PERIOD_END = Script(
    files("outrider.stores").joinpath("calendar_period.lua").read_text()
    + "\nlocal ends = {}"
    + "\nfor i = 2, #ARGV do ends[i - 1] = period_end(ARGV[1], tonumber(ARGV[i])) end\nreturn ends"
)


@pytest.mark.parametrize("period", [Period.DAY, Period.WEEK, Period.MONTH])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.integers(0, 4_102_444_800_000_000), min_size=1, max_size=100))
def test_periods_end_alike(redis_url: str, prefix: str, period: Period, times: list[int]) -> None:
    """Redis and memory agree on when a period ends, to the microsecond, until 2100."""

    async def ends() -> list[int]:
        async with linked(redis_url, prefix) as link:
            answer: list[int] = await link.script(_PERIOD_END, [prefix], [period.value, *times])
            return answer

    assert asyncio.run(ends()) == [int(period_end(period, at // 1_000_000)) * 1_000_000 for at in times]
