"""UsageService over a real Redis that a fleet shares."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from outrider import v1
from outrider.core.ledger import LedgerBatch
from outrider.stores.memory_ledger import MemoryLedger
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.server.usage_caller import PATIENCE, Served, served
from tests.support.ledger import record
from tests.support.redis_server import redis_server
from tests.support.sidecar import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Sidecar:
    """One of a fleet: its service, its own ledger and its way to the shared one."""

    def __init__(self, name: str, service: Served, local: MemoryLedger, shared: RedisLedger) -> None:
        self.service = service
        self._name, self._local, self._shared = name, local, shared
        self._settled = 0

    async def settle(self, request: v1.UsageRecord, *, counted: bool = True) -> None:
        """A request has ended; `counted`: it is in the shared ledger already."""
        self._settled += 1
        batch = LedgerBatch(self._name, self._settled, [request])
        self.service.feed.publish(request)
        await self._local.append(batch)
        if counted:
            await self._shared.append(batch)

    async def usage(self) -> v1.GetUsageResponse:
        """All there is, by tenant."""
        request = v1.GetUsageRequest(group_by=[v1.USAGE_DIMENSION_TENANT])
        return await self.service.usage.GetUsage(request, timeout=PATIENCE)


@asynccontextmanager
async def fleet(url: str, *names: str) -> AsyncIterator[list[Sidecar]]:
    """Sidecars that share a Redis."""
    async with AsyncExitStack() as closing:
        sidecars = []
        for name in names:
            link = RedisLink(url, timeout=1)
            await link.start(PATIENCE)
            closing.push_async_callback(link.aclose)
            local, shared = MemoryLedger(), RedisLedger(link)
            service = await closing.enter_async_context(served(local, shared, wall_clock=time.time))
            sidecars.append(Sidecar(name, service, local, shared))
        yield sidecars


def ended_now(number: int, tenant: str) -> v1.UsageRecord:
    """A request that has just ended."""
    return record(number, ended_at=time.time(), tenant=tenant)


async def test_a_fleet_is_read_as_one() -> None:
    """Sums, exports and watches of one sidecar hold what all have settled, each record once."""
    async with redis_server() as server, fleet(server.url, "a", "b") as (a, b):
        await a.settle(ended_now(1, "acme"))
        watch = a.service.usage.WatchUsage(v1.WatchUsageRequest(), timeout=PATIENCE)
        await watch.initial_metadata()
        await a.settle(ended_now(2, "acme"))
        await b.settle(ended_now(3, "zeta"))
        seen = [(await watch.read()).record.request_id for _ in range(2)]
        assert seen == ["request-2", "request-3"]
        watch.cancel()

        usage = await b.usage()
        assert [(group.values[0], group.totals.requests) for group in usage.groups] == [
            ("acme", 2),
            ("zeta", 1),
        ]
        assert not usage.local_only
        call = b.service.usage.ExportUsage(v1.ExportUsageRequest(), timeout=PATIENCE)
        exported = [(response.record.request_id, response.cursor) async for response in call]
        assert [name for name, _ in exported] == ["request-1", "request-2", "request-3"]
        # A cursor of one sidecar is good at another.
        rest = v1.ExportUsageRequest(cursor=exported[0][1])
        call = a.service.usage.ExportUsage(rest, timeout=PATIENCE)
        assert [response.record.request_id async for response in call] == ["request-2", "request-3"]


async def test_redis_that_is_gone_leaves_what_a_sidecar_knows_itself() -> None:
    """Row 23: killed, sums are this sidecar's own and marked, exports refused, own records still watched."""
    async with redis_server() as server, fleet(server.url, "a", "b") as (a, b):
        await a.settle(ended_now(1, "acme"))
        await b.settle(ended_now(2, "zeta"))
        watch = a.service.usage.WatchUsage(v1.WatchUsageRequest(), timeout=PATIENCE)
        await watch.initial_metadata()
        await server.kill()
        started = time.monotonic()
        usage = await a.usage()
        assert time.monotonic() - started < 5
        assert (usage.local_only, usage.total.requests) == (True, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await a.service.usage.ExportUsage(v1.ExportUsageRequest(), timeout=PATIENCE).read()
        assert Failure.of(caught.value).reason == "STORE_UNAVAILABLE"
        await a.settle(ended_now(3, "acme"), counted=False)
        assert (await watch.read()).record.request_id == "request-3"
        watch.cancel()
