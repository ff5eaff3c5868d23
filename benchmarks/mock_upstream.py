"""A provider that costs next to nothing: canned OpenAI answers over a raw asyncio protocol.

The model's name sets the pace: "burst" sends 100 chunks in one write, "paced-50" one each 50 ms, and anything
else answers at once. Run as a process: prints its port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

CHUNKS = 100

_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 12}


def _event(data: object) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    return _event({**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


FIRST = _delta({"role": "assistant", "content": ""})
TOKEN = _delta({"content": " token"})
LAST = _delta({}, "stop") + _event({**_CHUNK, "choices": [], "usage": _USAGE}) + b"data: [DONE]\n\n"
UNARY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "four words of text"},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
UNARY_ANSWER = _HEAD % (b"application/json", b"content-length: %d" % len(UNARY)) + UNARY
STREAM_HEAD = _HEAD % (b"text/event-stream", b"transfer-encoding: chunked")

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PACE = re.compile(rb'"paced-(\d+)"')


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP's chunked encoding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


_END = b"0\r\n\r\n"
BURST = STREAM_HEAD + b"".join(map(chunked, [FIRST, *[TOKEN] * CHUNKS, LAST])) + _END


class Exchange(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._pacing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop a stream that nobody reads."""
        if self._pacing is not None:
            self._pacing.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if separator and len(rest) >= size:
            self._received = rest[size:]
            self._answer(rest[:size])

    def _answer(self, body: bytes) -> None:
        pace = _PACE.search(body)
        if b'"stream":true' not in body:
            self._transport.write(UNARY_ANSWER)
        elif pace is None:
            self._transport.write(BURST)
        else:
            self._pacing = asyncio.get_running_loop().create_task(self._stream(int(pace[1]) / 1000))

    async def _stream(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        self._transport.write(STREAM_HEAD + chunked(FIRST))
        token, due = chunked(TOKEN), loop.time()
        for _ in range(CHUNKS):
            due += pause
            await asyncio.sleep(due - loop.time())
            self._transport.write(token)
        self._transport.write(chunked(LAST) + _END)


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Exchange, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
