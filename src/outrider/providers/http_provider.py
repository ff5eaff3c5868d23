"""A provider over HTTP: a wire format above a transport."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from outrider.core.ports import Batch, Call, Transport, WireFormat, WireRequest, WireResponse
    from outrider.providers.credentials import Credential

_log = logging.getLogger(__name__)

_OK: Final = 200
_MAX_BEGINNING: Final = 65_536  # bytes that are read of a body that is not an answer
_REJECTION_SECONDS: Final = 2.0  # for the body of an error; then its status must do
_INLINE_BYTES: Final = 262_144  # of a request; encoding more of it may take over a millisecond
_DRAIN_SECONDS: Final = 0.05  # for the end of a body whose answer is whole, so that the connection is kept
_ASK_SECONDS: Final = 10.0  # for a count or a check


class HttpProvider:
    """One attempt is one HTTP request. Whatever goes wrong is a GenerationError without the key in it."""

    def __init__(
        self,
        name: str,
        wire_format: WireFormat,
        transport: Transport,
        credential: Credential,
        *,
        needs_key: bool,
        max_response_bytes: int,
    ) -> None:
        self.name = name
        self._format = wire_format
        self._transport = transport
        self._credential = credential
        self._needs_key = needs_key
        self._max_response_bytes = max_response_bytes

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        """Stream the answer. Raises GenerationError."""
        with self._guard(self._key()):
            try:
                async with self._transport.open(await self._encode(call)) as response:
                    call.progress.upstream_status = response.status
                    if response.status != _OK:
                        raise await self._rejection(response)
                    decoder = self._format.decoder(call, response.headers.get("content-type", ""))
                    size = 0
                    async for data in response:
                        size += len(data)
                        if size > self._max_response_bytes:
                            raise GenerationError(
                                Reason.RESPONSE_TOO_LARGE,
                                f"the answer is larger than the {self._max_response_bytes} bytes allowed",
                            )
                        batch = decoder.feed(data)
                        if batch:
                            yield batch
                        if decoder.error is not None:
                            raise decoder.error
                        if decoder.done:
                            await _drain(response)
                            return
                    batch = decoder.finish()
                    if batch:
                        yield batch
                    if decoder.error is not None:
                        raise decoder.error
            except GenerationError as error:
                yield _ended_by_filter(error)

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        """Input tokens by the provider's own counting call; None where it has none."""
        with self._guard(self._key()):
            wire_request = self._format.encode_count(request, model)
            return None if wire_request is None else self._format.decode_count(await self._ask(wire_request))

    async def check(self) -> None:
        """Raise GenerationError unless the provider answers and accepts the key."""
        with self._guard(self._key()):
            await self._ask(self._format.encode_check())

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def _encode(self, call: Call) -> WireRequest:
        if call.request.ByteSize() < _INLINE_BYTES:
            return self._format.encode(call)
        return await asyncio.to_thread(self._format.encode, call)

    def _key(self) -> str:
        key = self._credential.read()
        if key is None and self._needs_key:
            why = self._credential.problem
            raise GenerationError(Reason.PROVIDER_NOT_CONFIGURED, f"provider {self.name} has no key: {why}")
        return key or ""

    @contextmanager
    def _guard(self, key: str) -> Iterator[None]:
        """Let only GenerationErrors out, and none with the key in it."""
        try:
            yield
        except GenerationError as error:
            raise _without((key, self._credential.read() or ""), error) from None
        except Exception as error:  # noqa: BLE001 - the port promises this, also for bugs
            _log.exception("provider %s failed in an unexpected way", self.name)
            what = type(error).__name__
            raise GenerationError(Reason.INTERNAL, f"an unexpected {what} in provider {self.name}") from None

    async def _ask(self, request: WireRequest) -> bytes:
        """The beginning of the body that answers a request with status 200."""
        body = bytearray()
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._transport.open(request) as response:
                if response.status != _OK:
                    raise await self._rejection(response)
                await _read_beginning(response, body)
        except TimeoutError:
            raise GenerationError(
                Reason.TOTAL_TIMEOUT, f"no answer from the provider within {_ASK_SECONDS:.0f} s"
            ) from None
        return bytes(body)

    async def _rejection(self, response: WireResponse) -> GenerationError:
        body = bytearray()
        with suppress(GenerationError, TimeoutError):  # the status tells most of it
            async with asyncio.timeout(_REJECTION_SECONDS):
                await _read_beginning(response, body)
        error = self._format.classify(response.status, response.headers, bytes(body))
        return error.refine(upstream_status=response.status)


def _ended_by_filter(error: GenerationError) -> Batch:
    """A filter that steps in ends the answer, as its finish reason would; other errors are raised."""
    if error.reason is not Reason.CONTENT_FILTERED:
        raise error
    completed = v1.Completed(
        finish_reason=v1.FINISH_REASON_CONTENT_FILTER, provider_finish_reason="content_filter"
    )
    return [v1.GenerateResponse(completed=completed)]


async def _read_beginning(response: WireResponse, into: bytearray) -> None:
    async for data in response:
        into += data
        if len(into) >= _MAX_BEGINNING:
            del into[_MAX_BEGINNING:]
            return


async def _drain(response: WireResponse) -> None:
    """Read what follows a whole answer: only then is the connection free for the next request."""
    with suppress(GenerationError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in response:
                pass


def _without(secrets: Sequence[str], error: GenerationError) -> GenerationError:
    message = redact(error.fact.message, secrets)
    error.args = (message,)
    return error.refine(
        message=message,
        violations=tuple(
            replace(violation, description=redact(violation.description, secrets))
            for violation in error.fact.violations
        ),
    )
