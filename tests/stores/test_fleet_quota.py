"""What a fleet does while Redis is away, and how it comes back. Row 23 and row 33."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from outrider.core.quota import Charge, Grant, Level, Period, Refusal
from outrider.stores.fleet_quota import FleetQuotaStore
from outrider.stores.redis_link import RedisLink
from tests.stores.quota_rig import Clocks, budget, one, places, requests, until
from tests.support.redis_server import free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from outrider.core.quota import Meter
    from tests.support.redis_server import Server


@dataclass
class Seat:
    """Which sidecar of a fleet of so many."""

    size: int = 4
    rank: int | None = 0


@dataclass
class Sidecar:
    store: FleetQuotaStore
    link: RedisLink
    clocks: Clocks
    seat: Seat

    async def grants(self, meter: Meter, amount: int = 1, *, tries: int = 100, name: str = "h") -> int:
        """How many reservations it gets until it is refused."""
        for i in range(tries):
            verdict = await self.store.reserve(f"{name}{self.seat.rank}.{i}", one(meter, amount), 0.0)
            if isinstance(verdict, Refusal):
                return i
        return tries

    async def level(self, meter: Meter) -> Level:
        return (await self.store.levels([meter]))[0]


@asynccontextmanager
async def sidecars(server: Server, count: int = 4, *, timeout: float = 0.05) -> AsyncIterator[list[Sidecar]]:  # noqa: ASYNC109
    async with AsyncExitStack() as stack:
        fleet = []
        for rank in range(count):
            link, clocks, seat = RedisLink(server.url, timeout=timeout), Clocks(), Seat(count, rank)
            store = FleetQuotaStore(
                link,
                seat,
                clock=lambda c=clocks: c.monotonic,
                wall_clock=lambda c=clocks: time.time() + c.wall,
            )
            clocks.wall = 0.0
            await link.start()
            stack.push_async_callback(link.aclose)
            await store.start()
            stack.push_async_callback(store.aclose)
            fleet.append(Sidecar(store, link, clocks, seat))
        yield fleet


async def gone(fleet: Sequence[Sidecar]) -> None:
    """Wait until every sidecar knows that Redis is away."""

    async def known() -> bool:
        for sidecar in fleet:
            if sidecar.store.shared:
                await sidecar.store.levels([budget(1, "probe")])
        return not any(sidecar.store.shared for sidecar in fleet)

    await until(known)


async def back(fleet: Sequence[Sidecar]) -> None:
    """Wait until every sidecar has told Redis everything."""

    async def told() -> bool:
        return all(s.store.shared and not s.store._debt and s.store._returning.done() for s in fleet)

    await until(told)


async def test_while_redis_is_there_it_counts() -> None:
    """All sidecars together hold one limit, settle, extend and see the same levels."""
    meter = budget(100, soft=(0.5,))
    async with redis_server() as server, sidecars(server, timeout=5.0) as fleet:
        assert all(sidecar.store.shared for sidecar in fleet)
        assert sum([await sidecar.grants(meter, 10) for sidecar in fleet]) == 10
        told = [
            crossing
            for i in range(10)
            for crossing in await fleet[i % 4].store.settle(f"h0.{i}", one(meter, 10), [5])
        ]
        assert [crossing.share for crossing in told] == [0.5]
        assert [(await sidecar.level(meter)).remaining for sidecar in fleet] == [50] * 4
        assert await fleet[0].store.reserve("more", one(meter, 30), 0.0) == Grant()
        assert await fleet[0].store.extend("more", one(meter, 20)) is None
        assert await fleet[0].store.extend("more", one(meter, 1)) is not None


async def test_an_outage_gives_no_more_than_was_left() -> None:
    """Row 23: with Redis killed, the shares of a fleet add up to what was left, not to more."""
    day, few = budget(1_000), places(6)
    async with redis_server() as server, sidecars(server) as fleet:
        for sidecar in fleet:
            await sidecar.store.reserve("seen", one(day, 10), 0.0)
        left = [(await sidecar.level(day)).remaining for sidecar in fleet]
        assert left == [960] * 4
        for sidecar in fleet:
            await sidecar.store.reserve("seen too", one(day, 1), 0.0)
        await server.kill()
        await gone(fleet)
        granted = [await sidecar.grants(day, 7) for sidecar in fleet]
        assert all(count == 239 // 7 for count in granted[-1:])
        assert 7 * sum(granted) <= 960
        assert [await sidecar.grants(few) for sidecar in fleet] == [2, 2, 1, 1]
        assert [(await sidecar.level(few)).remaining for sidecar in fleet] == [0] * 4
        await fleet[3].store.settle("h3.0", one(few), [0])
        assert await fleet[3].grants(few, name="next") == 1


async def test_an_outage_is_no_fresh_burst() -> None:
    """Row 23: a bucket that was empty stays so, and refills at this sidecar's share of the rate."""
    meter = requests(240, 40)
    async with redis_server() as server, sidecars(server) as fleet:
        assert await fleet[0].grants(meter) in range(39, 45)  # real time passes
        for sidecar in fleet[1:]:
            await sidecar.store.settle("h", one(meter), [1])
            sidecar.store._share.saw(meter, 0)
        await server.kill()
        await gone(fleet)
        assert [await sidecar.grants(meter) for sidecar in fleet] == [0] * 4
        for sidecar in fleet:
            sidecar.clocks.monotonic += 5.0
        assert [await sidecar.grants(meter) for sidecar in fleet] == [5] * 4
        refused = await fleet[0].store.reserve("h", one(meter), 0.5)
        assert refused == Refusal(meter, pytest.approx(1.0), 0)


async def test_large_requests_pass_a_small_share() -> None:
    """What a whole minute gives passes a share too, in debt; what it does not give is refused for good."""
    meter = requests(100, 40)
    async with sidecars_without_redis() as sidecar:
        assert await sidecar.store.reserve("h", one(meter, 100), 0.0) == Grant()
        later = await sidecar.store.reserve("h", one(meter, 1), 1e4)
        assert isinstance(later, Grant)
        assert later.delay == pytest.approx((100 + 1 - 10) / 25 * 60)
        refused = await sidecar.store.reserve("h", one(meter, 101), 1e4)
        assert isinstance(refused, Refusal)
        assert refused.retry_after is None


@asynccontextmanager
async def sidecars_without_redis() -> AsyncIterator[Sidecar]:
    """One of four that has never seen Redis."""
    nowhere = RedisLink(f"redis://127.0.0.1:{free_port()}")
    clocks, seat = Clocks(), Seat(4, None)
    store = FleetQuotaStore(nowhere, seat, clock=lambda: clocks.monotonic, wall_clock=lambda: clocks.wall)
    await nowhere.start()
    await store.start()
    yield Sidecar(store, nowhere, clocks, seat)
    await store.aclose()
    await nowhere.aclose()


async def test_a_sidecar_starts_without_redis() -> None:
    """Row 33: one that has never seen Redis serves its share of every limit, and at least one request."""
    async with sidecars_without_redis() as sidecar:
        assert not sidecar.store.shared
        for meter, share in (
            (budget(1000), 250),
            (places(9), 2),
            (places(2, "x"), 1),
            (requests(60, 40), 10),
        ):
            assert await sidecar.grants(meter, tries=300) == share
        sidecar.clocks.advance(86_400)
        assert (await sidecar.level(budget(1000))).remaining == 250


async def test_what_happened_meanwhile_is_told() -> None:
    """Row 23: on return what was used alone is charged, what ended is settled, who runs keeps its place."""
    day, few, rate = budget(1000, soft=(0.05,)), places(16), requests(1, 100)
    charges = [Charge(day, 40), Charge(few, 1), Charge(rate, 10)]
    async with redis_server() as server, sidecars(server) as fleet:
        sidecar, other = fleet[:2]
        assert await sidecar.store.reserve("before", charges, 0.0) == Grant()
        server.pause()
        await gone(fleet)
        assert await sidecar.store.reserve("alone", charges, 0.0) == Grant()
        assert await sidecar.store.reserve("still runs", charges[1:], 0.0) == Grant()
        assert list(await sidecar.store.settle("before", charges, [30, 0, 10])) == []
        assert list(await sidecar.store.settle("alone", charges, [50, 0, 5])) == []
        server.resume()
        await back([sidecar])
        await until_shared(other)
        for level in (await sidecar.level(day), await other.level(day)):
            assert (level.remaining, level.reserved) == (920, 0)
        assert (await sidecar.level(few)).reserved == 1
        assert (await sidecar.level(rate)).remaining == 85
        crossings = await sidecar.store.settle("still runs", charges[1:], [0, 7])
        assert [(crossing.share, crossing.spent) for crossing in crossings] == [(0.05, 80)]
        await back([sidecar])
        assert (await sidecar.level(few)).reserved == 0
        assert (await sidecar.level(rate)).remaining == 78


async def until_shared(sidecar: Sidecar) -> None:
    async def shared() -> bool:
        return sidecar.store.shared

    await until(shared)


async def test_who_began_with_redis_goes_on_without() -> None:
    """A holder in Redis takes more of the share while that is away; all of it is counted once."""
    day, rate = budget(1000), requests(1, 100)
    charges = [Charge(day, 100), Charge(rate, 10)]
    async with redis_server() as server, sidecars(server) as fleet:
        sidecar = fleet[0]
        await sidecar.store.reserve("h", charges, 0.0)
        server.pause()
        await gone(fleet)
        assert await sidecar.store.extend("h", [Charge(day, 50), Charge(rate, 5)]) is None
        assert await sidecar.store.extend("h", [Charge(day, 300)]) is not None
        await sidecar.store.settle("h", [Charge(day, 150), Charge(rate, 15)], [140, 12])
        server.resume()
        await back([sidecar])
        level = await sidecar.level(day)
        assert (level.remaining, level.reserved) == (860, 0)
        assert (await sidecar.level(rate)).remaining == 88


async def test_a_lost_answer_counts_once() -> None:
    """What Redis does although its answer comes too late is held, spent and given back once."""
    day, rate, few = budget(1000), requests(1, 100), places(16)
    charges = [Charge(day, 100), Charge(rate, 50), Charge(few, 1)]
    async with redis_server() as server, sidecars(server, 1) as (sidecar,):
        await sidecar.store.reserve("ends", charges, 0.0)
        server.pause()
        settling = sidecar.store.settle("ends", charges, [30, 10, 0])
        reserving = sidecar.store.reserve("begins", [Charge(day, 20), Charge(few, 1)], 0.0)
        await asyncio.gather(settling, reserving)
        server.resume()
        await back([sidecar])
        assert ((await sidecar.level(day)).remaining, (await sidecar.level(day)).reserved) == (970, 0)
        assert (await sidecar.level(rate)).remaining == 90
        assert (await sidecar.level(few)).reserved == 1
        await sidecar.store.settle("begins", [Charge(day, 20), Charge(few, 1)], [25, 0])
        await back([sidecar])
        assert (await sidecar.level(day)).remaining == 945
        assert (await sidecar.level(few)).reserved == 0


async def test_nobody_waits_for_redis() -> None:
    """Row 23: with Redis frozen each call ends within the link's bound, and all of them are answered."""
    meters = [budget(100_000), requests(60_000, 10_000, "provider=groq")]
    charges = [Charge(meter, 1) for meter in meters]
    async with redis_server() as server, sidecars(server, 1) as (sidecar,):
        await sidecar.store.reserve("seen", charges, 0.0)
        server.pause()
        took = []
        for i in range(50):
            began = time.monotonic()
            verdict = await sidecar.store.reserve(f"h{i}", charges, 0.0)
            await sidecar.store.settle(f"h{i}", charges, [1, 1])
            took.append(time.monotonic() - began)
            assert verdict == Grant()
        assert sorted(took)[45] < 0.05  # once it is known, nobody waits
        assert max(took) < 1.0
        server.resume()
        await back([sidecar])
        level = await sidecar.level(meters[0])
        assert (level.remaining, level.reserved) == (100_000 - 50 - 1, 1)


async def test_redis_comes_back_empty() -> None:
    """Row 23: a Redis that has lost everything is told what was used meanwhile, and who runs."""
    day, few = budget(1000, period=Period.TOTAL), places(4)
    async with redis_server() as server, sidecars(server) as fleet:
        sidecar = fleet[0]
        await sidecar.store.reserve("before", one(few), 0.0)
        await server.kill()
        await gone(fleet)
        for i in range(5):
            await sidecar.store.reserve(f"h{i}", one(day, 10), 0.0)
            await sidecar.store.settle(f"h{i}", one(day, 10), [10])
        await server.start()
        await back([sidecar])
        assert (await sidecar.level(day)).remaining == 950
        assert (await sidecar.level(few)).reserved == 1
        assert await asyncio.gather(*(s.grants(few, name="n") for s in fleet[:1])) == [3]
