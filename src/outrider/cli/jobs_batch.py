"""`outrider jobs batch` and `follow`: many requests at once, and their results as they come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError

from outrider import v1
from outrider.cli.batch_progress import BatchProgressLines
from outrider.cli.command_error import CommandError, usage_error
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.files import read_stdin, read_text
from outrider.cli.rpc_error import to_command_error
from outrider.cli.table import print_json
from outrider.cli.terminal import dim, one_line
from outrider.v1.job_service_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    import argparse

    from google.protobuf.message import Message

    from outrider.cli.connection import Connection


def submit_batch(arguments: argparse.Namespace) -> None:
    """Submit, and follow where that is wanted. Raises CommandError."""
    from outrider.cli.jobs import options_of

    text = read_stdin() if arguments.file == Path("-") else read_text(arguments.file)
    requests = [
        _request(line, number, arguments.model)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not requests:
        raise usage_error(f"{arguments.file} has no requests; a line for each, as JSON")
    with connect(arguments) as sidecar:
        wanted = v1.SubmitBatchRequest(requests=requests, options=options_of(arguments))
        response = JobServiceStub(sidecar.channel).SubmitBatch(wanted, **sidecar.call)
        if arguments.watch:
            print(dim(f"batch {one_line(response.batch_id)}", sys.stderr), file=sys.stderr)
            _follow(sidecar, response.batch_id, as_json=arguments.json)
        elif arguments.json:
            print_json(response)
        else:
            print(one_line(response.batch_id))


def follow(arguments: argparse.Namespace) -> None:
    """Follow a batch. Raises CommandError."""
    with connect(arguments) as sidecar:
        _follow(sidecar, arguments.batch_id, as_json=arguments.json)


def _request(line: str, number: int, model: str) -> v1.GenerateRequest:
    try:
        said = json.loads(line)
        if isinstance(said, str):
            request = v1.GenerateRequest()
            request.messages.add(role=v1.ROLE_USER).parts.add(text=said)
        else:
            request = ParseDict(said, v1.GenerateRequest())
    except (ValueError, RecursionError, TypeError, AttributeError, ParseError) as error:
        raise usage_error(f"line {number} is no request: {error}") from None
    request.model = request.model or model
    return request


def _follow(sidecar: Connection, batch_id: str, *, as_json: bool) -> None:
    request = v1.WatchBatchRequest(batch_id=batch_id, results=True)
    call = JobServiceStub(sidecar.channel).WatchBatch(request, **sidecar.call)
    progress, lines = v1.BatchProgress(), BatchProgressLines()
    try:
        for response in call:
            if response.HasField("progress"):
                progress = response.progress
            if as_json:
                _print_line(response)
            elif response.HasField("result"):
                lines.clear()
                _print_line(response.result)
            else:
                lines.show(progress)
    except grpc.RpcError as error:
        broken = to_command_error(error, sidecar.address)
        if broken.retry_after is not None:
            broken.detail = f"the batch goes on; `outrider jobs follow {batch_id}` shows it"
        raise broken from None
    finally:
        call.cancel()
    if progress.failed:
        raise CommandError(f"{progress.failed:,} of {progress.total:,} jobs failed", ExitCode.FAILED, "OK")


def _print_line(message: Message) -> None:
    print(MessageToJson(message, preserving_proto_field_name=True, indent=None), flush=True)
