"""The health of providers as traffic shows it, and the sidecar's readiness that follows from it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from outrider.core.errors import GenerationError
from outrider.policy.breaker import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outrider.core.ports import Clock, Provider


@dataclass(frozen=True, slots=True)
class Health:
    """A provider's health, why, and since when (Unix seconds)."""

    serving: bool
    reason: str
    since: float


class HealthPublisher(Protocol):
    """Where health is shown."""

    async def provider_changed(self, name: str, health: Health) -> None:
        """A provider came up or went down."""

    async def readiness_changed(self, *, ready: bool) -> None:
        """The sidecar became ready, or no provider can serve any more."""


class HealthMonitor:
    """Down is what a breaker says; up is what a breaker or a check says.

    While a provider is down it is checked every `interval` seconds: no traffic may come that would show
    its return. Those in `down` begin so, for the reason given: a key that is missing may still be mounted.
    `on_recovery` is told whose check succeeds. Ready is: some provider serves, or did within the last `hold`
    seconds. Nothing is published before `run` starts.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        down: Mapping[str, str],
        *,
        clock: Clock,
        on_recovery: Callable[[str], None] = lambda _: None,
        interval: float = 10.0,
        hold: float = 15.0,
    ) -> None:
        now = time.time()
        self._providers = providers
        self._clock = clock
        self._on_recovery = on_recovery
        self._interval = interval
        self._hold = hold
        self.health = {name: Health(name not in down, down.get(name, ""), now) for name in providers}
        self._changed = set(self.health)
        self._woken = asyncio.Event()
        self._served_until = -math.inf  # by the provider that went down last
        self._ready = False

    def breaker_changed(self, name: str, state: State) -> None:
        """Told by a breaker."""
        if state is State.OPEN:
            self._set(name, serving=False, reason="its calls keep failing")
        elif state is State.CLOSED:
            self._set(name, serving=True)

    async def run(self, publisher: HealthPublisher) -> None:
        """Publish every change, and check what is down, until cancelled."""
        while True:
            await self._publish(publisher)
            settled = all(health.serving for health in self.health.values())
            try:
                async with asyncio.timeout(None if settled else self._interval):
                    await self._woken.wait()
            except TimeoutError:
                await self._check_down()

    async def _publish(self, publisher: HealthPublisher) -> None:
        self._woken.clear()
        changed, self._changed = self._changed, set()
        for name in changed:
            await publisher.provider_changed(name, self.health[name])
        ready = self._evaluate()
        if ready is not self._ready:
            self._ready = ready
            await publisher.readiness_changed(ready=ready)

    def _evaluate(self) -> bool:
        if any(health.serving for health in self.health.values()):
            return True
        return self._clock() - self._served_until < self._hold

    async def _check_down(self) -> None:
        # All at once: one that does not answer must not delay what is to be told of the others.
        async with asyncio.TaskGroup() as group:
            for name, provider in self._providers.items():
                if not self.health[name].serving:
                    group.create_task(self._check(name, provider))

    async def _check(self, name: str, provider: Provider) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await provider.check()
        except (GenerationError, TimeoutError):
            return
        self._on_recovery(name)
        self._set(name, serving=True)

    def _set(self, name: str, *, serving: bool, reason: str = "") -> None:
        if self.health[name].serving is not serving:
            if not serving:
                self._served_until = self._clock()
            self.health[name] = Health(serving, reason, time.time())
            self._changed.add(name)
            self._woken.set()
