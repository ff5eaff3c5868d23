"""Changes of routes while sidecars run, and the store that keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class RouteChange:
    """What holds of one route instead of its configuration. Targets are written "provider/model"."""

    active: str = ""  # the target that goes first; empty: as configured
    weights: Mapping[str, float] = field(default_factory=dict)


class RouteChangeStore(Protocol):
    """Keeps changes by the name of their route; the last one made wins."""

    def on_news(self, callback: Callable[[Mapping[str, RouteChange]], None]) -> None:
        """Call back with all changes in force, whenever one is new. The callback must not raise."""

    async def change(self, route: str, change: RouteChange) -> None:
        """Put a change over those of before. Those who asked for news know it on return.

        Raises StoreUnavailableError: then it is not known to have been made.
        """

    async def reset(self, route: str) -> None:
        """Forget every change of a route. Raises StoreUnavailableError."""
