"""The calls that run: how many there may be, and how they end when the sidecar does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class InFlight:
    """One for all calls; each is inside it, as a context manager, for as long as its handler runs.

    `detached` gives how many requests go on without a call: they count as well, but nobody waits for them.
    """

    def __init__(self, limit: int, detached: Callable[[], int] = lambda: 0) -> None:
        self._limit = limit
        self._detached = detached
        self._refusing = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> None:
        """Raises GenerationError: DRAINING after `refuse`, LOAD_SHED where as many calls run as may."""
        if self._refusing:
            raise GenerationError(Reason.DRAINING, "the sidecar is stopping and takes no more calls")
        if len(self._tasks) + self._detached() >= self._limit:
            raise GenerationError(Reason.LOAD_SHED, f"{self._limit} calls run already", retry_after=1.0)
        self._tasks.add(_current_task())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.discard(_current_task())

    def refuse(self) -> None:
        """Let no more calls in."""
        self._refusing = True

    async def ended(self, within: float) -> None:
        """Wait until the calls that run now have ended, status and all; for at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    def cut(self) -> None:
        """Cancel what runs. The reason goes with the cancel, and becomes the caller's status."""
        for task in self._tasks:
            task.cancel(Reason.DRAINING)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call runs in a task")
    return task
