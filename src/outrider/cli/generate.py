"""`outrider generate`: an answer, streamed to the terminal or a pipe."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from outrider import v1
from outrider.cli.answer import JsonAnswer, TextAnswer
from outrider.cli.command_error import CommandError
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.request import to_request
from outrider.cli.rpc_error import to_command_error
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from outrider.cli.answer import Answer
    from outrider.cli.connection import Connection


def run(arguments: argparse.Namespace) -> int:
    """Show an answer and what it took. Raises CommandError."""
    request = to_request(arguments)
    request.idempotency_key = arguments.key
    answer: Answer = JsonAnswer() if arguments.json else TextAnswer(reasoning=arguments.reasoning)
    with connect(arguments) as sidecar:
        (_complete if arguments.no_stream else _stream)(sidecar, request, answer)
    return ExitCode.OK


def _stream(sidecar: Connection, request: v1.GenerateRequest, answer: Answer) -> None:
    call = GenerationServiceStub(sidecar.channel).Generate(request, **sidecar.call)
    kind = None
    with _ending(answer, call.cancel):
        try:
            for event in call:
                kind = event.WhichOneof("event")
                answer.show(event)
        except grpc.RpcError as error:
            meant = to_command_error(error, sidecar.address)
            raise meant if kind in (None, "started") else _cut(meant, sidecar.address) from None
    if kind != "completed":
        raise CommandError("the answer broke off: the stream ended without saying so", ExitCode.CUT, "OK")


def _complete(sidecar: Connection, request: v1.GenerateRequest, answer: Answer) -> None:
    stub = GenerationServiceStub(sidecar.channel)
    # A future, because only that can be cancelled while it is waited for.
    call = stub.Complete.future(v1.CompleteRequest(request=request), **sidecar.call)
    with _ending(answer, call.cancel):
        answer.show_whole(call.result())


@contextmanager
def _ending(answer: Answer, cancel: Callable[[], object]) -> Iterator[None]:
    """Whatever ends the block, Ctrl-C and a closed pipe included, the call is over then."""
    try:
        yield
    finally:
        cancel()
        answer.end()


def _cut(error: CommandError, address: str) -> CommandError:
    """The error of an answer that had begun, where the sidecar itself could not say so."""
    if not error.reason and error.code != "DEADLINE_EXCEEDED":
        error.message = f"the answer broke off: the sidecar at {address} has gone"
        error.exit_code = ExitCode.CUT
    return error
