"""Stops calling a provider that keeps failing, and asks it one question at a time until it is back."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.ports import Clock


class State(Enum):
    """What a breaker lets through. The value is the metric's."""

    CLOSED = 0  # everything
    HALF_OPEN = 1  # one probe
    OPEN = 2  # nothing


class Breaker:
    """Opens after `failures` failures in a row; after `open_for` seconds lets a single probe through.

    Each probe that fails doubles the pause, up to ten times `open_for`. `on_change` is told every new
    state; it must not raise.
    """

    def __init__(
        self,
        failures: int,
        open_for: float,
        clock: Clock,
        on_change: Callable[[State], None] = lambda _: None,
    ) -> None:
        self._threshold = failures
        self._open_for = self._pause = open_for
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
        self.state = State.CLOSED
        self.epoch = 0  # of the state; a report on a call from an earlier epoch tells nothing new

    def retry_after(self) -> float | None:
        """Seconds until it is worth calling; None: now."""
        if self.state is State.CLOSED:
            return None
        remaining = self._opened_at + self._pause - self._clock()
        if remaining > 0:
            return remaining
        return self._open_for if self._probing else None

    def admit(self) -> float | None:
        """None: go ahead, and report back by one of the methods below with today's `epoch`.

        Otherwise what `retry_after` says.
        """
        remaining = self.retry_after()
        if remaining is None and self.state is not State.CLOSED:
            self._probing = True
            self._enter(State.HALF_OPEN)
        return remaining

    def answering(self, epoch: int) -> int:
        """The provider has begun to answer. Gives the epoch with which to report how the call ends.

        That is enough of a probe: a stream may last for minutes. Until one answer is whole, a single
        failure opens the breaker again.
        """
        if epoch != self.epoch or self.state is not State.HALF_OPEN:
            return epoch
        self._probing = False
        self._enter(State.CLOSED)
        return self.epoch

    def succeeded(self, epoch: int) -> None:
        """The provider answered."""
        if epoch != self.epoch:
            return
        self._probing = False
        self._failures = 0
        self._pause = self._open_for
        self._enter(State.CLOSED)

    def failed(self, epoch: int) -> None:
        """The provider failed in a way that says it is unwell."""
        if epoch != self.epoch:
            return
        self._probing = False
        self._failures += 1
        if self.state is State.HALF_OPEN:
            self._pause = min(self._pause * 2, self._open_for * 10)
            self._open()
        elif self._failures >= self._threshold:
            self._open()

    def abandoned(self, epoch: int) -> None:
        """The call ended without telling anything about the provider."""
        if epoch == self.epoch:
            self._probing = False

    def wake(self) -> None:
        """There is word that the provider is back: end the pause, so that the next call is the probe."""
        self._opened_at = -math.inf

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.epoch += 1
            self._on_change(state)
