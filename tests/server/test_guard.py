import asyncio
from typing import Any

import grpc
import pytest

from outrider import v1
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from tests.support.sidecar import Failure


class Broken(GenerationServiceServicer):
    """Fails in ways that no servicer of ours should."""

    async def Generate(self, request: v1.GenerateRequest, context: Any) -> None:  # type: ignore[override]
        await context.write(v1.GenerateResponse(sequence=1))
        raise asyncio.CancelledError  # as a library does when a future of its own was cancelled

    async def Complete(self, request: v1.CompleteRequest, context: Any) -> v1.CompleteResponse:
        raise ZeroDivisionError("a secret of the implementation")


@pytest.mark.parametrize(
    ("method", "code", "reason"),
    [
        ("Generate", grpc.StatusCode.ABORTED, "DRAINING"),
        ("Complete", grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
async def test_nothing_unexpected_leaves_a_caller_without_a_typed_status(
    method: str, code: grpc.StatusCode, reason: str
) -> None:
    """Row 13: a cancel that nobody asked for, and a bug, end the call; neither tells of the inside."""
    server = grpc.aio.server(interceptors=[ErrorGuard(InFlight(10), 1_000_000)])
    add_GenerationServiceServicer_to_server(Broken(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = GenerationServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                if method == "Generate":
                    async for _ in stub.Generate(v1.GenerateRequest(), timeout=2):
                        pass
                else:
                    await stub.Complete(v1.CompleteRequest(), timeout=2)
    finally:
        await server.stop(0)
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (code, reason)
    assert "secret" not in failure.everything
