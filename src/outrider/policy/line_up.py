"""Tries of one request that wait beside each other: the first that is let in is made, the others leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError
from outrider.core.streams import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.core.context import Target
    from outrider.policy.trial import Trial


async def first_let_in(waits: Sequence[tuple[float, Trial]], on_refused: Callable[[Target], None]) -> Trial:
    """The first of these trials that may ask its provider, each standing in line after so many seconds.

    `on_refused` is told of those that waited in vain; where all do, what the last one was told is raised. No
    task is left when it ends.
    """
    tasks = {asyncio.create_task(_stand(delay, trial), name="attempt"): trial for delay, trial in waits}
    waiting, winner = set(tasks), None
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    winner = tasks[task]
                    return winner
                on_refused(tasks[task].target)
            failure = next(iter(done)).exception()
            if not isinstance(failure, GenerationError):
                await next(iter(done))
            elif not waiting:
                # Made anew: the one that the trial raised holds on to the frames of its task.
                raise Failure.of(failure).error()
    finally:
        await _leave({task: trial for task, trial in tasks.items() if trial is not winner})


async def _stand(delay: float, trial: Trial) -> None:
    if delay > 0:
        await asyncio.sleep(delay)
    await trial.enter()


async def _leave(tasks: dict[asyncio.Task[None], Trial]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task, trial in tasks.items():
        if not task.cancelled() and task.exception() is None:  # let in, in the very moment
            trial.withdraw()
