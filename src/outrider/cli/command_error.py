"""Why a command ends early, as lines for a person or as JSON for a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outrider.cli import units
from outrider.cli.exit_codes import ExitCode
from outrider.cli.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outrider import v1

_ADVICE = {
    "CALLER_UNKNOWN": "set OUTRIDER_TOKEN, or give --token",
    "MODEL_UNKNOWN": "`outrider models` lists what there is",
    "MODEL_NOT_ALLOWED": "`outrider models` lists what you may use",
    "NOT_ADMIN": "ask whoever runs the sidecar, or give the --token of a caller that has it",
    "PROVIDER_NOT_CONFIGURED": "`outrider providers` tells why",
    "PROVIDER_CREDENTIALS_REFUSED": "`outrider check --live` tests the keys",
    "DEADLINE_EXCEEDED": "--timeout allows more",
}


@dataclass(eq=False)
class CommandError(Exception):
    """Ends a command. `message` says what is wrong, and what to do where no reason tells that."""

    message: str
    exit_code: ExitCode
    code: str = ""  # name of the gRPC status code
    reason: str = ""  # as in ErrorInfo
    detail: str = ""
    retry_after: float | None = None  # seconds
    request_id: str = ""
    attempts: Sequence[v1.Attempt] = ()

    def lines(self) -> Iterator[str]:
        """One line that says what to do, and where more is known, a second."""
        reason = f" [{self.reason}]" if self.reason else ""
        yield one_line(f"outrider: {self.message}{reason}{self._advice()}")
        more = one_line("; ".join(filter(None, (self.detail, self._tries(), self._request()))))
        if more:
            yield f"  {more}"

    def to_json(self) -> dict[str, Any]:
        """The same for a machine. `retry_after` is in seconds; null where nothing says that waiting helps."""
        from google.protobuf.json_format import MessageToDict

        error = {
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
            "retry_after": self.retry_after,
            "request_id": self.request_id,
            "attempts": [MessageToDict(a, preserving_proto_field_name=True) for a in self.attempts],
        }
        return {"error": error}

    def _advice(self) -> str:
        if self.retry_after is not None:
            return f"; try again in {units.time(self.retry_after)}"
        advice = _ADVICE.get(self.reason)
        return f"; {advice}" if advice else ""

    def _tries(self) -> str:
        if not self.attempts:
            return ""
        from outrider.cli.attempts import ending, target

        return "tried " + ", ".join(f"{target(attempt)} {ending(attempt)}" for attempt in self.attempts)

    def _request(self) -> str:
        return f"request {self.request_id}" if self.request_id else ""


def usage_error(message: str) -> CommandError:
    """The error of a command that was called wrongly."""
    return CommandError(message, ExitCode.USAGE)
