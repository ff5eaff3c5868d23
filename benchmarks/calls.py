"""One call as the load sees it: when each piece arrived, and how it ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.answers import TOKEN_TEXT

_TOKEN: Final = TOKEN_TEXT.encode()


class CallError(Exception):
    """A call that did not end well."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a subject is called."""

    protocol: str  # "grpc" or "http"
    port: int
    prefix: str = ""  # of model names
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[str, str], ...] = ()
    prompts: int = 1  # different ones, in turn; 0: no two requests are the same. gRPC only, as what follows
    cacheable: bool = False  # temperature 0: the cache is asked
    tenant: str = ""
    redis: int = 0  # the port of the subject's own; 0: it has none


class Call:
    """Fed by a connection with whatever it reads. Times are those of `time.perf_counter`."""

    __slots__ = ("_done", "_tail", "stamps", "started", "tokens")

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.stamps: list[float] = []  # of each read that brought tokens
        self.tokens = 0
        self._tail = b""
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, data: bytes) -> None:
        """Count what was read."""
        tokens = (self._tail + data).count(_TOKEN)
        # What may be the beginning of a token; too short to hold a whole one.
        self._tail = data[1 - len(_TOKEN) :]
        if tokens:
            self.tokens += tokens
            self.stamps.append(time.perf_counter())

    def end(self, error: str | None = None) -> None:
        """It is over."""
        if not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(CallError(error))

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._done.done() and self._done.exception() is not None

    async def wait(self) -> None:
        """Until it is over. Raises CallError."""
        await self._done


class Client(Protocol):
    """Calls one subject over its own connections."""

    async def connect(self, calls: int) -> None:
        """Open what so many calls at a time need."""

    def start(self, model: str, *, streaming: bool) -> Call:
        """Send a request. As many may run as connections were asked for."""

    def abort(self) -> None:
        """Drop every call and connection."""
