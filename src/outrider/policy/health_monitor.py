"""The health of providers as traffic and checks show it, and the sidecar's readiness that follows from it."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from outrider.core.errors import GenerationError
from outrider.core.events import Event, EventType
from outrider.policy.breaker import State
from outrider.policy.check_verdict import says_down
from outrider.policy.provider_watch import ProviderWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outrider.core.context import Target
    from outrider.core.events import Fact
    from outrider.core.ports import Clock, Provider
    from outrider.policy.breakers import Breakers

_LATELY = 60.0  # seconds for which traffic tells how a target is
_LONGEST_CHECK = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Health:
    """A provider's health, why, and since when (Unix seconds)."""

    serving: bool
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When providers are asked whether they answer, in seconds."""

    interval: float = 60.0  # of silence, before one that serves is asked; 0: never
    down_interval: float = 10.0  # between two questions to one that does not
    hold: float = 15.0  # for which the sidecar stays ready after its last provider went down


class HealthPublisher(Protocol):
    """Where health is shown."""

    async def provider_changed(self, name: str, health: Health) -> None:
        """A provider came up or went down."""

    async def readiness_changed(self, *, ready: bool) -> None:
        """The sidecar became ready, or no provider can serve any more."""


class HealthMonitor:
    """A provider is down when all its targets that had traffic lately are kept from their calls, or when it
    was idle and two checks in a row failed. It is up when a call succeeds, or checks do.

    Those in `down` begin so, for the reason given: a key that is missing may still be mounted. Ready is: some
    provider serves, or did within the last `hold` seconds. Nothing is published before `run` starts.
    `on_event` is told of every change; it must not raise.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        breakers: Mapping[str, Breakers],
        down: Mapping[str, str],
        *,
        clock: Clock,
        rhythm: Rhythm = Rhythm(),
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        now = time.time()
        self._providers = providers
        self._breakers = breakers
        self._clock = clock
        self._rhythm = rhythm
        self._on_event = on_event
        self.health = {name: Health(name not in down, down.get(name, ""), now) for name in providers}
        self._watches = {name: ProviderWatch(clock()) for name in providers}
        self._changed = set(self.health)
        self._woken = asyncio.Event()
        self._served_until = -math.inf  # by the provider that went down last
        self._ready = False

    def failing(self) -> list[str]:
        """The providers that are down for what they do, and not for what is missing here."""
        return [
            name
            for name, watch in self._watches.items()
            if watch.is_failing and not self.health[name].serving
        ]

    def recall(self, name: str, reason: str) -> None:
        """Before `run`: the provider did not serve when it was last heard of. It is checked first of all."""
        if name in self.health and self.health[name].serving:
            self.health[name] = Health(serving=False, reason=reason, since=time.time())
            self._watches[name].is_said_to_be_down()

    def breaker_changed(self, target: Target, state: State) -> None:
        """Told by a breaker."""
        name, watch = target.provider, self._watches[target.provider]
        facts = {"provider": name, "model": target.model, "state": state.name.lower()}
        self._on_event(Event(EventType.BREAKER_CHANGED, str(target), facts))
        if state is State.CLOSED:
            watch.closed(target)
            self._set(name, serving=True)
        elif state is State.OPEN:
            news = watch.opened(target)
            failing = self._breakers[name].all_fail(since=self._clock() - _LATELY)
            if news and failing and self.health[name].serving:
                watch.went_down_by_calls()
                self._set(name, serving=False, reason="its calls keep failing")

    async def run(self, publisher: HealthPublisher) -> None:
        """Publish every change, and check what is down or idle, until cancelled."""
        async with asyncio.TaskGroup() as checks:
            while True:
                self._look_at_traffic()
                await self._publish(publisher)
                for name in self._due():
                    self._watches[name].is_checked = True
                    checks.create_task(self._check(name), name=f"check of {name}")
                try:
                    async with asyncio.timeout(self._seconds_left()):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    def _look_at_traffic(self) -> None:
        """Calls that succeed say more than checks that fail; where no breaker was open, none told of them."""
        for name, watch in self._watches.items():
            if not self.health[name].serving and self._breakers[name].well_at() > watch.down_since:
                watch.proved_well()
                self._set(name, serving=True)

    async def _publish(self, publisher: HealthPublisher) -> None:
        self._woken.clear()
        changed, self._changed = self._changed, set()
        for name in changed:
            await publisher.provider_changed(name, self.health[name])
        ready = self._clock() < self._ready_until()
        if ready is not self._ready:
            self._ready = ready
            await publisher.readiness_changed(ready=ready)

    def _ready_until(self) -> float:
        if any(health.serving for health in self.health.values()):
            return math.inf
        return self._served_until + self._rhythm.hold

    def _due(self) -> list[str]:
        """Whom to check now."""
        now = self._clock()
        return [name for name in self._providers if self._due_at(name) <= now]

    def _due_at(self, name: str) -> float:
        watch, rhythm, breakers = self._watches[name], self._rhythm, self._breakers[name]
        if watch.is_checked:
            return math.inf
        doubtful = watch.failed_checks and breakers.well_at() <= watch.checked_at
        if doubtful or not self.health[name].serving:
            return watch.checked_at + rhythm.down_interval
        if not rhythm.interval:
            return math.inf
        return max(watch.checked_at, breakers.heard_at()) + rhythm.interval

    def _seconds_left(self) -> float | None:
        """Until there is something to do; None: until something happens."""
        moments = [self._due_at(name) for name in self._providers]
        if self._ready:
            moments.append(self._ready_until())
        soonest = min(moments, default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - self._clock())

    async def _check(self, name: str) -> None:
        watch, failure = self._watches[name], ""
        try:
            async with asyncio.timeout(_LONGEST_CHECK):
                await self._providers[name].check()
        except GenerationError as error:
            failure = error.fact.message if says_down(error) else ""
        except TimeoutError:
            failure = f"no answer to a check within {_LONGEST_CHECK:g} s"
        if self._breakers[name].well_at() > watch.checked_at:
            watch.failed_checks = 0  # calls that are answered say more than checks that fail
        watch.is_checked, watch.checked_at = False, self._clock()
        if failure:
            self._did_not_answer(name, watch, failure)
        else:
            self._answered(name, watch)
        self._woken.set()

    def _answered(self, name: str, watch: ProviderWatch) -> None:
        came_back = watch.check_succeeded()
        if not self.health[name].serving:
            if watch.is_trusted:
                watch.came_up_by_checks()
                self._set(name, serving=True)
            elif not came_back:
                return
            self._breakers[name].wake()

    def _did_not_answer(self, name: str, watch: ProviderWatch, failure: str) -> None:
        watch.check_failed()
        if watch.failed_checks >= 2 and self.health[name].serving:
            watch.went_down_by_checks()
            self._set(name, serving=False, reason=f"it does not answer: {failure}")

    def _set(self, name: str, *, serving: bool, reason: str = "") -> None:
        if self.health[name].serving is serving:
            return
        if not serving:
            self._served_until = self._watches[name].down_since = self._clock()
        self.health[name] = Health(serving, reason, time.time())
        self._changed.add(name)
        self._woken.set()
        facts: dict[str, Fact] = {"serving": serving, "reason": reason}
        self._on_event(Event(EventType.PROVIDER_HEALTH_CHANGED, name, facts))
