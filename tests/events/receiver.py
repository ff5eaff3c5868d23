"""A receiver of webhooks on a real socket, which answers as it is told."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

RECEIVED = b"HTTP/1.1 204 No Content\r\n\r\n"
HANG = b"hang"  # read the request, and never answer
STALL = b"HTTP/1.1 200 OK\r\nX-Half: "  # and then nothing
RESET = b"reset"  # leave in the middle of the request


def status(code: int, *headers: str) -> bytes:
    """An answer with this status."""
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 {code} Words\r\n{lines}Content-Length: 2\r\n\r\nno".encode()


@dataclass(frozen=True)
class Request:
    """One that was received whole."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """What is in it."""
        batch: list[dict[str, Any]] = json.loads(self.body)
        return batch


@dataclass
class Receiver:
    """Gives the answers in their order, and then takes whatever comes."""

    answers: list[bytes] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook?token=t0p"

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event of every request, repeats too."""
        return [event for request in self.requests for event in request.events]

    async def until(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(30):
            while len(self.requests) < count:
                self._news.clear()
                await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._calls.add(task)
        try:
            with suppress(OSError, EOFError):
                await self._answer(reader, writer)
        except asyncio.CancelledError:
            return
        finally:
            writer.close()
            self._calls.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        answer = self.answers.pop(0) if self.answers else RECEIVED
        if answer is RESET:
            writer.transport.abort()
            return
        line, *lines = head.strip().split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines)
        body = await reader.readexactly(int(headers["Content-Length"]))
        self.requests.append(Request(line, headers, body))
        self._news.set()
        if answer is HANG or answer is STALL:
            writer.write(answer.removeprefix(HANG))
            await reader.read()  # until the caller leaves
            return
        writer.write(answer)
        await writer.drain()

    async def end(self) -> None:
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


@asynccontextmanager
async def receiving(
    *answers: bytes, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(list(answers), scheme="https" if tls else "http")
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await receiver.end()
