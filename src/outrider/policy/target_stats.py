"""How targets have fared lately: how fast they begin to answer, and how often they succeed.

Both are moving averages. Whoever does badly is asked less, and would never get the chance to do better: so
bad news fades while nothing new is heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import TRAITS, Fault, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.core.context import Record
    from outrider.core.ports import Clock

_SHARE_OF_NEWEST = 0.2  # in an average of seconds
_HALF_LIFE = 60.0  # seconds in which what is known counts half as much
_TRIAL_SECONDS = 10.0  # for a first answer, before an unknown target is tried once more
_FORGOTTEN = 0.01  # calls, after fading

_SLOW = (Reason.CONNECT_TIMEOUT, Reason.FIRST_EVENT_TIMEOUT)


@dataclass(slots=True)
class _Average:
    """Of seconds. `asked_at` is when it was last looked for: since then nothing is known to have changed."""

    seconds: float | None = None
    asked_at: float = -math.inf

    def add(self, seconds: float, now: float) -> None:
        before = self.seconds
        self.seconds = seconds if before is None else before + _SHARE_OF_NEWEST * (seconds - before)
        self.asked_at = now

    def expected(self, now: float) -> float:
        idle = now - self.asked_at
        if self.seconds is None:
            return 0.0 if idle > _TRIAL_SECONDS else math.inf
        return self.seconds * math.pow(0.5, idle / _HALF_LIFE)


@dataclass(slots=True)
class _Calls:
    """How many there were and how many of them succeeded, both fading."""

    count: float = 0.0
    successes: float = 0.0
    counted_at: float = 0.0

    def fade(self, now: float) -> None:
        factor = math.pow(0.5, (now - self.counted_at) / _HALF_LIFE)
        self.count *= factor
        self.successes *= factor
        self.counted_at = now

    def add(self, now: float, *, success: bool) -> None:
        self.fade(now)
        self.count += 1
        self.successes += success


class _Target:
    __slots__ = ("calls", "first_token", "whole")

    def __init__(self) -> None:
        self.calls = _Calls()
        self.first_token = _Average()
        self.whole = _Average()  # answers in one piece come when they are done


class TargetStats:
    """An Observer that keeps a few numbers for each of the targets it is given, and of no others."""

    def __init__(self, targets: Iterable[Target], clock: Clock) -> None:
        self._targets = {target: _Target() for target in targets}
        self._clock = clock

    def expected_latency(self, target: Target, *, streaming: bool) -> float:
        """Seconds until something comes back; they fade while nobody asks. 0: unknown, and worth a try."""
        average = self._average(target, streaming=streaming)
        return average.expected(self._clock()) if average else 0.0

    def will_ask(self, target: Target, *, streaming: bool) -> None:
        """One request goes there and will tell: no need to send others after it."""
        average = self._average(target, streaming=streaming)
        if average:
            average.asked_at = self._clock()

    def time_to_first_token(self, target: Target) -> float | None:
        """The average in seconds, as it was last heard; None where there were no calls."""
        known = self._targets.get(target)
        return known.first_token.seconds if known else None

    def success_rate(self, target: Target) -> float | None:
        """The share of calls that succeeded lately; None where there were none."""
        calls = self._calls(target)
        return calls.successes / calls.count if calls and calls.count > _FORGOTTEN else None

    def availability(self, target: Target) -> float:
        """The same with one success more: few calls say little, and in time none are left to be held
        against a target.
        """
        calls = self._calls(target)
        return (calls.successes + 1) / (calls.count + 1) if calls else 1.0

    def request_started(self, record: Record) -> None:
        """Tells nothing of a target."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Learn from a try."""
        known = self._targets.get(Target(attempt.provider, attempt.model))
        if known is None or attempt.outcome == v1.Attempt.OUTCOME_SKIPPED:
            return
        now = self._clock()
        if attempt.outcome == v1.Attempt.OUTCOME_SUCCEEDED:
            known.calls.add(now, success=True)
        elif attempt.reason and TRAITS[Reason(attempt.reason)].fault in (Fault.PROVIDER, Fault.OPERATOR):
            known.calls.add(now, success=False)
        waited = _waited(record, attempt, seconds, now)
        if waited is not None:
            (known.whole if record.method == "Complete" else known.first_token).add(waited, now)

    def request_finished(self, record: Record) -> None:
        """Its tries have told everything."""

    def _average(self, target: Target, *, streaming: bool) -> _Average | None:
        known = self._targets.get(target)
        if known is None:
            return None
        return known.first_token if streaming else known.whole

    def _calls(self, target: Target) -> _Calls | None:
        known = self._targets.get(target)
        if known is None:
            return None
        known.calls.fade(self._clock())
        return known.calls


def _waited(record: Record, attempt: v1.Attempt, seconds: float, now: float) -> float | None:
    """Seconds until the first content came, or at least as many, where it did not come in time."""
    if attempt.outcome == v1.Attempt.OUTCOME_OUTRUN:
        return seconds
    if attempt.outcome == v1.Attempt.OUTCOME_FAILED:
        return seconds if attempt.reason in _SLOW else None
    progress = record.progress
    if progress is None or progress.began_at is None:
        return seconds if attempt.outcome == v1.Attempt.OUTCOME_SUCCEEDED else None
    return max(0.0, seconds - (now - progress.began_at))
