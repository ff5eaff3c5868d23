"""Stops calling a target that keeps failing, and asks it one question at a time until it is back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from outrider.policy.failure_window import FailureWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.ports import Clock


class State(Enum):
    """What a breaker lets through. The value is the metric's."""

    CLOSED = 0  # everything
    HALF_OPEN = 1  # one probe
    OPEN = 2  # nothing


@dataclass(frozen=True, slots=True)
class Trip:
    """When a breaker opens: after so many failures in a row, or with this share of failures in a window."""

    failures: int = 10
    ratio: float = 0.5
    window: float = 30.0  # seconds
    minimum: int = 50  # calls in the window, below which their share says nothing
    open_for: float = 30.0  # seconds until a probe


# Nobody waits for less: a timer may come that much too early.
_NO_TIME = 0.001
# States have even epochs; this is added for a call that has begun to answer.
_ANSWERS = 1


class Breaker:
    """Opens as `trip` says; after `open_for` seconds lets a single probe through.

    Each probe that fails doubles the pause, up to ten times `open_for`. `on_change` is told every new
    state; it must not raise.
    """

    def __init__(self, trip: Trip, clock: Clock, on_change: Callable[[State], None] = lambda _: None) -> None:
        self._trip = trip
        self._pause = trip.open_for
        self._clock = clock
        self._on_change = on_change
        self._window = FailureWindow(trip.window, clock)
        self._in_a_row = 0
        self._opened_at = 0.0
        self._paused_until = -math.inf
        self._suspected_until = -math.inf
        self._probing = False
        self._unproven = False  # closed again, and no answer has been whole since
        self._answering = 0  # calls that have begun to answer, in this state, and go on
        self._heard_at = -math.inf
        self._well_at = -math.inf
        self.state = State.CLOSED
        self.epoch = 0  # of the state; a report on a call from an earlier epoch tells nothing new
        self.is_free = True  # it lets every call through: there is no need to ask for how long it does not

    @property
    def was_asked(self) -> bool:
        """Whether any call has told how the target is."""
        return self.heard_at > -math.inf

    @property
    def heard_at(self) -> float:
        """When a call last told how the target is: now, while one answers."""
        return self._clock() if self._answering else self._heard_at

    @property
    def well_at(self) -> float:
        """When a call was last answered: now, while one answers."""
        return self._clock() if self._answering else self._well_at

    @property
    def paused_until(self) -> float:
        """Until when the target has asked to be left alone, by the clock; it may have passed."""
        return self._paused_until

    @property
    def longest_pause(self) -> float:
        """Seconds after which any target is asked again, whatever it said and however often it failed."""
        return self._trip.open_for * 10

    def paused_for(self) -> float:
        """Seconds for which the target has asked to be left alone; 0 where it has not."""
        remaining = self._paused_until - self._clock()
        if remaining > _NO_TIME:
            return remaining
        self._paused_until = -math.inf
        self.is_free = self.state is State.CLOSED
        return 0.0

    def success_rate(self) -> float | None:
        """The share of the calls in the window that succeeded; None where there were none."""
        calls, failures = self._window.counts()
        return 1 - failures / calls if calls else None

    def retry_after(self) -> float | None:
        """Seconds until it is worth calling; None: now."""
        if self.state is State.CLOSED:
            return None
        remaining = self._opened_at + self._pause - self._clock()
        if remaining > 0:
            return remaining
        return self._trip.open_for if self._probing else None

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
        """The target has begun to answer. Gives the epoch with which to report how the call ends.

        That is enough of a probe: a stream may last for minutes. Until one answer is whole, a single
        failure opens the breaker again.
        """
        if epoch != self.epoch:
            return epoch
        if self.state is State.HALF_OPEN:
            self._probing = False
            self._close()
        self._answering += 1
        return self.epoch + _ANSWERS

    def succeeded(self, epoch: int) -> None:
        """The target answered."""
        if not self._is_news(epoch):
            return
        self._probing = self._unproven = False
        self._in_a_row = 0
        self._suspected_until = -math.inf
        self._pause = self._trip.open_for
        if self.state is not State.CLOSED:
            self._close()
            self._unproven = False
        self._well_at = self._heard_at = self._window.add(failed=False)

    def failed(self, epoch: int) -> None:
        """The target failed in a way that says it is unwell."""
        if not self._is_news(epoch):
            return
        self._probing = False
        self._in_a_row += 1
        self._heard_at = self._window.add(failed=True)
        if self.state is State.HALF_OPEN:
            self._pause = min(self._pause * 2, self.longest_pause)
            self._open()
        elif self._is_enough():
            self._open()

    def abandoned(self, epoch: int) -> None:
        """The call ended without telling anything about the target, but that it answered, if it did."""
        if self._is_news(epoch):
            self._probing = False
            if epoch != self.epoch:
                self._well_at = self._heard_at = self._clock()

    def pause(self, seconds: float) -> None:
        """The target is well, but asks to be left alone for a while: its rate limit is used up.

        Past `longest_pause` it is asked again: it may not have meant it.
        """
        now = self._heard_at = self._clock()
        self._paused_until = max(self._paused_until, now + min(seconds, self.longest_pause))
        self.is_free = False

    def suspect(self, seconds: float) -> None:
        """Another sidecar finds the target unwell: for so long, a single failure here opens the breaker."""
        self._suspected_until = self._clock() + seconds

    def wake(self) -> None:
        """There is word that the target is back: the next call is the probe. A `pause` still holds."""
        self._opened_at = -math.inf

    def _is_news(self, epoch: int) -> bool:
        """Whether a call that has ended began in the state of now."""
        if epoch == self.epoch + _ANSWERS:
            self._answering -= 1
            return True
        return epoch == self.epoch

    def _is_enough(self) -> bool:
        if self._in_a_row >= self._trip.failures or self._unproven or self._clock() < self._suspected_until:
            return True
        calls, failures = self._window.counts()
        return calls >= self._trip.minimum and failures >= calls * self._trip.ratio

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._enter(State.OPEN)

    def _close(self) -> None:
        # What made it open does not count against it any more, but for one answer that has yet to be whole.
        self._window.clear()
        self._unproven = True
        self._enter(State.CLOSED)

    def _enter(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.epoch += 2
            self._answering = 0
            self.is_free = state is State.CLOSED and self._paused_until == -math.inf
            self._on_change(state)
