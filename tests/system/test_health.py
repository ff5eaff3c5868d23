"""What probes are told: by gRPC health and by the admin port, in good times and bad."""

import asyncio
from pathlib import Path

import grpc
import pytest
from redis.asyncio import Redis

from outrider import v1
from tests.support.answers import json_body, openai_stream
from tests.support.api import SERVICES
from tests.support.caller import NOT_SERVING, SERVICE_UNKNOWN, SERVING, Caller, calling, fetch
from tests.support.redis_server import redis_server
from tests.support.sidecar import ask, collect, provider, running, text
from tests.support.upstream import Exchange, Upstream

QUICK = {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}}
FAILING = json_body({"error": {"message": "no", "type": "server_error"}}, 500)


async def fails(caller: Caller, model: str) -> None:
    """A request that must fail."""
    with pytest.raises(grpc.aio.AioRpcError):
        await collect(caller.generation.Generate(ask(model)))


async def test_every_name_has_a_status(tmp_path: Path) -> None:
    """The process, its services, the probes and every provider; one without a key does not serve."""
    async with (
        running(tmp_path, providers={"s": QUICK, "openai": {}}) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        assert await settled(caller, "readiness", SERVING)
        expected = {
            "": SERVING,
            "liveness": SERVING,
            "readiness": SERVING,
            **dict.fromkeys(SERVICES, SERVING),
            "provider/s": SERVING,
            "provider/openai": NOT_SERVING,
        }
        assert await caller.health.all() == expected
        assert {name: await caller.health.check(name) for name in expected} == expected


async def settled(caller: Caller, name: str, status: int) -> bool:
    """Whether a name takes a status, now or soon."""
    async with asyncio.timeout(5):
        async for each in caller.health.watch(name):
            if each == status:
                return True
    return False


async def test_names_that_nobody_knows(tmp_path: Path) -> None:
    """Check: NOT_FOUND. Watch: SERVICE_UNKNOWN, and the stream stays open."""
    async with (
        running(tmp_path, providers={"s": QUICK}) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.health.check("provider/nobody")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watching = caller.health.watch("provider/nobody")
        assert await anext(watching) == SERVICE_UNKNOWN
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(watching), 0.1)


async def test_a_sidecar_that_no_provider_serves(tmp_path: Path) -> None:
    """It lives, it answers, it is not ready; and it says why."""
    async with (
        running(tmp_path, providers={"openai": {}, "anthropic": {}}) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        assert await settled(caller, "readiness", NOT_SERVING)
        assert await caller.health.check("liveness") == SERVING
        assert await caller.health.check("outrider.v1.GenerationService") == SERVING
        assert await fetch(sidecar.sidecar.admin_port, "/livez") == (200, "alive\n")
        assert await fetch(sidecar.sidecar.admin_port, "/readyz") == (503, "no provider can answer\n")


async def test_a_short_outage_moves_the_provider_alone(tmp_path: Path) -> None:
    """Row 25: the provider's health turns with its breaker, and back; liveness and readiness never move."""
    gate = asyncio.Event()

    async def down_until_the_gate_opens(exchange: Exchange) -> None:
        await (openai_stream("fine") if gate.is_set() else FAILING)(exchange)

    async with (
        Upstream(down_until_the_gate_opens) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, attempts={"max_attempts": 1})},
            breaker={"failures": 2, "open_for": 0.2},
        ) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        moves: dict[str, list[int]] = {"liveness": [], "readiness": [], "": []}
        watchers = [asyncio.create_task(follow(caller, name, statuses)) for name, statuses in moves.items()]
        assert await settled(caller, "readiness", SERVING)
        for _ in range(3):
            for _ in range(2):
                await fails(caller, "p/m")
            assert await settled(caller, "provider/p", NOT_SERVING)
            listed = await sidecar.providers.ListProviders(v1.ListProvidersRequest())
            assert listed.providers[0].status == v1.PROVIDER_STATUS_NOT_SERVING
            assert await fetch(sidecar.sidecar.admin_port, "/readyz") == (200, "ready\n")
            assert await fetch(sidecar.sidecar.admin_port, "/livez") == (200, "alive\n")
            gate.set()
            while True:
                try:
                    events = await collect(caller.generation.Generate(ask("p/m")))
                except grpc.aio.AioRpcError:
                    continue  # until the breaker lets a probe through
                break
            assert text(events) == "fine"
            assert await settled(caller, "provider/p", SERVING)
            gate.clear()
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    assert moves["liveness"] == [SERVING]
    assert moves["readiness"][-1:] == [SERVING]
    assert NOT_SERVING not in moves["readiness"][1:]
    assert moves[""] == [SERVING]


async def follow(caller: Caller, name: str, statuses: list[int]) -> None:
    """Note every status of a name."""
    async for status in caller.health.watch(name):
        statuses.append(status)  # noqa: PERF401 - what is there counts at any moment


async def test_an_idle_provider_is_asked(tmp_path: Path) -> None:
    """Without any traffic an outage shows after two checks, its end after two more; Watch tells of both."""
    down = asyncio.Event()

    async def models(exchange: Exchange) -> None:
        await (FAILING if down.is_set() else json_body({"data": []}))(exchange)

    async with (
        Upstream(models) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            health={"interval": 0.1, "down_interval": 0.1},
        ) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        assert await settled(caller, "provider/p", SERVING)
        await upstream.received(2)
        down.set()
        assert await settled(caller, "provider/p", NOT_SERVING)
        assert await sidecar.counted('outrider_provider_up{provider="p"}') == 0
        down.clear()
        assert await settled(caller, "provider/p", SERVING)
        assert {request.method for request in upstream.requests} == {"GET"}


async def told(url: str, hints: int) -> None:
    """Wait until the fleet has been told so much."""
    async with asyncio.timeout(5), Redis.from_url(url) as client:
        while await client.hlen("outrider:hints") != hints:  # type: ignore[misc]
            pass


async def looked(url: str, times: int) -> None:
    """Wait until sidecars have looked at the hints so often."""

    async def looks(client: Redis) -> int:
        stats = await client.info("commandstats")
        return int(stats["cmdstat_hgetall"]["calls"])

    async with asyncio.timeout(10), Redis.from_url(url) as client:
        before = await looks(client)
        while await looks(client) < before + times:
            pass


async def test_status_survives_a_restart(tmp_path: Path) -> None:
    """Through Redis: the new process begins with what was known; one failure is enough for a breaker."""
    silent = {"interval": 0, "down_interval": 60}
    async with redis_server() as redis, Upstream(FAILING) as upstream:
        settings = {
            "providers": {"p": provider(upstream.url, attempts={"max_attempts": 1})},
            "redis": {"url": redis.url},
            "breaker": {"failures": 3, "open_for": 30},
            "health": silent,
        }
        async with running(tmp_path, **settings) as sidecar, calling(sidecar.sidecar.port) as caller:
            for _ in range(3):
                await fails(caller, "p/m")
            assert await settled(caller, "provider/p", NOT_SERVING)
            await told(redis.url, 2)
        async with running(tmp_path, **settings) as sidecar, calling(sidecar.sidecar.port) as caller:
            assert await caller.health.check("provider/p") == NOT_SERVING
            listed = await sidecar.providers.ListProviders(v1.ListProvidersRequest())
            assert listed.providers[0].status_reason == "it did not serve when it was last heard of"
            assert listed.providers[0].targets[0].state == v1.TARGET_STATE_CLOSED
            await fails(caller, "p/m")
            listed = await sidecar.providers.ListProviders(v1.ListProvidersRequest())
            assert listed.providers[0].targets[0].state == v1.TARGET_STATE_OPEN


async def test_one_sidecar_hears_from_another(tmp_path: Path) -> None:
    """Shared as a hint, decided locally: what has tripped elsewhere trips here at the first failure."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with redis_server() as redis, Upstream(FAILING) as upstream:
        settings = {
            "providers": {"p": provider(upstream.url, attempts={"max_attempts": 1})},
            "redis": {"url": redis.url},
            "breaker": {"failures": 5, "open_for": 30},
        }
        async with (
            running(tmp_path / "a", **settings) as one,
            running(tmp_path / "b", **settings) as other,
            calling(one.sidecar.port) as caller,
            calling(other.sidecar.port) as listener,
        ):
            await fails(listener, "p/m")
            for _ in range(5):
                await fails(caller, "p/m")
            await told(redis.url, 2)
            assert await listener.health.check("provider/p") == SERVING
            await looked(redis.url, 4)  # twice each
            await fails(listener, "p/m")
            listed = await other.providers.ListProviders(v1.ListProvidersRequest())
            assert listed.providers[0].targets[0].state == v1.TARGET_STATE_OPEN
            assert len(upstream.requests) == 7
