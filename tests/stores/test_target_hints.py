"""Hints of targets that are unwell, shared through a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import RedisLink
from outrider.stores.target_hints import TargetHints
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def linked(url: str, prefix: str) -> AsyncIterator[RedisLink]:
    """A link of one sidecar."""
    link = RedisLink(url, prefix=prefix, timeout=1.0)
    await link.start()
    try:
        yield link
    finally:
        await link.aclose()


async def test_others_hear_of_it_and_oneself_does_not(redis_url: str, prefix: str) -> None:
    """A hint comes with what remains of its time; what a sidecar left before a restart is another's."""
    async with linked(redis_url, prefix) as link:
        mine, another = TargetHints(link), TargetHints(link)
        assert await mine.exchange({"openai/gpt": 30.0, "openai": 60.0}) == {}
        heard = await another.exchange({})
        assert set(heard) == {"openai/gpt", "openai"}
        assert 29 < heard["openai/gpt"] <= 30
        assert await mine.exchange({"openai/gpt": 30.0}) == {}
        assert set(await TargetHints(link).exchange({})) == {"openai/gpt"}


async def test_what_is_well_again_is_taken_back_by_who_said_it(redis_url: str, prefix: str) -> None:
    """Another sidecar's hint of the same target stays."""
    async with linked(redis_url, prefix) as link:
        one, other, listener = (TargetHints(link) for _ in range(3))
        await one.exchange({"a/m": 30.0, "b/m": 30.0})
        await other.exchange({"b/m": 60.0})
        assert await one.exchange({}) == {"b/m": pytest.approx(60, abs=1)}
        assert set(await listener.exchange({})) == {"b/m"}


async def test_of_two_that_say_the_same_the_longer_word_stays(redis_url: str, prefix: str) -> None:
    """A shorter hint does not cut a longer one short."""
    async with linked(redis_url, prefix) as link:
        one, other, listener = (TargetHints(link) for _ in range(3))
        await one.exchange({"a/m": 60.0})
        await other.exchange({"a/m": 5.0})
        assert (await listener.exchange({}))["a/m"] > 50


async def test_hints_end_by_themselves(redis_url: str, prefix: str) -> None:
    """Row 24: by the clock of Redis, each on its own, and the key with the last one of them."""
    async with linked(redis_url, prefix) as link, redis.asyncio.Redis.from_url(redis_url) as client:
        one, other = TargetHints(link), TargetHints(link)
        await one.exchange({"short/m": 0.05, "long/m": 20.0})
        async with asyncio.timeout(5):
            while "short/m" in await other.exchange({}):
                pass  # each look is a round trip
        assert set(await other.exchange({})) == {"long/m"}
        assert 0 < await client.pttl(f"{prefix}:hints") <= 20_000
        assert await client.hlen(f"{prefix}:hints") == 1


async def test_a_field_that_is_not_ours_is_dropped(redis_url: str, prefix: str) -> None:
    """Whatever somebody wrote there does no harm."""
    async with linked(redis_url, prefix) as link, redis.asyncio.Redis.from_url(redis_url) as client:
        await client.hset(f"{prefix}:hints", mapping={"a/m": "soon", "b/m": ""})
        assert await TargetHints(link).exchange({}) == {}
        assert await client.exists(f"{prefix}:hints") == 0


async def test_an_exchange_is_one_command(redis_url: str, prefix: str) -> None:
    """However many hints there are."""
    async with linked(redis_url, prefix) as link, redis.asyncio.Redis.from_url(redis_url) as client:
        hints = TargetHints(link)
        await hints.exchange({})
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await hints.exchange({f"p/{number}": 30.0 for number in range(200)})
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == before + 1


async def test_a_store_that_is_away_says_so() -> None:
    """Row 23: at once, once it is known."""
    async with redis_server() as server, linked(server.url, "p") as link:
        hints = TargetHints(link)
        await hints.exchange({"a/m": 1.0})
        await server.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await hints.exchange({})
