"""What routes and breakers say of jobs: who may leave one, where it would go, and when that can be asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.errors import GenerationError
from outrider.policy.admit import check_models
from outrider.policy.route_explanation import explain
from outrider.policy.validate import check_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from outrider.core.context import Principal, Target
    from outrider.jobs.desk import Plan
    from outrider.policy.breaker import Breaker
    from outrider.policy.planner import Planner
    from outrider.policy.upstream import Upstream

# A breaker may close before it said it would.
_LOOK_AGAIN = 15.0  # seconds


def checker(planner: Planner) -> Callable[[Principal, v1.GenerateRequest], None]:
    """Raises the GenerationError of a request that its caller may not make; the request stays as it is."""

    def check(principal: Principal, request: v1.GenerateRequest) -> None:
        check_request(request)
        names = _names(request)
        targets = planner.candidates(names).all
        check_models(principal, names, targets)

    return check


def plan_by(planner: Planner) -> Plan:
    """Gives the targets that a request would go to now, leaving no trace; the request stays as it is."""

    async def plan(request: v1.GenerateRequest) -> Sequence[Target]:
        asked = v1.GenerateRequest()
        asked.CopyFrom(request)  # planning fills in what is left out
        return [each.target for each in (await explain(planner, asked)).plan]

    return plan


class Outlook:
    """Seconds until some target of a request, or any at all, may be asked; 0: now."""

    def __init__(self, planner: Planner, upstreams: Mapping[str, Upstream]) -> None:
        self._planner = planner
        self._upstreams = upstreams

    def __call__(self, request: v1.GenerateRequest | None) -> float:
        """None: of any request."""
        if request is None:
            return min(map(_closed_for, self._in_use()), default=0.0)
        try:
            targets = self._planner.candidates(_names(request)).all
        except GenerationError:
            return 0.0  # its try will tell
        return min(map(self._of, targets), default=0.0)

    def _in_use(self) -> Iterator[Breaker]:
        """All but those of models that nobody has named, which are never open."""
        for upstream in self._upstreams.values():
            breakers = [breaker for _, breaker in upstream.breakers]
            for breaker in breakers:
                if breaker is not breakers[-1] or len(breakers) == 1 or breaker.heard_at > -math.inf:
                    yield breaker

    def _of(self, target: Target) -> float:
        return _closed_for(self._upstreams[target.provider].breakers.of(target.model))


def _names(request: v1.GenerateRequest) -> v1.GenerateRequest:
    """What of a request decides where it may go; planning fills in what is left out."""
    names = v1.GenerateRequest(model=request.model)
    if request.HasField("fallback"):
        names.fallback.CopyFrom(request.fallback)
    return names


def _closed_for(breaker: Breaker) -> float:
    return max(breaker.paused_for(), min(breaker.retry_after() or 0.0, _LOOK_AGAIN))
