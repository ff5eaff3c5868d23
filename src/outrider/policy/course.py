"""Where a request goes next after a failure, and when. Decides at once, and waits for nothing."""

from __future__ import annotations

from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import Fault, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from outrider.core.context import RequestContext
    from outrider.core.errors import Fact, GenerationError
    from outrider.core.ports import Clock
    from outrider.policy.upstream import Upstream


# A provider that does not know its model, or whose model reads less, says nothing of another one.
_OF_THE_TARGET = (Reason.CONTEXT_TOO_LONG, Reason.MODEL_UNKNOWN)
_PASSING = (Fault.PROVIDER, Fault.SIDECAR)
_NO_TIME = 0.001  # seconds: as much as clocks and stores may round


class Wait(NamedTuple):
    """A target that is to be tried after so many seconds."""

    delay: float
    target: Target
    patience: float = inf  # seconds for which its own limits are waited for: until another may be free


class Course:
    """The way of one request along its plan, which is not empty.

    A target is tried again while its failures may pass, then comes the next one, at once. What is known to
    fail in the same way again is passed over. Where nothing else is left, those are waited for that have
    asked to be left alone for a while, or whose limits are used up for now.
    """

    __slots__ = ("_clock", "_context", "_floor", "_furthest", "_hopeful", "_limited", "_passed_by", "_random",
                 "_resting", "_tries", "_upstreams", "_windows", "target", "upstream")  # fmt: skip

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
        self._limited: dict[Target, float] = {}  # when a limit of ours may let it in
        self._passed_by: set[Target] = set()  # that were to be waited for only until another is free
        self._tries: dict[Target, int] = {}  # but for the one that has just failed
        for attempt in context.record.attempts:
            if attempt.hedge and attempt.outcome != v1.Attempt.OUTCOME_SKIPPED:
                self._tries[Target(attempt.provider, attempt.model)] = 1
        self.target = context.plan[0]
        self.upstream = upstreams[self.target.provider]

    @property
    def is_last(self) -> bool:
        """Whether no other target is left that could do better."""
        return self._next() is None

    def after(self, error: GenerationError) -> Sequence[Wait]:
        """What to try next. A single one is `target` from now on; of several, the one that `enter` names.

        Nothing: raise the error, which then tells of the failure that is most likely to pass.
        """
        if error.committed or not self._may_go_on(error):
            return ()
        self._note(error)
        waits = self._onward(error)
        if len(waits) == 1:
            self.enter(waits[0].target)
        elif not waits and self._hopeful is not None and error.traits.fault not in _PASSING:
            error.fact = self._hopeful
        return waits

    def enter(self, target: Target) -> None:
        """It is tried now."""
        self.turn_to(target)
        if target not in self._tries:
            self.upstream.retry_budget.deposit()

    def turn_to(self, target: Target) -> None:
        """It is waited for no longer."""
        self._limited.pop(target, None)
        self._resting.pop(target, None)
        self.target = target
        self.upstream = self._upstreams[target.provider]

    def _may_go_on(self, error: GenerationError) -> bool:
        if error.reason is Reason.CONTENT_FILTERED:
            return may_pass_filter(self._context)
        return error.traits.remedy is not Remedy.NONE or error.reason in _OF_THE_TARGET

    def _note(self, error: GenerationError) -> None:
        target, free_in = self.target, error.fact.free_in
        if free_in is not None:
            self._limited[target] = self._clock() + free_in
        self._tries[target] = self._tries.get(target, 0) + (free_in is None)
        if error.reason is Reason.CONTEXT_TOO_LONG:
            self._floor = max(self._floor, self._windows(target))
        if error.reason is Reason.PROVIDER_RATE_LIMITED and error.fact.retry_after:
            self._resting[target] = self._clock() + error.fact.retry_after
        if self._hopeful is None and error.traits.fault in _PASSING:
            self._hopeful = error.fact

    def _onward(self, error: GenerationError) -> Sequence[Wait]:
        delay = self._again(error)
        if delay is not None:
            return (Wait(delay, self.target, self._patience),)
        place = self._next()
        if place is not None:
            self._furthest = place
            return (Wait(0.0, self._context.plan[place], self._patience),)
        return self._rest()

    @property
    def _patience(self) -> float:
        return inf if self.is_last and not self._limited and not self._resting else 0.0

    def _again(self, error: GenerationError) -> float | None:
        """Seconds until the same target is tried again; None where it is used up, or another is better."""
        if error.traits.remedy is not Remedy.RETRY or self.target in self._resting:
            return None
        asked = error.fact.retry_after or 0.0
        # Another timeout would use up the caller's time, and so might a long pause.
        if (error.traits.timeout or asked > self.upstream.retries.backoff.cap) and not self.is_last:
            return None
        return self._wait(self.target, asked)

    def _rest(self) -> Sequence[Wait]:
        """Go to who is free soonest. Of lines nobody knows that: stand in all, and go to whoever is first."""
        now, left = self._clock(), self._context.deadline - self._clock()
        limited = sorted(Wait(max(0.0, until - now), target) for target, until in self._limited.items())
        limited = [wait for wait in limited if wait.delay < left]
        in_line = bool(limited) and limited[0].delay <= 0
        paused = self._first_back(now)
        if paused is not None and (in_line or not limited or paused < limited[0]):
            if not self._may_retry(paused.target):
                del self._resting[paused.target]
                return self._rest()
            if not in_line:
                return (paused._replace(patience=0.0 if limited else inf),)
        waits = limited if paused is None else [*limited, paused]
        return waits if in_line or not waits else (self._take_turn(waits),)

    def _take_turn(self, waits: Sequence[Wait]) -> Wait:
        """Of the first, now, before others do. Where one has, another target may be free sooner: once."""
        target = waits[0].target
        is_first = target not in self._passed_by
        self._passed_by.add(target)
        next_in = min((other.delay for other in waits[1:]), default=inf)
        return Wait(0.0, target, next_in + _NO_TIME if is_first else inf)

    def _first_back(self, now: float) -> Wait | None:
        for target, until in sorted(self._resting.items(), key=itemgetter(1)):
            delay = self._delay(target, max(0.0, until - now))
            if delay is not None:
                return Wait(delay, target)
        return None

    def _wait(self, target: Target, asked: float) -> float | None:
        delay = self._delay(target, asked)
        return delay if delay is not None and self._may_retry(target) else None

    def _may_retry(self, target: Target) -> bool:
        return not self._was_reached(target) or self._upstreams[target.provider].retry_budget.withdraw()

    def _delay(self, target: Target, asked: float) -> float | None:
        """How long to wait before a target is tried once more; None where that is too often or too long."""
        upstream, tries = self._upstreams[target.provider], self._tries[target]
        retries, reached = upstream.retries, self._was_reached(target)
        # The try after one that did not reach the target is no retry.
        if tries >= retries.max_attempts + (not reached) or (asked and asked > retries.max_retry_after):
            return None
        # On top of it: those who were told the same moment must not all come in it.
        delay = asked + retries.backoff.delay(tries, self._random)
        return delay if delay < self._context.deadline - self._clock() else None

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
        return next((place for place in places if not 0 < self._windows(plan[place]) <= floor), None)


def may_pass_filter(context: RequestContext) -> bool:
    """Whether another target may be asked where one has withheld its answer because of its content."""
    return context.route.on_content_filter or context.request.fallback.on_content_filter
