"""Recorded answers of many vendors, held against what OpenAI's SDK makes of the same bytes.

The SDK is asked for its chunks, not for what it adds up: its own sum keeps Azure's empty id and lets a null
erase usage. It knows no reasoning; that is read from the fields it keeps without a type.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai import APIError, AsyncOpenAI

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_format import OpenAIFormat
from tests.providers.openai_answers import EVENT_STREAM, JSON, decode
from tests.support import answers
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

    from tests.providers.openai_answers import Answer

DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "recorded"
RECORDED = Path(os.environ.get("OUTRIDER_RECORDED", DEFAULT_FOLDER)) / "provider-traffic.jsonl"
if not RECORDED.exists():
    pytest.skip(f"there is no recorded traffic at {RECORDED}", allow_module_level=True)

EXCHANGES = [
    exchange
    for exchange in map(json.loads, RECORDED.read_text().splitlines())
    if exchange["wire"] == "openai_chat"
]
REFUSED = [exchange for exchange in EXCHANGES if exchange["status"] != 200]
FAILED = [exchange for exchange in EXCHANGES if exchange["stream"] and "event: error" in exchange["body"]]
WHOLE = [exchange for exchange in EXCHANGES if exchange not in REFUSED and exchange not in FAILED]
STREAMS = [exchange for exchange in EXCHANGES if exchange["stream"]]


def named(exchanges: list[dict[str, Any]]) -> pytest.MarkDecorator:
    ids = [f"{exchange['host']}-{exchange['id']}" for exchange in exchanges]
    return pytest.mark.parametrize("exchange", exchanges, ids=ids)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def decoded(exchange: dict[str, Any], pieces: list[bytes]) -> Answer:
    content_type = EVENT_STREAM if exchange["stream"] else JSON
    return decode(pieces, content_type, streaming=exchange["stream"])


@dataclass
class Said:
    """What an answer says, whoever has read it."""

    text: str = ""
    reasoning: str = ""
    signatures: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)  # id, name, arguments
    finish_reason: str = ""
    usage: dict[str, Any] | None = None
    response_id: str = ""
    model: str = ""


def said_by_us(answer: Answer) -> Said:
    said = Said(
        finish_reason=answer.completed.provider_finish_reason,
        response_id=answer.completed.response_id,
        model=answer.completed.response_model,
    )
    for part in answer.parts:
        said.text += part.text
        said.reasoning += part.reasoning.text
        if part.HasField("tool_call"):
            said.calls.append([part.tool_call.id, part.tool_call.name, part.tool_call.arguments_json])
        if part.HasField("reasoning") and part.signature:
            said.signatures.append(part.signature.decode())
    return said


def add(said: Said, answer: Any) -> None:
    """Add one of the SDK's chunks, or its whole completion."""
    said.response_id = said.response_id or answer.id
    said.model = said.model or answer.model
    extra = answer.model_extra or {}
    usage = answer.usage.to_dict(mode="json") if answer.usage else (extra.get("x_groq") or {}).get("usage")
    said.usage = usage or said.usage
    for choice in answer.choices:
        said.finish_reason = choice.finish_reason or said.finish_reason
        if (message := getattr(choice, "delta", None) or getattr(choice, "message", None)) is None:
            continue  # Azure's filtered answer
        extra = message.model_extra or {}
        said.text += message.content or ""
        said.reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
        details = extra.get("reasoning_details") or []
        said.signatures += [detail["signature"] for detail in details if detail.get("signature")]
        for call in message.tool_calls or []:
            if call.id:
                said.calls.append([call.id, call.function.name, ""])
            said.calls[call.index if call.id is None else -1][2] += call.function.arguments


async def read_by_sdk(exchange: dict[str, Any]) -> Said:
    body = exchange["body"].encode()
    served = answers.stream(cut(body, 1000)) if exchange["stream"] else answers.body(body)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
    said = Said()
    async with (
        Upstream(served) as upstream,
        AsyncOpenAI(base_url=upstream.url, api_key="key", max_retries=0) as client,
    ):
        if exchange["stream"]:
            async for chunk in await client.chat.completions.create(
                model="m", messages=messages, stream=True
            ):
                add(said, chunk)
        else:
            add(said, await client.chat.completions.create(model="m", messages=messages))
    return said


def as_usage(usage: dict[str, Any] | None) -> v1.Usage:
    """The vendor's counts as the ones that they should be."""
    if usage is None:
        return v1.Usage()
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    cached = prompt.get("cached_tokens") or usage.get("cached_tokens")
    return v1.Usage(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        cached_input_tokens=cached or 0,
        cache_write_input_tokens=prompt.get("cache_write_tokens") or 0,
        reasoning_output_tokens=completion.get("reasoning_tokens") or 0,
        source=v1.USAGE_SOURCE_PROVIDER,
    )


@named(WHOLE)
async def test_same_as_the_sdk(exchange: dict[str, Any]) -> None:
    """Text, reasoning, signatures, tool calls, finish reason, ids and usage are what the SDK finds too."""
    answer = decoded(exchange, [exchange["body"].encode()])
    expected = await read_by_sdk(exchange)
    usage, expected.usage = expected.usage, None
    assert said_by_us(answer) == expected
    assert answer.completed.usage == as_usage(usage)
    assert answer.completed.finish_reason not in (v1.FINISH_REASON_UNSPECIFIED, v1.FINISH_REASON_OTHER)


@named(WHOLE)
@pytest.mark.parametrize("size", [1, 7, 61, 1024])
def test_cuts_make_no_difference(exchange: dict[str, Any], size: int) -> None:
    """Row 19: whatever pieces the bytes come in, and whatever the line ends are, the answer is the same."""
    body = exchange["body"].encode()
    whole = decoded(exchange, [body])
    bodies = [body, body.replace(b"\n", b"\r\n"), body.replace(b"\n", b"\r")]
    for same in bodies if exchange["stream"] else bodies[:1]:
        pieces = decoded(exchange, cut(same, size))
        assert pieces.parts == whole.parts
        assert pieces.completed == whole.completed
        assert pieces.progress == whole.progress


@named(STREAMS)
def test_truncated_anywhere_is_an_error(exchange: dict[str, Any]) -> None:
    """Row 3: cut after any event before the end marker, and also inside of one, the stream is truncated."""
    body = exchange["body"].encode()
    events = body.split(b"\n\n")
    last = next(
        index for index, event in enumerate(events) if b"[DONE]" in event or event.startswith(b"event: error")
    )
    ends = [len(b"\n\n".join(events[:index])) for index in range(1, last + 1)]
    for end in (*ends, *(end - 3 for end in ends)):
        with pytest.raises(GenerationError) as raised:
            decode([body[:end]])
        assert raised.value.reason is Reason.STREAM_TRUNCATED


@named(FAILED)
async def test_failures_in_mid_stream(exchange: dict[str, Any]) -> None:
    """Row 4: where the SDK raises in mid-stream, so do we, with what the provider said."""
    with pytest.raises(APIError) as expected:
        await read_by_sdk(exchange)
    with pytest.raises(GenerationError) as raised:
        decoded(exchange, [exchange["body"].encode()])
    assert raised.value.fact.message == expected.value.message
    assert raised.value.reason is Reason.PROVIDER_ERROR


@named(REFUSED)
def test_refusals(exchange: dict[str, Any]) -> None:
    """An answer with another status is told apart, with what the provider said."""
    error = OpenAIFormat().classify(exchange["status"], exchange["headers"], exchange["body"].encode())
    assert error.reason is Reason.INVALID_REQUEST
    assert error.fact.message == json.loads(exchange["body"])["error"]["message"]
