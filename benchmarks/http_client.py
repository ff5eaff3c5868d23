"""OpenAI's API over raw HTTP/1.1: the least a caller can cost, so that the load is not what is measured."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

from benchmarks.calls import Call, CallError

if TYPE_CHECKING:
    from benchmarks.calls import Target

_LAST_CHUNK = b"0\r\n\r\n"


class HttpClient:
    """One connection for each call at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._requests: dict[tuple[str, bool], bytes] = {}
        self._all: set[_Connection] = set()
        self._free: list[_Connection] = []

    async def connect(self, calls: int) -> None:
        """Open as many connections as are missing; servers close those that were idle for a while."""
        loop = asyncio.get_running_loop()
        for _ in range(calls - len(self._all)):
            await loop.create_connection(
                lambda: _Connection(self._all, self._free), "127.0.0.1", self._target.port
            )

    def start(self, model: str, *, streaming: bool) -> Call:
        """Send a request on a free connection."""
        key = (model, streaming)
        if key not in self._requests:
            self._requests[key] = self._encode(model, streaming=streaming)
        if not self._free:
            raise CallError("the server closed a connection between two calls")
        return self._free.pop().send(self._requests[key])

    def abort(self) -> None:
        """Drop every call and connection."""
        for connection in self._all:
            connection.abort()

    def _encode(self, model: str, *, streaming: bool) -> bytes:
        target = self._target
        question = {"role": "user", "content": "Tell me about sidecars, please."}
        body = {"model": target.prefix + model, "messages": [question], "stream": streaming}
        if streaming:
            body["stream_options"] = {"include_usage": True}
        data = json.dumps(body, separators=(",", ":")).encode()
        headers = {
            "host": f"127.0.0.1:{target.port}",
            "content-type": "application/json",
            "authorization": "Bearer none",
            "content-length": str(len(data)),
            **dict(target.headers),
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + data


class _Connection(asyncio.Protocol):
    """One request at a time. Knows just enough of HTTP to tell where an answer ends."""

    def __init__(self, every: set[_Connection], free: list[_Connection]) -> None:
        self._every = every
        self._free = free
        self._call: Call | None = None
        self._head = b""
        self._tail = b""
        self._left: int | None = None  # bytes of the body still to come; None: it is chunked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a request."""
        self._transport = cast("asyncio.Transport", transport)
        self._every.add(self)
        self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The call under way has failed."""
        self._every.discard(self)
        if self in self._free:
            self._free.remove(self)
        if self._call is not None:
            self._call.end(f"connection lost: {exc}")

    def send(self, request: bytes) -> Call:
        """Begin a call."""
        self._call, self._head, self._tail = Call(), b"", b""
        self._transport.write(request)
        return self._call

    def abort(self) -> None:
        """Close without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Head first, then the body."""
        if self._call is None:
            self.abort()
            return
        if not self._tail:
            data = self._read_head(data)
            if not data:
                return
        self._call.feed(data)
        if self._left is None:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            whole = self._tail == _LAST_CHUNK
        else:
            self._left -= len(data)
            self._tail = data[-1:]
            whole = self._left <= 0
        if whole:
            call, self._call = self._call, None
            self._free.append(self)
            call.end()

    def _read_head(self, data: bytes) -> bytes:
        """What of the body came with the head; nothing while the head is not whole."""
        self._head += data
        head, separator, body = self._head.partition(b"\r\n\r\n")
        if not separator:
            return b""
        head = head.lower()
        if b" 200 " not in head[:16] and self._call is not None:
            self._call.end(self._head[:500].decode(errors="replace"))
            self.abort()
        _, named, length = head.partition(b"content-length:")
        self._left = int(length.partition(b"\r\n")[0]) if named else None
        return body
