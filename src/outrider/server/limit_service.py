"""LimitService: what is left of limits and budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.durations import to_duration
from outrider.core.quota import Concurrency, Period, Rate, Unit
from outrider.policy.admit import check_caller, check_models
from outrider.policy.limit_rules import values_of
from outrider.policy.validate import check_attribution
from outrider.v1.limit_service_pb2_grpc import LimitServiceServicer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc.aio import ServicerContext

    from outrider.core.context import Target
    from outrider.core.quota import Level, Meter, QuotaStore
    from outrider.policy.limit_rules import LimitBook, Values
    from outrider.policy.route_table import RouteTable
    from outrider.server.callers import Callers

_UNITS = {
    Unit.REQUESTS: v1.LIMIT_UNIT_REQUESTS,
    Unit.TOKENS: v1.LIMIT_UNIT_TOKENS,
    Unit.NANO_USD: v1.LIMIT_UNIT_NANO_USD,
    Unit.CONCURRENT_REQUESTS: v1.LIMIT_UNIT_CONCURRENT_REQUESTS,
}
_PERIODS = {
    Period.DAY: v1.LIMIT_PERIOD_DAY,
    Period.WEEK: v1.LIMIT_PERIOD_WEEK,
    Period.MONTH: v1.LIMIT_PERIOD_MONTH,
    Period.TOTAL: v1.LIMIT_PERIOD_TOTAL,
}


class LimitServicer(LimitServiceServicer):
    """GetLimits."""

    def __init__(self, *, callers: Callers, routes: RouteTable, book: LimitBook, store: QuotaStore) -> None:
        self._callers = callers
        self._routes = routes
        self._book = book
        self._store = store

    async def GetLimits(
        self,
        request: v1.GetLimitsRequest,
        context: ServicerContext[v1.GetLimitsRequest, v1.GetLimitsResponse],
    ) -> v1.GetLimitsResponse:
        """Every limit and budget that a request of this scope would be held to, and how it stands."""
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        asked = v1.GenerateRequest(model=request.model, attribution=request.attribution)
        check_attribution(asked.attribution)
        plan = self._routes.plan(asked)
        check_models(principal, asked, plan)
        route = asked.model if self._routes.route(asked.model) else ""
        meters = self._meters(values_of(principal, asked.attribution, route), plan)
        levels = await self._store.levels(meters)
        return v1.GetLimitsResponse(
            limits=[_limit(*each) for each in zip(meters, levels, strict=True)],
            local_share=not self._store.shared,
        )

    def _meters(self, values: Values, plan: Sequence[Target]) -> list[Meter]:
        """Each once: targets of the same provider share its limits."""
        found = dict.fromkeys(self._book.of_caller(values).all)
        for target in plan:
            found.update(dict.fromkeys(self._book.of_target(values, target).all))
        return list(found)


def _limit(meter: Meter, level: Level) -> v1.Limit:
    bound, hard = meter.bound, True
    if isinstance(bound, Rate):
        full, period = round(bound.per_minute), v1.LIMIT_PERIOD_MINUTE
    elif isinstance(bound, Concurrency):
        full, period = bound.limit, v1.LIMIT_PERIOD_UNSPECIFIED
    else:
        full, period, hard = bound.limit, _PERIODS[bound.period], bound.hard
    limit = v1.Limit(
        scope=meter.scope,
        unit=_UNITS[meter.unit],
        period=period,
        limit=full,
        remaining=level.remaining,
        reserved=level.reserved,
        hard=hard,
        tier=meter.tier,
        burst=int(bound.burst) if isinstance(bound, Rate) else 0,
    )
    if level.resets_in is not None:
        to_duration(level.resets_in, limit.resets_in)
    return limit
