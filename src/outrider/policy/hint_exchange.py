"""Tells other sidecars which targets are unwell, and listens to them. Each decides for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError
from outrider.policy.breaker import State
from outrider.policy.breakers import OTHERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.core.hints import HintStore
    from outrider.policy.breakers import Breakers
    from outrider.policy.health_monitor import HealthMonitor

_INTERVAL = 2.0  # seconds between two looks at the hints
_LEAST_GAP = 0.1  # where much happens at once
_LONGEST_SUSPICION = 5.0  # seconds; renewed for as long as the hint is there
_MEMORY = 60.0  # seconds for which a hint outlives what it tells of
_HEARSAY = "it did not serve when it was last heard of"


class HintExchange:
    """A hint makes a closed breaker open at its first failure. Where the store is away, nothing changes."""

    def __init__(self, store: HintStore, breakers: Mapping[str, Breakers], monitor: HealthMonitor) -> None:
        self._store = store
        self._breakers = breakers
        self._monitor = monitor
        self._woken = asyncio.Event()

    async def recall(self) -> None:
        """At start: learn what is known, also of providers; what was left before a restart too."""
        for name in await self._exchange({}, longest=_MEMORY):
            if name in self._breakers:
                self._monitor.recall(name, _HEARSAY)

    def hurry(self) -> None:
        """There is news to tell."""
        self._woken.set()

    async def run(self) -> None:
        """Tell and listen until cancelled."""
        while True:
            await self._exchange(self._own(), longest=_LONGEST_SUSPICION)
            await asyncio.sleep(_LEAST_GAP)
            try:
                async with asyncio.timeout(_INTERVAL - _LEAST_GAP):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _exchange(self, own: Mapping[str, float], longest: float) -> Mapping[str, float]:
        try:
            hints = await self._store.exchange(own)
        except StoreUnavailableError:
            return {}
        for name, seconds in hints.items():
            provider, slash, model = name.partition("/")
            if slash and provider in self._breakers:
                self._suspect(self._breakers[provider], model, min(seconds, longest))
        return hints

    def _suspect(self, breakers: Breakers, model: str, seconds: float) -> None:
        # A model that is configured elsewhere alone says nothing of those that share a breaker here.
        if model == OTHERS or breakers.names(model):
            breakers.of(model).suspect(seconds)

    def _own(self) -> dict[str, float]:
        """What is unwell here."""
        targets = {
            str(target): (breaker.retry_after() or 0.0) + _MEMORY
            for breakers in self._breakers.values()
            for target, breaker in breakers
            if breaker.state is not State.CLOSED
        }
        return targets | dict.fromkeys(self._monitor.failing(), _MEMORY)
