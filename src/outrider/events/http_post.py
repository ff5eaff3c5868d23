"""One POST over a connection of its own. What the receiver says beyond status and headers is not read."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from outrider import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS: Final = {"http": 80, "https": 443}
_MAX_HEAD: Final = 65_536  # bytes
_MAX_DIGITS: Final = 9


class Answer(NamedTuple):
    """Status and headers; their names are in lower case."""

    status: int
    headers: Mapping[str, str]

    def retry_after(self, now: float) -> float:
        """Seconds to wait from `now`, a Unix time; 0 where nothing is said that can be understood."""
        said = self.headers.get("retry-after", "")
        if said.isascii() and said.isdecimal():
            return float(said[:_MAX_DIGITS])
        try:
            date = parsedate_to_datetime(said)
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
        return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now)


class Endpoint:
    """A URL to POST to. Its certificate is checked; SSL_CERT_FILE may name the authorities."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._start = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer. Raises OSError, EOFError or ValueError; has no bound of time of its own."""
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_MAX_HEAD)
        try:
            writer.write(self._head(headers, len(body)) + body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.transport.abort()

    def _head(self, headers: Mapping[str, str], length: int) -> bytes:
        all_of_them = {
            "User-Agent": f"outrider/{__version__}",
            "Content-Length": str(length),
            "Connection": "close",
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_of_them.items())
        return f"{self._start}{lines}\r\n".encode("latin-1")


async def _answer(reader: asyncio.StreamReader) -> Answer:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise ValueError("the answer's headers are too long") from None
        answer = _parse(head.decode("latin-1"))
        if answer.status >= 200:  # else more comes
            return answer


def _parse(head: str) -> Answer:
    first, *lines = head.split("\r\n")
    protocol, _, rest = first.partition(" ")
    if not protocol.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError("the answer is not HTTP/1")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs})
