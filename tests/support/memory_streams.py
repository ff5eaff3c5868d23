"""The copies of streams that sidecars of one process share, for tests on a paused clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS, Ending, Excerpt, StreamName
from tests.support.paused_clock import now

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class _Copy:
    kept_until: float = 0.0
    alive_until: float = 0.0
    read_until: float = 0.0
    events: list[v1.GenerateResponse] = field(default_factory=list)
    ending: Ending | None = None


class MemoryStreams:
    """A SharedStreams that can be away, and can forget."""

    def __init__(self, *, grace: float) -> None:
        self._grace = grace
        self._copies: dict[StreamName, _Copy] = {}
        self.away = False
        self.appends = 0

    def lose_everything(self) -> None:
        """As a Redis that starts again."""
        self._copies.clear()

    async def append(
        self, name: StreamName, after: int, events: Sequence[bytes], ending: Ending | None, keep: float
    ) -> int:
        self._check()
        self.appends += 1
        copy = self._find(name) or self._copies.setdefault(name, _Copy())
        if len(copy.events) == after and copy.ending is None:
            copy.events += map(v1.GenerateResponse.FromString, events)
            copy.ending = ending
            copy.alive_until = now() + LEASE_SECONDS if ending is None else 0.0
            copy.kept_until = now() + keep + (LEASE_SECONDS if ending is None else 0)
        return len(copy.events)

    async def read(self, name: StreamName, after: int) -> Excerpt | None:
        self._check()
        copy = self._find(name)
        if copy is None:
            return None
        alive = copy.alive_until > now()
        if alive:
            copy.read_until = now() + self._grace
        return Excerpt(copy.events[after:], copy.ending, alive)

    async def attention(self, name: StreamName) -> float:
        self._check()
        copy = self._find(name)
        return max(0.0, copy.read_until - now()) if copy else 0.0

    async def remove(self, name: StreamName) -> None:
        self._check()
        self._copies.pop(name, None)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")

    def _find(self, name: StreamName) -> _Copy | None:
        copy = self._copies.get(name)
        if copy is not None and copy.kept_until <= now():
            del self._copies[name]
            return None
        return copy
