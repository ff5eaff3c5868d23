"""The example service of k8s/example, against a real gRPC server in the sidecar's place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from aiohttp import ClientPayloadError, ClientSession

from outrider import v1
from outrider.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from tests.packaging.manifests import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Echo(GenerationServiceServicer):
    """Answers with the question, word by word, and fails at the word "fail"."""

    async def Generate(
        self,
        request: v1.GenerateRequest,
        context: grpc.aio.ServicerContext[v1.GenerateRequest, v1.GenerateResponse],
    ) -> None:
        """One delta for each word."""
        for word in request.messages[0].parts[0].text.split():
            if word == "fail":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no provider answers")
            await context.write(v1.GenerateResponse(text_delta=v1.TextDelta(text=f"{word} ")))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ClientSession]:
    """A client of the service, while that and its sidecar run."""
    address = f"unix://{tmp_path}/outrider.sock"
    server = grpc.aio.server()
    add_GenerationServiceServicer_to_server(Echo(), server)
    server.add_insecure_port(address)
    await server.start()
    with (
        grpc.insecure_channel(address, [("grpc.default_authority", "localhost")]) as channel,
        EXAMPLE["Service"](("127.0.0.1", 0), channel) as app,
    ):
        serving = asyncio.create_task(asyncio.to_thread(app.serve_forever, poll_interval=0.01))
        async with ClientSession(f"http://127.0.0.1:{app.server_address[1]}") as session:
            yield session
        await asyncio.to_thread(app.shutdown)
        await serving
    await server.stop(None)


async def test_answer_is_streamed(service: ClientSession) -> None:
    """The text of every delta reaches the caller, in order."""
    async with service.post("/", data="good morning") as response:
        assert (response.status, await response.text()) == (200, "good morning ")


async def test_failure_before_any_text_is_an_error(service: ClientSession) -> None:
    """The caller gets a status that says whose fault it is."""
    async with service.post("/", data="fail") as response:
        assert (response.status, await response.text()) == (502, "UNAVAILABLE: no provider answers\n")


async def test_failure_after_some_text_cuts_the_answer(service: ClientSession) -> None:
    """A broken answer never looks like a whole one."""
    async with service.post("/", data="good fail") as response:
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_probe_answers(service: ClientSession) -> None:
    """The kubelet's probe needs no sidecar and no body."""
    async with service.get("/healthz") as response:
        assert response.status == 200
