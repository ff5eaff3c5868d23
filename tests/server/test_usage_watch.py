"""WatchUsage: records as they are settled, over a real connection."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.server.usage_feed import UsageFeed, Watcher
from tests.server.usage_caller import PATIENCE, Served, served, token, two_callers
from tests.support.ledger import NOW, FickleLedger, record
from tests.support.paused_clock import paused
from tests.support.sidecar import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLD = NOW - 86_400.0


@asynccontextmanager
async def watching(
    sidecar: Served, metadata: dict[str, Any] | None = None, **wanted: Any
) -> AsyncIterator[Any]:
    """A watch that has begun; cancelled in the end."""
    request = v1.WatchUsageRequest(filter=v1.UsageFilter(**wanted))
    call = sidecar.usage.WatchUsage(request, timeout=PATIENCE, **(metadata or {}))
    await call.initial_metadata()
    yield call
    call.cancel()


async def read(call: Any, count: int) -> list[str]:
    """The ids of the next records."""
    return [(await call.read()).record.request_id for _ in range(count)]


async def until_idle(sidecar: Served) -> None:
    """Wait until no call runs."""
    await sidecar.in_flight.ended(within=PATIENCE)
    assert not sidecar.in_flight._tasks


async def test_own_records_come_at_once() -> None:
    """What this sidecar settles is seen as it is settled, by all that watch, within their filters."""
    async with (
        served(FickleLedger()) as sidecar,
        watching(sidecar) as all_,
        watching(sidecar, tenants=["acme"]) as some,
    ):
        sidecar.feed.publish(record(1, tenant="zeta"))
        sidecar.feed.publish(record(2, tenant="acme"))
        assert await read(all_, 2) == ["request-1", "request-2"]
        assert await read(some, 1) == ["request-2"]


async def test_a_caller_of_a_tenant_watches_only_its_own() -> None:
    """Whatever is settled meanwhile, and whatever its filter says."""
    async with (
        served(FickleLedger(), callers=two_callers()) as sidecar,
        watching(sidecar, token("acme-token")) as acme,
        watching(sidecar, token("acme-token"), tenants=["zeta"]) as nothing,
    ):
        for number, tenant in enumerate(["zeta", "", "acme"]):
            sidecar.feed.publish(record(number, tenant=tenant))
        assert await read(acme, 1) == ["request-2"]
        await sidecar.feed.aclose()
        with pytest.raises(grpc.aio.AioRpcError):
            await read(nothing, 1)


async def test_the_whole_fleet_is_watched() -> None:
    """Records of other sidecars come from the shared ledger; own ones, which are there too, come once."""
    shared = FickleLedger(record(1, ended_at=OLD), record(2))
    async with served(FickleLedger(), shared) as sidecar, watching(sidecar) as call:
        sidecar.feed.publish(record(3))
        # Counted now: our own, another's, and one that another kept while it had no ledger.
        shared.count(record(3), record(4), record(5, ended_at=OLD))
        assert await read(call, 3) == ["request-3", "request-4", "request-5"]


async def test_a_ledger_that_goes_away_costs_nothing_but_time() -> None:
    """Row 23: own records come meanwhile; what others did comes once it is back."""
    shared = FickleLedger(record(1))
    async with served(FickleLedger(), shared) as sidecar, watching(sidecar) as call:
        shared.away = True
        sidecar.feed.publish(record(2))
        assert await read(call, 1) == ["request-2"]
        shared.count(record(2), record(3))
        shared.away = False
        assert await read(call, 1) == ["request-3"]


async def test_a_watch_can_begin_while_the_ledger_is_away() -> None:
    """Row 33: what ends from then on is seen once it is back; what is older is not."""
    shared = FickleLedger(record(1, ended_at=NOW - 1))
    shared.away = True
    async with served(FickleLedger(), shared) as sidecar, watching(sidecar) as call:
        shared.count(record(2, ended_at=NOW + 1))
        shared.away = False
        assert await read(call, 1) == ["request-2"]


async def test_a_drain_ends_watches() -> None:
    """Row 15: they do not hold up the drain, and new ones are refused; the caller may watch elsewhere."""
    async with served(FickleLedger(), FickleLedger()) as sidecar, watching(sidecar) as call:
        sidecar.feed.publish(record(1))
        await sidecar.feed.aclose()
        assert await read(call, 1) == ["request-1"]
        for again in (call, sidecar.usage.WatchUsage(v1.WatchUsageRequest(), timeout=PATIENCE)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await again.read()
            failure = Failure.of(caught.value)
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await until_idle(sidecar)


async def test_whoever_leaves_leaves_nothing_behind() -> None:
    """Row 11: once the last watcher has gone, nothing reads the shared ledger and no task is left."""
    shared = FickleLedger()
    async with served(FickleLedger(), shared) as sidecar:
        for _ in range(3):
            async with watching(sidecar) as one, watching(sidecar) as other:
                one.cancel()
                sidecar.feed.publish(record(1))
                assert await read(other, 1) == ["request-1"]
            await until_idle(sidecar)
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "usage-feed"]
            assert not shared.readers


async def test_watchers_are_bounded() -> None:
    """Beyond 32 a caller is told to come back; there is room again when others have left."""
    async with served(FickleLedger()) as sidecar:
        calls = [sidecar.usage.WatchUsage(v1.WatchUsageRequest(), timeout=PATIENCE) for _ in range(32)]
        for call in calls:
            await call.initial_metadata()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.usage.WatchUsage(v1.WatchUsageRequest(), timeout=PATIENCE).read()
        assert Failure.of(caught.value).reason == "LOAD_SHED"
        for call in calls:
            call.cancel()
        await until_idle(sidecar)
        async with watching(sidecar):
            pass


async def test_a_watcher_that_reads_too_slowly_is_let_go() -> None:
    """What waits for one caller is bounded: it gets what it has room for, and is told what to do."""
    watcher = Watcher(lambda record: True)
    for number in range(1_000):
        watcher.offer(record(number))
    assert (await watcher.take()).request_id == "request-0"
    watcher.offer(record(1_000))
    watcher.offer(record(1_001))  # one too many
    watcher.offer(record(1_002))
    with pytest.raises(GenerationError, match="ExportUsage gives what was missed") as caught:
        await watcher.take()
    assert caught.value.reason is Reason.LOAD_SHED


@paused
async def test_the_ledger_is_read_once_a_second_whoever_watches() -> None:
    """Ten watchers cost the shared ledger as much as one, and none of them nothing."""
    shared = FickleLedger()
    times: list[float] = []

    class Counting(FickleLedger):
        def records(self, *arguments: Any) -> Any:
            times.append(asyncio.get_running_loop().time())
            return shared.records(*arguments)

    feed = UsageFeed(Counting(), lambda: NOW)
    async with feed.watch(lambda record: True):
        for _ in range(9):
            async with feed.watch(lambda record: True):
                await asyncio.sleep(0.5)
    assert [time - times[0] for time in times] == [0, 0, 1, 2, 3, 4]
    await asyncio.sleep(60)
    assert len(times) == 6
