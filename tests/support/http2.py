"""Just enough HTTP/2 to hold a gRPC call open and to ping beside it, at any pace and frame by frame."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


class Pinger:
    """A connection with one call on it. Closed when the context ends."""

    def __init__(self, port: int, method: str, message: bytes) -> None:
        self._port = port
        self._method = method
        self._message = message
        self._settled = asyncio.Semaphore(0)
        self.goaway = b""  # why the server has closed the connection, once it has

    async def __aenter__(self) -> Pinger:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(_PREFACE)
        self._send(_SETTINGS, 0, 0, b"")
        self._send(_HEADERS, _END_HEADERS, 1, _headers(self._method))
        self._send(_DATA, _END_STREAM, 1, b"\0" + len(self._message).to_bytes(4) + self._message)
        self._reading = asyncio.create_task(self._read())
        await self._settled.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._reading

    async def ping(self) -> bool:
        """Send a ping; whether the connection has survived it."""
        self._send(_PING, 0, 0, b"12345678")
        # A GOAWAY may come behind what answers the frames it came with: one more round trip shows it.
        for _ in range(2):
            if not self.goaway:
                self._send(_SETTINGS, 0, 0, b"")
                async with asyncio.timeout(5):
                    await self._settled.acquire()
        return not self.goaway

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
        self._writer.write(head + payload)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                kind, flags = head[3], head[4]
                if kind == _SETTINGS and flags & _ACK:
                    self._settled.release()
                elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._send(kind, _ACK, 0, payload if kind == _PING else b"")
                elif kind == _GOAWAY:
                    self.goaway = payload[8:]
                    self._settled.release()
        except (asyncio.IncompleteReadError, ConnectionError):
            self._settled.release()


def _headers(method: str) -> bytes:
    """Each as a literal that is not indexed, RFC 7541, section 6.2.2."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )
