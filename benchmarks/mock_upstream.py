"""A provider that costs next to nothing: canned answers over a raw asyncio protocol.

The path chooses the wire format, OpenAI's or Anthropic's. The model's name sets the pace of a stream: "burst"
is 100 tokens in one write, "paced-10" one each 10 ms, "paced-10-500" 500 of them. "fault-…" goes wrong: see
`_FAULTS`. Run as a process: prints its ports, plain and, given a certificate, TLS; ends with its standard
input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
from typing import TYPE_CHECKING, Final, cast

import uvloop

from benchmarks.answers import ANTHROPIC, CHUNKS, OPENAI, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.answers import Wire

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAMING: Final = re.compile(rb'"stream": ?true')
_PACED: Final = re.compile(rb'"paced-(\d+)(?:-(\d+))?"')
_FAULT: Final = re.compile(rb'"fault-([a-z0-9]+)"')
_SWEEP: Final = 0.5  # seconds between two looks for unused connections
_OVERLOADED: Final = answer(b'{"error": {"message": "overloaded", "type": "server_error"}}', "503 Overloaded")


class Exchange(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, open_: set[Exchange]) -> None:
        self._open = open_
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._used = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop a stream that nobody reads."""
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close_if_unused(self, seconds: float) -> None:
        """Close where the last request is so long ago, and answered."""
        if self._timer is None and self._loop.time() - self._used > seconds:
            self._transport.close()

    def pause_writing(self) -> None:
        """The reader is slow: its stream waits."""
        self._full = True

    def resume_writing(self) -> None:
        """The reader has caught up."""
        self._full = False

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if separator and len(rest) >= size:
            self._received = rest[size:]
            self._answer(ANTHROPIC if b"/messages" in head[: head.find(b"\r\n")] else OPENAI, rest[:size])

    def _answer(self, wire: Wire, body: bytes) -> None:
        self._used = self._loop.time()
        if fault := _FAULT.search(body):
            _FAULTS[fault[1]](self._transport, wire)
        elif not _STREAMING.search(body):
            self._transport.write(wire.unary)
        elif pace := _PACED.search(body):
            self._transport.write(wire.first)
            self._pace(wire, int(pace[1]) / 1000, int(pace[2] or CHUNKS) - 1, self._loop.time())
        else:
            self._transport.write(_BURSTS[wire])

    def _pace(self, wire: Wire, pause: float, left: int, due: float) -> None:
        due += pause
        self._timer = self._loop.call_at(due, self._tick, wire, pause, left, due)

    def _tick(self, wire: Wire, pause: float, left: int, due: float) -> None:
        if not left:
            self._timer = None
            self._transport.write(wire.last)
            return
        if not self._full:
            self._transport.write(wire.token)
            left -= 1
        self._pace(wire, pause, left, due)


_BURSTS: Final = {wire: wire.burst() for wire in (OPENAI, ANTHROPIC)}


def _overloaded(transport: asyncio.Transport, _: Wire) -> None:
    transport.write(_OVERLOADED)


def _reset(transport: asyncio.Transport, wire: Wire) -> None:
    transport.write(wire.first)
    transport.abort()


def _stall(transport: asyncio.Transport, wire: Wire) -> None:
    transport.write(wire.first)


def _truncated(transport: asyncio.Transport, wire: Wire) -> None:
    transport.write(wire.first + wire.token + b"0\r\n\r\n")


_FAULTS: Final[dict[bytes, Callable[[asyncio.Transport, Wire], None]]] = {
    b"overloaded": _overloaded,
    b"reset": _reset,
    b"stall": _stall,
    b"truncated": _truncated,
}


async def serve(certificate: str | None, keep_alive: float | None) -> None:
    """Serve until standard input ends."""
    exchanges: set[Exchange] = set()
    loop = asyncio.get_running_loop()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    servers = [
        await loop.create_server(lambda: Exchange(exchanges), "127.0.0.1", 0, backlog=4096, ssl=tls)
        for tls in ([None, context] if context else [None])
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        await asyncio.wait([ended], timeout=_SWEEP if keep_alive else None)
        for exchange in list(exchanges) if keep_alive else ():
            exchange.close_if_unused(keep_alive or 0)
    for server in servers:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", help="PEM file with certificate and key")
    parser.add_argument("--keep-alive", type=float, help="seconds that an unused connection stays open")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.certificate, arguments.keep_alive))
