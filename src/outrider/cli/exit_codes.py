"""Exit codes of the command, one for each class of failure. They are public."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INVALID_REQUEST = 3
    LIMITED = 4
    UNAVAILABLE = 5
    DEADLINE = 6
    CUT = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS = {
    ExitCode.OK: "it worked",
    ExitCode.FAILED: "anything that is not below",
    ExitCode.USAGE: "wrong usage or configuration",
    ExitCode.INVALID_REQUEST: "the request is refused: invalid, unknown model, not allowed, unknown caller",
    ExitCode.LIMITED: "a rate limit, quota or budget is used up",
    ExitCode.UNAVAILABLE: "no sidecar answers, or no provider can",
    ExitCode.DEADLINE: "time was up",
    ExitCode.CUT: "the answer broke off; what came of it was printed",
    ExitCode.INTERRUPTED: "Ctrl-C; the call was cancelled",
    ExitCode.PIPE_CLOSED: "whoever read the output has left",
}

_BY_STATUS = {
    "INVALID_ARGUMENT": ExitCode.INVALID_REQUEST,
    "NOT_FOUND": ExitCode.INVALID_REQUEST,
    "PERMISSION_DENIED": ExitCode.INVALID_REQUEST,
    "UNAUTHENTICATED": ExitCode.INVALID_REQUEST,
    "RESOURCE_EXHAUSTED": ExitCode.LIMITED,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.DEADLINE,
    "ABORTED": ExitCode.CUT,
}


def of_status(name: str) -> ExitCode:
    """The exit code for the name of a gRPC status code."""
    return _BY_STATUS.get(name, ExitCode.FAILED)
