"""Routes that change while the sidecar runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.core.route_changes import RouteChange
from outrider.core.store_errors import StoreUnavailableError
from outrider.policy.route_changes import RouteChanges, changed
from outrider.policy.route_table import Strategy
from outrider.stores.memory_route_overrides import MemoryRouteOverrides
from tests.support.routing import Routing, route_of, target
from tests.support.sidecar import ask

if TYPE_CHECKING:
    from outrider.policy.route_table import Route

SPLIT = route_of("split", "a/m", "b/m", strategy=Strategy.WEIGHTED, weights={"a/m": 3})
LIST = route_of("list", "a/m", "b/m", "c/m")


class Away(MemoryRouteOverrides):
    """A store that is out of reach."""

    async def change(self, route: str, change: RouteChange) -> None:
        raise StoreUnavailableError("Redis is away")


def changes(store: MemoryRouteOverrides | None = None) -> tuple[Routing, RouteChanges, list[Route]]:
    routing, told = Routing(SPLIT, LIST), []
    return routing, RouteChanges(routing.table, store or MemoryRouteOverrides(), told.append), told


async def test_another_target_goes_first_at_once() -> None:
    """What was before it becomes the fallback; without a target all is as configured again."""
    routing, live, told = changes()
    route = await live.activate("list", "c/m")
    assert (route.changed, str(route.active)) == (True, "c/m")
    assert routing.plan(ask("list")) == ["c/m", "a/m", "b/m"]
    await live.activate("list", "b/m")
    assert routing.plan(ask("list")) == ["b/m", "a/m", "c/m"]
    assert await live.activate("list", "") == LIST
    assert routing.plan(ask("list")) == ["a/m", "b/m", "c/m"]
    assert [route.name for route in told] == ["list"] * 3


async def test_weights_change_at_once() -> None:
    """Those that are not named stay; activating nothing takes them back."""
    routing, live, _ = changes()
    assert (await live.set_weights("split", {"a/m": 0})).weight(target("b/m")) == 1.0
    assert {routing.plan(ask("split"))[0] for _ in range(50)} == {"b/m"}
    await live.set_weights("split", {"b/m": 0, "a/m": 2})
    assert {routing.plan(ask("split"))[0] for _ in range(50)} == {"a/m"}
    assert await live.activate("split", "") == SPLIT


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("list", {"a/m": 1}, "route: list is ordered: weights count in weighted routes only"),
        ("split", {"x/y": 1}, "weights: 'x/y' is not a target of the route; it has a/m, b/m"),
        ("split", {"a/m": -1}, "weights: each from 0 to 1,000,000"),
        ("split", {"a/m": math.nan}, "weights: each from 0"),
        ("split", {"a/m": math.inf}, "weights: each from 0"),
        ("split", {"a/m": 0, "b/m": 0}, "weights: one at least must be above 0"),
        ("split", {}, "weights: name at least one target"),
    ],
)
async def test_weights_that_make_no_sense_are_refused(
    name: str, weights: dict[str, float], message: str
) -> None:
    """With what would be right; nothing changes."""
    routing, live, told = changes()
    with pytest.raises(GenerationError) as caught:
        await live.set_weights(name, weights)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.fact.message.startswith(message)
    assert (routing.table.routes, told) == ((SPLIT, LIST), [])


async def test_a_route_that_is_not_there_is_named() -> None:
    """With those that are."""
    _, live, _ = changes()
    with pytest.raises(GenerationError, match="no route 'nope'; configured are: split, list") as caught:
        await live.activate("nope", "a/m")
    assert caught.value.reason is Reason.MODEL_UNKNOWN
    with pytest.raises(GenerationError, match="'z/z' is not a target of the route"):
        await live.activate("list", "z/z")


async def test_a_store_that_is_away_changes_nothing() -> None:
    """Neither here nor elsewhere, and says so: half a fleet on another target is worse than none."""
    routing, live, told = changes(Away())
    with pytest.raises(GenerationError, match="the change is not confirmed") as caught:
        await live.activate("list", "c/m")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert (routing.table.routes, told) == ((SPLIT, LIST), [])


def test_changes_of_another_time_are_passed_over() -> None:
    """The configuration may have other targets since."""
    assert changed(LIST, RouteChange("gone/m", {"gone/m": 3.0})) is LIST
