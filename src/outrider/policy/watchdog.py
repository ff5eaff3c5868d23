"""Ends a wait for the provider that lasts too long."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from types import TracebackType


class Watchdog:
    """Cancels the current task's wait once its limit has passed, and turns that into a GenerationError.

    One per attempt, as a context manager around it. `arm` before each wait, `rest` after it: time spent on
    a slow caller does not count against an idle limit, only against the total. Arming again only moves a
    number; the loop's timer is set anew at most once per limit. (asyncio.timeout sets and cancels a timer
    per wait, which is 2 µs for each chunk.)
    """

    __slots__ = ("_cancelling", "_expired", "_handle", "_last", "_last_reason", "_limit", "_loop", "_reason",
                 "_task", "_when")  # fmt: skip

    def __init__(self, total: float, total_reason: Reason) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a watchdog needs a task to watch")
        self._task = task
        self._cancelling = task.cancelling()
        self._last = self._loop.time() + total
        self._last_reason = total_reason
        self._limit = self._when = math.inf
        self._reason: Reason | None = total_reason  # None: the caller's time has run out
        self._expired: tuple[Reason, str] | None = None
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, seconds: float, reason: Reason) -> None:
        """The wait that begins may last this long, and never past the total."""
        limit = self._loop.time() + seconds
        self._limit, self._reason = (limit, reason) if limit < self._last else (self._last, self._last_reason)
        if self._limit < self._when:
            self._set_timer(self._limit)

    def rest(self) -> None:
        """The wait is over. Until the next one the caller is waited for, and may use up the total."""
        self._limit, self._reason = self._last, None

    def move(self) -> None:
        """At rest: from now on the current task is the one that waits."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a watchdog needs a task to watch")
        self._task, self._cancelling = task, task.cancelling()
        if self._expired is not None:
            task.cancel()  # its time ran out in between, and nobody has heard

    def _set_timer(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._when = when
        self._handle = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._when = math.inf
        if self._loop.time() < self._limit:
            self._set_timer(self._limit)
            return
        self._expired = self._reason or Reason.DEADLINE_EXCEEDED, _MESSAGES[self._reason]
        self._task.cancel()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        task = self._task
        del self._task  # once cancelled, it holds on to its frames, and those to this
        if self._expired is None:
            return
        others = task.uncancel() > self._cancelling
        # Cancelled at rest, the task leaves the caller first, and closes the stream on its way out.
        if kind is not None and issubclass(kind, (asyncio.CancelledError, GeneratorExit)) and not others:
            raise GenerationError(*self._expired) from None


_MESSAGES = {
    Reason.FIRST_EVENT_TIMEOUT: "the provider sent no content in time (first-event timeout)",
    Reason.IDLE_TIMEOUT: "the provider fell silent in mid-answer (idle timeout)",
    Reason.TOTAL_TIMEOUT: "the answer took longer than one attempt may (total timeout)",
    Reason.DEADLINE_EXCEEDED: "the caller's deadline has passed",
    None: "the caller did not read the answer in time",
}
