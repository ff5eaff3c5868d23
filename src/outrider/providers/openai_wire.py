"""What is read of Chat Completions answers and their stream chunks; other fields are skipped unparsed.

Fields whose type differs from vendor to vendor are `Any`: one odd field must not cost the answer.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

FORMAT: Final = "openai"
"""`OpaquePart.format` of parts that this wire format gives out and takes back."""

REASONING_DETAILS: Final = "reasoning_details"
"""`OpaquePart.type` of OpenRouter's reasoning blocks, which must come back as they were:
https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning-blocks"""


class Function(msgspec.Struct, gc=False):
    """A function's name and arguments, or a piece of them."""

    name: str | None = None
    arguments: Any = None  # JSON text; Ollama sends the object itself


class ToolCall(msgspec.Struct, gc=False):
    """A tool call, or a piece of one."""

    index: int | None = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None  # Gemini's thought signature


class Delta(msgspec.Struct, gc=False):
    """The message, or what is to be appended to it."""

    content: Any = None  # a string; a list of parts from Mistral's reasoning models
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    extra_content: Any = None  # Gemini's thought signature
    refusal: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; this sidecar asks for one."""

    index: int | None = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    usage: Any = None  # Moonshot's place for it
    error: Any = None  # OpenRouter's, where the answer broke off


class XGroq(msgspec.Struct, gc=False):
    """Groq's own field."""

    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream, or a whole answer."""

    id: Any = None
    model: Any = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: XGroq | None = None


CHUNK: Final = msgspec.json.Decoder(Chunk, strict=False)
ANYTHING: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()
