"""One HTTP/1.1 connection: writes a request, parses its answer with httptools, one exchange at a time."""

from __future__ import annotations

import asyncio
import fcntl
import select
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import httptools

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

_HIGH_WATER: Final = 131_072  # bytes unread; above it, the socket is not read until the caller has caught up
_MAX_BARE: Final = (
    65_536  # bytes in a row that bring no body: headers, trailers, chunk extensions, 1xx answers
)
_PIECE: Final = 262_144  # bytes of a large body that are written, and with TLS encrypted, at one time
_FINAL: Final = 200  # the statuses below come before the answer, and are skipped
_REFUSAL: Final = 300


class Connection(asyncio.Protocol):
    """Belongs to one exchange from `ask` on; may have the next one where `reusable` is true at the end.

    What is known of the answer lives here, not in an object of each request: the parser binds its callbacks
    once.
    """

    def __init__(self, host: str, on_loss: Callable[[Connection], None]) -> None:
        self._host = host
        self._on_loss = on_loss
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._incoming = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self._busy = False
        self._lost = False  # or as good as lost
        self._full = False  # the transport holds enough unsent bytes
        self._asked = 0
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # names in lower case; of several with one name, the first
        self.unheard = False  # it was closed while the provider could not yet have the whole request
        self._problem: tuple[Reason, str] | None = None  # no exception: that would keep its traceback alive
        self._pieces: list[bytes] = []
        self._size = 0
        self._bare = 0
        self._paused = False
        self._until_close = False
        self._sent = True
        self._whole = False
        self._keep = False

    # What an exchange calls.

    async def ask(self, head: bytes, body: bytes | None) -> None:
        """Send a request, and wait for the head of its answer. Raises GenerationError."""
        if not self._lost:
            self._begin()
            self._busy = True
            self._asked += 1
            if body is None or len(body) <= _PIECE:
                self._transport.write(head + body if body else head)
            else:
                await self._send(head, memoryview(body))
        while not self.status:
            self._check()
            await self._change()

    async def read(self) -> bytes:
        """What has come since the last time, in one piece. Raises StopAsyncIteration or GenerationError."""
        while not self._pieces:
            if self._whole:
                raise StopAsyncIteration
            self._check()
            await self._change()
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def reusable(self) -> bool:
        """Whether the exchange is over and the next one may follow it."""
        over = self._whole and self._keep and self._sent and not (self._lost or self._paused)
        return over and not self._transport.get_write_buffer_size()

    def rest(self) -> None:
        """Belong to no exchange until the next one asks."""
        self._busy = False
        self.idle_since = self._loop.time()

    def has_woken(self) -> bool:
        """Whether bytes or an end came that the loop has not seen yet; for 1 µs it saves failed tries."""
        return self._lost or bool(self._incoming.poll(0))

    def close(self) -> None:
        """Close at once: what is unsent stays unsent, and no peer is waited for."""
        self._lost = True
        self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._incoming.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Parse. Bytes that nobody asked for end the connection."""
        if self._lost:
            return
        if not self._busy:
            self._fail(Reason.PROVIDER_PROTOCOL_ERROR, f"{self._host} speaks without being asked")
            return
        self._bare += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep = False
            if not self._whole:
                self._fail(Reason.PROVIDER_PROTOCOL_ERROR, f"{self._host} sent something that is not HTTP")
        if self._bare > _MAX_BARE and not self._whole:
            self._fail(Reason.PROVIDER_PROTOCOL_ERROR, f"{self._host} sent headers without end")
        if self._size > _HIGH_WATER and not self._paused and not self._lost:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Tell a connection that was closed while it was idle from one whose request was read, if possible.

        A kept connection may be closed while the next request is on its way. An acknowledgement comes with
        the end at the latest, so where bytes lack it, the provider never had the whole request.
        """
        if self._asked > 1 and not self.status:
            socket = self._transport.get_extra_info("socket").fileno()
            with suppress(OSError):  # not every system can tell
                self.unheard = any(fcntl.ioctl(socket, termios.TIOCOUTQ, bytes(4)))
        self._transport.abort()  # else what is unsent would be waited for

    def connection_lost(self, error: Exception | None) -> None:
        """End what has not ended."""
        by_peer, self._lost = error is None and not self._lost, True
        del self._parser  # it holds this object's methods
        if not self.status:
            self._note(Reason.PROVIDER_UNREACHABLE, f"{self._host} closed the connection without an answer")
        elif self._until_close and by_peer:
            self._whole = True
        elif not self._whole:
            self._note(Reason.STREAM_TRUNCATED, "the connection broke in mid-answer")
        self._wake()
        self._on_loss(self)

    def pause_writing(self) -> None:
        """The peer is slow."""
        self._full = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._full = False
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """One request has one answer; raising ends the parsing."""
        if self._whole:
            raise ValueError

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if not self.status:
            self.headers.setdefault(name.lower().decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        status = self._parser.get_status_code()
        if status < _FINAL:
            self.headers.clear()
            return
        self.status = status
        # What has no other end lasts until the connection ends, of which httptools cannot be told.
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            self._until_close = "content-length" not in self.headers
        else:
            self._until_close = not coding.lower().endswith("chunked")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._bare = 0
        self._size += len(data)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was one of those that come before it."""
        if self.status:
            self._whole = True
            self._keep = self._parser.should_keep_alive()

    # The rest.

    async def _send(self, head: bytes, body: memoryview) -> None:
        """Write a large body as fast as it is taken, unless the answer comes first."""
        self._sent = False
        self._transport.write(head)
        for at in range(0, len(body), _PIECE):
            while self._full and not self.status and not self._lost:
                await self._change()
            if self._lost or self.status >= _REFUSAL:
                return
            self._transport.write(body[at : at + _PIECE])
        self._sent = True

    async def _change(self) -> None:
        """Wait until something happens."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check(self) -> None:
        if self._problem is not None:
            raise GenerationError(*self._problem)

    def _note(self, reason: Reason, message: str) -> None:
        if self._problem is None:
            self._problem = (reason, message)

    def _fail(self, reason: Reason, message: str) -> None:
        self._note(reason, message)
        self.close()
