"""Any sidecar of a fleet tells what all of them know, and asks Redis once before a provider is called."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING

from outrider import v1
from outrider.v1.cache_service_pb2_grpc import CacheServiceStub
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub
from tests.fleet.support import fleet, tell
from tests.support.answers import gated, openai_stream
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import PATIENCE, redis_server
from tests.support.sidecar import ask, collect, provider, text
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fleet.support import Member
    from tests.support.faulty_link import FaultyLink

COLD = v1.Sampling(temperature=0)
BY = v1.Attribution(tenant="acme", project="search", agent="reader", user="ann")
IDENTICAL = 100
TOKENS = 12  # of an answer of `openai_stream`, by its own count

LIMITED = {
    "limits": {
        "rules": [
            {"scope": {"tenant": "*"}, "requests_per_minute": 60_000, "tokens_per_minute": 10_000_000},
            {"scope": {"user": "*"}, "requests_per_day": 10_000},
            {"scope": {"model": "*"}, "requests_per_minute": 60_000},
        ]
    },
    "budgets": [
        {"scope": {"tenant": "*"}, "tokens": 1_000_000, "period": "total"},
        {"scope": {"project": "*"}, "tokens": 1_000_000, "period": "total"},
    ],
}


async def answered(sidecar: Member, words: str) -> list[v1.GenerateResponse]:
    """One answer, which may be cached."""
    request = ask(text=words, sampling=COLD, attribution=BY)
    return await collect(sidecar.caller.generation.Generate(request, timeout=PATIENCE))


async def numbers(sidecar: Member) -> v1.GetCacheStatsResponse:
    """Of a sidecar's cache."""
    return await CacheServiceStub(sidecar.caller.channel).GetCacheStats(v1.GetCacheStatsRequest())


async def used(sidecar: Member, requests: int) -> v1.GetUsageResponse:
    """Usage by outcome, once so many requests are counted."""
    stub = UsageServiceStub(sidecar.caller.channel)
    request = v1.GetUsageRequest(group_by=[v1.USAGE_DIMENSION_TENANT, v1.USAGE_DIMENSION_MODEL])
    async with asyncio.timeout(PATIENCE):
        while (told := await stub.GetUsage(request)).total.requests < requests:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return told


@asynccontextmanager
async def watching(sidecar: Member) -> AsyncIterator[asyncio.Task[list[str]]]:
    """The ids of the requests that a watch shows until there are as many as were asked for."""
    call = UsageServiceStub(sidecar.caller.channel).WatchUsage(v1.WatchUsageRequest())
    await call.initial_metadata()

    async def read() -> list[str]:
        return [(await call.read()).record.request_id for _ in range(IDENTICAL)]

    reading = asyncio.create_task(read())
    try:
        yield reading
    finally:
        reading.cancel()
        call.cancel()


async def test_a_hundred_of_the_same_are_one_call_and_every_sidecar_knows(tmp_path: Path) -> None:
    """Cache, limits, budgets and ledger are the fleet's: one call, one who pays, and all eight tell so."""
    gate = asyncio.Event()
    async with (
        redis_server() as redis,
        Upstream(gated(gate, openai_stream("Hello ", "world"))) as upstream,
        fleet(
            tmp_path,
            8,
            redis={"url": redis.url, "fleet_size": 8},
            usage={"flush_interval": "50ms"},
            providers={"p": provider(upstream.url)},
            prices={"m": {"input": 1, "output": 10}},
            **LIMITED,
        ) as sidecars,
        watching(sidecars[-1]) as watched,
    ):
        asking = [asyncio.create_task(answered(sidecars[n % 8], "hello")) for n in range(IDENTICAL)]
        async with asyncio.timeout(PATIENCE):
            while sum([(await numbers(each)).joined for each in sidecars]) < IDENTICAL - 8:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert {text(events) for events in answers} == {"Hello world"}
        assert len(upstream.requests) == 1
        ids = {events[0].started.request_id for events in answers}
        paid = [events[-1].completed for events in answers if events[-1].completed.usage.input_tokens]
        assert len(paid) == 1

        totals = [await used(sidecar, IDENTICAL) for sidecar in sidecars]
        assert all(told == totals[0] and not told.local_only for told in totals)
        total = totals[0].total
        assert (total.requests, total.cache_hits) == (IDENTICAL, IDENTICAL - 1)
        assert total.usage.input_tokens + total.usage.output_tokens == TOKENS
        assert total.cost.total_nano_usd == paid[0].cost.total_nano_usd > 0
        async with asyncio.timeout(PATIENCE):
            assert set(await watched) == ids

        limits = v1.GetLimitsRequest(attribution=BY, model="p/m")
        told = [await LimitServiceStub(each.caller.channel).GetLimits(limits) for each in sidecars]
        left = [[limit.remaining for limit in each.limits if limit.limit == 1_000_000] for each in told]
        assert left == [[1_000_000 - TOKENS] * 2] * 8

        stub = CacheServiceStub(sidecars[3].caller.channel)
        assert (await stub.InvalidateCache(v1.InvalidateCacheRequest(tenant="acme"))).removed == 2
        async with asyncio.timeout(PATIENCE):
            while any([(await numbers(each)).memory_entries for each in sidecars]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        again = await answered(sidecars[5], "hello")
        assert again[0].started.cache_status == v1.CACHE_STATUS_MISS
        assert len(upstream.requests) == 2


@asynccontextmanager
async def far_from_redis(
    folder: Path, **config: object
) -> AsyncIterator[tuple[Member, Upstream, FaultyLink]]:
    """A sidecar that has answered before, its provider, and its way to Redis."""
    async with (
        redis_server() as redis,
        faulty_link(redis.port) as network,
        Upstream(openai_stream("fine")) as upstream,
        fleet(
            folder,
            1,
            redis={"url": f"redis://127.0.0.1:{network.port}", "timeout": "1s"},
            providers={"p": provider(upstream.url)},
            **config,
        ) as (sidecar,),
    ):
        for n in range(3):  # it knows its scripts, and has a connection to its provider
            await answered(sidecar, f"warm {n}")
        yield sidecar, upstream, network


async def until_asked(sidecar: Member, upstream: Upstream, words: str) -> float:
    """Seconds from a call until its provider is asked."""
    began, before = time.monotonic(), len(upstream.requests)
    asking = asyncio.create_task(answered(sidecar, words))
    await upstream.received(before + 1)
    passed = time.monotonic() - began
    await asking
    return passed


async def test_one_round_trip_before_a_provider_is_asked(tmp_path: Path) -> None:
    """With limits, budgets of several scopes and the cache: one write, one answer, then the provider."""
    async with far_from_redis(tmp_path, usage={"flush_interval": "1h"}, **LIMITED) as (sidecar, up, network):
        writes = []
        for n in range(20):
            before, asked = network.requests, len(up.requests)
            asking = asyncio.create_task(answered(sidecar, f"count {n}"))
            await up.received(asked + 1)
            writes.append(network.requests - before)
            await asking
            await asyncio.sleep(0.05)  # what it tells Redis afterwards is not the next one's
        assert median(writes) == 1, writes
        network.delay = 0.15
        waits = [await until_asked(sidecar, up, f"wait {n}") for n in range(5)]
        assert network.delay <= min(waits) < 1.5 * network.delay
        tell(f"writes before the provider is asked: {writes}; waits at 150 ms: {waits}")


async def test_what_needs_no_answer_waits_for_none(tmp_path: Path) -> None:
    """Without limits and cache Redis is not on the way: the ledger is told beside the requests."""
    never = {"cache": {"mode": "never"}, "usage": {"flush_interval": "10ms"}}
    async with far_from_redis(tmp_path, **never) as (sidecar, _, network):
        network.delay = 0.5
        began = time.monotonic()
        for n in range(10):
            await answered(sidecar, f"question {n}")
        assert time.monotonic() - began < network.delay
        network.delay = 0.0
        assert (await used(sidecar, 13)).total.requests == 13


async def test_an_unknown_sidecar_finds_what_the_others_know(tmp_path: Path) -> None:
    """One that starts later gives the stored answer at once, and tells of all usage."""
    async with redis_server() as redis, Upstream(openai_stream("fine")) as upstream:
        settings = {
            "redis": {"url": redis.url},
            "usage": {"flush_interval": "50ms"},
            "providers": {"p": provider(upstream.url)},
        }
        async with fleet(tmp_path, 1, **settings) as (first,):
            await answered(first, "hello")
            await used(first, 1)
        async with fleet(tmp_path, 1, **settings) as (later,):
            events = await answered(later, "hello")
            assert events[0].started.cache_status == v1.CACHE_STATUS_HIT
            assert (await used(later, 2)).total.cache_hits == 1
            call = UsageServiceStub(later.caller.channel).ExportUsage(v1.ExportUsageRequest())
            assert len([record async for record in call]) == 2
        assert len(upstream.requests) == 1
