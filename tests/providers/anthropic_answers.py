"""Decoding an answer of Anthropic's as the provider does, and putting its events together again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from outrider import v1
from outrider.core.context import Progress
from outrider.core.errors import GenerationError
from outrider.core.ports import Call
from outrider.providers.anthropic_format import AnthropicFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.core.errors import Reason
    from outrider.core.ports import Batch

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
USAGE = {"input_tokens": 3, "output_tokens": 1}


def call(
    request: v1.GenerateRequest | None = None, model: str = "claude-sonnet-4-5", *, streaming: bool = True
) -> Call:
    return Call(request or v1.GenerateRequest(), model, streaming, 5.0, Progress(), [])


def sse(*events: dict[str, Any]) -> bytes:
    """Events as Anthropic writes them."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def head(**usage: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return {"type": "message_start", "message": {**message, "usage": usage}}


def ending(
    reason: str | None = "end_turn", sequence: str | None = None, **usage: Any
) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def text_block(index: int, *texts: str) -> list[dict[str, Any]]:
    deltas = [delta(index, type="text_delta", text=text) for text in texts]
    return [start(index, type="text", text=""), *deltas, stop(index)]


def whole(*events: dict[str, Any], reason: str = "end_turn") -> bytes:
    """A stream with its head and its end."""
    return sse(head(**USAGE), *events, *ending(reason, output_tokens=7))


def message(*blocks: dict[str, Any], **fields: Any) -> bytes:
    """An answer in one piece."""
    answer = {"type": "message", "id": "msg_1", "model": "claude-x", "content": list(blocks)}
    return json.dumps({**answer, "stop_reason": "end_turn", "usage": USAGE, **fields}).encode()


@dataclass
class Answer:
    """What came out of a decoder."""

    events: Batch
    progress: Progress
    parts: list[v1.Part] = field(default_factory=list)
    """The answer's message, as a caller puts it together."""
    completed: v1.Completed = field(default_factory=v1.Completed)


def decode(pieces: Iterable[bytes], content_type: str = EVENT_STREAM, *, streaming: bool = True) -> Answer:
    """Feed every piece, then the end. Raises GenerationError as the decoder does."""
    attempt = call(streaming=streaming)
    decoder = AnthropicFormat().decoder(attempt, content_type)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    events += decoder.finish()
    assert decoder.done
    return _assemble(Answer(events, attempt.progress))


def _assemble(answer: Answer) -> Answer:
    *content, last = answer.events
    assert last.WhichOneof("event") == "completed"
    answer.completed = last.completed
    for event in content:
        kind = event.WhichOneof("event")
        assert kind is not None
        delta = getattr(event, kind)
        if delta.part == len(answer.parts):
            answer.parts.append(v1.Part())
        assert delta.part < len(answer.parts), "parts are numbered without gaps"
        _add(answer.parts[delta.part], kind, delta)
    return answer


def _add(part: v1.Part, kind: str, delta: Any) -> None:
    match kind:
        case "text_delta":
            part.text += delta.text
        case "reasoning_delta":
            part.reasoning.text += delta.text
            part.reasoning.redacted = delta.redacted or part.reasoning.redacted
        case "tool_call_delta":
            part.tool_call.id = delta.id or part.tool_call.id
            part.tool_call.name = delta.name or part.tool_call.name
            part.tool_call.arguments_json += delta.arguments_json
        case "opaque_delta":
            part.opaque.CopyFrom(delta.opaque)
    if kind != "opaque_delta":
        part.signature = delta.signature or part.signature


def reason_of(pieces: Iterable[bytes], content_type: str = EVENT_STREAM, *, streaming: bool = True) -> Reason:
    """The reason of the GenerationError that these pieces must end in."""
    with pytest.raises(GenerationError) as raised:
        decode(pieces, content_type, streaming=streaming)
    return raised.value.reason
