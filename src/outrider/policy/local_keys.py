"""The idempotency keys of the requests that this sidecar runs and has run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.keys import Claim

_MOST_ENDED = 65_536  # about 30 MB


class LocalKeys:
    """Those that run, and those that were answered, for `keep` seconds; of these the oldest go first."""

    def __init__(self, keep: float, most: int = _MOST_ENDED) -> None:
        self._keep = keep
        self._most = most
        self._running: dict[str, Claim] = {}
        self._ended: dict[str, tuple[float, Claim]] = {}  # until when; oldest first

    def find(self, name: str) -> Claim | None:
        """Whose a key is."""
        until, claim = self._ended.get(name, (0.0, None))
        return self._running.get(name) or (claim if _now() < until else None)

    def begin(self, name: str, claim: Claim) -> None:
        """A request runs under a key that no other one here has."""
        self._running[name] = claim

    def end(self, name: str, *, answered: bool) -> None:
        """It has ended: its key stays, or is free again."""
        claim = self._running.pop(name)
        self._ended.pop(name, None)
        if answered:
            self._ended[name] = _now() + self._keep, claim._replace(ended=True)
        self._tidy()

    def _tidy(self) -> None:
        while self._ended:
            oldest = next(iter(self._ended))
            if len(self._ended) <= self._most and _now() < self._ended[oldest][0]:
                return
            del self._ended[oldest]


def _now() -> float:
    return asyncio.get_running_loop().time()
