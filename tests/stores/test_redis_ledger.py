"""What only the ledger in Redis has to get right."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from outrider.core.ledger import LedgerBatch
from outrider.core.store_errors import StoreRewoundError, StoreUnavailableError
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.support.ledger import record
from tests.support.redis_server import PATIENCE, redis_cluster, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = time.time()
HOUR = int(NOW) // 3600


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, timeout=5)
    await link.start(10)
    try:
        yield link
    finally:
        await link.aclose()


async def put(
    ledger: RedisLedger, number: int, *, hours_ago: int = 0, records: int = 1, source: str = "a"
) -> None:
    """Count a batch of so many records."""
    made = [record(number * 10_000 + n, ended_at=NOW - 3600 * hours_ago) for n in range(records)]
    await ledger.append(LedgerBatch(source, number, made))


async def total(ledger: RedisLedger) -> int:
    return sum(totals.requests for _, totals in await ledger.sums(0, HOUR + 2))


async def test_every_key_has_an_end() -> None:
    """Row 24: sums and numbers live for their retention, records for theirs; hours beyond are not made."""
    async with redis_server() as server, linked(server.url) as link:
        ledger = RedisLedger(link, retention=36_000, record_retention=7_200)
        for number, hours in enumerate((0, 5, 12), start=1):
            await put(ledger, number, hours_ago=hours)

        keys = (await server.cli("keys", "*ledger*")).split()
        lives = {key: int(await server.cli("ttl", key)) for key in keys}
        now, earlier = f"outrider:{{ledger:{HOUR}:0}}", f"outrider:{{ledger:{HOUR - 5}:0}}"
        assert set(lives) == {f"{now}:{part}" for part in ("sums", "sources", "records")} | {
            f"{earlier}:{part}" for part in ("sums", "sources")
        }
        assert all(0 < life <= 36_000 + 3_600 for life in lives.values())
        assert lives[f"{now}:records"] <= 7_200 + 3_600


async def test_records_are_capped() -> None:
    """Sums go on where the stream of an hour drops its oldest records."""
    async with redis_server() as server, linked(server.url) as link:
        ledger = RedisLedger(link, max_records=200)
        for number in range(1, 11):
            await put(ledger, number, records=100)

        async with aclosing(ledger.records(0, 2**52)) as records:
            kept = [found.request_id async for _, found in records]
        assert 200 <= len(kept) < 400  # Redis drops whole nodes of the stream
        assert kept[-1] == "request-100099"
        assert await total(ledger) == 1_000


async def test_a_redis_that_forgot_is_noticed() -> None:
    """Row 23: a batch is not counted on top of a gap: the sidecar is told to send the last ones again."""
    async with redis_server() as server, linked(server.url) as link:
        ledger = RedisLedger(link)
        await put(ledger, 1)
        await put(ledger, 2)
        await server.cli("flushall")
        with pytest.raises(StoreRewoundError):
            await put(ledger, 3)
        assert await total(ledger) == 0
        for number in (1, 2, 3):
            await put(ledger, number)
        assert await total(ledger) == 3


async def test_a_redis_that_came_back_is_doubted() -> None:
    """Row 23: after an outage the last batches are asked for, once: another server may answer now."""
    async with redis_server("--appendonly", "yes") as server, linked(server.url) as link:
        ledger = RedisLedger(link)
        await put(ledger, 1)
        await server.kill()
        with pytest.raises(StoreUnavailableError):
            await put(ledger, 2)
        back = asyncio.Event()
        link.on_change(lambda available: back.set() if available else None)
        await server.start()
        async with asyncio.timeout(PATIENCE):
            await back.wait()
        with pytest.raises(StoreRewoundError):
            await put(ledger, 2)
        await put(ledger, 1)
        await put(ledger, 2)
        assert await total(ledger) == 2


async def test_a_cluster_spreads_it() -> None:
    """Sources go to shards, hours to servers; each batch counts once, and all is read together."""
    async with redis_cluster() as cluster, linked(cluster.url) as link:
        ledger = RedisLedger(link, shards=8)
        for _ in range(2):
            for source in range(20):
                for number in (1, 2):
                    await put(ledger, number, hours_ago=number, source=f"source {source}", records=3)

        assert await total(ledger) == 120
        async with aclosing(ledger.records(0, 2**52)) as records:
            cursors = [cursor async for cursor, _ in records]
        assert len(cursors) == 120
        async with aclosing(ledger.records(0, 2**52, cursors[69])) as records:
            assert len([found async for found in records]) == 50
