"""The seams between rooms, as Protocols. Whoever builds the sidecar chooses what stands behind them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from outrider import v1
from outrider.core.context import Progress, Record, RequestContext

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from outrider.core.errors import GenerationError

Batch: TypeAlias = list[v1.GenerateResponse]
"""The events of one network read, without `sequence`. `Completed` is always the last of its batch."""

Handler: TypeAlias = Callable[[RequestContext], AsyncGenerator[Batch, None]]
"""Answers a request batch by batch, or raises GenerationError."""

Stage: TypeAlias = Callable[[Handler], Handler]
"""Wraps a handler into one that does more."""

Clock: TypeAlias = Callable[[], float]
"""Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One HTTP request. `path` is relative to the base URL; authentication is the transport's."""

    path: str
    body: bytes | None  # None: a GET
    headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: float = 5.0  # seconds


class WireResponse(Protocol):
    """The answer, whose body is read by iteration: bytes as they come off the socket, never empty."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers; looked up in lower case."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Transport(Protocol):
    """The wire to one provider: a request in, raw bytes out."""

    def open(self, request: WireRequest) -> AbstractAsyncContextManager[WireResponse]:
        """Send, and give the answer once its headers are there.

        Leaving the context before the body's end closes the connection at once. Raises GenerationError:
        PROVIDER_UNREACHABLE, CONNECT_TIMEOUT or PROVIDER_PROTOCOL_ERROR, and STREAM_TRUNCATED where the
        body breaks off. No other exception, and never a retry.
        """

    async def aclose(self) -> None:
        """Close every connection."""


@dataclass(slots=True)
class Call:
    """One attempt, as a provider sees it."""

    request: v1.GenerateRequest
    model: str
    streaming: bool
    connect_timeout: float
    progress: Progress
    warnings: list[v1.Warning]  # for settings that cannot be honoured


class Decoder(Protocol):
    """Turns the bytes of one answer into events. Fresh for every attempt, and never trusts what it reads."""

    done: bool
    """Whether the provider has said that the answer is whole, and `Completed` was given out."""

    error: GenerationError | None
    """A failure that came in the same bytes as content: the content is given out first, then this raised.

    How the network cuts a stream must not decide whether the answer had begun.
    """

    def feed(self, data: bytes) -> Batch:
        """Decode what came; deltas that belong together are merged. Raises GenerationError."""

    def finish(self) -> Batch:
        """The body has ended. Raises GenerationError where the answer is not whole."""


class WireFormat(Protocol):
    """One vendor's dialect: pure functions between bytes and the messages of `v1`."""

    name: str

    def encode(self, call: Call) -> WireRequest:
        """The HTTP request; warns of settings that it leaves out. Raises GenerationError."""

    def decoder(self, call: Call, content_type: str) -> Decoder:
        """A decoder for an answer with status 200 of this content type."""

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> GenerationError:
        """What an answer with another status means."""

    def encode_count(self, request: v1.GenerateRequest, model: str) -> WireRequest | None:
        """The provider's own token-counting call, where it has one."""

    def decode_count(self, body: bytes) -> int:
        """Its answer: input tokens. Raises GenerationError."""

    def encode_check(self) -> WireRequest:
        """The cheapest call that tells whether the provider answers and accepts the key."""


class Provider(Protocol):
    """Where answers come from."""

    name: str

    def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        """One attempt: content events, then `Completed` with what the provider said. Raises GenerationError.

        `Completed.usage` is absent where the provider did not count. `call.progress` is kept current.
        """

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        """Input tokens by the provider's own counting call; None where it has none."""

    async def check(self) -> None:
        """Raise GenerationError unless the provider answers and accepts the key."""

    async def aclose(self) -> None:
        """Close every connection."""


class TokenCounter(Protocol):
    """Counts tokens without a network. Pure and thread-safe; under 10 ms for 100,000 characters."""

    def count_input(self, request: v1.GenerateRequest, model: str) -> tuple[int, bool]:
        """Input tokens of a request, and whether they were counted with the model's vocabulary."""

    def count_output(self, chars: int, model: str) -> int:
        """An estimate for this many generated characters."""


class Observer(Protocol):
    """Sees what happens; must neither block nor raise."""

    def request_started(self, record: Record) -> None:
        """A request was accepted by the servicer."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """A try ended."""

    def request_finished(self, record: Record) -> None:
        """A request was settled; called exactly once for each."""
