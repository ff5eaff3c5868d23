"""Tries the targets of a plan until one answers.

The first content event is the commit point: it leaves together with `Started`, and nothing is tried again
after it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
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
        failed = GenerationError(Reason.MODEL_UNKNOWN, "the plan has no target")
        waited = 0.0
        for position, target in enumerate(context.plan, start=1):
            upstream = self._upstreams[target.provider]
            upstream.retry_budget.deposit()
            retry = 0
            while True:
                trial = Trial(context, target, upstream, self._observer, self._clock, waited)
                try:
                    async with aclosing(trial.run()) as batches:
                        async for batch in batches:
                            yield batch
                except GenerationError as error:
                    failed = error
                else:
                    return
                if failed.committed or failed.traits.remedy is Remedy.NONE:
                    raise failed
                retry += 1
                delay = self._delay(context, upstream, failed, retry, last=position == len(context.plan))
                if delay is None:
                    waited = 0.0
                    break
                await asyncio.sleep(delay)
                waited = delay
        raise failed

    def _delay(
        self, context: RequestContext, upstream: Upstream, error: GenerationError, retry: int, *, last: bool
    ) -> float | None:
        """Seconds until the same target is tried again; None where it is used up."""
        retries = upstream.retries
        if error.traits.remedy is not Remedy.RETRY or retry >= retries.max_attempts:
            return None
        delay = max(retries.backoff.delay(retry, self._random), error.fact.retry_after or 0.0)
        # The next target is better than a long wait; without one, wait as long as is sensible.
        patience = retries.max_retry_after if last else retries.backoff.cap
        if delay > patience or delay >= context.deadline - self._clock():
            return None
        return delay if upstream.retry_budget.withdraw() else None
