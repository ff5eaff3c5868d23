"""From the names in a request to a plan: the targets that may answer it, in the order they are tried."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from outrider import v1
    from outrider.core.context import Target
    from outrider.policy.capabilities import Capabilities
    from outrider.policy.parameters import Parameters
    from outrider.policy.route_order import Orders
    from outrider.policy.route_table import Route, RouteTable

# Counting is linear in the text; up to this size it takes well under a millisecond.
_INLINE_BYTES = 8_192


class Candidates(NamedTuple):
    """Where a request may go, by the names in it."""

    route: Route | None  # None: the model was named directly
    targets: tuple[Target, ...]
    fallbacks: tuple[Target, ...] | None  # of the request's own choice; None: the other targets

    @property
    def all(self) -> tuple[Target, ...]:
        """Each once."""
        if not self.fallbacks:
            return self.targets
        return tuple(dict.fromkeys((*self.targets, *self.fallbacks)))


class Plan(NamedTuple):
    """Each target once. `choice` is given where the plan begins with another one, as that one is unwell."""

    targets: tuple[Target, ...]
    choice: Target | None = None


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans. `available` tells whether a target's calls would go through now."""

    table: RouteTable
    capabilities: Capabilities
    orders: Orders
    defaults: Parameters
    available: Callable[[Target], bool]

    def candidates(self, request: v1.GenerateRequest) -> Candidates:
        """Find them, and give the request its parameters. Raises GenerationError MODEL_UNKNOWN."""
        table, name = self.table, self.table.settle_name(request)
        route = table.route(name)
        targets = route.targets if route else table.resolve(name)
        (route.parameters if route else self.defaults).fill(request)
        return Candidates(route, targets, table.fallbacks(request))

    async def count(self, targets: Sequence[Target], request: v1.GenerateRequest) -> Mapping[Target, int]:
        """Input tokens, counted on a thread where there are many."""
        if not targets or request.ByteSize() <= _INLINE_BYTES:
            return self.capabilities.count(targets, request)
        return await asyncio.to_thread(self.capabilities.count, targets, request)

    def plan(
        self,
        candidates: Candidates,
        fitting: Sequence[Target],
        request: v1.GenerateRequest,
        *,
        streaming: bool,
    ) -> Plan:
        """The plan over those of the candidates that fit, at least one."""
        if len(fitting) == 1:
            return Plan(tuple(fitting))
        route, targets, fallbacks = candidates
        ordered: Sequence[Target] = [each for each in targets if each in fitting]
        if route is not None:
            ordered = self.orders.order(route, ordered, request, streaming=streaming)
        if fallbacks is not None:
            ordered = with_fallbacks(ordered, [each for each in fallbacks if each in fitting])
            if not fallbacks:
                return Plan(tuple(ordered))  # no fallback is wanted, not even for a target that is unwell
        plan = self.well_first(ordered)
        return Plan(plan, ordered[0] if plan[0] != ordered[0] else None)

    def well_first(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Those whose calls would not go through go last, not away: where all fail, they are all there is."""
        well = [each for each in targets if self.available(each)] if len(targets) > 1 else targets
        if len(well) in (0, len(targets)):
            return tuple(targets)
        return (*well, *(each for each in targets if each not in well))


def with_fallbacks(ordered: Sequence[Target], others: Sequence[Target]) -> list[Target]:
    """The first target, then those that the request names."""
    return list(dict.fromkeys((*ordered[:1], *others)))
