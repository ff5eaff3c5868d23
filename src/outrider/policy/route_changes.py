"""Changes routes while the sidecar runs, and takes over what others have changed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason, Violation
from outrider.core.route_changes import RouteChange
from outrider.core.store_errors import StoreUnavailableError
from outrider.policy.route_table import Strategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from outrider.core.context import Target
    from outrider.core.route_changes import RouteChangeStore
    from outrider.policy.route_table import Route, RouteTable

_MOST = 1e6  # a weight


class RouteChanges:
    """Keeps a table as the configuration and the changes in a store say. `on_change` is told of each route
    that becomes another one; it must not raise.
    """

    def __init__(
        self, table: RouteTable, store: RouteChangeStore, on_change: Callable[[Route], None] = lambda _: None
    ) -> None:
        self._table = table
        self._store = store
        self._on_change = on_change
        self._configured = table.routes
        store.on_news(self._apply)

    async def set_weights(self, name: str, weights: Mapping[str, float]) -> Route:
        """The route with other weights; targets that are not named keep theirs. Raises GenerationError."""
        route = self._find(name)
        if route.strategy is not Strategy.WEIGHTED:
            raise _invalid("route", f"{name} is {route.strategy}: weights count in weighted routes only")
        if not weights:
            raise _invalid("weights", "name at least one target")
        known = {str(target): route.weight(target) for target in route.targets}
        for target, weight in weights.items():
            _check_target(target, known, "weights")
            if not (math.isfinite(weight) and 0 <= weight <= _MOST):
                raise _invalid("weights", f"each from 0 to {_MOST:,.0f}")
        if not any({**known, **weights}.values()):
            raise _invalid("weights", "one at least must be above 0")
        return await self._make(name, self._store.change(name, RouteChange(weights=dict(weights))))

    async def activate(self, name: str, target: str) -> Route:
        """The route with this target first; without one, as configured again. Raises GenerationError."""
        route = self._find(name)
        if not target:
            return await self._make(name, self._store.reset(name))
        _check_target(target, [str(each) for each in route.targets], "target")
        return await self._make(name, self._store.change(name, RouteChange(active=target)))

    async def _make(self, name: str, change: Awaitable[None]) -> Route:
        try:
            await change
        except StoreUnavailableError as error:
            raise GenerationError(
                Reason.STORE_UNAVAILABLE, f"the change is not confirmed, as it is shared by Redis: {error}"
            ) from error
        return self._find(name)

    def _find(self, name: str) -> Route:
        route = self._table.route(name)
        if route is None:
            known = ", ".join(each.name for each in self._configured) or "none"
            raise GenerationError(Reason.MODEL_UNKNOWN, f"no route {name[:64]!r}; configured are: {known}")
        return route

    def _apply(self, changes: Mapping[str, RouteChange]) -> None:
        for configured in self._configured:
            change = changes.get(configured.name)
            route = changed(configured, change) if change else configured
            if route != self._table.route(route.name):
                self._table.replace(route)
                self._on_change(route)


def changed(route: Route, change: RouteChange) -> Route:
    """A route with a change over it. Targets that it does not have any more are passed over."""
    by_name: dict[str, Target] = {str(target): target for target in route.targets}
    active = by_name.get(change.active)
    weights = {by_name[name]: weight for name, weight in change.weights.items() if name in by_name}
    if active is None and not weights:
        return route
    return replace(
        route,
        # What was before it becomes the fallback.
        targets=tuple(sorted(route.targets, key=lambda target: target != active)),
        weights={**route.weights, **weights},
        active=active,
        changed=True,
    )


def _check_target(target: str, known: Collection[str], field: str) -> None:
    if target not in known:
        raise _invalid(field, f"{target[:128]!r} is not a target of the route; it has {', '.join(known)}")


def _invalid(field: str, description: str) -> GenerationError:
    return GenerationError(
        Reason.INVALID_REQUEST, f"{field}: {description}", violations=[Violation(field, description)]
    )
