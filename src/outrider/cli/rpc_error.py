"""From a gRPC error to the error of a command. Whatever answers at the address is not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from outrider import v1
from outrider.cli.command_error import CommandError
from outrider.cli.exit_codes import of_status
from outrider.cli.units import seconds_of

if TYPE_CHECKING:
    import grpc
    from google.rpc.status_pb2 import Status

_Detail = TypeVar("_Detail", bound=Message)

_PLAIN = ("Connection refused", "No such file or directory")


def to_command_error(error: grpc.RpcError, address: str) -> CommandError:
    """What a failed call at an address means."""
    code, text = error.code().name, error.details() or ""
    status = _status(error)
    info = _find(status, ErrorInfo)
    if info is None:
        message, detail = _explain(code, text, address)
        return CommandError(message, of_status(code), code, detail=detail)
    failed = _find(status, v1.GenerationFailure) or v1.GenerationFailure()
    retry = _find(status, RetryInfo)
    return CommandError(
        message=text or "the call failed",
        exit_code=of_status(code),
        code=code,
        reason=info.reason,
        detail=_violations(_find(status, BadRequest)),
        retry_after=seconds_of(retry.retry_delay) if retry else None,
        request_id=failed.request_id,
        attempts=failed.attempts,
    )


def _status(error: grpc.RpcError) -> Status | None:
    try:
        status: Status | None = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        return None
    return status


def _find(status: Status | None, kind: type[_Detail]) -> _Detail | None:
    for packed in status.details if status else ():
        detail = kind()
        try:
            if packed.Unpack(detail):
                return detail
        except DecodeError:
            return None
    return None


def _violations(request: BadRequest | None) -> str:
    """All fields that are wrong; the message itself names the first."""
    violations = request.field_violations[1:] if request else ()
    return "; ".join(f"{violation.field}: {violation.description}" for violation in violations)


def _explain(code: str, text: str, address: str) -> tuple[str, str]:
    """A status that no sidecar has given: what to do, and the details where they tell more."""
    if code == "UNAVAILABLE":
        detail = "" if any(plain in text for plain in _PLAIN) else text
        return f"no sidecar answers at {address}; start one with `outrider serve`", detail
    if code == "DEADLINE_EXCEEDED":
        return f"time was up before {address} had answered; --timeout allows more", ""
    if code in {"UNIMPLEMENTED", "INTERNAL", "UNKNOWN"}:
        return f"what answers at {address} is not an Outrider sidecar, or not of this version", text
    return f"{text or 'the call failed'} [{code}]", ""
