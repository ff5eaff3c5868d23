"""Answers that can be read again for a while: how they end, and the port of copies that a fleet shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from outrider.core.errors import Fact, GenerationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1

LEASE_SECONDS = 10.0
"""How long a sidecar counts as alive that no longer says so."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an answer failed. The error itself would keep alive all that was at work, prompt included."""

    fact: Fact
    committed: bool  # content had left
    detail: v1.GenerationFailure | None = None

    @classmethod
    def of(cls, error: GenerationError) -> Failure:
        """What is to be kept of an error."""
        return cls(error.fact, error.committed, error.failure)

    def error(self) -> GenerationError:
        """An error of one's own: what is raised collects a traceback, and more."""
        error = GenerationError(self.fact.reason, self.fact.message)
        error.fact, error.committed, error.failure = self.fact, self.committed, self.detail
        return error


@dataclass(frozen=True, slots=True)
class Ending:
    """That nothing follows, and why."""

    failure: Failure | None = None  # None: the answer is whole


class StreamName(NamedTuple):
    """Which stream, and whose. Another caller's is not there."""

    request_id: str
    caller: str


class Excerpt(NamedTuple):
    """A piece of a stream: the events that follow the one asked for."""

    events: Sequence[v1.GenerateResponse]  # in order, without a gap
    ending: Ending | None = None  # where the stream ends with these events
    alive: bool = True  # whether a sidecar still makes it


class SharedStreams(Protocol):
    """Copies of streams, for the other sidecars of a fleet. Contract: tests/stores/test_streams_contract.py.

    Everything raises StoreUnavailableError, and takes no longer than a call or two of the store may.
    """

    async def append(
        self, name: StreamName, after: int, events: Sequence[bytes], ending: Ending | None, keep: float
    ) -> int:
        """Add the events that follow number `after`, serialized, and say that the stream's sidecar is alive.

        The stream is kept for `keep` seconds from now, or longer where it goes on. Gives the number of the
        last event that is stored now. Where that was not `after`, nothing was added.
        """

    async def read(self, name: StreamName, after: int) -> Excerpt | None:
        """What follows number `after`, and tell who makes it that somebody reads. None: it is not kept.

        A stream is there from its first `append` on, events or not.
        """

    async def attention(self, name: StreamName) -> float:
        """Seconds until nobody has read the copy for as long as a stream lasts without readers; or 0."""

    async def remove(self, name: StreamName) -> None:
        """Forget a stream."""
