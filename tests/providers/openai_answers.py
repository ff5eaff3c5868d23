"""Decoding an answer of Chat Completions as the provider does, and collecting it as the server does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.context import Progress
from outrider.core.ports import Call
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outrider.core.ports import Batch
    from outrider.providers.profiles import Profile

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
COUNTED = v1.Usage(input_tokens=9, output_tokens=3, source=v1.USAGE_SOURCE_PROVIDER)


def call(request: v1.GenerateRequest | None = None, model: str = "gpt-4o", *, streaming: bool = True) -> Call:
    return Call(request or v1.GenerateRequest(), model, streaming, 5.0, Progress(), [])


def chunk(finish_reason: Any = None, **delta: Any) -> dict[str, Any]:
    """A stream chunk as OpenAI writes it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-x",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def completion(finish_reason: Any = "stop", usage: Any = None, **message: Any) -> bytes:
    """An answer in one piece as OpenAI writes it."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    answer = {"id": "chatcmpl-1", "model": "gpt-x", "choices": [choice], "usage": usage}
    return json.dumps(answer).encode()


def sse(*events: dict[str, Any] | str) -> bytes:
    """Events as OpenAI writes them."""
    written = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {event}\n\n" for event in written).encode()


def text(value: str) -> v1.Part:
    return v1.Part(text=value)


def reasoning(value: str, signature: bytes = b"") -> v1.Part:
    return v1.Part(reasoning=v1.Reasoning(text=value), signature=signature)


def tool_call(call_id: str, name: str, arguments: str, signature: bytes = b"") -> v1.Part:
    part = v1.ToolCall(id=call_id, name=name, arguments_json=arguments)
    return v1.Part(tool_call=part, signature=signature)


def piece(arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """A piece of a tool call; `name` goes where it belongs."""
    function = {"arguments": arguments} if arguments is not None else {}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {**fields, "function": function}


def calls(*pieces: dict[str, Any], finish_reason: Any = None) -> dict[str, Any]:
    return chunk(finish_reason, tool_calls=list(pieces))


@dataclass
class Answer:
    """What came out of a decoder."""

    events: Batch
    progress: Progress
    parts: Sequence[v1.Part]
    completed: v1.Completed


def decode(
    pieces: Iterable[bytes],
    content_type: str = EVENT_STREAM,
    *,
    profile: Profile = COMPATIBLE,
    streaming: bool = True,
) -> Answer:
    """Feed every piece, then the end. Raises GenerationError as the decoder does."""
    attempt = call(streaming=streaming)
    decoder = OpenAIFormat(profile).decoder(attempt, content_type)
    events = []
    for piece in pieces:
        events += decoder.feed(piece)
        if decoder.error is not None:
            raise decoder.error
    events += decoder.finish()
    assert decoder.done
    assert [event.HasField("completed") for event in events] == [False] * (len(events) - 1) + [True]
    collector = Collector()
    for event in events:
        collector.add(event)
    return Answer(events, attempt.progress, collector.response.message.parts, collector.response.completed)


def decode_chunks(*chunks: dict[str, Any] | str, profile: Profile = COMPATIBLE) -> Answer:
    """A stream of these chunks and its end marker."""
    return decode([sse(*chunks, "[DONE]")], profile=profile)


def decode_completion(body: bytes) -> Answer:
    """An answer in one piece."""
    return decode([body], JSON, streaming=False)
