"""What the command says and how it ends when there is no answer."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as RichStatus

from outrider.core.errors import GenerationError, Reason, Violation
from tests.cli.answers import FAILED, STARTED, failure, text
from tests.cli.stand_in import Hold, Junk, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.INVALID_REQUEST, 3),
        (Reason.CONTEXT_TOO_LONG, 3),
        (Reason.MODEL_UNKNOWN, 3),
        (Reason.MODEL_NOT_ALLOWED, 3),
        (Reason.CALLER_UNKNOWN, 3),
        (Reason.RATE_LIMITED, 4),
        (Reason.PROVIDER_QUOTA_SPENT, 4),
        (Reason.PROVIDER_OVERLOADED, 5),
        (Reason.DRAINING, 5),
        (Reason.IDLE_TIMEOUT, 6),
        (Reason.PROVIDER_CREDENTIALS_REFUSED, 1),
        (Reason.INTERNAL, 1),
    ],
)
@pytest.mark.parametrize("options", [(), ("--no-stream",)])
def test_exit_code_tells_the_class_of_failure(
    run: Run, stand_in: StandIn, reason: Reason, code: int, options: tuple[str, ...]
) -> None:
    """One code for each class, whatever the reason, and the reason is named."""
    stand_in.script = [failure(reason, "it went wrong")]
    result = run("generate", "hi", *options)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(f"outrider: it went wrong [{reason}]")


def test_error_says_what_was_tried_and_what_to_do(run: Run, stand_in: StandIn) -> None:
    """Two lines: message, reason and when to come back; then the tries and the request's id."""
    stand_in.script = [failure(retry_after=2.5, attempts=(FAILED, FAILED))]
    tried = "anthropic/claude failed after 812 ms (PROVIDER_OVERLOADED, HTTP 529)"
    assert run("generate", "hi").err.splitlines() == [
        "outrider: anthropic is overloaded [PROVIDER_OVERLOADED]; try again in 2.5 s",
        f"  tried {tried}, {tried}; request 0192f00d",
    ]


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (Reason.CALLER_UNKNOWN, "set OUTRIDER_TOKEN, or give --token"),
        (Reason.MODEL_UNKNOWN, "`outrider models` lists what there is"),
        (Reason.NOT_ADMIN, "ask whoever runs the sidecar, or give the --token of a caller that has it"),
        (Reason.PROVIDER_CREDENTIALS_REFUSED, "`outrider check --live` tests the keys"),
        (Reason.DEADLINE_EXCEEDED, "--timeout allows more"),
    ],
)
def test_error_says_which_command_or_option_helps(
    run: Run, stand_in: StandIn, reason: Reason, advice: str
) -> None:
    """Where the person at the terminal can do something, the line ends with it."""
    stand_in.script = [failure(reason, "it went wrong")]
    assert run("generate", "hi").err == f"outrider: it went wrong [{reason}]; {advice}\n"


def test_every_wrong_field_is_named(run: Run, stand_in: StandIn) -> None:
    """The message names the first field that is wrong, the second line the others."""
    violations = [Violation("sampling.temperature", "must be from 0 to 2"), Violation("model", "is odd")]
    message = "sampling.temperature: must be from 0 to 2 (and 1 more)"
    stand_in.script = [GenerationError(Reason.INVALID_REQUEST, message, violations=violations)]
    err = run("generate", "hi", "--temperature", "3").err
    assert err == f"outrider: {message} [INVALID_REQUEST]\n  model: is odd\n"


def test_machine_gets_the_error_as_json(run: Run, stand_in: StandIn) -> None:
    """With --json the error is the last line of standard output, and standard error stays empty."""
    stand_in.script = [failure(retry_after=2.5, attempts=(FAILED,))]
    result = run("generate", "hi", "--json")
    assert (result.code, result.err) == (5, "")
    assert json.loads(result.out) == {
        "error": {
            "code": "UNAVAILABLE",
            "reason": "PROVIDER_OVERLOADED",
            "message": "anthropic is overloaded",
            "retry_after": 2.5,
            "request_id": "0192f00d",
            "attempts": [
                {
                    "provider": "anthropic",
                    "model": "claude",
                    "outcome": "OUTCOME_FAILED",
                    "reason": "PROVIDER_OVERLOADED",
                    "upstream_status": 529,
                    "duration": "0.812s",
                }
            ],
        }
    }


def test_cut_answer_is_shown_and_called_cut(run: Run, stand_in: StandIn) -> None:
    """What had come stays on standard output; the exit code tells that it is not whole."""
    stand_in.script = [STARTED, text("Hel"), failure(Reason.STREAM_TRUNCATED, "cut", committed=True)]
    result = run("generate", "hi")
    assert (result.code, result.out) == (7, "Hel")
    assert result.err == "\noutrider: cut [STREAM_TRUNCATED]\n"


def test_sidecar_that_goes_away_cuts_the_answer(run: Run, stand_in: StandIn) -> None:
    """A connection that ends in mid-answer is no reason to say that there was no sidecar."""
    stand_in.script = [STARTED, text("Hel"), Status(grpc.StatusCode.UNAVAILABLE, "Socket closed")]
    result = run("generate", "hi")
    assert (result.code, result.out) == (7, "Hel")
    assert "the answer broke off" in result.err


def test_stream_without_its_end_is_cut(run: Run, stand_in: StandIn) -> None:
    """Row 3: a stream that ends with OK but without `completed` is not an answer."""
    stand_in.script = [STARTED, text("Hel")]
    assert run("generate", "hi").code == 7


def test_own_deadline_ends_the_call(run: Run, stand_in: StandIn) -> None:
    """A sidecar that says nothing is left when --timeout is over."""
    stand_in.script = [Hold()]
    result = run("generate", "hi", "--timeout", "0.2")
    assert result.code == 6
    assert "--timeout allows more" in result.err


@pytest.mark.parametrize("command", [["generate", "hi"], ["models"], ["providers"]])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:///nowhere/outrider.sock"])
def test_absent_sidecar_is_one_line(run: Run, command: list[str], address: str) -> None:
    """Where nothing listens, the line says where and how to start one."""
    result = run(*command, "--address", address)
    assert (result.code, result.out) == (5, "")
    assert result.err == f"outrider: no sidecar answers at {address}; start one with `outrider serve`\n"


def test_error_text_cannot_reach_the_terminal_raw(run: Run, stand_in: StandIn) -> None:
    """Control characters and line breaks in a status are not passed on."""
    stand_in.script = [failure(message="bad\x1b]0;evil\x07\nline")]
    err = run("generate", "hi").err
    assert err.startswith("outrider: bad\ufffd]0;evil\ufffd line [PROVIDER_OVERLOADED]")


def _details(reason: str = "RATE_LIMITED", *, code: int = 8, message: str = "no", junk: bytes = b"") -> bytes:
    info = Any()
    info.Pack(ErrorInfo(reason=reason))
    junk_info = Any(type_url=info.type_url, value=junk or info.value)
    status: bytes = RichStatus(code=code, message=message, details=[junk_info]).SerializeToString()
    return status


@pytest.mark.parametrize(
    "details",
    [b"\xff\xff", _details(code=5), _details(message="another"), _details(junk=b"\xff")],
    ids=["no protobuf", "another code", "another message", "a broken detail"],
)
def test_broken_details_leave_the_status(run: Run, stand_in: StandIn, details: bytes) -> None:
    """Details that make no sense are passed over; code and message still count."""
    trailers = (("grpc-status-details-bin", details),)
    stand_in.script = [Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", trailers)]
    result = run("generate", "hi")
    assert (result.code, result.err) == (4, "outrider: no [RESOURCE_EXHAUSTED]\n")


@pytest.mark.parametrize("action", [["submit", "hi"], ["list"], ["watch", "0192f00d"]])
def test_sidecar_without_jobs_is_said_to_have_none(run: Run, stand_in: StandIn, action: list[str]) -> None:
    """One that serves everything else is a sidecar: the setting that may be the cause is named."""
    stand_in.statuses = {"outrider.v1.GenerationService": 1}
    result = run("jobs", *action)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"outrider: the sidecar at {stand_in.address} serves no jobs: ")
    assert "`jobs: {enabled: false}`" in result.err


@contextmanager
def _listening(reply: bytes) -> Iterator[str]:
    """A TCP server that sends this to everyone, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"\0" * 100, b"SSH-2.0-OpenSSH_9.2\r\n", b""],
    ids=["HTTP/1", "zeros", "SSH", "nothing"],
)
@pytest.mark.parametrize("command", [["generate", "hi"], ["health"], ["models", "--json"]])
def test_other_servers_are_told_apart(run: Run, command: list[str], reply: bytes) -> None:
    """Whatever else listens there, the command ends soon, in order, and says that it is no sidecar."""
    with _listening(reply) as address:
        result = run(*command, "--address", address, "--timeout", "5")
    assert result.code in {1, 5}
    assert f"no sidecar answers at {address}" in result.out + result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "hi"],
        ["generate", "hi", "--no-stream"],
        ["health"],
        ["health", "--wait", "5"],
        ["jobs", "submit", "hi"],
    ],
)
def test_other_grpc_servers_are_told_apart(run: Run, command: list[str]) -> None:
    """A gRPC server without our services, or with messages that are not ours, is said to be no sidecar."""
    junk = Junk()
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[junk])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            for junk.answers in (False, True):
                result = run(*command, "--address", f"127.0.0.1:{port}")
                assert result.code == 1
                assert "is not an Outrider sidecar" in result.err
        finally:
            server.stop(0).wait()
