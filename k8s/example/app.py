"""An example service: POST a question to /, and read the answer as it is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import grpc
from aiohttp import web

from outrider import v1
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OUTRIDER = web.AppKey("outrider", grpc.aio.Channel)
ANSWER_SECONDS = 60


async def ask(request: web.Request) -> web.StreamResponse:
    """Stream the answer's text. A caller who leaves cancels the provider's work too."""
    question = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=await request.text())])
    call = GenerationServiceStub(request.app[OUTRIDER]).Generate(
        v1.GenerateRequest(messages=[question]), timeout=ANSWER_SECONDS
    )
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    try:
        async for event in call:
            if not response.prepared:
                await response.prepare(request)
            await response.write(event.text_delta.text.encode())
    except grpc.aio.AioRpcError as error:
        if response.prepared:
            raise  # the connection is cut, which tells the caller that the answer is not whole
        raise web.HTTPBadGateway(text=f"{error.code().name}: {error.details()}\n") from error
    finally:
        call.cancel()
    return response


async def healthz(_: web.Request) -> web.Response:
    """Whether this process answers."""
    return web.Response(text="ok\n")


async def connect(app: web.Application) -> AsyncIterator[None]:
    """Hold one channel to the sidecar for as long as the service runs."""
    address = os.environ.get("OUTRIDER_ADDRESS", "127.0.0.1:50051")
    # Over a Unix socket, clients name the socket's path as the host, which strict servers refuse.
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(address, options) as app[OUTRIDER]:
        yield


def create_app() -> web.Application:
    """The service."""
    app = web.Application()
    app.cleanup_ctx.append(connect)
    app.add_routes([web.post("/", ask), web.get("/healthz", healthz)])
    return app


if __name__ == "__main__":
    web.run_app(create_app(), port=8080, shutdown_timeout=ANSWER_SECONDS, handler_cancellation=True)
