"""A company's proxy on the way to a provider: it passes plain requests on, and bytes where there is TLS."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from outrider.core.errors import GenerationError, Reason
from outrider.providers.http1_dial import client_tls

if TYPE_CHECKING:
    import ssl

_MAX_ANSWER = 65_536  # bytes
_OPENED = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it is, and how it is spoken to."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    headers: dict[str, str]  # for the proxy alone

    async def prepare(
        self, transport: asyncio.Transport, host: str, port: int, *, tunnel: bool
    ) -> asyncio.Transport:
        """Make of a transport to the proxy one to a host: what is written goes there. Raises OSError."""
        if self.tls is not None:
            transport = await self._secure(transport, self.tls)
        if tunnel:
            await self._open_tunnel(transport, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return transport

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        inner: Any = await loop.start_tls(transport, asyncio.Protocol(), tls, server_hostname=self.host)
        return cast("asyncio.Transport", inner)

    async def _open_tunnel(self, transport: asyncio.Transport, where: str) -> None:
        tunnel = _Tunnel()
        transport.set_protocol(tunnel)
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *map(": ".join, self.headers.items())]
        transport.write("\r\n".join([*lines, "", ""]).encode())
        answer = await tunnel.answer
        if not _OPENED.match(answer):
            status = answer[9:12].decode("ascii", "replace")
            raise OSError(0, f"it answers CONNECT with {status if status.isdecimal() else 'nothing'}")


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say now. Raises GenerationError."""
    url = None if proxy_bypass(host) else getproxies().get(scheme)
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GenerationError(Reason.PROVIDER_NOT_CONFIGURED, f"{scheme.upper()}_PROXY is not an HTTP proxy")
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    tls = client_tls() if parts.scheme == "https" else None
    return Proxy(parts.hostname, parts.port or (443 if tls else 80), tls, headers)


class _Tunnel(asyncio.Protocol):
    """Reads the head of the proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self._received = b""
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received or len(self._received) > _MAX_ANSWER:
            self._end()

    def connection_lost(self, _: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._received)
