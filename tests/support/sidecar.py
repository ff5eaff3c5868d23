"""A whole sidecar on real sockets, for as long as a block lasts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import yaml
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from grpc_status import rpc_status

from outrider import v1
from outrider.bootstrap import Sidecar
from outrider.config import load
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from outrider.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub
    from outrider.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub

PATIENCE = 10.0  # seconds until a test is given up


@dataclass(frozen=True)
class Running:
    """A sidecar and a caller's ends of it."""

    sidecar: Sidecar
    channel: grpc.aio.Channel
    generation: GenerationServiceAsyncStub
    providers: ProviderServiceAsyncStub

    async def metrics(self) -> str:
        """The text of /metrics."""
        url = f"http://127.0.0.1:{self.sidecar.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    async def counted(self, series: str) -> float:
        """The value of one series, given with its labels; 0 where there is none."""
        for line in (await self.metrics()).splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        return 0.0


def provider(url: str, format: str = "openai", **settings: object) -> dict[str, object]:  # noqa: A002
    """A provider at an upstream, quick to retry."""
    return {
        "format": format,
        "base_url": url,
        "api_key": "sk-test-key-0123456789",
        "default_model": "m",
        "attempts": {"base_delay": 0.01, "max_delay": 0.05},
        **settings,
    }


@asynccontextmanager
async def running(tmp_path: Path, /, **config: Any) -> AsyncIterator[Running]:
    """Start a sidecar with this configuration on ports of the kernel's choice."""
    settings = {"server": {"listen": "127.0.0.1:0"}, "admin": {"listen": "127.0.0.1:0"}, **config}
    settings["server"] = {"listen": "127.0.0.1:0", **settings["server"]}
    file = tmp_path / "outrider.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    sidecar = Sidecar(load(file, {}))
    await sidecar.start()
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{sidecar.port}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        ) as channel:
            yield Running(sidecar, channel, GenerationServiceStub(channel), ProviderServiceStub(channel))
    finally:
        await sidecar.stop()


def ask(model: str = "", text: str = "hello", **changes: Any) -> v1.GenerateRequest:
    """A request of one user message."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
    return v1.GenerateRequest(**({"model": model, "messages": [message]} | changes))


async def collect(call: AsyncIterator[v1.GenerateResponse]) -> list[v1.GenerateResponse]:
    """Every event of a stream."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in call]


def text(events: list[v1.GenerateResponse]) -> str:
    """All text of an answer."""
    return "".join(event.text_delta.text for event in events)


@dataclass(frozen=True)
class Failure:
    """A failed call, unpacked."""

    code: grpc.StatusCode
    message: str
    reason: str
    info: ErrorInfo
    retry_delay: float | None
    pushback: str | None
    quota: QuotaFailure | None
    bad_request: BadRequest | None
    failure: v1.GenerationFailure | None
    everything: str  # all that reached the caller, for searching

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Failure:
        """Unpack the status of a failed call."""
        status = rpc_status.from_call(error)
        found: dict[type, Any] = {}
        for detail in status.details if status else ():
            for kind in (ErrorInfo, RetryInfo, QuotaFailure, BadRequest, v1.GenerationFailure):
                message = kind()
                if detail.Unpack(message):
                    found[kind] = message
        info, retry = found.get(ErrorInfo, ErrorInfo()), found.get(RetryInfo)
        trailers = dict(error.trailing_metadata())
        return cls(
            error.code(),
            error.details() or "",
            info.reason,
            info,
            retry.retry_delay.ToNanoseconds() / 1e9 if retry else None,
            trailers.get("grpc-retry-pushback-ms"),
            found.get(QuotaFailure),
            found.get(BadRequest),
            found.get(v1.GenerationFailure),
            f"{error.details()} {status} {trailers}",
        )
