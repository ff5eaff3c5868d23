"""The transport through a vendor's official client, for what only that client can do.

The client sends the request and hands its answer over raw: encoding and decoding stay with the wire format,
retries with the attempt stage.
"""

from __future__ import annotations

import asyncio
import importlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from outrider.core.ports import WireRequest
    from outrider.providers.credentials import Credential

_KEEP_ALIVE: Final = 60.0  # seconds an idle connection is kept for the next request
_MAX_REJECTION: Final = 65_536  # bytes of an error's body that the client may read

_AUTH_HEADERS: Final = ("Authorization", "X-Api-Key")  # as the clients write them

# Package → its client and the HTTP library below it, whose exceptions differ.
_CLIENTS: Final = {
    "openai": ("AsyncOpenAI", "httpx2"),
    "anthropic": ("AsyncAnthropic", "httpx2"),
    "groq": ("AsyncGroq", "httpx"),
}


class SdkTransport:
    """One official client. Made by `load`."""

    def __init__(
        self, sdk: Any, http: Any, client: Any, credential: Credential, headers: Mapping[str, str]
    ) -> None:
        self._sdk = sdk
        self._http = http
        self._client = client
        self._credential = credential
        given = {name.lower() for name in headers}
        self._keyless = {name: sdk.Omit() for name in _AUTH_HEADERS if name.lower() not in given}

    @classmethod
    async def load(
        cls, package: str, base_url: str, credential: Credential, headers: Mapping[str, str] | None = None
    ) -> SdkTransport:
        """Import a client, which takes up to a second, on a thread, and set it up.

        Raises GenerationError with PROVIDER_NOT_CONFIGURED where it is not installed.
        """
        return await asyncio.to_thread(cls._load, package, base_url, credential, headers)

    @classmethod
    def _load(
        cls, package: str, base_url: str, credential: Credential, headers: Mapping[str, str] | None
    ) -> SdkTransport:
        name, http_package = _CLIENTS[package]
        try:
            sdk: Any = importlib.import_module(package)
            http: Any = importlib.import_module(http_package)
        except ModuleNotFoundError as error:
            raise GenerationError(
                Reason.PROVIDER_NOT_CONFIGURED,
                f"transport: sdk needs the Python package {error.name}: pip install 'outrider[sdk]'",
            ) from None
        client = getattr(sdk, name)(
            api_key=credential.read() or "none",
            base_url=base_url,
            max_retries=0,
            default_headers=headers,
            http_client=sdk.DefaultAsyncHttpxClient(
                follow_redirects=False,  # a redirect would carry the key elsewhere
                limits=http.Limits(
                    max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_ALIVE
                ),
                event_hooks={"response": [_rejection_cap(http)]},
            ),
        )
        return cls(sdk, http, client, credential, headers or {})

    @asynccontextmanager
    async def open(self, request: WireRequest) -> AsyncGenerator[_Answer, None]:
        """Send, and give the answer once its headers are there."""
        response = await self._send(request)
        try:
            yield _Answer(self._http, response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def _send(self, request: WireRequest) -> Any:
        key = self._credential.read()
        headers: dict[str, Any] = dict(request.headers)
        if key is None:
            headers.update(self._keyless)
        else:
            self._client.api_key = key
        arguments = {
            "cast_to": self._http.Response,
            "options": {
                "headers": headers,
                "timeout": self._http.Timeout(None, connect=request.connect_timeout),
            },
            "stream": True,
        }
        try:
            if request.body is None:
                return await self._client.get(request.path, **arguments)
            return await self._client.post(request.path, content=request.body, **arguments)
        except self._sdk.APIStatusError as error:
            return error.response
        except Exception as error:  # noqa: BLE001 - the clients let through what their HTTP libraries do not map
            # The clients' errors hold the request's headers, and so the key: they must not be chained.
            raise self._no_answer(error) from None

    def _no_answer(self, error: Exception) -> GenerationError:
        host = self._client.base_url.host
        causes = list(_causes(error))
        if any(isinstance(cause, self._http.TimeoutException) for cause in causes):
            return GenerationError(Reason.CONNECT_TIMEOUT, f"no connection to {host} in time")
        if any(type(cause).__module__.startswith("h11.") for cause in causes):
            return GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, f"{host} sent something that is not HTTP")
        return GenerationError(
            Reason.PROVIDER_UNREACHABLE, f"{host} cannot be reached: {type(causes[-1]).__name__}"
        )


class _Answer:
    """An answer of httpx or httpx2, read raw but for its content encoding."""

    def __init__(self, http: Any, response: Any) -> None:
        self._http = http
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes()
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                piece = await anext(self._pieces)
            except self._http.DecodingError:
                raise GenerationError(
                    Reason.PROVIDER_PROTOCOL_ERROR, "the answer could not be decompressed"
                ) from None
            except StopAsyncIteration:
                raise
            except Exception:  # noqa: BLE001 - as above
                raise GenerationError(Reason.STREAM_TRUNCATED, "the connection broke in mid-answer") from None
            if piece:
                return piece


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _rejection_cap(http: Any) -> Any:
    """A hook that bounds the body of an error, which the clients read whole before they raise."""

    class Capped(http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            room = _MAX_REJECTION
            async for piece in self._stream:
                yield piece[:room]
                room -= len(piece)
                if room <= 0:
                    return

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def cap(response: Any) -> None:
        if not response.is_success:
            response.stream = Capped(response.stream)

    return cap
