"""What probes are told: by gRPC health and by the admin port, in good times and bad."""

import asyncio
from pathlib import Path

import grpc
import pytest

from outrider import v1
from tests.support.answers import json_body, openai_stream
from tests.support.caller import NOT_SERVING, SERVICE_UNKNOWN, SERVING, Caller, calling, fetch
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
            "outrider.v1.GenerationService": SERVING,
            "outrider.v1.ProviderService": SERVING,
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
