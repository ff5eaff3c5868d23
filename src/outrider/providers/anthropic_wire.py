"""What Outrider reads of Anthropic's answers; every other field is skipped.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec

from outrider import v1

Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class CacheCreation(msgspec.Struct):
    """Tokens written to the cache, by how long they live there."""

    ephemeral_1h_input_tokens: Tokens | None = None


class OutputTokensDetails(msgspec.Struct):
    """Parts of the output tokens."""

    thinking_tokens: Tokens | None = None


class Usage(msgspec.Struct):
    """Tokens used so far; each count is a total, not an addition."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None

    def merge(self, later: Usage) -> None:
        """Take over what a later event counts; what it leaves out or says is null stays."""
        for name in self.__struct_fields__:
            if (value := getattr(later, name)) is not None:
                setattr(self, name, value)

    def totals(self) -> v1.Usage:
        """The counts as `v1` means them: Anthropic's input tokens leave out cached ones, ours hold them."""
        read = self.cache_read_input_tokens or 0
        written = self.cache_creation_input_tokens or 0
        written_1h = self.cache_creation.ephemeral_1h_input_tokens if self.cache_creation else 0
        output = self.output_tokens or 0
        thinking = self.output_tokens_details.thinking_tokens if self.output_tokens_details else 0
        return v1.Usage(
            input_tokens=(self.input_tokens or 0) + read + written,
            output_tokens=output,
            cached_input_tokens=read,
            cache_write_input_tokens=written,
            cache_write_1h_input_tokens=min(written_1h or 0, written),
            reasoning_output_tokens=min(thinking or 0, output),
            source=v1.USAGE_SOURCE_PROVIDER,
        )


class Delta(msgspec.Struct):
    """More of a content block, or of the message."""

    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Message(msgspec.Struct):
    """An answer: whole, or its head in `message_start`."""

    type: str = ""
    id: str | None = None
    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    error: Any = None


class Event(msgspec.Struct):
    """An event of a stream."""

    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: msgspec.Raw = msgspec.Raw()
    message: Message | None = None
    usage: Usage | None = None
    error: Any = None


class Count(msgspec.Struct):
    """The answer to a token count."""

    input_tokens: Tokens


EVENT: Final = msgspec.json.Decoder(Event)
MESSAGE: Final = msgspec.json.Decoder(Message)
ANYTHING: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()
COUNT: Final = msgspec.json.Decoder(Count)
