"""A load of calls at a steady concurrency, and what they cost the server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from outrider import v1
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.processes import Child
    from outrider.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

_TIMEOUT = 60
_CHANNELS = 4  # one HTTP/2 connection of many calls would be the bottleneck itself


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost."""

    cpu_ms: float  # of the server
    wall_ms: float  # over all calls at once


def request(model: str) -> v1.GenerateRequest:
    """A short conversation."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Tell me about sidecars, please.")])
    return v1.GenerateRequest(model=model, messages=[message])


class Client:
    """Calls one server."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(_CHANNELS)
        ]
        self._stubs: list[GenerationServiceAsyncStub] = [
            GenerationServiceStub(channel) for channel in self._channels
        ]
        self._next = 0

    async def unary(self, model: str) -> None:
        """One Complete."""
        await self._stub().Complete(v1.CompleteRequest(request=request(model)), timeout=_TIMEOUT)

    async def stream(self, model: str) -> None:
        """One Generate, read to its end."""
        async for _ in self._stub().Generate(request(model), timeout=_TIMEOUT):
            pass

    async def aclose(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()

    def _stub(self) -> GenerationServiceAsyncStub:
        self._next = (self._next + 1) % _CHANNELS
        return self._stubs[self._next]


async def measure(
    server: Child, call: Callable[[], Awaitable[None]], *, calls: int, concurrency: int
) -> Cost:
    """Make `calls` calls, `concurrency` at a time."""
    remaining = iter(range(calls))

    async def worker() -> None:
        for _ in remaining:
            await call()

    cpu, wall = server.cpu_seconds(), time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())
    return Cost(
        cpu_ms=(server.cpu_seconds() - cpu) * 1000 / calls,
        wall_ms=(time.perf_counter() - wall) * 1000 / calls,
    )
