"""Sidecars under load while their Redis dies, is cut off, is slow and fails over."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.fleet.load import BURST, CONFIG, PER_SECOND, assert_equal, counted, under_load
from tests.fleet.support import fleet, member, tell
from tests.support.faulty_link import faulty_link
from tests.support.process import PATIENCE
from tests.support.redis_server import redis_cluster, redis_sentinels, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.fleet.load import Load
    from tests.fleet.support import Member

SIDECARS = 3
QUIET, FAULT = 1.5, 1.5  # seconds
ADDED = 0.06  # seconds that the slowest hundredth may wait longer than before
LOST = 0.5  # seconds: of what was not yet in the journal; 50 ms and a write, on a machine that is busy


async def until_all(sidecars: Sequence[Member], *, away: bool) -> None:
    """Wait until every sidecar says so of its Redis."""
    async with asyncio.timeout(PATIENCE):
        while any(is_away(sidecar) is not away for sidecar in sidecars):  # noqa: ASYNC110 - processes
            await asyncio.sleep(0.01)


def is_away(sidecar: Member) -> bool:
    """What it has said last."""
    lines = [line for line in sidecar.child.lines if '"redis is away"' in line or '"redis answers"' in line]
    return not lines or '"redis is away"' in lines[-1]


async def drain(sidecars: Sequence[Member]) -> None:
    """End them as a rollout does: what they have still to tell is told."""
    for sidecar in sidecars:
        sidecar.child.signal(SIGTERM)
    for sidecar in sidecars:
        assert await sidecar.child.ended() == 0


def assert_limited(load: Load, recoveries: int) -> None:
    """The limit is one limit. Redis that comes back may have forgotten one burst."""
    passed = time.monotonic() - load.began
    answered, allowed = load.answered("tight"), PER_SECOND * passed + BURST
    tell(f"limit: {answered} answered in {passed:.1f} s, {allowed:.0f} allowed, {load.refused} refused")
    assert load.refused
    assert answered <= allowed + recoveries * BURST


def assert_quick(load: Load) -> None:
    """What faults add to the wait of the slowest hundredth."""
    for phase, waits in load.waits.items():
        figures = [load.slowest(phase, share=share) * 1e3 for share in (0.5, 0.99)]
        tell(
            f"{phase:>10}: {len(waits)} waits, p50 {figures[0]:.1f} ms, p99 {figures[1]:.1f} ms,"
            f" longest {max(waits) * 1e3:.1f} ms"
        )
    added = load.slowest(*(load.waits.keys() - {"quiet"})) - load.slowest("quiet")
    tell(f"added p99: {added * 1e3:.1f} ms")
    assert added < ADDED


async def test_redis_dies_is_cut_off_and_is_slow(tmp_path: Path) -> None:
    """Rows 22, 23, 24 and 33: no request fails, none waits long, the ledger is what callers received."""
    async with (
        redis_server("--appendonly", "yes") as redis,
        faulty_link(redis.port) as network,
        fleet(
            tmp_path,
            SIDECARS,
            journals=True,
            redis={"url": f"redis://127.0.0.1:{network.port}", "fleet_size": SIDECARS},
            **CONFIG,
        ) as sidecars,
    ):

        @asynccontextmanager
        async def fault(load: Load, name: str) -> AsyncIterator[None]:
            load.phase = name
            yield
            await until_all(sidecars, away=True)
            await asyncio.sleep(FAULT)

        async with under_load(sidecars) as load:
            await asyncio.sleep(QUIET)
            async with fault(load, "killed"):
                await redis.kill()
            await redis.start()
            await until_all(sidecars, away=False)
            async with fault(load, "blackholed"):
                network.blackhole()
            await network.heal()
            await until_all(sidecars, away=False)
            async with fault(load, "slow"):
                network.delay = 0.2
            await network.heal()
            await until_all(sidecars, away=False)
            load.phase = "after"
            await asyncio.sleep(1)
        assert_limited(load, recoveries=3)
        await drain(sidecars)
        found = await counted(redis.url)
        assert_equal(load.receipts, found)
        assert set(found) == {each.request_id for each in load.receipts}
        assert_quick(load)


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_redis_fails_over(kind: str, tmp_path: Path) -> None:
    """Rows 23 and 24: a master dies under load, a replica takes over, and nobody notices."""
    async with AsyncExitStack() as stack:
        if kind == "sentinel":
            sentinels = await stack.enter_async_context(redis_sentinels())
            url, master = sentinels.url, await sentinels.master()
        else:
            cluster = await stack.enter_async_context(redis_cluster())
            url, master = cluster.url, await cluster.owner("outrider:quota:{tenant=tight}")
        redis = {"url": url, "fleet_size": SIDECARS}
        sidecars = await stack.enter_async_context(
            fleet(tmp_path, SIDECARS, journals=True, redis=redis, **CONFIG)
        )
        async with under_load(sidecars) as load:
            await asyncio.sleep(QUIET)
            load.phase = "failover"
            await master.kill()
            await until_all(sidecars, away=True)
            await until_all(sidecars, away=False)
            await asyncio.sleep(1)
        assert_limited(load, recoveries=1)
        await drain(sidecars)
        found = await counted(url)
        assert_equal(load.receipts, found)
        assert set(found) == {each.request_id for each in load.receipts}
        assert_quick(load)


async def test_a_sidecar_is_killed_while_redis_is_away(tmp_path: Path) -> None:
    """Row 30: what callers of a killed sidecar received is on record, but for the last moment."""
    async with redis_server("--appendonly", "yes") as redis, AsyncExitStack() as stack:
        settings = {**CONFIG, "redis": {"url": redis.url, "fleet_size": 1}}
        doomed = await stack.enter_async_context(member(tmp_path, 0, journal=True, **settings))
        async with under_load([doomed]) as load:
            await asyncio.sleep(0.5)
            await redis.kill()
            await until_all([doomed], away=True)
            await asyncio.sleep(1)
            load.mourning = True
            doomed.child.signal(SIGKILL)
            killed_at = time.monotonic()
            await doomed.child.ended()
        await redis.start()
        heir = await stack.enter_async_context(member(tmp_path, 0, journal=True, **settings))
        await heir.child.logged("usage of earlier runs waits in the journal")
        await drain([heir])
        found = await counted(redis.url)
        missing = [each for each in load.receipts if each.request_id not in found]
        tell(f"{len(load.receipts)} received, {len(found)} on record, {len(missing)} missing")
        assert all(each.at > killed_at - LOST for each in missing)
        assert_equal([each for each in load.receipts if each.request_id in found], found)
        unknown = set(found) - {each.request_id for each in load.receipts}
        assert len(unknown) <= 4  # one for each caller
