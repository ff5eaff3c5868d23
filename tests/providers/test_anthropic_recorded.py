"""Recorded answers of Anthropic, held against what the official SDK makes of the same bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import AsyncAnthropic

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from tests.providers.anthropic_answers import EVENT_STREAM, JSON, decode
from tests.support import answers
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from anthropic.types import ContentBlock, Message, MessageParam, Usage

    from tests.providers.anthropic_answers import Answer

DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "recorded"
RECORDED = Path(os.environ.get("OUTRIDER_RECORDED", DEFAULT_FOLDER)) / "provider-traffic.jsonl"
if not RECORDED.exists():
    pytest.skip(f"there is no recorded traffic at {RECORDED}", allow_module_level=True)

EXCHANGES = [
    exchange
    for exchange in map(json.loads, RECORDED.read_text().splitlines())
    if exchange["wire"] == "anthropic" and exchange["status"] == 200
]
STREAMS = [exchange for exchange in EXCHANGES if exchange["stream"]]


def named(exchanges: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("exchange", exchanges, ids=[exchange["id"] for exchange in exchanges])


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def decoded(exchange: dict[str, Any], size: int | None = None) -> Answer:
    body = exchange["body"].encode()
    content_type = EVENT_STREAM if exchange["stream"] else JSON
    return decode(cut(body, size or len(body)), content_type, streaming=exchange["stream"])


async def read_by_sdk(exchange: dict[str, Any]) -> Message:
    body = exchange["body"].encode()
    served = answers.stream(cut(body, 1000)) if exchange["stream"] else answers.body(body)
    messages: list[MessageParam] = [{"role": "user", "content": "Hi"}]
    async with (
        Upstream(served) as upstream,
        AsyncAnthropic(base_url=upstream.url, api_key="key", max_retries=0) as client,
    ):
        if not exchange["stream"]:
            return await client.messages.create(model="m", max_tokens=1, messages=messages)
        async with client.messages.stream(model="m", max_tokens=1, messages=messages) as stream:
            return await stream.get_final_message()


def as_part(block: ContentBlock) -> v1.Part:
    """A block of the SDK's as the part that it should be."""
    match block.type:
        case "text":
            return v1.Part(text=block.text)
        case "thinking":
            reasoning = v1.Reasoning(text=block.thinking)
            return v1.Part(reasoning=reasoning, signature=block.signature.encode())
        case "redacted_thinking":
            return v1.Part(reasoning=v1.Reasoning(redacted=block.data.encode()))
        case "tool_use":
            arguments = json.dumps(block.input)
            return v1.Part(tool_call=v1.ToolCall(id=block.id, name=block.name, arguments_json=arguments))
    written = json.dumps(block.to_dict(mode="json"))
    return v1.Part(opaque=v1.OpaquePart(format="anthropic", type=block.type, json=written))


def as_usage(usage: Usage) -> v1.Usage:
    """The SDK's counts as the ones that they should be: input holds what the cache read and wrote."""
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    written_1h = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0
    return v1.Usage(
        input_tokens=usage.input_tokens + read + written,
        output_tokens=usage.output_tokens,
        cached_input_tokens=read,
        cache_write_input_tokens=written,
        cache_write_1h_input_tokens=written_1h,
        reasoning_output_tokens=thinking,
        source=v1.USAGE_SOURCE_PROVIDER,
    )


def comparable(part: v1.Part) -> tuple[v1.Part, Any]:
    """The part without its JSON, and the JSON as values, so that spaces make no difference."""
    bare = v1.Part()
    bare.CopyFrom(part)
    written = "null"
    if part.HasField("tool_call"):
        written, bare.tool_call.arguments_json = part.tool_call.arguments_json, ""
    elif part.HasField("opaque"):
        written, bare.opaque.json = part.opaque.json, ""
    return bare, json.loads(written)


@named(EXCHANGES)
async def test_same_as_the_sdk(exchange: dict[str, Any]) -> None:
    """Text, reasoning, tool calls, opaque blocks, stop reason, ids and usage are what the SDK finds too."""
    message = await read_by_sdk(exchange)
    answer = decoded(exchange)
    expected = [as_part(block) for block in message.content if block.type != "text" or block.text]
    assert [comparable(part) for part in answer.parts] == [comparable(part) for part in expected]
    assert answer.completed.provider_finish_reason == message.stop_reason
    assert answer.completed.finish_reason not in (v1.FINISH_REASON_UNSPECIFIED, v1.FINISH_REASON_OTHER)
    assert (answer.completed.response_id, answer.completed.response_model) == (message.id, message.model)
    assert answer.completed.stop_sequence == (message.stop_sequence or "")
    assert answer.completed.usage == as_usage(message.usage)


@named(EXCHANGES)
@pytest.mark.parametrize("size", [1, 7, 61, 1024])
def test_cuts_make_no_difference(exchange: dict[str, Any], size: int) -> None:
    """Row 19: whatever pieces the bytes come in, the answer is the same."""
    whole, pieces = decoded(exchange), decoded(exchange, size)
    assert pieces.parts == whole.parts
    assert pieces.completed == whole.completed
    assert pieces.progress == whole.progress


@named(STREAMS)
def test_truncated_anywhere_is_an_error(exchange: dict[str, Any]) -> None:
    """Row 3: cut after any event before `message_stop`, and also inside of one, the stream is truncated."""
    body = exchange["body"].encode()
    events = body.split(b"\n\n")
    last = next(index for index, event in enumerate(events) if b'"message_stop"' in event)
    ends = [len(b"\n\n".join(events[:index])) for index in range(1, last + 1)]
    for end in (*ends, *(end - 3 for end in ends)):
        with pytest.raises(GenerationError) as raised:
            decode([body[:end]])
        assert raised.value.reason == Reason.STREAM_TRUNCATED
