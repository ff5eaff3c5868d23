"""The least that such a service can cost: bare grpc.aio on uvloop, no upstream, the same messages.

Run as a process: prints its port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, Final

import grpc
import uvloop

from benchmarks.answers import CHUNKS, TOKEN_TEXT
from outrider import v1
from outrider.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)

Context = grpc.aio.ServicerContext[Any, Any]

_PACED: Final = re.compile(r"paced-(\d+)(?:-(\d+))?")


class Floor(GenerationServiceServicer):
    """Answers with constants."""

    async def Generate(self, request: v1.GenerateRequest, context: Context) -> None:  # type: ignore[override]
        """Tokens one by one; the model's name sets the pace as it does upstream."""
        paced = _PACED.search(request.model)
        pause, chunks = (int(paced[1]) / 1000, int(paced[2] or CHUNKS)) if paced else (0, CHUNKS)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for sequence in range(chunks):
            if pause and sequence:
                due += pause
                await asyncio.sleep(due - loop.time())
            await context.write(
                v1.GenerateResponse(sequence=sequence, text_delta=v1.TextDelta(text=TOKEN_TEXT))
            )

    async def Complete(self, request: v1.CompleteRequest, context: Context) -> v1.CompleteResponse:
        """One message."""
        return v1.CompleteResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=TOKEN_TEXT * 4)])
        )


async def serve() -> None:
    """Serve until standard input ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GenerationServiceServicer_to_server(Floor(), server)  # type: ignore[abstract]
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve())
