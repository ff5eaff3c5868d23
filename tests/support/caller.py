"""A caller's end of a channel, for callers that are not the usual one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub
    from outrider.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthClient:
    """The standard health service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)

    async def check(self, name: str = "") -> int:
        """The status of a name. Raises AioRpcError."""
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=name))
        return int(answer.status)

    async def watch(self, name: str = "") -> AsyncIterator[int]:
        """Its status, and every change of it."""
        async for answer in self._stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            yield answer.status

    async def all(self) -> dict[str, int]:
        """Every name and its status."""
        answer = await self._stub.List(health_pb2.HealthListRequest())
        return {name: each.status for name, each in answer.statuses.items()}


@dataclass(frozen=True)
class Caller:
    """A channel and the services behind it."""

    channel: grpc.aio.Channel
    generation: GenerationServiceAsyncStub
    providers: ProviderServiceAsyncStub
    health: HealthClient


@asynccontextmanager
async def calling(
    address: str | int,
    credentials: grpc.ChannelCredentials | None = None,
    options: dict[str, object] | None = None,
) -> AsyncIterator[Caller]:
    """A caller of its own connection. A number is a port on loopback."""
    if isinstance(address, int):
        address = f"127.0.0.1:{address}"
    settings = {
        "grpc.use_local_subchannel_pool": 1,  # channels share connections otherwise
        "grpc.initial_reconnect_backoff_ms": 50,  # tests do not wait a second for a sidecar that starts
        "grpc.min_reconnect_backoff_ms": 50,
        "grpc.max_reconnect_backoff_ms": 50,
        **(options or {}),
    }
    arguments = list(settings.items())
    channel = (
        grpc.aio.secure_channel(address, credentials, options=arguments)
        if credentials
        else grpc.aio.insecure_channel(address, options=arguments)
    )
    async with channel:
        yield Caller(
            channel, GenerationServiceStub(channel), ProviderServiceStub(channel), HealthClient(channel)
        )


async def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page of the admin port."""
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()
