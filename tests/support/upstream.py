"""A provider made of a socket: it answers exactly what a test tells it to, byte for byte.

    async with Upstream(openai_stream("Hello"), broken(openai_stream("Hello"), after=300)) as upstream:
        ...                                  # first request, second request; the last answer repeats
    upstream.requests[0].headers["authorization"]
    await upstream.connections[0].closed()   # the client has let go of the socket

An answer is any `async def answer(exchange)`; `tests/support/answers.py` has the usual ones.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

Fault: TypeAlias = Literal["close", "reset", "stall"]
Answer: TypeAlias = Callable[["Exchange"], Awaitable[None]]


class BrokenOff(Exception):  # noqa: N818 - not an error but a way out
    """The exchange has come to its fault, or the client has left; the rest of the answer is not played."""


@dataclass(frozen=True)
class Request:
    """One request as it came off the socket; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: Connection
    at: float  # loop time at which it was whole

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """What an answer plays on. Everything goes out as it is given, with nothing buffered or added."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.connection = request.connection
        self._room: int | None = None
        self._fault: Fault = "close"

    def break_after(self, size: int, fault: Fault) -> None:
        """Let this many more bytes out, then do the fault instead of what remains."""
        self._room, self._fault = size, fault

    async def send(self, data: bytes) -> None:
        """Write, and wait until the socket has room again. Raises BrokenOff at the ordered fault."""
        if self._room is not None:
            data, self._room = data[: self._room], self._room - len(data)
        await self.connection.write(data)
        if self._room is not None and self._room <= 0:
            await self.fail(self._fault)

    async def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """One piece of a chunked body; the empty piece ends it."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def fail(self, fault: Fault) -> None:
        """End by a close, a reset, or a silence that lasts until the client leaves. Raises BrokenOff."""
        if fault == "stall":
            await self.connection.left()
        else:
            self.connection.close(reset=fault == "reset")
        raise BrokenOff


class Connection(asyncio.Protocol):
    """One accepted connection: reads requests, plays answers, and knows when the client has let go."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._data = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self.closed_at: float | None = None
        self.bytes_sent = 0
        self.answers_played = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=1)
        self._upstream.connections.append(self)
        self._player = self._loop.create_task(self._play())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._data.set()

    def eof_received(self) -> bool:
        self._note_closed()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._note_closed()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    async def left(self) -> None:
        """Wait until either side has closed."""
        await self._closed.wait()

    async def closed(self, within: float = 5.0) -> float:
        """The loop time at which the connection was closed; fails the test when it is not in time."""
        async with asyncio.timeout(within):
            await self._closed.wait()
        assert self.closed_at is not None
        return self.closed_at

    async def write(self, data: bytes) -> None:
        if self.is_closed:
            raise BrokenOff
        self._transport.write(data)
        self.bytes_sent += len(data)
        await self._writable.wait()

    def close(self, *, reset: bool = False) -> None:
        if reset:
            # With a linger of zero seconds, closing sends RST in place of FIN.
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()

    async def stop(self) -> None:
        self._transport.abort()
        self._player.cancel()
        with suppress(asyncio.CancelledError):
            await self._player

    def _note_closed(self) -> None:
        if self.closed_at is None:
            self.closed_at = self._loop.time()
        self._closed.set()
        self._data.set()
        self._writable.set()

    async def _play(self) -> None:
        with suppress(BrokenOff):
            while True:
                request = await self._read_request()
                answer = self._upstream.take(request)
                await answer(Exchange(request))
                self.answers_played += 1

    async def _read_request(self) -> Request:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start = end + 4
        end = start + int(headers.get("content-length", 0))
        while len(self._buffer) < end:
            await self._more()
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return Request(method, target, headers, body, self, self._loop.time())

    async def _more(self) -> None:
        if self.is_closed:
            raise BrokenOff
        self._data.clear()
        await self._data.wait()


class Upstream:
    """The server, on a port of the kernel's choice unless given, for as long as its context lasts."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._answers = answers
        self._wanted_port = port
        self._tls = tls
        self._arrived = asyncio.Event()
        self.requests: list[Request] = []
        self.connections: list[Connection] = []

    async def __aenter__(self) -> Upstream:
        loop = asyncio.get_running_loop()
        where = ("127.0.0.1", self._wanted_port)
        self._server = await loop.create_server(lambda: Connection(self), *where, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self.connections:
            await connection.stop()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> list[Connection]:
        return [connection for connection in self.connections if not connection.is_closed]

    def take(self, request: Request) -> Answer:
        """Record a request and choose its answer: the next one, or the last one again."""
        self.requests.append(request)
        self._arrived.set()
        return self._answers[min(len(self.requests), len(self._answers)) - 1]

    async def received(self, count: int = 1, within: float = 5.0) -> Request:
        """Wait until this many requests have come; the last of them."""
        async with asyncio.timeout(within):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[count - 1]
