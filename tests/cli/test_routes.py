"""`outrider routes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse

from outrider import v1
from tests.cli.stand_in import Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn

SPLIT = v1.Route(
    name="split",
    strategy=v1.ROUTE_STRATEGY_WEIGHTED,
    changed=True,
    targets=[
        v1.RouteTarget(
            target="openai/gpt-5-mini",
            weight=2.5,
            available=True,
            success_rate=0.994,
            time_to_first_token=Duration(nanos=420_000_000),
        ),
        v1.RouteTarget(target="simulated/echo", weight=1),
    ],
)
QUICK = v1.Route(
    name="quick",
    strategy=v1.ROUTE_STRATEGY_LEAST_LATENCY,
    targets=[v1.RouteTarget(target="groq/openai/gpt-oss-20b", weight=1, available=True)],
)
PLAN = v1.ExplainRouteResponse(
    route="split",
    strategy=v1.ROUTE_STRATEGY_WEIGHTED,
    plan=[v1.PlannedTarget(target="openai/gpt-5-mini", why="first for 75% of requests")],
    left_out=[v1.PlannedTarget(target="simulated/echo", why="takes no images")],
)


def test_routes_are_a_table(run: Run, stand_in: StandIn) -> None:
    """A line for each target, with how it fares; what is not known is left empty."""
    stand_in.routes = [SPLIT, QUICK]
    result = run("routes")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines == [
        "ROUTE  STRATEGY       TARGET                   WEIGHT  STATE  SUCCEEDED  FIRST TOKEN  NOTE",
        "split  weighted       openai/gpt-5-mini           2.5  up           99%       420 ms  changed",
        "                      simulated/echo                1  away",
        "quick  least_latency  groq/openai/gpt-oss-20b          up",
    ]


def test_no_routes_are_told(run: Run) -> None:
    """In words."""
    assert run("routes").out == "No routes are configured: names lead to providers and their models alone.\n"


@pytest.fixture(autouse=True)
def always(stand_in: StandIn) -> StandIn:
    return stand_in


def test_a_plan_is_explained(run: Run, stand_in: StandIn, tmp_path: Path) -> None:
    """What is tried in its order, and what never; for the request that the options describe."""
    stand_in.plan = PLAN
    (tmp_path / "cat.png").write_bytes(b"png")
    (tmp_path / "cat.json").write_text("{}")
    options = ("--prompt", "hi", "--image", "cat.png", "--schema", "cat.json", "--sticky-key", "u1")
    result = run("routes", "explain", *options, "split")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "route split, weighted",
        "TRIED  TARGET             WHY",
        "1      openai/gpt-5-mini  first for 75% of requests",
        "never  simulated/echo     takes no images",
    ]
    (asked,) = stand_in.requests
    assert (asked.request.model, asked.request.sticky_key) == ("split", "u1")
    image, text = asked.request.messages[0].parts
    assert (image.image.mime_type, text.text) == ("image/png", "hi")
    assert asked.request.response_format.json_schema.json_schema == "{}"


def test_a_model_alone_can_be_explained(run: Run, stand_in: StandIn) -> None:
    """Without a prompt, and without a route."""
    stand_in.plan = v1.ExplainRouteResponse(plan=[v1.PlannedTarget(target="a/m", why="it is named")])
    assert run("routes", "explain", "a/m").out.splitlines()[0].startswith("TRIED")
    assert stand_in.requests == [v1.ExplainRouteRequest(request=v1.GenerateRequest(model="a/m"))]


def test_weights_are_set(run: Run, stand_in: StandIn) -> None:
    """By target; an equals sign in a model's name is none of ours."""
    stand_in.routes = [SPLIT]
    result = run("routes", "weights", "split", "openai/gpt-5-mini=2.5", "local/a=b=0")
    assert (result.code, result.out.splitlines()[1].split()[0]) == (0, "split")
    weights = {"openai/gpt-5-mini": 2.5, "local/a=b": 0.0}
    assert stand_in.requests == [v1.SetRouteWeightsRequest(route="split", weights=weights)]


@pytest.mark.parametrize("word", ["openai/gpt", "=3", "a/b=", "a/b=many", "a/b=-1", "a/b=inf", "a/b=nan"])
def test_a_weight_that_is_none_is_refused(run: Run, stand_in: StandIn, word: str) -> None:
    """Before the sidecar is asked."""
    result = run("routes", "weights", "split", word)
    assert (result.code, stand_in.requests) == (2, [])
    assert f"'{word}' is not provider/model=weight" in result.err


def test_a_target_is_activated(run: Run, stand_in: StandIn) -> None:
    """And without one the route is as configured again; the options may stand before or behind."""
    stand_in.routes = [SPLIT]
    assert run("routes", "activate", "split", "simulated/echo").code == 0
    assert run("routes", "--timeout", "2", "activate", "split").code == 0
    assert stand_in.remaining < 2.5
    assert run("routes", "activate", "split", "--timeout", "3").code == 0
    assert stand_in.remaining > 2.5
    assert stand_in.requests[:2] == [
        v1.ActivateTargetRequest(route="split", target="simulated/echo"),
        v1.ActivateTargetRequest(route="split"),
    ]


def test_everything_is_there_as_json(run: Run, stand_in: StandIn) -> None:
    """--json prints the sidecar's answer, wherever it stands."""
    stand_in.routes, stand_in.plan = [SPLIT], PLAN
    assert Parse(run("routes", "--json").out, v1.ListRoutesResponse()).routes == [SPLIT]
    assert Parse(run("routes", "explain", "split", "--json").out, v1.ExplainRouteResponse()) == PLAN
    assert Parse(run("routes", "--json", "explain", "split").out, v1.ExplainRouteResponse()) == PLAN
    changed = run("routes", "activate", "split", "--json").out
    assert Parse(changed, v1.ActivateTargetResponse()).route == SPLIT


def test_a_refusal_is_told(run: Run, stand_in: StandIn) -> None:
    """Who may not change routes is told so by the exit code too."""
    stand_in.routes = [SPLIT]
    stand_in.refusal = Status(grpc.StatusCode.PERMISSION_DENIED, "app may not change routes")
    result = run("routes", "activate", "split")
    assert result.code == 3
    assert "app may not change routes" in result.err


def test_a_newer_sidecar_is_no_error(run: Run, stand_in: StandIn) -> None:
    """A strategy that is not known here is shown as a number."""
    strange = v1.Route(name="r", targets=[v1.RouteTarget(target="a/m")])
    strange.MergeFromString(b"\x10\x63")  # strategy 99
    stand_in.routes = [strange]
    assert run("routes").out.splitlines()[1].split()[:2] == ["r", "99"]
