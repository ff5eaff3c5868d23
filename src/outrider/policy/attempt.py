"""Tries the targets of a plan until one answers.

The first content event is the commit point: it leaves together with `Started`, and nothing is tried again
after it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason
from outrider.policy.course import Course, may_pass_filter
from outrider.policy.line_up import first_let_in
from outrider.policy.race import race
from outrider.policy.trial import Trial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from random import Random

    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Clock, Observer
    from outrider.policy.course import Wait
    from outrider.policy.hedging import Hedging
    from outrider.policy.upstream import Upstream


class AttemptLoop:
    """The innermost handler: it calls providers. `windows`: tokens that a target reads, 0: not known."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        observer: Observer,
        clock: Clock,
        random: Random,
        windows: Callable[[Target], int] = lambda target: 0,
        hedging: Hedging | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._observer = observer
        self._clock = clock
        self._random = random
        self._windows = windows
        self._hedging = hedging

    async def __call__(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        """Answer, or raise a GenerationError: the last one, unless an earlier one is more likely to pass."""
        if not context.plan:
            raise GenerationError(Reason.MODEL_UNKNOWN, "the plan has no target")
        answer, course = self._first_try(context), None
        while True:
            try:
                async with aclosing(answer) as batches:
                    async for batch in batches:
                        yield batch
            except GenerationError as error:
                # Kept under a name for later, the error would form a cycle with its traceback, and hold
                # the whole prompt until the garbage collector comes: it is raised here or dropped.
                course = course or Course(context, self._upstreams, self._windows, self._clock, self._random)
                waits = course.after(error)
                if not waits:
                    raise
            else:
                return
            if len(waits) > 1:
                answer = self._line_up(context, course, waits)
            else:
                ((delay, target, patience),) = waits
                waited = await self._pause(context, delay) if delay else 0.0
                answer = self._trial(context, target, waited, is_last=course.is_last, patience=patience).run()

    def _first_try(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        """With another one beside it, where it is slow and that is wanted."""
        plan = context.plan
        self._upstreams[plan[0].provider].retry_budget.deposit()
        is_only = len(plan) == 1
        trial = self._trial(context, plan[0], 0.0, is_last=is_only, patience=inf if is_only else 0.0)
        patience = self._hedging.patience(context) if self._hedging is not None else None
        if patience is None:
            return trial.run()
        return race(trial, patience, lambda: self._hedge(context), self._clock)

    async def _line_up(
        self, context: RequestContext, course: Course, waits: Sequence[Wait]
    ) -> AsyncGenerator[Batch, None]:
        """The answer of the first target that lets the request in."""
        began, record = self._clock(), context.record
        before = record.waited
        trials = [
            (wait.delay, self._trial(context, wait.target, 0.0, is_last=True, patience=wait.patience))
            for wait in waits
        ]
        try:
            trial = await first_let_in(trials, course.turn_to)
        finally:
            record.waited = before + self._clock() - began  # they have waited beside each other
        course.enter(trial.target)
        async with aclosing(trial.run()) as batches:
            async for batch in batches:
                yield batch

    def _trial(
        self, context: RequestContext, target: Target, waited: float, *, is_last: bool, patience: float
    ) -> Trial:
        return Trial(
            context,
            target,
            self._upstreams[target.provider],
            self._observer,
            self._clock,
            waited,
            patience=patience,
            passes_filter=not is_last and may_pass_filter(context),
        )

    def _hedge(self, context: RequestContext) -> Trial | None:
        """A trial of the next target that could answer at once, if one is still to be afforded."""
        for target in context.plan[1:]:
            upstream = self._upstreams[target.provider]
            if upstream.gate.is_free and upstream.breakers.is_well(target.model):
                if self._hedging is None or not self._hedging.spend():
                    break
                passes = may_pass_filter(context)
                return Trial(
                    context,
                    target,
                    upstream,
                    self._observer,
                    self._clock,
                    0.0,
                    passes_filter=passes,
                    hedge=True,
                )
        return None

    async def _pause(self, context: RequestContext, delay: float) -> float:
        """Wait, on record even where the caller leaves meanwhile. Gives the seconds."""
        began = self._clock()
        try:
            await asyncio.sleep(delay)
        finally:
            waited = self._clock() - began
            context.record.waited += waited
        return waited
