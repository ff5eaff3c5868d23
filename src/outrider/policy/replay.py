"""A stored answer, given once more as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.durations import to_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.core.ports import Batch

# Callers take messages of 4 MiB by default.
_PIECE = 65_536  # characters


def replay(answer: v1.CompleteResponse, request_id: str, status: v1.CacheStatus, age: float) -> Batch:
    """Its events; collected again they are the same message. `age` is in seconds.

    They tell of no tokens and no cost: the provider was paid when the answer was made.
    """
    started = v1.Started(
        request_id=request_id,
        provider=answer.started.provider,
        model=answer.started.model,
        cache_status=status,
    )
    to_duration(age, started.cache_age)
    completed = v1.Completed()
    completed.CopyFrom(answer.completed)
    for field in ("cost", "timings", "attempts"):
        completed.ClearField(field)
    charge_nothing(completed)
    return [
        v1.GenerateResponse(started=started),
        *(event for position, part in enumerate(answer.message.parts) for event in _events(part, position)),
        v1.GenerateResponse(completed=completed),
    ]


def charge_nothing(completed: v1.Completed) -> None:
    """Say that an answer took no tokens; nothing is estimated then."""
    completed.usage.CopyFrom(v1.Usage(source=v1.USAGE_SOURCE_PROVIDER))


def _events(part: v1.Part, position: int) -> Iterator[v1.GenerateResponse]:
    kind = part.WhichOneof("content")
    if kind == "text":
        for text, signature in _pieces(part.text, part.signature):
            delta = v1.TextDelta(text=text, part=position, signature=signature, signed_by=part.signed_by)
            yield v1.GenerateResponse(text_delta=delta)
    elif kind == "reasoning":
        yield from _reasoning(part, position)
    elif kind == "tool_call":
        yield from _tool_call(part, position)
    elif kind == "opaque":
        opaque = v1.OpaqueDelta(part=position, opaque=part.opaque, signed_by=part.signed_by)
        yield v1.GenerateResponse(opaque_delta=opaque)


def _reasoning(part: v1.Part, position: int) -> Iterator[v1.GenerateResponse]:
    redacted = part.reasoning.redacted
    for text, signature in _pieces(part.reasoning.text, part.signature):
        delta = v1.ReasoningDelta(
            text=text, part=position, signature=signature, redacted=redacted, signed_by=part.signed_by
        )
        yield v1.GenerateResponse(reasoning_delta=delta)
        redacted = b""


def _tool_call(part: v1.Part, position: int) -> Iterator[v1.GenerateResponse]:
    call = part.tool_call
    name = {"id": call.id, "name": call.name}
    by = part.signed_by
    for text, signature in _pieces(call.arguments_json, part.signature):
        delta = v1.ToolCallDelta(
            part=position, arguments_json=text, signature=signature, signed_by=by, **name
        )
        yield v1.GenerateResponse(tool_call_delta=delta)
        name = {}


def _pieces(text: str, signature: bytes) -> Iterator[tuple[str, bytes]]:
    """At least one; the signature is with the last."""
    last = max(0, len(text) - 1) // _PIECE * _PIECE
    for start in range(0, last, _PIECE):
        yield text[start : start + _PIECE], b""
    yield text[last:], signature
