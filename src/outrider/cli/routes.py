"""`outrider routes`: where names lead and why, and changing that while the sidecar runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.request import image_of, schema_of
from outrider.cli.table import Styled, print_json, print_table
from outrider.cli.terminal import dim
from outrider.v1.route_service_pb2_grpc import RouteServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from google.protobuf.message import Message

    from outrider.cli.connection import Connection
    from outrider.cli.table import Cell

_COLUMNS = ("ROUTE", "STRATEGY", "TARGET", "WEIGHT", "STATE", "SUCCEEDED", "FIRST TOKEN", "NOTE")
_NUMBERS = ("WEIGHT", "SUCCEEDED", "FIRST TOKEN")
_PLAN = ("TRIED", "TARGET", "WHY")


def run(arguments: argparse.Namespace) -> int:
    """List, explain or change. Raises CommandError."""
    actions = {"explain": _explain, "weights": _weights, "activate": _activate}
    with connect(arguments) as sidecar:
        actions.get(arguments.action, _list)(arguments, sidecar)
    return ExitCode.OK


def _list(arguments: argparse.Namespace, sidecar: Connection) -> None:
    response = RouteServiceStub(sidecar.channel).ListRoutes(v1.ListRoutesRequest(), **sidecar.call)
    if not response.routes and not arguments.json:
        print("No routes are configured: names lead to providers and their models alone.")
        return
    _show(arguments, response, response.routes)


def _explain(arguments: argparse.Namespace, sidecar: Connection) -> None:
    request = v1.ExplainRouteRequest(request=_request(arguments))
    response = RouteServiceStub(sidecar.channel).ExplainRoute(request, **sidecar.call)
    if arguments.json:
        print_json(response)
        return
    if response.route:
        print(dim(f"route {response.route}, {_strategy(response.strategy)}", sys.stdout))
    print_table(_PLAN, _plan(response))


def _weights(arguments: argparse.Namespace, sidecar: Connection) -> None:
    request = v1.SetRouteWeightsRequest(route=arguments.route, weights=dict(arguments.weights))
    response = RouteServiceStub(sidecar.channel).SetRouteWeights(request, **sidecar.call)
    _show(arguments, response, [response.route])


def _activate(arguments: argparse.Namespace, sidecar: Connection) -> None:
    request = v1.ActivateTargetRequest(route=arguments.route, target=arguments.target)
    response = RouteServiceStub(sidecar.channel).ActivateTarget(request, **sidecar.call)
    _show(arguments, response, [response.route])


def _show(arguments: argparse.Namespace, response: Message, routes: Iterable[v1.Route]) -> None:
    if arguments.json:
        print_json(response)
    else:
        print_table(_COLUMNS, [row for route in routes for row in _rows(route)], numbers=_NUMBERS)


def _rows(route: v1.Route) -> Iterator[tuple[Cell, ...]]:
    for position, target in enumerate(route.targets):
        weighted = route.strategy == v1.ROUTE_STRATEGY_WEIGHTED
        yield (
            "" if position else route.name,
            "" if position else _strategy(route.strategy),
            target.target,
            f"{target.weight:g}" if weighted else "",
            Styled("up", "green") if target.available else Styled("away", "red"),
            f"{target.success_rate:.0%}" if target.HasField("success_rate") else "",
            _seconds(target),
            "" if position or not route.changed else "changed",
        )


def _seconds(target: v1.RouteTarget) -> str:
    if not target.HasField("time_to_first_token"):
        return ""
    return units.duration(target.time_to_first_token)


def _plan(response: v1.ExplainRouteResponse) -> Iterator[tuple[Cell, ...]]:
    for position, planned in enumerate(response.plan, 1):
        yield str(position), planned.target, planned.why
    for planned in response.left_out:
        yield Styled("never", "red"), planned.target, planned.why


def _strategy(strategy: v1.RouteStrategy) -> str:
    return units.name_of(v1.RouteStrategy, strategy, "ROUTE_STRATEGY_").lower()


def _request(arguments: argparse.Namespace) -> v1.GenerateRequest:
    request = v1.GenerateRequest(model=arguments.model, sticky_key=arguments.sticky_key)
    if arguments.prompt or arguments.image:
        question = request.messages.add(role=v1.ROLE_USER)
        question.parts.extend(v1.Part(image=image_of(path)) for path in arguments.image)
        question.parts.add(text=arguments.prompt)
    if arguments.schema:
        request.response_format.json_schema.json_schema = schema_of(arguments.schema)
    return request
