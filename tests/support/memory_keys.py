"""The idempotency keys that sidecars of one process share, for tests on a paused clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS
from tests.support.paused_clock import now

if TYPE_CHECKING:
    from outrider.core.keys import Claim


class MemoryKeys:
    """A SharedKeys that can be away, and can forget."""

    def __init__(self, *, keep: float) -> None:
        self._keep = keep
        self._claims: dict[str, tuple[float, Claim]] = {}  # until when
        self.away = False

    def lose_everything(self) -> None:
        """As a Redis that starts again."""
        self._claims.clear()

    async def hold(self, name: str, claim: Claim) -> Claim:
        self._check()
        until, found = self._claims.get(name, (0.0, claim))
        if now() < until and found.request_id != claim.request_id:
            return found
        self._claims[name] = now() + (self._keep if claim.ended else LEASE_SECONDS), claim
        return claim

    async def release(self, name: str, claim: Claim) -> None:
        self._check()
        if self._claims.get(name, (0.0, None))[1] == claim:
            del self._claims[name]

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")
