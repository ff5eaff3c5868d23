"""Records of usage, one after the other: as a line for a person, as CSV, or as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.protobuf.json_format import MessageToJson

from outrider import v1
from outrider.cli import units
from outrider.cli.exit_codes import ExitCode
from outrider.cli.rpc_error import to_command_error
from outrider.cli.terminal import bold, one_line
from outrider.cli.usage_csv import record_csv
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from outrider.cli.command_error import CommandError
    from outrider.cli.connection import Connection

_Response: TypeAlias = "v1.ExportUsageResponse | v1.WatchUsageResponse"

_UNKNOWN = "-"
_HEADING = ("TIME (UTC)", "OUTCOME", "TOKENS IN", "OUT", "COST", "TOOK", "MODEL", "BY")


def stream_usage(sidecar: Connection, arguments: argparse.Namespace, wanted: v1.UsageFilter) -> None:
    """Export or watch until the end, whatever that is. Raises CommandError."""
    call = _open(sidecar, arguments, wanted)
    show, cursor, seen = _begin("json" if arguments.json else arguments.format), "", False
    try:
        for response in call:
            cursor, seen = response.cursor if arguments.export else "", True
            show(response, cursor)
            if arguments.watch:
                sys.stdout.flush()
    except grpc.RpcError as error:
        meant = to_command_error(error, sidecar.address)
        raise _cut(meant, sidecar.address, cursor) if seen else meant from None
    finally:
        call.cancel()


def _open(sidecar: Connection, arguments: argparse.Namespace, wanted: v1.UsageFilter) -> Any:
    stub = UsageServiceStub(sidecar.channel)
    if arguments.export:
        request = v1.ExportUsageRequest(filter=wanted, cursor=arguments.cursor)
        return stub.ExportUsage(request, **sidecar.call)
    return stub.WatchUsage(v1.WatchUsageRequest(filter=wanted), **sidecar.call)


def _cut(error: CommandError, address: str, cursor: str) -> CommandError:
    """The error of a stream that had begun: whoever has its cursor can go on."""
    if not error.reason and error.code == "UNAVAILABLE":
        error.message = f"the stream broke off: the sidecar at {address} has gone"
        error.exit_code = ExitCode.CUT
    if cursor:
        error.message += f"; --cursor {cursor} continues"
    return error


def _begin(form: str | None) -> Callable[[_Response, str], None]:
    """Write what stands above the records, and give what writes one."""
    if form == "json":
        return lambda response, _: print(
            MessageToJson(response, preserving_proto_field_name=True, indent=None)
        )
    if form == "csv":
        write = record_csv()
        return lambda response, cursor: write(response.record, cursor)
    print(bold(_line(*_HEADING), sys.stdout), flush=True)
    return lambda response, _: print(_text(response.record))


def _text(record: v1.UsageRecord) -> str:
    by = record.attribution
    used = record.HasField("usage")
    return _line(
        units.moment(record.ended_at),
        record.outcome if not record.reason or record.outcome == "cancelled" else record.reason,
        f"{record.usage.input_tokens:,}" if used else _UNKNOWN,
        f"{record.usage.output_tokens:,}" if used else _UNKNOWN,
        units.usd(record.cost.total_nano_usd) if record.HasField("cost") else _UNKNOWN,
        units.duration(record.duration),
        "/".join(filter(None, (record.provider, record.model))) or record.requested_model or _UNKNOWN,
        "/".join(filter(None, (by.tenant, by.project, by.agent))) or record.caller,
    )


def _line(*cells: str) -> str:
    """One line of columns; the last two are as wide as they need to be."""
    time, outcome, tokens_in, tokens_out, cost, took, model, by = map(one_line, cells)
    left = f"{time:<19}  {outcome:<12}  {tokens_in:>9}  {tokens_out:>7}  {cost:>12}  {took:>7}  {model:<28}"
    return f"{left}  {by}".rstrip()
