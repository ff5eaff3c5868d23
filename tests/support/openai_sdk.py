"""What OpenAI's SDK makes of a recorded answer, to hold ours against.

The SDK is asked for its chunks, not for what it adds up: its own sum keeps Azure's empty id and lets a null
erase usage. It knows no reasoning; that is read from the fields it keeps without a type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

from openai import AsyncOpenAI

from outrider import v1
from tests.support.recorded import labelled
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

    from tests.support.recorded import Recording


@dataclass
class Said:
    """What an answer says, whoever has read it."""

    text: str = ""
    reasoning: str = ""
    signatures: list[str] = field(default_factory=list)
    calls: list[list[Any]] = field(default_factory=list)  # id, name, arguments; ANY where no id was sent
    finish_reason: str = ""
    usage: v1.Usage | None = None
    response_id: str = ""
    model: str = ""


def said_by(message: v1.Message, completed: v1.Completed) -> Said:
    """What our own answer says."""
    said = Said(
        finish_reason=completed.provider_finish_reason,
        response_id=completed.response_id,
        model=completed.response_model,
        usage=completed.usage if completed.usage.source == v1.USAGE_SOURCE_PROVIDER else None,
    )
    for part in message.parts:
        said.text += part.text
        said.reasoning += part.reasoning.text
        if part.HasField("tool_call"):
            said.calls.append([part.tool_call.id, part.tool_call.name, part.tool_call.arguments_json])
        if part.HasField("reasoning") and part.signature:
            said.signatures.append(part.signature.decode())
    return said


async def said_by_sdk(recording: Recording) -> Said:
    """What the SDK finds in an answer. Raises APIError where it does."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
    said = Said()
    async with (
        Upstream(labelled(recording)) as upstream,
        AsyncOpenAI(base_url=upstream.url, api_key="key", max_retries=0) as client,
    ):
        if recording.stream:
            async for chunk in await client.chat.completions.create(
                model="m", messages=messages, stream=True
            ):
                _add(said, chunk)
        else:
            _add(said, await client.chat.completions.create(model="m", messages=messages))
    for call in said.calls:
        call[2] = call[2] or "{}"
    return said


def _add(said: Said, answer: Any) -> None:
    """Add one of the SDK's chunks, or its whole completion."""
    said.response_id = said.response_id or answer.id or ""
    said.model = said.model or answer.model or ""
    extra = answer.model_extra or {}
    usage = answer.usage.to_dict(mode="json") if answer.usage else (extra.get("x_groq") or {}).get("usage")
    for choice in answer.choices or []:
        usage = usage or (choice.model_extra or {}).get("usage")  # Moonshot's place for it
        said.finish_reason = choice.finish_reason or said.finish_reason
        # Azure's filtered answer has neither.
        if message := getattr(choice, "delta", None) or getattr(choice, "message", None):
            _add_message(said, message)
    said.usage = _as_usage(usage) if usage else said.usage


def _add_message(said: Said, message: Any) -> None:
    extra = message.model_extra or {}
    for part in message.content if isinstance(message.content, list) else []:
        said.text += part.get("text", "")
        said.reasoning += "".join(piece["text"] for piece in part.get("thinking", []))
    said.text += message.content if isinstance(message.content, str) else ""
    said.text += message.refusal or ""
    said.reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
    details = extra.get("reasoning_details") or []
    said.signatures += [detail["signature"] for detail in details if detail.get("signature")]
    for call in message.tool_calls or []:
        begun = any(known[0] == call.id for known in said.calls) if call.id else not call.function.name
        if not begun:
            said.calls.append([call.id or ANY, call.function.name, ""])
        said.calls[call.index if begun else -1][2] += call.function.arguments or ""


def _as_usage(usage: dict[str, Any]) -> v1.Usage:
    """The vendor's counts as the ones that they should be."""
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
