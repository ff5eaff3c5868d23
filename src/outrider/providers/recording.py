"""One try at a provider and what came of it, as JSON for people to read and for `simulated` to play again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import GenerationError, Reason
from outrider.core.fingerprint import fingerprint
from outrider.core.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Collection

    from outrider.core.errors import Fact

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

_FORM: Final = 1
# They say who asks. What is played again does not depend on them.
_LEFT_OUT: Final = ("attribution", "idempotency_key")
_TEXTS: Final = {"text_delta": "text", "reasoning_delta": "text", "tool_call_delta": "arguments_json"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was asked and what came, as bytes: the messages themselves belong to others."""

    provider: str
    model: str
    streaming: bool
    began_at: float  # Unix clock
    request: bytes
    events: tuple[tuple[float, bytes], ...]  # with seconds since it began
    fact: Fact | None  # of the failure

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.request) + sum(len(event) for _, event in self.events)


@dataclass(frozen=True, slots=True)
class Recording:
    """What is played again."""

    digest: str
    outcome: str
    events: tuple[v1.GenerateResponse, ...]  # not to be changed: they are shared
    error: dict[str, Any]

    def failure(self) -> GenerationError:
        """A fresh error, as it was recorded."""
        if self.outcome == CANCELLED:
            return GenerationError(Reason.STREAM_TRUNCATED, "recorded: the caller had left at this point")
        reason = str(self.error.get("reason"))
        return GenerationError(
            Reason(reason) if reason in Reason.__members__ else Reason.PROVIDER_ERROR,
            f"recorded: {self.error.get('message', '')}",
            upstream_status=int(self.error.get("upstream_status") or 0),
            retry_after=self.error.get("retry_after"),
        )


def digest(request: v1.GenerateRequest) -> str:
    """The name of a request, whatever provider and model it is sent to."""
    return fingerprint(request, Target("", ""), "")


def write(exchange: Exchange, secrets: Collection[str]) -> tuple[str, str]:
    """The digest, and the text. Keys are taken out of every value, also those cut between two deltas."""
    request = v1.GenerateRequest.FromString(exchange.request)
    name = digest(request)
    for field in _LEFT_OUT:
        request.ClearField(field)
    events = [_event(at, data) for at, data in exchange.events]
    _redact_across(events, secrets)
    is_whole = bool(events) and "completed" in events[-1]
    recorded = {
        "form": _FORM,
        "digest": name,
        "provider": exchange.provider,
        "model": exchange.model,
        "streaming": exchange.streaming,
        "recorded_at": datetime.fromtimestamp(exchange.began_at, UTC).isoformat(),
        "outcome": FAILED if exchange.fact else COMPLETED if is_whole else CANCELLED,
        "request": MessageToDict(request, preserving_proto_field_name=True),
        "events": events,
        "error": _error(exchange.fact),
    }
    return name, json.dumps(_redact(recorded, secrets), indent=2, ensure_ascii=False) + "\n"


def read(text: str) -> Recording:
    """What `write` wrote, edited perhaps. Raises ValueError that says what is wrong."""
    recorded = json.loads(text)
    try:
        if recorded["form"] != _FORM:
            raise ValueError(f"its form is {recorded['form']!r}, not {_FORM}")
        events = tuple(
            ParseDict(
                {key: value for key, value in event.items() if key != "at"},
                v1.GenerateResponse(),
                ignore_unknown_fields=True,
            )
            for event in recorded["events"]
        )
        return Recording(recorded["digest"], recorded["outcome"], events, recorded["error"] or {})
    except (KeyError, TypeError, AttributeError, ParseError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _event(at: float, data: bytes) -> dict[str, Any]:
    event = v1.GenerateResponse.FromString(data)
    return {"at": round(at, 6), **MessageToDict(event, preserving_proto_field_name=True)}


def _error(fact: Fact | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    wait = fact.retry_after
    return {
        "reason": fact.reason.value,
        "message": fact.message,
        "upstream_status": fact.upstream_status,
        "retry_after": None if wait is None or math.isinf(wait) else wait,
    }


def _redact(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {_redact(key, secrets): _redact(each, secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_redact(each, secrets) for each in value]
    return value


def _redact_across(events: list[dict[str, Any]], secrets: Collection[str]) -> None:
    """Where a part as a whole holds a key, it becomes one delta without it."""
    parts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for event in events:
        for kind, field in _TEXTS.items():
            if field in event.get(kind, ()):
                parts.setdefault((kind, event[kind].get("part", 0)), []).append(event[kind])
    for (kind, _), deltas in parts.items():
        field = _TEXTS[kind]
        whole = "".join(delta[field] for delta in deltas)
        clean = redact(whole, secrets)
        if clean != whole:
            for delta in deltas:
                delta[field] = ""
            deltas[0][field] = clean
