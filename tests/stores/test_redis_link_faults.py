"""The link while its Redis is dead, silent, slow, unwell or not there yet."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import RedisLink
from tests.support.faulty_link import faulty_link
from tests.support.redis_load import Load, under_load, watched
from tests.support.redis_server import PATIENCE, free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.faulty_link import FaultyLink
    from tests.support.redis_server import Server


async def kill(server: Server, network: FaultyLink) -> None:
    await server.kill()


async def start_again(server: Server, network: FaultyLink) -> None:
    await server.start()


async def stop(server: Server, network: FaultyLink) -> None:
    server.pause()


async def go_on(server: Server, network: FaultyLink) -> None:
    server.resume()


async def blackhole(server: Server, network: FaultyLink) -> None:
    network.blackhole()


async def slow(server: Server, network: FaultyLink) -> None:
    network.delay = 0.2


async def refuse(server: Server, network: FaultyLink) -> None:
    await network.refuse()


async def heal(server: Server, network: FaultyLink) -> None:
    await network.heal()


@pytest.mark.parametrize(
    ("fault", "cure"),
    [(kill, start_again), (stop, go_on), (blackhole, heal), (slow, heal), (refuse, heal)],
)
async def test_faults_cost_little_and_heal(
    prefix: str,
    fault: Callable[[Server, FaultyLink], Awaitable[None]],
    cure: Callable[[Server, FaultyLink], Awaitable[None]],
) -> None:
    """Row 23: whatever happens under load, 99 of 100 waits stay under 60 ms, none is long, and it heals."""
    async with (
        redis_server() as server,
        faulty_link(server.port) as network,
        watched(f"redis://127.0.0.1:{network.port}", prefix=prefix) as link,
        under_load(link.link, prefix) as load,
    ):
        await load.until(lambda: load.answered >= 500)
        await fault(server, network)
        await link.becomes(False)
        seen = len(load.waits)
        await load.until(lambda: len(load.waits) >= seen + 8_000)
        await cure(server, network)
        await link.becomes(True)
        answered = load.answered
        await load.until(lambda: load.answered >= answered + 500)

    assert load.p99() < 0.06
    assert max(load.waits) < 1.0
    assert link.changes == [True, False, True, False]


async def test_a_dead_redis_costs_a_probe_now_and_then(prefix: str, redis_url: str) -> None:
    """Row 23: while Redis is silent calls fail at once, thousands of them, and hardly anything is sent."""
    async with (
        faulty_link(int(redis_url.rpartition(":")[2])) as network,
        watched(f"redis://127.0.0.1:{network.port}", prefix=prefix) as link,
    ):
        network.blackhole()
        load = Load(link.link, prefix)
        while link.link.available:
            await load.ask()
        assert len(load.waits) <= 4
        connections, began = network.accepted, time.perf_counter()
        while time.perf_counter() - began < 1.0:
            await asyncio.gather(*(load.ask() for _ in range(100)))

        assert load.answered == 0
        assert len(load.waits) > 5_000
        assert network.accepted - connections <= 4


async def test_starts_without_redis(prefix: str) -> None:
    """Row 33: a link to nobody starts at once, refuses at once, and finds Redis when it comes."""
    port = free_port()
    began = time.perf_counter()
    async with watched(f"redis://127.0.0.1:{port}", prefix=prefix) as link:
        assert time.perf_counter() - began < 1.0
        assert not link.link.available
        with pytest.raises(StoreUnavailableError):
            await link.link.run("GET", prefix)
        async with redis_server(port=port):
            await link.becomes(True)
            assert await link.link.run("GET", prefix) is None


async def test_a_silent_redis_does_not_hold_up_the_start(prefix: str, redis_url: str) -> None:
    """Row 33: where connections stand but nobody answers, the start takes no longer than it is given."""
    async with faulty_link(int(redis_url.rpartition(":")[2])) as network:
        network.blackhole()
        link = RedisLink(f"redis://127.0.0.1:{network.port}", prefix=prefix)
        began = time.perf_counter()
        await link.start(0.02)
        assert time.perf_counter() - began < 1.0
        assert not link.available
        await link.aclose()


async def test_a_silent_redis_is_noticed_behind_patient_commands(prefix: str) -> None:
    """Row 23: commands that wait longer fill the connection; others still fail in time, and it is away."""
    async with redis_server() as server, watched(server.url, prefix=prefix) as link:
        server.pause()
        patient = []
        for number in range(6):
            command = link.link.run("SET", f"{prefix}:{number}", 1, timeout=PATIENCE)
            patient.append(asyncio.create_task(command))
            await asyncio.sleep(0)  # each leaves on its own
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE / 2):
            while link.link.available:
                with pytest.raises(StoreUnavailableError):
                    await link.link.run("GET", f"{prefix}:1")
        await asyncio.gather(*patient, return_exceptions=True)
        server.resume()
        await link.becomes(True)


async def test_a_name_that_does_not_resolve_is_an_outage() -> None:
    """Row 33: so does a host that DNS does not know."""
    async with watched("redis://redis.invalid:6379") as link:
        with pytest.raises(StoreUnavailableError):
            await link.link.run("GET", "a")


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        (("config", "set", "maxmemory", "1"), ("config", "set", "maxmemory", "0")),
        (("replicaof", "127.0.0.1", "1"), ("replicaof", "no", "one")),
        (("config", "set", "min-replicas-to-write", "1"), ("config", "set", "min-replicas-to-write", "0")),
    ],
    ids=["full", "read-only", "without replicas"],
)
async def test_a_redis_that_takes_no_writes_is_away(
    prefix: str, fault: tuple[str, ...], cure: tuple[str, ...]
) -> None:
    """Row 23: a server that answers, but refuses to write, is as good as none until it writes again."""
    async with redis_server() as server, watched(server.url, prefix=prefix) as link:
        await server.cli(*fault)
        with pytest.raises(StoreUnavailableError):
            await link.link.run("INCR", f"{prefix}:n")
        assert not link.link.available
        await server.cli(*cure)
        await link.becomes(True)

        assert await link.link.run("INCR", f"{prefix}:n") == 1


async def test_a_busy_loop_is_not_held_against_redis(prefix: str, redis_url: str) -> None:
    """Row 23: an answer that was there in time counts, though this process came late to read it."""
    async with watched(redis_url, prefix=prefix) as link:
        for _ in range(5):
            call = asyncio.create_task(link.link.run("INCR", f"{prefix}:n"))
            for _ in range(3):
                await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251 - as work that does not yield would
            await call

    assert link.changes == [True, False]


async def test_connections_that_are_cut_are_replaced_at_once(prefix: str) -> None:
    """Row 23: a healthy Redis that closes a connection is back within a moment, not after a pause."""
    changes: asyncio.Queue[tuple[bool, float]] = asyncio.Queue()
    async with redis_server() as server, watched(server.url, prefix=prefix) as link:
        link.link.on_change(lambda available: changes.put_nowait((available, time.perf_counter())))
        await server.cli("client", "kill", "type", "normal")
        async with asyncio.timeout(PATIENCE):
            (lost, at), (found, later) = await changes.get(), await changes.get()

    assert (lost, found) == (False, True)
    assert later - at < 0.25


async def test_closing_at_any_moment_leaves_nothing_open(prefix: str) -> None:
    """Row 23: closed while it connects, or while it takes leave of a connection, a link leaves nothing."""
    async with redis_server() as server:
        for moment in range(20):
            connecting = RedisLink(server.url, prefix=prefix)
            await connecting.start(0)
            await turns(moment)
            await connecting.aclose()

            leaving, lost = RedisLink(server.url, prefix=prefix), asyncio.Event()
            await leaving.start(PATIENCE)
            leaving.on_change(lambda _, lost=lost: lost.set())
            killing = asyncio.create_task(server.cli("client", "kill", "type", "normal"))
            await lost.wait()
            await turns(moment)
            await leaving.aclose()
            await killing
        assert "connected_clients:1\r" in await server.cli("info", "clients")
    gc.collect()  # says what was left open


async def turns(count: int) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)
