"""RouteService over a real socket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.core.context import Principal
from outrider.core.errors import Reason
from outrider.core.model_facts import Capability, ModelFacts
from outrider.policy.route_changes import RouteChanges
from outrider.policy.route_table import Strategy
from outrider.server.callers import Callers
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.server.route_service import RouteServicer
from outrider.stores.memory_route_overrides import MemoryRouteOverrides
from outrider.v1.route_service_pb2_grpc import RouteServiceStub, add_RouteServiceServicer_to_server
from tests.support.routing import Routing, route_of
from tests.support.sidecar import Failure, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from outrider.v1.route_service_pb2_grpc import RouteServiceAsyncStub

CALLERS = Callers(
    {
        "boss": (Principal("boss", admin=True), lambda: "boss"),
        "app": (Principal("app", ("list",)), lambda: "app"),
        "two": (Principal("two", ("a/*", "b/m")), lambda: "two"),
    }
)


def routing(**changes: Any) -> Routing:
    return Routing(
        route_of("list", "a/m", "b/m", "c/m"),
        route_of("split", "a/m", "b/m", strategy=Strategy.WEIGHTED, weights={"a/m": 3}),
        route_of("quick", "a/m", "b/m", strategy=Strategy.LEAST_LATENCY),
        route_of("cheap", "a/m", "b/m", strategy=Strategy.CHEAPEST),
        route_of("sure", "a/m", "b/m", strategy=Strategy.MOST_AVAILABLE),
        **changes,
    )


@asynccontextmanager
async def serving(made: Routing, callers: Callers | None = None) -> AsyncIterator[RouteServiceAsyncStub]:
    """A server with nothing but this service."""
    server = grpc.aio.server(interceptors=[ErrorGuard(InFlight(100), 2**20)])
    live = RouteChanges(made.table, MemoryRouteOverrides())
    service = RouteServicer(callers or Callers({}), made.planner, made.stats, live)
    add_RouteServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield RouteServiceStub(channel)
    finally:
        await server.stop(0)


def token(name: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {name}"),)}


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Failure.of(caught.value)


async def test_routes_are_listed_as_they_stand() -> None:
    """In their order, with how their targets fare; what is not known is absent, not zero."""
    made = routing(unwell={"b/m"})
    made.tried("a/m", 2.0, first=0.5)
    made.tried("b/m", 0.1, reason="PROVIDER_ERROR")
    async with serving(made) as stub:
        routes = (await stub.ListRoutes(v1.ListRoutesRequest())).routes
    assert [route.name for route in routes] == ["list", "split", "quick", "cheap", "sure"]
    split = routes[1]
    assert (split.strategy, split.changed) == (v1.ROUTE_STRATEGY_WEIGHTED, False)
    assert [(each.target, each.weight, each.available) for each in split.targets] == [
        ("a/m", 3, True),
        ("b/m", 1, False),
    ]
    first, second, third = routes[0].targets
    assert first.time_to_first_token.ToMilliseconds() == 500
    assert (first.success_rate, second.success_rate) == (1.0, 0.0)
    assert not second.HasField("time_to_first_token")
    assert not third.HasField("success_rate")


@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("list", {"b/m": "next of the list", "a/m": "first of the list; unwell now: it keeps failing, or"}),
        ("split", {"b/m": "first for 25% of requests", "a/m": "first for 75% of requests; unwell now"}),
        ("quick", {"b/m": "0.20 s are expected to its first token", "a/m": "nothing is known of its"}),
        ("cheap", {"b/m": "its price is not known", "a/m": "about $0.001"}),
        ("sure", {"b/m": "100% of its calls succeeded lately", "a/m": "no calls lately"}),
        ("b/x", {"b/x": "the model that the request names"}),
    ],
)
async def test_a_plan_is_explained(model: str, plan: dict[str, str]) -> None:
    """The order in which a request would be tried, and why; nothing is run, and nothing learnt from it."""
    facts = {"c/m": ModelFacts(lacks=frozenset({Capability.TOOLS}))}
    made = routing(unwell={"a/m"}, facts=facts, prices={"a/m": {"input": 1.0, "output": 1.0}})
    made.tried("b/m", 1.0, first=0.2)
    request = ask(model, tools=[v1.Tool(name="t")])
    async with serving(made) as stub:
        found = await stub.ExplainRoute(v1.ExplainRouteRequest(request=request))
        again = await stub.ExplainRoute(v1.ExplainRouteRequest(request=request))
    assert found == again
    assert [each.target for each in found.plan] == list(plan)
    assert all(each.why.startswith(plan[each.target]) for each in found.plan), found.plan
    assert (found.route, bool(found.strategy)) == (("", False) if "/" in model else (model, True))
    left_out = [("c/m", "calls no tools")] if model == "list" else []
    assert [(each.target, each.why) for each in found.left_out] == left_out


@pytest.mark.parametrize(
    ("fallback", "plan", "left_out"),
    [
        (v1.FallbackOptions(disabled=True), ["a/m"], ["b/m", "c/m"]),
        (v1.FallbackOptions(models=["d/x", "b"]), ["a/m", "d/x", "b/m"], ["c/m"]),
    ],
)
async def test_overrides_are_explained(
    fallback: v1.FallbackOptions, plan: list[str], left_out: list[str]
) -> None:
    """What the request itself leaves out is said to be left out by it."""
    async with serving(routing()) as stub:
        request = v1.GenerateRequest(model="list", fallback=fallback)
        found = await stub.ExplainRoute(v1.ExplainRouteRequest(request=request))
    assert [each.target for each in found.plan] == plan
    assert [each.target for each in found.left_out] == left_out
    assert all("the request" in each.why for each in found.left_out)


async def test_a_request_that_fits_nowhere_is_explained() -> None:
    """An empty plan, and why for each: no error, as that is the answer."""
    facts = {f"{name}/m": ModelFacts(context_tokens=100) for name in "abc"}
    async with serving(routing(facts=facts)) as stub:
        request = v1.ExplainRouteRequest(request=ask("list", "word " * 5_000))
        found = await stub.ExplainRoute(request)
    assert not found.plan
    assert [each.target for each in found.left_out] == ["a/m", "b/m", "c/m"]
    assert found.left_out[0].why.startswith("reads 100 tokens, and the request has about ")


async def test_a_sticky_key_is_explained() -> None:
    """The plan is the one that every request with the key gets."""
    made = routing()
    async with serving(made) as stub:
        request = ask("split", sticky_key="k1")
        found = await stub.ExplainRoute(v1.ExplainRouteRequest(request=request))
    assert [each.target for each in found.plan] == made.plan(ask("split", sticky_key="k1"))
    assert {each.why for each in found.plan} == {"by the sticky key"}


async def test_who_is_admin_changes_routes() -> None:
    """Weights and the first target, in force at once, and undone again."""
    made = routing()
    async with serving(made, CALLERS) as stub:
        weights = v1.SetRouteWeightsRequest(route="split", weights={"a/m": 0})
        route = (await stub.SetRouteWeights(weights, **token("boss"))).route
        assert (route.changed, [each.weight for each in route.targets]) == (True, [0, 1])
        active = v1.ActivateTargetRequest(route="list", target="c/m")
        route = (await stub.ActivateTarget(active, **token("boss"))).route
        assert [each.target for each in route.targets] == ["c/m", "a/m", "b/m"]
        assert made.plan(ask("list")) == ["c/m", "a/m", "b/m"]
        explained = await stub.ExplainRoute(v1.ExplainRouteRequest(request=ask("list")), **token("boss"))
        assert explained.plan[0].why == "activated while the sidecar ran"
        route = (await stub.ActivateTarget(v1.ActivateTargetRequest(route="list"), **token("boss"))).route
        assert (route.changed, made.plan(ask("list"))) == (False, ["a/m", "b/m", "c/m"])


async def test_others_may_look_and_not_touch() -> None:
    """A caller sees the routes it may use; who is not known sees nothing."""
    async with serving(routing(), CALLERS) as stub:
        routes = (await stub.ListRoutes(v1.ListRoutesRequest(), **token("app"))).routes
        assert [route.name for route in routes] == ["list"]
        change = v1.ActivateTargetRequest(route="list", target="b/m")
        failure = await refused(stub.ActivateTarget(change, **token("app")))
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_ADMIN)
        assert "app may not change routes" in failure.message
        failure = await refused(stub.SetRouteWeights(v1.SetRouteWeightsRequest(), **token("app")))
        assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_ADMIN)
        hidden = v1.ExplainRouteRequest(request=ask("split"))
        assert (await refused(stub.ExplainRoute(hidden, **token("app")))).reason == Reason.MODEL_NOT_ALLOWED
        for call in (stub.ListRoutes(v1.ListRoutesRequest()), stub.ActivateTarget(change)):
            assert (await refused(call)).reason == Reason.CALLER_UNKNOWN


async def test_who_may_use_every_target_of_a_route_sees_it() -> None:
    """Whoever gets an answer from a route is shown it, though its name is not among what it is allowed."""
    async with serving(routing(), CALLERS) as stub:
        routes = (await stub.ListRoutes(v1.ListRoutesRequest(), **token("two"))).routes
        assert [route.name for route in routes] == ["split", "quick", "cheap", "sure"]
        split = v1.ExplainRouteRequest(request=ask("split"))
        assert len((await stub.ExplainRoute(split, **token("two"))).plan) == 2


async def test_mistakes_are_named() -> None:
    """A route, model or target that is not there, and a request that nobody could run."""
    async with serving(routing()) as stub:
        failure = await refused(stub.ActivateTarget(v1.ActivateTargetRequest(route="nope")))
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")
        failure = await refused(stub.ActivateTarget(v1.ActivateTargetRequest(route="list", target="x/y")))
        assert failure.bad_request is not None
        assert failure.bad_request.field_violations[0].field == "target"
        failure = await refused(stub.ExplainRoute(v1.ExplainRouteRequest(request=ask("nope"))))
        assert failure.reason == "MODEL_UNKNOWN"
        long = v1.ExplainRouteRequest(request=ask("list", sticky_key="x" * 300))
        assert (await refused(stub.ExplainRoute(long))).reason == "INVALID_REQUEST"
