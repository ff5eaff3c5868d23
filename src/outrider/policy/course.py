"""Where a request goes next after a failure, and when. Decides at once, and waits for nothing."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import Fault, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from outrider.core.context import RequestContext
    from outrider.core.errors import Fact, GenerationError
    from outrider.core.ports import Clock
    from outrider.policy.upstream import Upstream


# A provider that does not know its model, or whose model reads less, says nothing of another one.
_OF_THE_TARGET = (Reason.CONTEXT_TOO_LONG, Reason.MODEL_UNKNOWN)
_PASSING = (Fault.PROVIDER, Fault.SIDECAR)


class Course:
    """The way of one request along its plan, which is not empty.

    A target is tried again while its failures may pass, then comes the next one, at once. What is known to
    fail in the same way again is passed over. Where nothing else is left, a target that has asked to be left
    alone for a while is waited for.
    """

    __slots__ = ("_clock", "_context", "_floor", "_furthest", "_hopeful", "_random", "_resting", "_tries",
                 "_upstreams", "_windows", "target", "upstream")  # fmt: skip

    def __init__(
        self,
        context: RequestContext,
        upstreams: Mapping[str, Upstream],
        windows: Callable[[Target], int],
        clock: Clock,
        random: Random,
    ) -> None:
        """It begins when the plan's first target has failed, maybe after others beside it. `windows` gives
        the tokens that a target reads, 0 where that is not known.
        """
        self._context = context
        self._upstreams = upstreams
        self._windows = windows
        self._clock = clock
        self._random = random
        self._furthest = 0  # place in the plan
        self._floor = -1  # the largest context window that was too small
        self._hopeful: Fact | None = None  # the first failure that may pass
        self._resting: dict[Target, float] = {}  # until when a target asks to be left alone
        self._tries: dict[Target, int] = {}  # but for the one that has just failed
        for attempt in context.record.attempts:
            if attempt.hedge:
                self._tries[Target(attempt.provider, attempt.model)] = 1
        self.target = context.plan[0]
        self.upstream = upstreams[self.target.provider]

    @property
    def is_last(self) -> bool:
        """Whether no other target is left that could do better."""
        return self._next() is None

    def after(self, error: GenerationError) -> float | None:
        """Seconds until `target`, now maybe another one, is to be tried; None: raise the error.

        The error then tells of the failure that is most likely to pass.
        """
        if error.committed or not self._may_go_on(error):
            return None
        self._note(error)
        delay = self._again(error)
        if delay is None:
            place = self._next()
            if place is not None:
                self._furthest = place
                self._enter(self._context.plan[place])
                return 0.0
            delay = self._rest()
        if delay is None and self._hopeful is not None and error.traits.fault not in _PASSING:
            error.fact = self._hopeful
        return delay

    def _may_go_on(self, error: GenerationError) -> bool:
        if error.reason is Reason.CONTENT_FILTERED:
            return may_pass_filter(self._context)
        return error.traits.remedy is not Remedy.NONE or error.reason in _OF_THE_TARGET

    def _note(self, error: GenerationError) -> None:
        target = self.target
        self._tries[target] = self._tries.get(target, 0) + 1
        if error.reason is Reason.CONTEXT_TOO_LONG:
            self._floor = max(self._floor, self._windows(target))
        if error.reason is Reason.PROVIDER_RATE_LIMITED and error.fact.retry_after:
            self._resting[target] = self._clock() + error.fact.retry_after
        if self._hopeful is None and error.traits.fault in _PASSING:
            self._hopeful = error.fact

    def _again(self, error: GenerationError) -> float | None:
        """Seconds until the same target is tried again; None where it is used up, or another is better."""
        if error.traits.remedy is not Remedy.RETRY or self.target in self._resting:
            return None
        asked = error.fact.retry_after or 0.0
        if asked > self.upstream.retries.backoff.cap and not self.is_last:
            return None
        return self._wait(self.target, asked)

    def _rest(self) -> float | None:
        """Go to the target that is to be left alone for the shortest time, if that is not too long."""
        now = self._clock()
        for target, until in sorted(self._resting.items(), key=itemgetter(1)):
            delay = self._wait(target, max(0.0, until - now))
            if delay is not None:
                del self._resting[target]
                self._enter(target)
                return delay
        return None

    def _wait(self, target: Target, asked: float) -> float | None:
        """How long to wait before a target is tried once more; None where that is too often or too long."""
        upstream, tries = self._upstreams[target.provider], self._tries[target]
        retries, reached = upstream.retries, self._was_reached(target)
        # The try after one that did not reach the target is no retry.
        if tries >= retries.max_attempts + (not reached) or (asked and asked > retries.max_retry_after):
            return None
        # On top of it: those who were told the same moment must not all come in it.
        delay = asked + retries.backoff.delay(tries, self._random)
        if delay >= self._context.deadline - self._clock():
            return None
        return delay if not reached or upstream.retry_budget.withdraw() else None

    def _was_reached(self, target: Target) -> bool:
        for attempt in reversed(self._context.record.attempts):
            if (attempt.provider, attempt.model) == target:
                return attempt.outcome != v1.Attempt.OUTCOME_SKIPPED
        return True

    def _next(self) -> int | None:
        """The place of the next target that may do better."""
        places = range(self._furthest + 1, len(self._context.plan))
        if self._floor < 0:
            return places[0] if places else None
        plan, floor = self._context.plan, self._floor
        return next((place for place in places if self._windows(plan[place]) > floor), None)

    def _enter(self, target: Target) -> None:
        self.target = target
        self.upstream = self._upstreams[target.provider]
        if target not in self._tries:
            self.upstream.retry_budget.deposit()


def may_pass_filter(context: RequestContext) -> bool:
    """Whether another target may be asked where one has withheld its answer because of its content."""
    return context.route.on_content_filter or context.request.fallback.on_content_filter
