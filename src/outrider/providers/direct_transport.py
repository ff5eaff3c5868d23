"""The default transport: aiohttp, with nothing between the socket and the decoder."""

from __future__ import annotations

import io
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from outrider import __version__
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from types import TracebackType

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from outrider.core.ports import WireRequest
    from outrider.providers.credentials import Credential

_KEEP_ALIVE: Final = 60.0  # seconds an idle connection is kept for the next request
_DNS_TTL: Final = 30  # seconds
_READ_BUFFER: Final = 65_536  # bytes; above twice that, the socket is not read until the caller has caught up
_LARGE_BODY: Final = 1_048_576  # bytes; aiohttp wants larger ones as a file, to send them piece by piece

# A compressed stream comes in blocks, not in tokens.
_HEADERS: Final = {"User-Agent": f"outrider/{__version__}", "Accept-Encoding": "identity"}


class DirectTransport:
    """Connections to one base URL. To be made inside a running event loop.

    Redirects are not followed: they would carry the key elsewhere. HTTPS_PROXY, HTTP_PROXY, NO_PROXY and
    SSL_CERT_FILE are read once, at the start.
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
        url = URL(base_url)
        self.host: Final = url.host or ""
        self._base_url = base_url.rstrip("/")
        self._credential = credential
        self._auth_header = auth_header
        self._auth_prefix = auth_prefix
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,  # how many run at once is decided before they come here
                keepalive_timeout=_KEEP_ALIVE,
                ttl_dns_cache=_DNS_TTL,
                ssl=ssl.create_default_context() if url.scheme == "https" else True,
            ),
            headers={**_HEADERS, **(headers or {})},
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
            proxy=None if proxy_bypass(self.host) else getproxies().get(url.scheme),
        )

    def open(self, request: WireRequest) -> _Exchange:
        """Send, and give the answer once its headers are there."""
        return _Exchange(self, request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def send(self, request: WireRequest) -> aiohttp.ClientResponse:
        """Send with the key as it is now. Raises what aiohttp raises."""
        body = request.body
        key = self._credential.read()
        auth = {} if key is None else {self._auth_header: self._auth_prefix + key}
        return await self._session.request(
            "GET" if body is None else "POST",
            URL(f"{self._base_url}/{request.path}", encoded=True),
            data=io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body,
            headers={**request.headers, **auth},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=request.connect_timeout),
        )


class _Connector(aiohttp.TCPConnector):
    """Lets go at once of a peer that does not read; by itself, aiohttp waits until it has read everything."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        """Connect, and watch for a request that is not sent when its exchange ends."""
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            connection.add_callback(partial(_abort_unsent, connection.transport))
        return connection


def _abort_unsent(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size():
        transport.abort()


class _Exchange:
    """One request and its answer: both the context and what it gives."""

    __slots__ = ("_content", "_failure", "_lost", "_request", "_response", "_transport", "headers", "status")

    _response: aiohttp.ClientResponse
    _content: aiohttp.StreamReader
    status: int
    headers: Mapping[str, str]

    def __init__(self, transport: DirectTransport, request: WireRequest) -> None:
        self._transport = transport
        self._request = request
        self._failure: GenerationError | None = None
        self._lost: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _Exchange:
        try:
            response = await self._transport.send(self._request)
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp's errors hold the request's headers, and so the key: they must not be chained.
            raise _no_answer(error, self._transport.host) from None
        self._response = response
        self._content = response.content
        self.status = response.status
        self.headers = response.headers
        self._watch_connection()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lost is not None:
            self._lost.remove_done_callback(self._end_wait)
            self._lost.add_done_callback(_retrieve)
        # Closes the connection, unless the body's end has come: then it is already back in the pool.
        self._response.close()

    def __aiter__(self) -> _Exchange:
        return self

    async def __anext__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._failure = _broken_body(error)
            data = self._left_behind()
            if not data:
                raise self._failure from None
        if not data:
            raise StopAsyncIteration
        return data

    def _watch_connection(self) -> None:
        """See to it that a read ends with the connection: after a bad chunk, aiohttp lets it wait forever."""
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            self._lost = connection.protocol.closed
        if self._lost is not None:
            self._lost.remove_done_callback(_retrieve)
            self._lost.add_done_callback(self._end_wait)

    def _end_wait(self, lost: asyncio.Future[None]) -> None:
        _retrieve(lost)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError())

    def _left_behind(self) -> bytes:
        """What had come before the body broke off; aiohttp does not give it out once its error is set."""
        self._content.set_exception(None)  # type: ignore[arg-type]
        return self._content.read_nowait()


def _retrieve(lost: asyncio.Future[None]) -> None:
    """Take a lost connection's error, of which asyncio would complain otherwise."""
    if not lost.cancelled():
        lost.exception()


def _no_answer(error: Exception, host: str) -> GenerationError:
    if isinstance(error, TimeoutError):
        return GenerationError(Reason.CONNECT_TIMEOUT, f"no connection to {host} in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, f"{host} sent something that is not HTTP")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return GenerationError(Reason.PROVIDER_UNREACHABLE, f"{host} closed the connection without an answer")
    what = getattr(error, "strerror", None) or type(error).__name__
    return GenerationError(Reason.PROVIDER_UNREACHABLE, f"{host} cannot be reached: {what}")


def _broken_body(error: Exception) -> GenerationError:
    if isinstance(error.__cause__, ContentEncodingError):
        return GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, "the answer could not be decompressed")
    return GenerationError(Reason.STREAM_TRUNCATED, "the connection broke in mid-answer")
