"""The admin port: metrics for Prometheus, probes for Kubernetes. Plain HTTP, read only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

Probe: TypeAlias = "Callable[[], tuple[bool, str]]"
"""Whether all is well, and in words why or why not. Must not block."""

_log = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 1.0
_MAX_HEAD = 16_384  # bytes of a request
_MAX_CONNECTIONS = 64
_TEXT = "text/plain; charset=utf-8"
_INDEX = """Outrider

/metrics  metrics for Prometheus
/livez    200 while the process works
/readyz   200 while it takes requests
"""
_PATHS = ("/", "/metrics", "/livez", "/readyz")
_WORDS = 3  # in the first line of a request


class _Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool


class _Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = _TEXT


class AdminServer:
    """Serves from `start` to `aclose`. `listen` is "host:port"; port 0 lets the kernel choose.

    Timeouts are seconds: of making the metrics, and of a connection that brings no whole request or takes no
    answer. Where there are too many connections, the one that has been silent for longest makes room.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        live: Probe,
        ready: Probe,
        *,
        scrape_timeout: float = 5.0,
        idle_timeout: float = 75.0,
    ) -> None:
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._registry = registry
        self._probes = {"/livez": live, "/readyz": ready}
        self._scrape = asyncio.Lock()
        self._scrape_timeout = scrape_timeout
        self._idle_timeout = idle_timeout
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.StreamWriter, None] = {}  # the longest silent first

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, self._host, self._port, limit=_MAX_HEAD)
        return int(self._server.sockets[0].getsockname()[1])

    async def aclose(self) -> None:
        """Stop listening and close every connection, giving requests under way a moment."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._silent:
            writer.transport.abort()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=_SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= _MAX_CONNECTIONS:
            next(iter(self._silent), writer).transport.abort()
        self._silent[writer] = None
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other, until either side has had enough."""
        writer.transport.set_write_buffer_limits(high=0)  # `drain` waits until everything has left
        # What they read may end, be too long, or never come.
        with suppress(EOFError, asyncio.LimitOverrunError, OSError):
            try:
                go_on = True
                while go_on:
                    self._silent[writer] = None
                    async with asyncio.timeout(self._idle_timeout):
                        head = await reader.readuntil(b"\r\n\r\n")
                    del self._silent[writer]
                    request = _parse(head)
                    answer = await self._answer_any(request) if request else _Answer(400, b"bad request\n")
                    go_on = request is not None and request.keep_alive
                    async with asyncio.timeout(self._idle_timeout):
                        writer.write(_encode(answer, request, go_on=go_on))
                        await writer.drain()
            finally:
                self._silent.pop(writer, None)
                writer.transport.abort()

    async def _answer_any(self, request: _Request) -> _Answer:
        try:
            return await self._answer(request)
        except Exception:  # noqa: BLE001 - a collector may be anybody's
            _log.exception("%s failed", request.path)
            return _Answer(500, b"failed\n")

    async def _answer(self, request: _Request) -> _Answer:
        if request.path not in _PATHS:
            return _Answer(404, b"not found\n")
        if request.method not in ("GET", "HEAD"):
            return _Answer(405, b"only GET and HEAD\n")
        if request.path == "/metrics":
            return await self._metrics(request.headers.get("accept", ""))
        if request.path == "/":
            return _Answer(200, _INDEX.encode())
        healthy, reason = self._probes[request.path]()
        return _Answer(200 if healthy else 503, f"{reason}\n".encode())

    async def _metrics(self, accept: str) -> _Answer:
        """The registry in the format that the scraper asks for.

        Made on a thread, as it takes milliseconds; one at a time, so that scrapers cannot use up threads.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it compares whatever stands where a version belongs
            return _Answer(406, b"Accept has a bad version\n")
        try:
            async with asyncio.timeout(self._scrape_timeout), self._scrape:
                body = await asyncio.to_thread(encode, self._registry)
        except TimeoutError:
            return _Answer(503, b"the scrape took too long\n")
        return _Answer(200, body, content_type)


def _parse(head: bytes) -> _Request | None:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != _WORDS or not words[2].startswith("HTTP/1."):
        return None
    method, target, version = words
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    # A body is not read, so nothing can follow it.
    keep_alive = (
        version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower() and not has_body
    )
    return _Request(method, target.partition("?")[0], headers, keep_alive)


def _encode(answer: _Answer, request: _Request | None, *, go_on: bool) -> bytes:
    status = HTTPStatus(answer.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        f"Connection: {'keep-alive' if go_on else 'close'}",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if request and request.method == "HEAD" else head + answer.body
