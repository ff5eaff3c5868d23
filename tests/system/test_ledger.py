"""The usage ledger, from the callers of real processes to a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.stores.journal_frames import frames
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.support.caller import calling
from tests.support.process import PATIENCE, serving
from tests.support.redis_server import free_port, redis_server
from tests.support.sidecar import Failure, ask, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.caller import Caller

QUICK = {"s": {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}}}
ENDLESS = {"first_token_delay": 0, "pace": "20ms", "script": "x" * 4_000}
SLOW = {"slow": {"format": "simulated", "simulated": ENDLESS}}
BROKEN = {"broken": {"format": "simulated", "simulated": {"failure": "quota_spent"}}}
PROVIDERS = QUICK | SLOW | BROKEN


@asynccontextmanager
async def ledger_at(url: str) -> AsyncIterator[RedisLedger]:
    """The fleet's ledger, read from outside."""
    link = RedisLink(url, timeout=5)
    await link.start(PATIENCE)
    try:
        yield RedisLedger(link)
    finally:
        await link.aclose()


async def counted(ledger: RedisLedger) -> dict[str, v1.UsageRecord]:
    """Its records by id. Each is there once, and so many are in the sums."""
    async with aclosing(ledger.records(0, 2**52)) as records:
        found = [record async for _, record in records]
    by_id = {record.request_id: record for record in found}
    assert len(by_id) == len(found) == sum(totals.requests for _, totals in await ledger.sums(0, 2**30))
    return by_id


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it tells of nothing
            await asyncio.sleep(0.01)


def journaled(folder: Path) -> dict[str, v1.UsageRecord]:
    """The records in a journal, by id."""
    records = (
        v1.UsageRecord.FromString(each.record)
        for file in folder.glob("*.usage")
        for each in frames(file.read_bytes(), 50)
    )
    return {record.request_id: record for record in records}


async def answered(caller: Caller) -> str:
    """A request that succeeds. Gives its id."""
    async for event in caller.generation.Generate(ask("s/echo"), timeout=PATIENCE):
        if event.HasField("started"):
            request_id = event.started.request_id
    return request_id


async def cancelled(caller: Caller) -> str:
    """A request whose caller leaves in mid-stream."""
    call = caller.generation.Generate(ask("slow/echo"), timeout=PATIENCE)
    event = await call.read()
    call.cancel()
    return event.started.request_id


async def failed(caller: Caller) -> str:
    """A request that its provider refuses."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.generation.Complete(v1.CompleteRequest(request=ask("broken/echo")), timeout=PATIENCE)
    failure = Failure.of(caught.value).failure
    assert failure is not None
    return failure.request_id


async def test_a_killed_sidecar_loses_nothing_that_was_journaled(tmp_path: Path) -> None:
    """Rows 23, 30 and 33: it serves with Redis absent; after SIGKILL what is in the journal counts once."""
    port, folder = free_port(), tmp_path / "usage"
    settings = {
        "providers": PROVIDERS,
        "redis": {"url": f"redis://127.0.0.1:{port}"},
        "usage": {"journal": str(folder), "flush_interval": "50ms"},
    }
    async with serving(tmp_path, **settings) as sidecar, calling(sidecar.port) as caller:
        ids = {await answered(caller) for _ in range(20)}
        ids |= {await cancelled(caller) for _ in range(5)}
        await until(lambda: ids <= journaled(folder).keys())
        last = await asyncio.gather(*(answered(caller) for _ in range(20)))
        sidecar.signal(SIGKILL)
        await sidecar.ended()
    kept = set(journaled(folder))
    assert ids <= kept <= ids | set(last)

    async with redis_server(port=port) as server, ledger_at(server.url) as ledger:
        async with serving(tmp_path, **settings) as sidecar, calling(sidecar.port) as caller:
            await sidecar.logged("usage of earlier runs waits in the journal")
            more = {await answered(caller) for _ in range(3)}
            sidecar.signal(SIGTERM)
            assert await sidecar.ended() == 0
        found = await counted(ledger)
        assert set(found) == kept | more
        assert sum(record.outcome == "cancelled" for record in found.values()) == 5
        assert not list(folder.glob("*.usage"))

        async with serving(tmp_path, **settings) as sidecar:
            sidecar.signal(SIGTERM)
            await sidecar.ended()
        assert set(await counted(ledger)) == kept | more


async def test_redis_dies_and_returns_under_load(tmp_path: Path) -> None:
    """Rows 23 and 30: no request fails for it, and the ledger is what callers received, by id."""
    async with redis_server("--appendonly", "yes") as server:
        settings = {
            "providers": PROVIDERS,
            "redis": {"url": server.url},
            "usage": {"flush_interval": "20ms", "journal": str(tmp_path / "usage")},
        }
        ids: list[str] = []

        async def call(kind: Callable[[Caller], Any]) -> None:
            while not enough.is_set():
                ids.append(await kind(caller))

        async with serving(tmp_path, **settings) as sidecar, calling(sidecar.port) as caller:
            enough = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for kind in (answered, answered, cancelled, failed):
                    group.create_task(call(kind))
                await until(lambda: len(ids) > 100)
                await server.kill()
                reached = len(ids) + 100
                await until(lambda: len(ids) > reached)
                await server.start()
                reached = len(ids) + 100
                await until(lambda: len(ids) > reached)
                enough.set()
            sidecar.signal(SIGTERM)
            assert await sidecar.ended() == 0
        async with ledger_at(server.url) as ledger:
            found = await counted(ledger)
        # What the last seconds had no time for waits in the journal, for the next start.
        records = journaled(tmp_path / "usage") | found
        assert set(records) == set(ids)
        assert {record.outcome for record in records.values()} == {"succeeded", "cancelled", "failed"}


async def test_usage_is_not_counted_where_it_is_switched_off(tmp_path: Path) -> None:
    """Neither records nor metrics of them; with it, lost and waiting records are told of."""
    async with running(tmp_path, providers=QUICK, usage={"enabled": False}) as sidecar:
        await sidecar.generation.Complete(v1.CompleteRequest(request=ask("s/echo")))
        assert "outrider_usage_records" not in await sidecar.metrics()
    async with running(tmp_path, providers=QUICK, usage={"flush_interval": "1h"}) as sidecar:
        await sidecar.generation.Complete(v1.CompleteRequest(request=ask("s/echo")))
        assert await sidecar.counted("outrider_usage_records_waiting") == 1
        assert await sidecar.counted("outrider_usage_records_lost_total") == 0
