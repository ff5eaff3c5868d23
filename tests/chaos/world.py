"""Sidecars, Redis and providers, each a process that can be killed and comes back as it was."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from outrider.v1.job_service_pb2_grpc import JobServiceStub
from tests.chaos.provider import WELL
from tests.support.caller import calling
from tests.support.process import PATIENCE, launch
from tests.support.redis_server import Server, free_port, redis_server
from tests.support.sidecar import provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from tests.support.caller import Caller
    from tests.support.process import Child

ROUTE = "any"
NAMES = ("a", "b", "c")  # of the providers
SIDECARS = 3
ROOT = Path(__file__).parents[2]

# Redis tells that a job is accepted once that is on disk: with less, kill -9 may take back the last moment.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")

CONFIG: dict[str, Any] = {
    "server": {"drain": {"delay": 0, "grace": 5}},
    "routes": {
        ROUTE: {"strategy": "weighted", "targets": [{"target": f"{name}/m", "weight": 1} for name in NAMES]}
    },
    "timeouts": {"connect": 1, "first_event": 0.7, "idle": 1, "total": 10},
    "breaker": {"failures": 5, "open_for": 0.5},
    "prices": {"m": {"input": 1, "output": 10}},
    "usage": {"flush_interval": "50ms"},
    "jobs": {"retry_delay": 0.1, "max_retries": 50, "lease": 5},
    "events": {"redis": {"max_length": 1_000_000}},
}


class Mortal(Protocol):
    """What can be killed and started again."""

    @property
    def name(self) -> str:
        """Which one it is."""

    async def kill(self) -> None:
        """End it at once."""

    async def start(self) -> None:
        """Start it as it was, and wait until it works."""


class Provider:
    """One provider."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = f"provider {name}"
        self.port = free_port()
        self._seed = seed
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, in a good mood."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.provider", str(self.port), str(self._seed)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await self._process.stdout.readline() == b"ready\n"

    async def kill(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()

    def behave(self, mood: str) -> None:
        """Be in another mood, unless it is dead."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{mood}\n".encode())


class Sidecar:
    """One sidecar. Started again, it goes on with its port and its journals."""

    def __init__(self, number: int, folder: Path, config: dict[str, Any]) -> None:
        self.name = f"sidecar {number}"
        self.port = free_port()
        self.deaths: list[float] = []  # when, by the Unix clock
        self.logs: list[str] = []  # of those that have ended
        self.child: Child | None = None
        self._folder = folder / f"sidecar-{number}"
        self._folder.mkdir()
        self._config = {
            **config,
            "server": {**config["server"], "listen": f"127.0.0.1:{self.port}"},
            "usage": {**config["usage"], "journal": str(self._folder / "usage")},
            "jobs": {**config["jobs"], "journal": str(self._folder / "jobs")},
        }

    async def start(self) -> None:
        """Start it."""
        self.child = await launch(self._folder, **self._config)
        await self.child.logged("serving")

    async def kill(self) -> None:
        """End it at once."""
        if self.child is not None:
            self.deaths.append(time.time())
            await self._bury()

    async def drain(self) -> None:
        """End it as a rollout does."""
        assert self.child is not None
        self.child.signal(signal.SIGTERM)
        assert await self.child.ended() == 0, self.child.log[-2000:]
        await self._bury()

    async def _bury(self) -> None:
        child, self.child = self.child, None
        assert child is not None
        await child.kill()
        self.logs.append(child.log)


class Redis:
    """The Redis of them all."""

    name = "redis"

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url

    async def start(self) -> None:
        """Start it, and wait until it has read what it has on disk."""
        await self._server.start()
        await self._server.until("ping", shows="PONG")

    async def kill(self) -> None:
        """End it at once."""
        await self._server.kill()

    async def stream(self, key: str) -> list[str]:
        """The values of the entries of a stream."""
        lines = (await self._server.cli("--raw", "xrange", key, "-", "+")).splitlines()
        return lines[2::3]


class World:
    """All of them, and callers of the sidecars."""

    def __init__(
        self, redis: Redis, providers: list[Provider], sidecars: list[Sidecar], callers: list[Caller]
    ) -> None:
        self.redis = redis
        self.providers = providers
        self.sidecars = sidecars
        self.callers = callers
        self.jobs: list[JobServiceAsyncStub] = [JobServiceStub(caller.channel) for caller in callers]

    def heal(self) -> None:
        """Whoever lives is well from now on."""
        for each in self.providers:
            each.behave(WELL)


@asynccontextmanager
async def world(folder: Path, seed: int) -> AsyncIterator[World]:
    """Everything, up and well."""
    async with AsyncExitStack() as stack:
        redis = Redis(await stack.enter_async_context(redis_server(*DURABLE)))
        providers = [Provider(name, seed + number) for number, name in enumerate(NAMES)]
        for each in providers:
            stack.push_async_callback(each.kill)
            await each.start()
        settings = {
            **CONFIG,
            "redis": {"url": redis.url, "fleet_size": SIDECARS},
            "providers": {
                name: provider(f"http://127.0.0.1:{each.port}", default_model="m")
                for name, each in zip(NAMES, providers, strict=True)
            },
        }
        sidecars = [Sidecar(number, folder, settings) for number in range(SIDECARS)]
        for sidecar in sidecars:
            stack.push_async_callback(sidecar.kill)
        await asyncio.gather(*(sidecar.start() for sidecar in sidecars))
        callers = [await stack.enter_async_context(calling(sidecar.port)) for sidecar in sidecars]
        yield World(redis, providers, sidecars, callers)
