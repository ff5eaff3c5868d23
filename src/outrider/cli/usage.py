"""`outrider usage`: what was used and what it cost, summed, exported or watched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from outrider import v1
from outrider.cli.arguments_usage import FILTERS
from outrider.cli.command_error import usage_error
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import print_json
from outrider.cli.terminal import dim
from outrider.cli.usage_csv import print_costs_csv, print_sums_csv
from outrider.cli.usage_stream import stream_usage
from outrider.cli.usage_table import print_costs, print_sums
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from outrider.cli.connection import Connection

_TIMEOUT, _LONG_TIMEOUT = 30.0, 86_400.0


def run(arguments: argparse.Namespace) -> int:
    """Print usage. Raises CommandError."""
    streams = arguments.export or arguments.watch
    _check(arguments)
    arguments.json = arguments.format in ("json", "jsonl") or (arguments.export and not arguments.format)
    arguments.timeout = arguments.timeout or (_LONG_TIMEOUT if streams else _TIMEOUT)
    wanted = _filter(arguments)
    with connect(arguments) as sidecar:
        if streams:
            stream_usage(sidecar, arguments, wanted)
        elif arguments.cost:
            _print_costs(sidecar, arguments, wanted)
        else:
            _print_sums(sidecar, arguments, wanted)
    return ExitCode.OK


def _check(arguments: argparse.Namespace) -> None:
    if arguments.cursor and not arguments.export:
        raise usage_error("--cursor is for --export alone")
    if arguments.watch and (arguments.start or arguments.end):
        raise usage_error("--watch shows what comes; --from and --to are for what has been")
    if arguments.cost and len(arguments.by) != 1:
        raise usage_error("--cost is broken down by one thing; give --by one name")
    if arguments.start and arguments.end and arguments.end <= arguments.start:
        raise usage_error("--to must be after --from")


def _print_sums(sidecar: Connection, arguments: argparse.Namespace, wanted: v1.UsageFilter) -> None:
    request = v1.GetUsageRequest(filter=wanted, group_by=[_dimension(name) for name in arguments.by])
    response = UsageServiceStub(sidecar.channel).GetUsage(request, **sidecar.call)
    if arguments.json:
        print_json(response)
    elif arguments.format == "csv":
        print_sums_csv(arguments.by, response)
    else:
        print_sums(arguments.by, response)
    _note_whose(local_only=response.local_only)


def _print_costs(sidecar: Connection, arguments: argparse.Namespace, wanted: v1.UsageFilter) -> None:
    by = arguments.by[0]
    request = v1.GetCostBreakdownRequest(filter=wanted, by=_dimension(by))
    response = UsageServiceStub(sidecar.channel).GetCostBreakdown(request, **sidecar.call)
    if arguments.json:
        print_json(response)
    elif arguments.format == "csv":
        print_costs_csv(by, response)
    else:
        print_costs(by, response)
    _note_whose(local_only=response.local_only)


def _note_whose(*, local_only: bool) -> None:
    if local_only:
        text = "The shared ledger is out of reach: this is the usage of this sidecar alone."
        print(dim(text, sys.stderr), file=sys.stderr)


def _dimension(name: str) -> v1.UsageDimension:
    dimension: v1.UsageDimension = getattr(v1, f"USAGE_DIMENSION_{name.upper()}")
    return dimension


def _filter(arguments: argparse.Namespace) -> v1.UsageFilter:
    names = {f"{name}s": getattr(arguments, name) for name in FILTERS}
    return v1.UsageFilter(start=_timestamp(arguments.start), end=_timestamp(arguments.end), **names)


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
