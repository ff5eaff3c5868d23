"""Counts the tokens of whole requests: the TokenCounter port, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

from outrider.core.token_estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from outrider import v1

_COUNTED_UP_TO = 1_000_000  # characters; longer requests are estimated even with a vocabulary
_MODELS = 1_024  # whose family is remembered; callers choose their names
_CHARS_PER_TOKEN = 4  # of an answer whose text is no longer there

_PER_MESSAGE = 4  # role and delimiters
_PER_NAME = 1

# Media are not decoded, so these are no more than magnitudes. docs/accounting.md gives their sources.
_PER_IMAGE = 1_500  # about 1,100 by 1,100 pixels
_PER_LINK = 3_000  # a sound or file of which only the address is known
_BYTES_PER_AUDIO_TOKEN = 2_000
_BYTES_PER_FILE_TOKEN = 30
_BYTES_PER_REDACTED_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Family:
    """What models of a kind make of a request, as far as it is known from the outside."""

    vocabulary: str = ""  # tiktoken's name for it; empty where it is not public
    factor: float = 1.0  # tokens for each one of o200k_base
    per_request: int = 3  # the beginning of the answer, and what a provider puts before the conversation
    per_tools: int = 12  # once, where there are tools
    per_tool: int = 7
    schema: float = 0.6  # tokens for each one of a JSON Schema as it stands
    per_format: int = 5  # where the answer has to follow a schema


# Overheads of text from https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken"; all
# others are what was left of providers' own counts when the text had been subtracted.
_OPENAI = Family("o200k_base")
_OPENAI_OLD = Family("cl100k_base")
_GPT_OSS = Family("o200k_base", per_request=66)
_LLAMA = Family(per_request=31)
_OTHER = Family()
# Claude's vocabularies are not public; the second one makes about 30 % more of the same text:
# https://platform.claude.com/docs/en/build-with-claude/token-counting.
_CLAUDE_OLD = Family(factor=1.15, per_tools=210, per_tool=100, schema=1.0, per_format=105)
_CLAUDE = Family(factor=1.5, per_tools=210, per_tool=100, schema=1.0, per_format=105)

# By the beginning of the name; the first that fits.
_FAMILIES = (
    ("claude-opus-4-7", _CLAUDE),
    ("claude-opus-4-8", _CLAUDE),
    ("claude-opus-4", _CLAUDE_OLD),
    ("claude-sonnet-4", _CLAUDE_OLD),
    ("claude-haiku-4", _CLAUDE_OLD),
    ("claude-3", _CLAUDE_OLD),
    ("claude-", _CLAUDE),
    ("gpt-4o", _OPENAI),
    ("gpt-4.", _OPENAI),
    ("gpt-4", _OPENAI_OLD),
    ("gpt-3.5", _OPENAI_OLD),
    ("gpt-5", _OPENAI),
    ("gpt-oss", _GPT_OSS),
    ("chatgpt-4o", _OPENAI),
    ("o1", _OPENAI),
    ("o3", _OPENAI),
    ("o4", _OPENAI),
    ("llama-3.3", _LLAMA),
)


class LocalTokenCounter:
    """Counts with the vocabularies it is given, by tiktoken's names, and estimates for all other models."""

    def __init__(self, vocabularies: Mapping[str, Callable[[str], int]]) -> None:
        self._vocabularies = vocabularies

    def count_input(self, request: v1.GenerateRequest, model: str) -> tuple[int, bool]:
        """Input tokens, and whether they were counted with the model's vocabulary.

        Only conversations of text are: how tools, schemas and media reach a model is nowhere published.
        """
        family = family_of(model)
        reading = _Reading(family, fixed=family.per_request)
        reading.read(request)
        vocabulary = self._vocabularies.get(family.vocabulary)
        if vocabulary is None or sum(map(len, (*reading.texts, *reading.schemas))) > _COUNTED_UP_TO:
            texts = estimate("\n".join(reading.texts))
            schemas = estimate("\n".join(reading.schemas))
            return ceil(reading.fixed + family.factor * (texts + family.schema * schemas)), False
        texts = sum(map(vocabulary, reading.texts))
        schemas = sum(map(vocabulary, reading.schemas))
        return ceil(reading.fixed + texts + family.schema * schemas), reading.only_text

    def count_output(self, chars: int, model: str) -> int:
        """An estimate for this many generated characters."""
        return ceil(max(0, chars) / _CHARS_PER_TOKEN * family_of(model).factor)


@lru_cache(_MODELS)
def family_of(model: str) -> Family:
    """The family of a model, by its own name: a vendor's prefix ("openai/") and dots do not matter."""
    name = model.rpartition("/")[2].lower()
    if name.startswith("claude"):
        name = name.replace(".", "-")
    return next((family for prefix, family in _FAMILIES if name.startswith(prefix)), _OTHER)


@dataclass(slots=True)
class _Reading:
    """What a model reads of a request: texts and schemas to be counted, and what has a fixed size."""

    family: Family
    fixed: float
    texts: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    only_text: bool = True

    def read(self, request: v1.GenerateRequest) -> None:
        for message in request.messages:
            self.fixed += _PER_MESSAGE
            if message.name:
                self.fixed += _PER_NAME
                self.texts.append(message.name)
            self._read_parts(message.parts)
        if request.tools:
            self.only_text = False
            self.fixed += self.family.per_tools + self.family.per_tool * len(request.tools)
        for tool in request.tools:
            self.texts += (tool.name, tool.description)
            self.schemas.append(tool.parameters_json_schema)
        if request.response_format.WhichOneof("format") == "json_schema":
            self.only_text = False
            wanted = request.response_format.json_schema
            self.fixed += self.family.per_format
            self.texts += (wanted.name, wanted.description)
            self.schemas.append(wanted.json_schema)

    def _read_parts(self, parts: Iterable[v1.Part]) -> None:
        for part in parts:
            kind = part.WhichOneof("content")
            if kind == "text":
                self.texts.append(part.text)
                continue
            self.only_text = False
            if kind == "tool_call":
                self.fixed += _PER_MESSAGE
                self.texts += (part.tool_call.name, part.tool_call.arguments_json)
            elif kind == "tool_result":
                self._read_parts(part.tool_result.parts)
            elif kind == "reasoning":
                self.texts.append(part.reasoning.text)
                self.fixed += len(part.reasoning.redacted) / _BYTES_PER_REDACTED_TOKEN
            elif kind == "opaque":
                self.texts.append(part.opaque.json)
            elif kind is not None:
                self._read_media(kind, getattr(part, kind))

    def _read_media(self, kind: str, media: v1.Media) -> None:
        if kind == "image":
            self.fixed += _PER_IMAGE
        elif not media.data:
            self.fixed += _PER_LINK
        elif media.mime_type.startswith("text/"):
            self.texts.append(media.data.decode(errors="replace"))
        elif kind == "audio":
            self.fixed += len(media.data) / _BYTES_PER_AUDIO_TOKEN
        else:
            self.fixed += len(media.data) / _BYTES_PER_FILE_TOKEN
