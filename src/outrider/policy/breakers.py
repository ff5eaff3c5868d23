"""The breakers of one provider: one for each of its targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.context import Target
from outrider.policy.breaker import Breaker, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from outrider.core.ports import Clock
    from outrider.policy.breaker import Trip

OTHERS = "*"
"""In a target's place of a model: all models that no configuration names, together."""


class Breakers:
    """Each configured model has a breaker of its own. Callers can name any other: those share one, so that
    made-up names cost nothing. `on_change` is told of every new state; it must not raise.
    """

    def __init__(
        self,
        provider: str,
        models: Iterable[str],
        trip: Trip,
        clock: Clock,
        on_change: Callable[[Target, State], None] = lambda target, state: None,
    ) -> None:
        def breaker(model: str) -> Breaker:
            target = Target(provider, model)
            return Breaker(trip, clock, lambda state: on_change(target, state))

        self.provider = provider
        self._named = {model: breaker(model) for model in models}
        self._others = breaker(OTHERS)

    def of(self, model: str) -> Breaker:
        """The breaker of a model."""
        return self._named.get(model, self._others)

    def names(self, model: str) -> bool:
        """Whether a model has a breaker of its own."""
        return model in self._named

    def __iter__(self) -> Iterator[tuple[Target, Breaker]]:
        """Each with its target, whose model is OTHERS for the last one."""
        for model, breaker in self._named.items():
            yield Target(self.provider, model), breaker
        yield Target(self.provider, OTHERS), self._others

    def is_available(self, model: str) -> bool:
        """Whether a call would be let through now, be it as a probe."""
        breaker = self.of(model)
        return breaker.retry_after() is None and not breaker.paused_for()

    def is_well(self, model: str) -> bool:
        """Whether any number of calls would be let through now."""
        breaker = self.of(model)
        return breaker.state is State.CLOSED and not breaker.paused_for()

    def heard_at(self) -> float:
        """When a call last told how any of them is: now, while one answers."""
        return max(breaker.heard_at for _, breaker in self)

    def well_at(self) -> float:
        """When a call to any of them was last answered: now, while one answers."""
        return max(breaker.well_at for _, breaker in self)

    def all_fail(self, since: float) -> bool:
        """Whether every target that had traffic since then is kept from its calls; one at least is."""
        states = [(breaker.state, breaker.heard_at) for _, breaker in self]
        well = any(state is State.CLOSED and heard_at >= since for state, heard_at in states)
        return not well and any(state is not State.CLOSED for state, _ in states)

    def wake(self) -> None:
        """There is word that the provider is back."""
        for _, breaker in self:
            breaker.wake()
