"""What Anthropic's SDK makes of a recorded answer, to hold ours against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anthropic import AsyncAnthropic

from outrider import v1
from tests.support.recorded import labelled
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from anthropic.types import ContentBlock, Message, MessageParam, Usage

    from tests.support.recorded import Recording


@dataclass
class Said:
    """What an answer says, whoever has read it."""

    parts: list[tuple[v1.Part, Any]]  # without their JSON, and the JSON as values: spaces make no difference
    finish_reason: str
    stop_sequence: str
    usage: v1.Usage
    response_id: str
    model: str


def said_by(message: v1.Message, completed: v1.Completed) -> Said:
    """What our own answer says."""
    return Said(
        [_comparable(part) for part in message.parts],
        completed.provider_finish_reason,
        completed.stop_sequence,
        completed.usage,
        completed.response_id,
        completed.response_model,
    )


async def said_by_sdk(recording: Recording) -> Said:
    """What the SDK finds in an answer. Raises APIError where it does."""
    message = await read_by_sdk(recording)
    blocks = [block for block in message.content if block.type != "text" or block.text]
    return Said(
        [_comparable(_as_part(block)) for block in blocks],
        message.stop_reason or "",
        message.stop_sequence or "",
        _as_usage(message.usage),
        message.id,
        message.model,
    )


async def read_by_sdk(recording: Recording) -> Message:
    """The SDK's own message. Raises APIError where it does."""
    messages: list[MessageParam] = [{"role": "user", "content": "Hi"}]
    async with (
        Upstream(labelled(recording)) as upstream,
        AsyncAnthropic(base_url=upstream.url, api_key="key", max_retries=0) as client,
    ):
        if not recording.stream:
            return await client.messages.create(model="m", max_tokens=1, messages=messages)
        async with client.messages.stream(model="m", max_tokens=1, messages=messages) as stream:
            return await stream.get_final_message()


def _as_part(block: ContentBlock) -> v1.Part:
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


def _as_usage(usage: Usage) -> v1.Usage:
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


def _comparable(part: v1.Part) -> tuple[v1.Part, Any]:
    bare = v1.Part()
    bare.CopyFrom(part)
    bare.signed_by = ""  # the SDK does not ask
    written = "null"
    if part.HasField("tool_call"):
        written, bare.tool_call.arguments_json = part.tool_call.arguments_json, ""
    elif part.HasField("opaque"):
        written, bare.opaque.json = part.opaque.json, ""
    return bare, json.loads(written)
