"""Callers that follow something: so many at most, and none beyond a drain."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 256


class Watches:
    """Each lasts as long as its block, in the task that serves its caller."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Raises GenerationError: LOAD_SHED, and DRAINING, also when the sidecar stops within the block."""
        task = asyncio.current_task()
        if self._closed or task is None:
            raise _draining()
        if len(self._tasks) >= self._most:
            raise GenerationError(Reason.LOAD_SHED, f"{self._most} callers watch already", retry_after=5.0)
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError as cancel:
            if Reason.DRAINING not in cancel.args:
                raise
            task.uncancel()
            raise _draining() from None
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """End every watch with DRAINING, and let no more begin; before the server waits for its calls."""
        self._closed = True
        for task in self._tasks:
            task.cancel(Reason.DRAINING)


def _draining() -> GenerationError:
    return GenerationError(Reason.DRAINING, "the sidecar is stopping")
