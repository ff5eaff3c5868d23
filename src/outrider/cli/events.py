"""`outrider events`: what happens in a sidecar, as it happens."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import grpc

from outrider import v1
from outrider.cli import units
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.rpc_error import to_command_error
from outrider.cli.terminal import bold, dim, is_styled, one_line
from outrider.v1.event_service_pb2_grpc import EventServiceStub

if TYPE_CHECKING:
    import argparse

    from outrider.cli.command_error import CommandError
    from outrider.cli.connection import Connection

_NAMESPACE = "dev.outrider."
_RED, _GREEN, _YELLOW = "31", "32", "33"
_COLOURS = {
    "request.completed": _GREEN,
    "request.failed": _RED,
    "breaker.changed": _YELLOW,
    "budget.crossed": _YELLOW,
    "provider.health.changed": _YELLOW,
}


def run(arguments: argparse.Namespace) -> int:
    """Print events until the end, whatever that is. Raises CommandError."""
    request = v1.WatchEventsRequest(types=map(_full, arguments.type))
    with connect(arguments) as sidecar:
        _follow(sidecar, EventServiceStub(sidecar.channel).WatchEvents(request, **sidecar.call), arguments)
    return ExitCode.OK


def _full(text: str) -> str:
    """The type as the API has it: "job" is short for "dev.outrider.job"."""
    return text if text.partition(".")[0] == "dev" else _NAMESPACE + text


def _follow(sidecar: Connection, call: Any, arguments: argparse.Namespace) -> None:
    show, began = _show_json if arguments.json else _show_line, False
    try:
        call.initial_metadata()
        began = call.is_active()
        if began and not arguments.json:
            print(dim("Watching; Ctrl-C ends it.", sys.stderr), file=sys.stderr)
        for response in call:
            show(response)
    except grpc.RpcError as error:
        meant = to_command_error(error, sidecar.address)
        raise _cut(meant, sidecar.address) if began else meant from None
    finally:
        call.cancel()


def _cut(error: CommandError, address: str) -> CommandError:
    """The error of a stream that had begun."""
    if not error.reason and error.code == "UNAVAILABLE":
        error.message = f"the stream broke off: the sidecar at {address} has gone"
        error.exit_code = ExitCode.CUT
    return error


def _show_json(response: v1.WatchEventsResponse) -> None:
    """A line in the JSON format of CloudEvents, or {"missed": 3}."""
    if response.missed:
        print(json.dumps({"missed": response.missed}), flush=True)
    if not response.HasField("event"):
        return
    event = response.event
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": units.iso(event.time),
        "datacontenttype": "application/json",
        **({"traceparent": event.traceparent} if event.traceparent else {}),
        "data": _data(event),
    }
    print(json.dumps(attributes), flush=True)


def _show_line(response: v1.WatchEventsResponse) -> None:
    if response.missed:
        text = f"{response.missed:,} events were missed: they came faster than they were read"
        print(dim(text, sys.stdout), flush=True)
    if not response.HasField("event"):
        return
    event = response.event
    name = one_line(event.type.removeprefix(_NAMESPACE))
    facts = _data(event)
    pairs = facts.items() if isinstance(facts, dict) else [("data", facts)]
    told = "  ".join(f"{dim(one_line(key) + '=', sys.stdout)}{one_line(_word(fact))}" for key, fact in pairs)
    when = dim(units.moment(event.time), sys.stdout)
    print(
        f"{when}  {_coloured(name)}  {bold(one_line(event.subject), sys.stdout)}  {told}".rstrip(), flush=True
    )


def _coloured(name: str) -> str:
    padded, colour = f"{name:<17}", _COLOURS.get(name)
    return f"\x1b[{colour}m{padded}\x1b[39m" if colour and is_styled(sys.stdout) else padded


def _word(fact: object) -> str:
    return fact if isinstance(fact, str) else json.dumps(fact)


def _data(event: v1.CloudEvent) -> Any:
    """The facts; as text where whatever answers has sent what is no JSON."""
    try:
        return json.loads(event.data_json or "{}")
    except (ValueError, RecursionError):
        return event.data_json
