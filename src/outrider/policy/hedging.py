"""When a second target is asked beside a slow one, and how often that may be."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.core.context import Record, RequestContext
    from outrider.core.ports import Clock

_SAMPLES = 100  # that are kept of each target
_MOST_SAVED = 10.0  # hedges that quiet times may save up


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """When a target counts as slow: later than this quantile of its own last answers began."""

    quantile: float
    max_share: float  # of requests that may be hedged
    min_samples: int  # answers of a target before it can be called slow


class Hedging:
    """An Observer that learns how soon each of `targets` begins to answer. Holds hedges to their share."""

    def __init__(self, plan: HedgePlan, targets: Iterable[Target], clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._waits: dict[tuple[Target, bool], deque[float]] = {
            (target, streaming): deque(maxlen=_SAMPLES) for target in targets for streaming in (True, False)
        }
        self._balance = 0.0

    def patience(self, context: RequestContext) -> float | None:
        """Seconds that the first target of a plan has before another is asked too; None: all that it takes.

        To be asked once for each request. One under a hard budget is not hedged: it would pay twice.
        """
        if len(context.plan) < 2:
            return None
        self._balance = min(_MOST_SAVED, self._balance + self._plan.max_share)
        if self._balance < 1.0 or context.reservation.hard:
            return None
        waits = self._waits.get((context.plan[0], context.streaming))
        if waits is None or len(waits) < self._plan.min_samples:
            return None
        return sorted(waits)[math.ceil(self._plan.quantile * len(waits)) - 1]

    def spend(self) -> bool:
        """Take leave for one hedge, if there still is any."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def request_started(self, record: Record) -> None:
        """Tells nothing of a target."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Learn when an answer began; of one that was outrun, that it took at least as long."""
        waits = self._waits.get((Target(attempt.provider, attempt.model), record.method != _UNARY))
        if waits is None:
            return
        if attempt.outcome == v1.Attempt.OUTCOME_OUTRUN:
            waits.append(seconds)
        elif attempt.outcome == v1.Attempt.OUTCOME_SUCCEEDED and record.progress is not None:
            began_at = record.progress.began_at
            if began_at is not None:
                waits.append(max(0.0, seconds - (self._clock() - began_at)))

    def request_finished(self, record: Record) -> None:
        """Its tries have told everything."""


_UNARY = "Complete"
