"""The default transport: HTTP/1.1 of our own, with nothing between the socket and the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from outrider import __version__
from outrider.core.errors import GenerationError
from outrider.providers.content_coding import Unpacking
from outrider.providers.http1_dial import Dialer, client_tls
from outrider.providers.http1_pool import Pool
from outrider.providers.http1_proxy import proxy_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from types import TracebackType

    from outrider.core.ports import WireRequest
    from outrider.providers.credentials import Credential
    from outrider.providers.http1_connection import Connection

_PORTS: Final = {"http": 80, "https": 443}

# A compressed stream comes in blocks, not in tokens.
_HEADERS: Final = {"User-Agent": f"outrider/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class DirectTransport:
    """Connections to one base URL. To be made inside a running event loop.

    Redirects are not followed: they would carry the key elsewhere. HTTPS_PROXY, HTTP_PROXY, NO_PROXY and
    SSL_CERT_FILE are read once, at the start. Raises GenerationError where the proxy is of another kind.
    """

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        *,
        auth_header: str = "Authorization",
        auth_prefix: str = "Bearer ",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        url = urlsplit(base_url.rstrip("/"))
        host = url.hostname or ""
        tls = client_tls() if url.scheme == "https" else None
        proxy = proxy_for(url.scheme, host)
        self._pool = Pool(Dialer(host, url.port or _PORTS[url.scheme], tls, proxy))
        self._credential = credential
        self._auth_header = auth_header
        self._auth_prefix = auth_prefix
        self._path = url.path
        self._headers = {"Host": url.netloc, **_HEADERS, **(headers or {})}
        if proxy is not None and tls is None:  # it reads the request, and sends it on
            self._path = f"http://{url.netloc}{url.path}"
            self._headers |= proxy.headers
        # Key and headers hardly ever change: what they are as bytes is kept, for 2 µs a request.
        self._known: tuple[str | None, Mapping[str, str]] = (None, {})
        self._lines = self._encode(*self._known)

    def open(self, request: WireRequest) -> _Exchange:
        """Send, and give the answer once its headers are there."""
        return _Exchange(self, request)

    async def aclose(self) -> None:
        """Close every connection."""
        self._pool.close()

    async def ask(self, request: WireRequest) -> Connection:
        """Send with the key as it is now; a connection with the answer's head, to be given to `end`."""
        head = self._head(request)
        kept = self._pool.take()
        if kept is not None:
            try:
                return await self._ask(kept, head, request)
            except GenerationError:
                if not kept.unheard:
                    raise
        # Where that was a second try, the provider never had the whole of the first one: it cannot act twice.
        return await self._ask(await self._pool.connect(request.connect_timeout), head, request)

    def end(self, connection: Connection) -> None:
        """Keep the connection for the next request where the answer was read whole, else close it."""
        self._pool.give_back(connection)

    async def _ask(self, connection: Connection, head: bytes, request: WireRequest) -> Connection:
        try:
            await connection.ask(head, request.body)
        except BaseException:
            self._pool.give_back(connection)
            raise
        return connection

    def _head(self, request: WireRequest) -> bytes:
        known = (self._credential.read(), request.headers)
        if known != self._known:
            self._known, self._lines = known, self._encode(*known)
        where = f"{self._path}/{request.path} HTTP/1.1\r\n{self._lines}"
        if request.body is None:
            return f"GET {where}\r\n".encode()
        return f"POST {where}Content-Length: {len(request.body)}\r\n\r\n".encode()

    def _encode(self, key: str | None, headers: Mapping[str, str]) -> str:
        """Header lines; of those with one name, the last one stands."""
        given = [*self._headers.items(), *headers.items()]
        if key is not None:
            given.append((self._auth_header, self._auth_prefix + key))
        return "".join({name.lower(): f"{name}: {value}\r\n" for name, value in given}.values())


class _Exchange:
    """One request and its answer: both the context and what it gives."""

    __slots__ = ("_connection", "_read", "_request", "_transport", "headers", "status")

    def __init__(self, transport: DirectTransport, request: WireRequest) -> None:
        self._transport = transport
        self._request = request

    async def __aenter__(self) -> _Exchange:
        self._connection = connection = await self._transport.ask(self._request)
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        coding = self.headers.get("content-encoding", "identity")
        self._read = connection.read if coding == "identity" else Unpacking(coding, connection.read).read
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._read  # what comes next on this connection is the answer to another request
        self._transport.end(self._connection)

    def __aiter__(self) -> _Exchange:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._read()
