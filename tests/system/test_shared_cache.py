"""The cache of several sidecars that share a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from outrider import v1
from outrider.v1.cache_service_pb2_grpc import CacheServiceStub
from tests.support.answers import gated, openai_stream
from tests.support.redis_server import redis_server
from tests.support.sidecar import Running, ask, collect, provider, running, text
from tests.support.upstream import Upstream

COLD = v1.Sampling(temperature=0)
HIT, MISS = v1.CACHE_STATUS_HIT, v1.CACHE_STATUS_MISS


@asynccontextmanager
async def fleet(folder: Path, redis: str, upstream: str, count: int = 3) -> AsyncIterator[list[Running]]:
    """So many sidecars."""
    async with AsyncExitStack() as stack:
        sidecars = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            settings = {"providers": {"p": provider(upstream)}, "redis": {"url": redis}}
            sidecars.append(await stack.enter_async_context(running(own, **settings)))
        yield sidecars


async def answered(sidecar: Running, words: str = "hello") -> list[v1.GenerateResponse]:
    return await collect(sidecar.generation.Generate(ask(text=words, sampling=COLD)))


async def numbers(sidecar: Running) -> v1.GetCacheStatsResponse:
    return await CacheServiceStub(sidecar.channel).GetCacheStats(v1.GetCacheStatsRequest())


async def test_a_fleet_makes_an_answer_once(tmp_path: Path) -> None:
    """Sixty callers of three sidecars at the same time are one call; so are those who come later."""
    gate = asyncio.Event()
    async with (
        redis_server() as redis,
        Upstream(gated(gate, openai_stream("Hello ", "world"))) as upstream,
        fleet(tmp_path, redis.url, upstream.url) as sidecars,
    ):
        callers = [asyncio.create_task(answered(sidecars[number % 3])) for number in range(60)]
        for sidecar in sidecars:
            async with asyncio.timeout(10.0):
                while (await numbers(sidecar)).joined < 19:
                    pass
        gate.set()
        everything = await asyncio.gather(*callers)
        assert len(upstream.requests) == 1
        assert {text(events) for events in everything} == {"Hello world"}
        paid = [events[-1].completed.usage.input_tokens for events in everything]
        assert sorted(paid) == [0] * 59 + [9]
        stats = [await numbers(sidecar) for sidecar in sidecars]
        assert sum(each.misses for each in stats) == 1
        assert sum(each.shared_hits for each in stats) == 2
        assert all(each.shared for each in stats)
        # Now each has it in its own memory.
        again = [await answered(sidecar) for sidecar in sidecars]
        assert [events[0].started.cache_status for events in again] == [HIT] * 3
        assert [(await numbers(sidecar)).memory_hits for sidecar in sidecars] == [1] * 3


async def test_who_makes_an_answer_may_leave(tmp_path: Path) -> None:
    """The others of the fleet, who waited for it, go on without."""
    gate = asyncio.Event()
    async with (
        redis_server() as redis,
        Upstream(gated(gate, openai_stream("Hello"))) as upstream,
        fleet(tmp_path, redis.url, upstream.url, 2) as (one, other),
    ):
        call = one.generation.Generate(ask(sampling=COLD))
        reading = asyncio.create_task(collect(call))
        await upstream.received(1)
        waiting = asyncio.create_task(answered(other))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await upstream.received(2)
        gate.set()
        assert text(await waiting) == "Hello"


async def test_what_is_forgotten_is_forgotten_everywhere(tmp_path: Path) -> None:
    """The sidecar that was told counts it, and another one asks anew within seconds."""
    async with (
        redis_server() as redis,
        Upstream(openai_stream("x")) as upstream,
        fleet(tmp_path, redis.url, upstream.url, 2) as (one, other),
    ):
        await answered(one)
        assert (await answered(other))[0].started.cache_status == HIT
        stub = CacheServiceStub(one.channel)
        removed = await stub.InvalidateCache(v1.InvalidateCacheRequest(model="p/m"))
        assert removed.removed == 2
        async with asyncio.timeout(10.0):
            while (await numbers(other)).memory_entries:
                pass
        assert (await answered(other))[0].started.cache_status == MISS
        assert len(upstream.requests) == 2


async def test_without_redis_each_goes_on_by_itself(tmp_path: Path) -> None:
    """Row 33: no request fails when it dies, and what memory holds is still given."""
    async with (
        redis_server() as redis,
        Upstream(openai_stream("x")) as upstream,
        fleet(tmp_path, redis.url, upstream.url, 2) as (one, other),
    ):
        await answered(one)
        await redis.kill()
        assert (await answered(one))[0].started.cache_status == HIT
        assert (await answered(other))[0].started.cache_status == MISS
        assert (await answered(other))[0].started.cache_status == HIT
        assert not (await numbers(other)).shared
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(other.generation.Generate(ask(text="new", cache_policy=v1.CACHE_POLICY_ONLY)))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
