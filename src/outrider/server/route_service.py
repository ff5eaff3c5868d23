"""RouteService: which targets a request would go to and why, and changing that while the sidecar runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.durations import to_duration
from outrider.core.errors import GenerationError, Reason
from outrider.policy.admit import check_caller, check_models, may_use_all
from outrider.policy.route_explanation import explain
from outrider.policy.route_table import Strategy
from outrider.policy.validate import check_request
from outrider.v1.route_service_pb2_grpc import RouteServiceServicer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grpc.aio import ServicerContext

    from outrider.core.context import Principal
    from outrider.policy.planner import Planner
    from outrider.policy.route_changes import RouteChanges
    from outrider.policy.route_order import Ranked
    from outrider.policy.route_table import Route
    from outrider.policy.target_stats import TargetStats
    from outrider.server.callers import Callers

_STRATEGIES = {
    Strategy.ORDERED: v1.ROUTE_STRATEGY_ORDERED,
    Strategy.WEIGHTED: v1.ROUTE_STRATEGY_WEIGHTED,
    Strategy.LEAST_LATENCY: v1.ROUTE_STRATEGY_LEAST_LATENCY,
    Strategy.CHEAPEST: v1.ROUTE_STRATEGY_CHEAPEST,
    Strategy.MOST_AVAILABLE: v1.ROUTE_STRATEGY_MOST_AVAILABLE,
}


class RouteServicer(RouteServiceServicer):
    """ListRoutes, ExplainRoute, SetRouteWeights and ActivateTarget."""

    def __init__(self, callers: Callers, planner: Planner, stats: TargetStats, changes: RouteChanges) -> None:
        self._callers = callers
        self._planner = planner
        self._stats = stats
        self._changes = changes

    async def ListRoutes(
        self,
        request: v1.ListRoutesRequest,
        context: ServicerContext[v1.ListRoutesRequest, v1.ListRoutesResponse],
    ) -> v1.ListRoutesResponse:
        """The routes that the caller may use."""
        principal = self._identify(context)
        routes = [
            route for route in self._planner.table.routes if may_use_all(principal, route.name, route.targets)
        ]
        return v1.ListRoutesResponse(routes=map(self._describe, routes))

    async def ExplainRoute(
        self,
        request: v1.ExplainRouteRequest,
        context: ServicerContext[v1.ExplainRouteRequest, v1.ExplainRouteResponse],
    ) -> v1.ExplainRouteResponse:
        """The plan of a request, which may have no messages yet."""
        principal, asked = self._identify(context), request.request
        if not asked.messages:
            asked.messages.add(role=v1.ROLE_USER).parts.add(text="")
        check_request(asked)
        found = await explain(self._planner, asked)
        check_models(principal, asked, found.candidates)
        response = v1.ExplainRouteResponse(plan=_planned(found.plan), left_out=_planned(found.left_out))
        if found.route is not None:
            response.route, response.strategy = found.route.name, _STRATEGIES[found.route.strategy]
        return response

    async def SetRouteWeights(
        self,
        request: v1.SetRouteWeightsRequest,
        context: ServicerContext[v1.SetRouteWeightsRequest, v1.SetRouteWeightsResponse],
    ) -> v1.SetRouteWeightsResponse:
        """Other weights, for the whole fleet."""
        self._identify_admin(context)
        route = await self._changes.set_weights(request.route, request.weights)
        return v1.SetRouteWeightsResponse(route=self._describe(route))

    async def ActivateTarget(
        self,
        request: v1.ActivateTargetRequest,
        context: ServicerContext[v1.ActivateTargetRequest, v1.ActivateTargetResponse],
    ) -> v1.ActivateTargetResponse:
        """Another first target, for the whole fleet; without one, the route as it is configured."""
        self._identify_admin(context)
        route = await self._changes.activate(request.route, request.target)
        return v1.ActivateTargetResponse(route=self._describe(route))

    def _identify(self, context: ServicerContext[Any, Any]) -> Principal:
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        return principal

    def _identify_admin(self, context: ServicerContext[Any, Any]) -> None:
        principal = self._identify(context)
        if not principal.admin:
            raise GenerationError(
                Reason.NOT_ADMIN,
                f"{principal.name} may not change routes: its configuration lacks `admin: true`",
            )

    def _describe(self, route: Route) -> v1.Route:
        described = v1.Route(name=route.name, strategy=_STRATEGIES[route.strategy], changed=route.changed)
        for target in route.targets:
            row = described.targets.add(
                target=str(target),
                weight=route.weight(target),
                available=self._planner.available(target),
                success_rate=self._stats.success_rate(target),
            )
            seconds = self._stats.time_to_first_token(target)
            if seconds is not None:
                to_duration(seconds, row.time_to_first_token)
        return described


def _planned(ranked: Iterable[Ranked]) -> list[v1.PlannedTarget]:
    return [v1.PlannedTarget(target=str(each.target), why=each.why) for each in ranked]
