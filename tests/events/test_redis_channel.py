"""Events to a stream of a real Redis."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from outrider.assembly import redis_link
from outrider.assembly_events import event_bus, outlets
from outrider.config import Config
from outrider.events.cloud_event import cloud_event
from outrider.events.delivery import DeliveryError
from outrider.events.redis_channel import RedisChannel
from outrider.stores.redis_link import RedisLink
from tests.events.events import NOW, PATIENCE, delivering, event, first_of_each
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import redis_cluster, redis_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1

STREAM = "outrider:events"


def some_events(count: int) -> Sequence[v1.CloudEvent]:
    return [cloud_event(event(number), "/test", NOW) for number in range(count)]


async def entries(link: RedisLink) -> list[dict[str, Any]]:
    """What the stream holds, as its readers see it."""
    found = await link.run("XRANGE", STREAM, "-", "+", timeout=5.0)
    assert all(fields[0] == b"event" for _, fields in found)
    return [json.loads(fields[1]) for _, fields in found]


async def arrived(link: RedisLink, number: int) -> list[dict[str, Any]]:
    """What the stream holds, once this event is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if link.available:
                found = await entries(link)
                if number in first_of_each(found):
                    return found
            await asyncio.sleep(0.02)


async def test_a_batch_is_appended_in_order() -> None:
    """One entry for each event, the CloudEvent as JSON, in a stream that is bounded and does not stay."""
    async with redis_server() as server:
        link = RedisLink(server.url)
        await link.start()
        channel = RedisChannel(link, STREAM, 100)
        await channel.send(some_events(3))
        found = await entries(link)
        assert first_of_each(found) == [0, 1, 2]
        assert found[0]["type"] == "dev.outrider.job.changed"
        for _ in range(10):
            await channel.send(some_events(100))
        assert 100 <= await link.run("XLEN", STREAM) < 300
        assert 600_000 < await link.run("TTL", STREAM) <= 604_800
        await link.run("DEL", STREAM)
        await link.run("SET", STREAM, "something else")
        with pytest.raises(DeliveryError, match="WRONGTYPE") as caught:
            await channel.send(some_events(1))
        assert not caught.value.lasting
        await link.aclose()


async def test_events_outlast_an_outage() -> None:
    """Rows 22 and 29: as configured; away at the start, in between, and back: all come, in order."""
    async with redis_server() as server:
        await server.kill()
        config = Config.model_validate({"redis": {"url": server.url}, "events": {"redis": {}}})
        link = redis_link(config)
        assert link
        await link.start()
        bus = event_bus(config)
        channels = outlets(config, bus, link)
        channels.start()
        for number in range(10):
            bus.emit(event(number))
        await server.start()
        assert first_of_each(await arrived(link, 9)) == list(range(10))
        await server.kill()  # with all that it had: it stores nothing
        for number in range(10, 300):
            bus.emit(event(number))
        async with asyncio.timeout(PATIENCE):
            while link.available:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await server.start()
        assert first_of_each(await arrived(link, 299)) == list(range(10, 300))
        await channels.aclose()
        (count,) = channels.counts()
        assert count == ("redis", 300, 0, 0)
        await link.aclose()


async def test_a_lost_answer_makes_repeats_not_gaps() -> None:
    """Row 22: what was appended without an answer is appended again; readers tell repeats by their ids."""
    async with redis_server() as server, faulty_link(server.port) as network:
        link, direct = RedisLink(f"redis://127.0.0.1:{network.port}"), RedisLink(server.url)
        await link.start()
        await direct.start()
        async with delivering(RedisChannel(link, STREAM, 10_000)) as (bus, delivery):
            link.on_change(lambda available: delivery.hurry() if available else None)
            bus.emit(event(0))
            await arrived(direct, 0)
            network.delay = 3.0  # the answer comes too late
            for number in range(1, 150):
                bus.emit(event(number))
            await arrived(direct, 1)
            network.cut()
            await network.heal()
            found = await arrived(direct, 149)
        assert first_of_each(found) == list(range(150))
        assert len(found) > 150
        await link.aclose()
        await direct.aclose()


async def test_a_cluster_has_the_stream_too() -> None:
    """The stream is one key, on whichever server has it."""
    async with redis_cluster() as cluster:
        link = RedisLink(cluster.url)
        await link.start()
        await RedisChannel(link, STREAM, 100).send(some_events(5))
        assert first_of_each(await entries(link)) == list(range(5))
        await link.aclose()
