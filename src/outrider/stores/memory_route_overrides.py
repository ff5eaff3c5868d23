"""Changes of routes that this sidecar alone knows, and forgets when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from outrider.core.route_changes import RouteChange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class MemoryRouteOverrides:
    """A RouteChangeStore."""

    def __init__(self) -> None:
        self._changes: dict[str, RouteChange] = {}
        self._callbacks: list[Callable[[Mapping[str, RouteChange]], None]] = []

    def on_news(self, callback: Callable[[Mapping[str, RouteChange]], None]) -> None:
        """Call back with all changes in force, whenever one is new. The callback must not raise."""
        self._callbacks.append(callback)

    async def change(self, route: str, change: RouteChange) -> None:
        """Put a change over those of before."""
        before = self._changes.get(route, RouteChange())
        weights = {**before.weights, **change.weights}
        self._changes[route] = replace(before, active=change.active or before.active, weights=weights)
        self._tell()

    async def reset(self, route: str) -> None:
        """Forget every change of a route."""
        self._changes.pop(route, None)
        self._tell()

    def _tell(self) -> None:
        for callback in self._callbacks:
            callback(dict(self._changes))
