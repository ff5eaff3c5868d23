"""Stored answers: the port of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider import v1


LEASE_SECONDS = 10.0
"""How long a lease holds unless it is renewed: whoever crashes with one delays the others by so much."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer and how long it may be given. Times are seconds of the Unix clock, or of time."""

    answer: v1.CompleteResponse  # not to be changed: it is shared
    stored_at: float
    fresh_for: float
    stale_for: float = 0.0  # beyond that, as the last resort
    tenant: str = ""
    model: str = ""  # "provider/model"
    labels: Mapping[str, str] = field(default_factory=dict)

    def age(self, now: float) -> float:
        """Seconds since it was stored; never negative, whatever the clocks of other sidecars say."""
        return max(0.0, now - self.stored_at)

    def is_fresh(self, now: float) -> bool:
        """Whether it may be given as a hit."""
        return self.age(now) < self.fresh_for


@dataclass(frozen=True, slots=True)
class Lease:
    """The right, and the duty, to make the answer for a key while others of the fleet wait for it."""

    key: str
    token: str


class MemoryStats(NamedTuple):
    """How full memory is, and how many answers it had no room for since the start."""

    entries: int
    bytes: int
    limit_bytes: int
    evicted: int


class AnswerStore(Protocol):
    """Memory in front of what the fleet shares. Never raises for a store that is away: it knows less then."""

    @property
    def shared(self) -> bool:
        """Whether other sidecars see the same answers now."""

    def stats(self) -> MemoryStats:
        """How full this sidecar's memory is."""

    def recall(self, key: str) -> StoredAnswer | None:
        """What memory holds, fresh or stale. Takes no time."""

    async def look_up(self, key: str, *, lease: bool) -> StoredAnswer | Lease | None:
        """What the fleet shares, in one round trip; a stale answer counts as none where a lease is wanted.

        Without an answer: a Lease, where one is wanted and free; None, where another sidecar has it, or none
        is wanted, or the shared store is away.
        """

    async def wait_for(self, key: str, patience: float) -> StoredAnswer | None:
        """What the sidecar that has the lease makes; None where it gave up, or took longer than that."""

    async def put(self, key: str, answer: StoredAnswer, lease: Lease | None) -> None:
        """Store, and end the lease."""

    async def renew(self, lease: Lease) -> None:
        """Hold the lease for LEASE_SECONDS from now; one that is lost stays lost."""

    async def release(self, lease: Lease) -> None:
        """End the lease without an answer; who waits goes on alone."""

    async def invalidate(self, selector: v1.InvalidateCacheRequest) -> int:
        """Forget what fits; how many there were here and in the shared store."""
