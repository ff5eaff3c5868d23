"""Two tries of one request beside each other: the first to begin gives the answer, the other is cut."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from outrider.core.errors import Fact
    from outrider.core.ports import Batch, Clock
    from outrider.policy.trial import Trial

# How long a try that was cut has for closing its connection.
_CLOSING_SECONDS = 1.0


async def race(
    first: Trial,
    patience: float,
    start_second: Callable[[], Trial | None],
    clock: Clock,
) -> AsyncGenerator[Batch, None]:
    """The answer of `first`, or of a second trial, which starts once a provider has had `patience` seconds.

    Raises the error of `first` where neither begins to answer. No task is left when it ends.
    """
    track = _Track()
    ahead = track.enter(first)
    try:
        while track.winner is None and ahead.is_running:
            left = _time_left(first, patience, clock)
            if left <= 0:
                second = start_second()
                if second is not None:
                    track.enter(second)
                break
            await track.news(left)
        while track.winner is None and track.is_busy:
            await track.news(None)
        async with aclosing((track.winner or ahead).batches()) as batches:
            async for batch in batches:
                yield batch
    finally:
        await track.close()


def _time_left(trial: Trial, patience: float, clock: Clock) -> float:
    """Seconds that its provider still has; those in the sidecar's own queues do not count."""
    asked_at = trial.asked_at
    return patience if asked_at is None else asked_at + patience - clock()


class _Runner:
    """A trial up to its first batch; then whoever reads the answer drives it."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.is_running = True  # it has neither begun to answer nor failed
        self._failure: Fact | None = None
        self._crash: Exception | None = None
        self._first: Batch = []
        self._answer = trial.run()

    async def begin(self) -> None:
        """Wait for the first batch, or for what is raised in its place."""
        try:
            self._first = await anext(self._answer)
        except GenerationError as error:
            self._failure = error.fact
        except Exception as bug:  # noqa: BLE001 - raised to whoever reads the answer
            self._crash = bug
        finally:
            self.is_running = False

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The answer, once it has begun. Raises what the trial raised."""
        if self._crash is not None:
            raise self._crash
        if self._failure is not None:
            raise _raised(self._failure)
        self.trial.move()
        yield self._first
        async for batch in self._answer:
            yield batch

    async def close(self) -> None:
        """Close the connection."""
        self.trial.on_begin = None
        if not self.is_running:
            await self._answer.aclose()


class _Track:
    """The runners, each with a task up to its first batch, and which one has won."""

    def __init__(self) -> None:
        self.winner: _Runner | None = None
        self._tasks: dict[_Runner, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether any of them may still begin to answer."""
        return any(runner.is_running for runner in self._tasks)

    def enter(self, trial: Trial) -> _Runner:
        """Start one."""
        runner = _Runner(trial)
        trial.on_begin = lambda: self._won(runner)
        task = asyncio.create_task(runner.begin(), name="attempt")
        task.add_done_callback(lambda _: self._news.set())
        self._tasks[runner] = task
        return runner

    async def news(self, within: float | None) -> None:
        """Wait until one of them has begun to answer or failed, or for so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def close(self) -> None:
        """End them all, and wait for it."""
        # Kept, a task that was cancelled would hold on to its frames, and so to the prompt.
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values(), timeout=_CLOSING_SECONDS)
        for runner in tasks:
            await runner.close()

    def _won(self, winner: _Runner) -> None:
        if self.winner is not None:
            raise asyncio.CancelledError  # cut in the very moment in which it would have begun
        self.winner = winner
        for runner, task in self._tasks.items():
            if runner is not winner:
                runner.trial.outrun()
                task.cancel()


def _raised(fact: Fact) -> GenerationError:
    """Made anew: the one that the trial raised holds on to the frames of its task, and so to the prompt."""
    error = GenerationError(fact.reason, fact.message)
    error.fact = fact
    return error
