"""A provider without a network: it plays a script for each request, and always the same one.

`docs/simulated.md` tells users what it can do.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final

from outrider.providers.simulated_answer import SimulatedAnswer, input_tokens
from outrider.providers.simulated_failures import FAILURES
from outrider.providers.simulated_models import FAILURE_KINDS, FLAKY, MIDWAY, plan
from outrider.providers.simulated_script import (
    CallTool,
    Fail,
    Say,
    Step,
    Think,
    Wait,
    parse_script,
    within_limits,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from outrider import v1
    from outrider.core.ports import Batch, Call
    from outrider.providers.recordings import Recordings

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulated provider behaves. Times are in seconds."""

    script: str | None = None  # the answer to everything, or a list of steps; None: the last message
    pace: float = 0.0  # between two chunks
    first_token_delay: float = 0.0
    chunk_chars: int = 4
    failure: str | None = None  # one of FAILURE_KINDS, also with "_midway"
    failure_rate: float = 1.0  # share of requests that fail so
    seed: int = 0  # chooses which ones


class SimulatedProvider:
    """Answers by the model's script, or by `recordings`, whatever the model.

    Raises ValueError where the simulation's own settings are wrong.
    """

    def __init__(self, name: str, simulation: Simulation, recordings: Recordings | None = None) -> None:
        kind = simulation.failure
        if kind is not None and kind.removesuffix(MIDWAY) not in FAILURE_KINDS:
            raise ValueError(f"{kind!r} is not a failure; there are: {', '.join(FAILURE_KINDS)}")
        self.name = name
        self._simulation = simulation
        self._recordings = recordings
        self._script = None if simulation.script is None else parse_script(simulation.script)
        self._random = Random(simulation.seed)  # noqa: S311 - it is to repeat itself
        self._numbers = count(1)

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        """Play the script. Raises GenerationError where the script says so."""
        if self._recordings is not None:
            async with aclosing(self._replay(call, self._recordings)) as batches:
                async for batch in batches:
                    yield batch
            return
        number = next(self._numbers)
        steps = self._steps(number, call)
        simulation, progress = self._simulation, call.progress
        answer = SimulatedAnswer(call, f"simulated-{number}")
        await asyncio.sleep(simulation.first_token_delay)
        progress.upstream_status = _OK
        for step in within_limits(steps, call.request.sampling):
            if isinstance(step, Say | Think):
                for chunk in self._chunks(step.text):
                    if simulation.pace and answer.pending:
                        yield answer.take()
                        await asyncio.sleep(simulation.pace)
                    answer.add(step, chunk)
            elif isinstance(step, Wait | Fail):
                if answer.pending:
                    yield answer.take()
                if isinstance(step, Fail):
                    failure = FAILURES[step.kind]
                    progress.upstream_status = failure.status
                    raise failure.error()
                await asyncio.sleep(step.seconds)
            elif isinstance(step, CallTool):
                answer.call(step)
            else:
                answer.finish = step
        yield answer.complete()

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        """As in the usage of an answer to the same request."""
        return input_tokens(request)

    async def check(self) -> None:
        """Raise the configured failure, where it happens to every request."""
        kind = self._simulation.failure
        if kind in FAILURES and self._simulation.failure_rate >= 1:
            raise FAILURES[kind].error()

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _replay(self, call: Call, recordings: Recordings) -> AsyncGenerator[Batch, None]:
        simulation = self._simulation
        return recordings.play(call, first_delay=simulation.first_token_delay, pace=simulation.pace)

    def _steps(self, number: int, call: Call) -> Sequence[Step]:
        simulation, name = self._simulation, call.model
        if simulation.failure is not None and self._random.random() < simulation.failure_rate:
            name = simulation.failure
        elif name == FLAKY:
            name = "overloaded" if number % 2 else "echo"
        if name == "echo" and self._script is not None:
            return self._script
        return plan(name, call.request)

    def _chunks(self, text: str) -> Iterable[str]:
        if not self._simulation.pace:
            return (text,)
        size = self._simulation.chunk_chars
        return (text[start : start + size] for start in range(0, len(text), size))
