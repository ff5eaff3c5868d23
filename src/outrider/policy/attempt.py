"""Tries the targets of a plan until one answers.

The first content event is the commit point: it leaves together with `Started`, and nothing is tried again
after it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason, Remedy
from outrider.policy.trial import Trial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from random import Random

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Clock, Observer
    from outrider.policy.upstream import Upstream


class AttemptLoop:
    """The innermost handler: it calls providers."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], *, observer: Observer, clock: Clock, random: Random
    ) -> None:
        self._upstreams = upstreams
        self._observer = observer
        self._clock = clock
        self._random = random

    async def __call__(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        """Answer, or raise the last target's GenerationError."""
        for position, target in enumerate(context.plan, start=1):
            last = position == len(context.plan)
            upstream = self._upstreams[target.provider]
            upstream.retry_budget.deposit()
            waited = 0.0
            for retry in count(1):
                trial = Trial(context, target, upstream, self._observer, self._clock, waited)
                try:
                    async with aclosing(trial.run()) as batches:
                        async for batch in batches:
                            yield batch
                except GenerationError as error:
                    # Kept under a name for later, the error would form a cycle with its traceback, and hold
                    # the whole prompt until the garbage collector comes: it is raised here or dropped.
                    delay = self._delay(context, upstream, error, retry, last=last)
                    if delay is None and (last or error.committed or error.traits.remedy is Remedy.NONE):
                        raise
                else:
                    return
                if delay is None:
                    break
                waited = await self._pause(context, delay)
        raise GenerationError(Reason.MODEL_UNKNOWN, "the plan has no target")

    def _delay(
        self, context: RequestContext, upstream: Upstream, error: GenerationError, retry: int, *, last: bool
    ) -> float | None:
        """Seconds until the same target is tried again; None where it is used up."""
        retries, asked = upstream.retries, error.fact.retry_after or 0.0
        if error.committed or error.traits.remedy is not Remedy.RETRY or retry >= retries.max_attempts:
            return None
        # The next target is better than a long wait; without one, wait as long as is sensible.
        if asked > (retries.max_retry_after if last else retries.backoff.cap):
            return None
        delay = max(retries.backoff.delay(retry, self._random), asked)
        if delay >= context.deadline - self._clock():
            return None
        return delay if upstream.retry_budget.withdraw() else None

    async def _pause(self, context: RequestContext, delay: float) -> float:
        """Wait, on record even where the caller leaves meanwhile. Gives the seconds."""
        began = self._clock()
        try:
            await asyncio.sleep(delay)
        finally:
            waited = self._clock() - began
            context.record.waited += waited
        return waited
