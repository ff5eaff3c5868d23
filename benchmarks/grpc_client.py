"""gRPC over raw HTTP/2: the least that a caller can cost, so that the load is not what is measured.

Only what the calls of a benchmark need: RFC 9113 frames, and an HPACK dynamic table of size 0 (RFC 7541), so
that trailers come as plain text. Flow control is opened wide once.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from itertools import count
from typing import TYPE_CHECKING, Final, cast

from benchmarks.calls import Call
from outrider import v1

if TYPE_CHECKING:
    from benchmarks.calls import Target

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WIDEST: Final = 2**31 - 1
_DEFAULT_WINDOW: Final = 65_535
_FRAME: Final = struct.Struct(">IBI")  # length and type together, flags, stream
_SETTING: Final = struct.Struct(">HI")
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 1, 2, 4
_OK: Final = b"grpc-status\x010"
_CALLS_PER_CONNECTION: Final = 50  # real callers have a connection each, and a few calls on it
_SERVICE: Final = "/outrider.v1.GenerationService/"
_NUMBER: Final = b"#" * 16  # stands in a prompt where one differs from the next


class GrpcClient:
    """Spreads calls over a few connections."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._requests: dict[tuple[str, bool], tuple[bytes, bytes]] = {}
        self._connections: list[_Connection] = []
        self._turn = count()
        self._first = 0 if target.prompts else secrets.randbelow(10**15)  # other runs had other prompts

    async def connect(self, calls: int) -> None:
        """Open a connection for each few calls."""
        loop = asyncio.get_running_loop()
        for _ in range(-(-calls // _CALLS_PER_CONNECTION) - len(self._connections)):
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._target.port)
            self._connections.append(connection)
        async with asyncio.timeout(10):
            await asyncio.gather(*(connection.ready.wait() for connection in self._connections))

    def start(self, model: str, *, streaming: bool) -> Call:
        """Send a request."""
        key = (model, streaming)
        if key not in self._requests:
            self._requests[key] = self._encode(model, streaming=streaming)
        turn = next(self._turn)
        block, message = self._requests[key]
        if self._target.prompts != 1:
            message = message.replace(_NUMBER, b"%016d" % self._number(turn))
        return self._connections[turn % len(self._connections)].send(block, message)

    def abort(self) -> None:
        """Drop every call and connection."""
        for connection in self._connections:
            connection.abort()

    def _number(self, turn: int) -> int:
        return turn % self._target.prompts if self._target.prompts else self._first + turn

    def _encode(self, model: str, *, streaming: bool) -> tuple[bytes, bytes]:
        """The header block and the message."""
        target = self._target
        number = "" if target.prompts == 1 else " " + _NUMBER.decode()
        part = v1.Part(text=f"Tell me about sidecars, please.{number}")
        message = v1.Message(role=v1.ROLE_USER, parts=[part])
        request = v1.GenerateRequest(model=target.prefix + model, messages=[message])
        if target.cacheable:
            request.sampling.temperature = 0
        if target.tenant:
            request.attribution.tenant = target.tenant
        asked = request if streaming else v1.CompleteRequest(request=request)
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": _SERVICE + ("Generate" if streaming else "Complete"),
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "60S",
        }
        block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers.items())
        data = asked.SerializeToString()
        return block, struct.pack(">BI", 0, len(data)) + data


def _literal(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()  # shorter than 127


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


_PREFACE: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(
        _SETTINGS,
        0,
        0,
        _SETTING.pack(_HEADER_TABLE_SIZE, 0)
        + _SETTING.pack(_ENABLE_PUSH, 0)
        + _SETTING.pack(_INITIAL_WINDOW_SIZE, _WIDEST),
    )
    + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDEST - _DEFAULT_WINDOW))
)


class _Connection(asyncio.Protocol):
    """Any number of calls at a time."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()  # the server has spoken
        self._received = b""
        self._calls: dict[int, Call] = {}
        self._streams = count(1, 2)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the windows."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_PREFACE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Every call under way has failed."""
        for call in self._calls.values():
            call.end(f"connection lost: {exc}")

    def send(self, block: bytes, message: bytes) -> Call:
        """Begin a call."""
        stream = next(self._streams)
        call = self._calls[stream] = Call()
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, stream, block) + _frame(_DATA, _END_STREAM, stream, message)
        )
        return call

    def abort(self) -> None:
        """Close without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        data = self._received + data
        at = 0
        while len(data) - at >= _FRAME.size:
            length_and_kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + (length_and_kind >> 8)
            if end > len(data):
                break
            self._take(length_and_kind & 0xFF, flags, stream, data[at + _FRAME.size : end])
            at = end
        self._received = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            if call := self._calls.get(stream):
                call.feed(payload)
        elif kind == _HEADERS and flags & _END_STREAM:
            error = None if _OK in payload else payload[:500].decode(errors="replace")
            self._calls.pop(stream).end(error)
        elif kind == _RST_STREAM and stream in self._calls:
            self._calls.pop(stream).end(f"reset with {payload.hex()}")
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            self.ready.set()
        elif kind == _GOAWAY:
            self._transport.close()
