"""An event loop whose clock stands still, and jumps to the next timer once nothing else is left to do.

Policies that wait for seconds are tested in microseconds, and always alike.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")

# How long a thread may take to answer before the loop is called stuck.
_PATIENCE = 10.0


class _JumpingSelector(selectors.DefaultSelector):
    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else _PATIENCE)
        if timeout is None and not ready:
            raise RuntimeError("the loop waits for something that will never happen")
        if timeout and not ready:
            self.now += timeout
        return ready


class PausedLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since some moment; moves in jumps."""
        return self._jumping.now


def paused(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run an async test on a PausedLoop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=PausedLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """The running loop's clock, as the policies' Clock."""
    return asyncio.get_running_loop().time()
