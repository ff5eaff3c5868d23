"""Content blocks of an answer, from their start to their stop, as parts of our message.

A block gives out a part when it first has something to say, so that parts are numbered without gaps.
Citations of text are left out: `v1` has no place for them, and the API takes text back without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

import msgspec

from outrider import v1
from outrider.providers import lenient_json
from outrider.providers.anthropic_content import FORMAT

if TYPE_CHECKING:
    from outrider.providers.anthropic_wire import Delta
    from outrider.providers.batch import BatchBuilder


class Parts:
    """The parts of an answer: where their deltas go, and the number of the next one."""

    __slots__ = ("_next", "batch")

    def __init__(self, batch: BatchBuilder) -> None:
        self.batch = batch
        self._next = 0

    def claim(self) -> int:
        """The number of a new part."""
        self._next += 1
        return self._next - 1


class Block(Protocol):
    """An open content block."""

    def add(self, delta: Delta, event: bytes) -> None:
        """More of it; `event` is the JSON that `delta` was read from."""

    def close(self) -> None:
        """It is whole."""


class _Start(msgspec.Struct):
    type: str


class _TextStart(msgspec.Struct):
    text: str | None = None


class _ThinkingStart(msgspec.Struct):
    thinking: str | None = None
    signature: str | None = None


class _RedactedStart(msgspec.Struct):
    data: str


class _ToolUseStart(msgspec.Struct):
    name: str
    id: str = ""
    input: msgspec.Raw = msgspec.Raw()


class _AnyDelta(msgspec.Struct):
    delta: dict[str, Any]


_START: Final = msgspec.json.Decoder(_Start)
_TEXT: Final = msgspec.json.Decoder(_TextStart)
_THINKING: Final = msgspec.json.Decoder(_ThinkingStart)
_REDACTED: Final = msgspec.json.Decoder(_RedactedStart)
_TOOL_USE: Final = msgspec.json.Decoder(_ToolUseStart)
_ANY_DELTA: Final = msgspec.json.Decoder(_AnyDelta)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_STRING: Final = msgspec.json.Decoder(str)


def open_block(parts: Parts, start: bytes) -> Block:
    """Begin a block by the JSON of its start, or take a whole one. Raises GenerationError."""
    kind = lenient_json.decode(_START, start).type
    match kind:
        case "text":
            return _Text(parts, start)
        case "thinking":
            return _Thinking(parts, start)
        case "redacted_thinking":
            return _RedactedThinking(parts, start)
        case "tool_use":
            return _ToolUse(parts, start)
    return _Opaque(parts, kind, start)


class _Text:
    __slots__ = ("_part", "_parts")

    def __init__(self, parts: Parts, start: bytes) -> None:
        self._parts = parts
        self._part = -1
        self._write(lenient_json.decode(_TEXT, start).text)

    def add(self, delta: Delta, event: bytes) -> None:
        self._write(delta.text)

    def close(self) -> None:
        pass

    def _write(self, text: str | None) -> None:
        if text:
            if self._part < 0:
                self._part = self._parts.claim()
            self._parts.batch.text(self._part, text)


class _Thinking:
    __slots__ = ("_part", "_parts", "_signature")

    def __init__(self, parts: Parts, start: bytes) -> None:
        self._parts = parts
        self._part = -1
        fields = lenient_json.decode(_THINKING, start)
        self._signature = fields.signature
        self._write(fields.thinking)

    def add(self, delta: Delta, event: bytes) -> None:
        self._signature = delta.signature or self._signature
        self._write(delta.thinking)

    def close(self) -> None:
        if self._signature:
            self._write("", self._signature.encode())

    def _write(self, text: str | None, signature: bytes = b"") -> None:
        if text or signature:
            if self._part < 0:
                self._part = self._parts.claim()
            self._parts.batch.reasoning(self._part, text or "", signature)


class _RedactedThinking:
    __slots__ = ()

    def __init__(self, parts: Parts, start: bytes) -> None:
        data = lenient_json.decode(_REDACTED, start).data
        parts.batch.reasoning(parts.claim(), "", redacted=data.encode())

    def add(self, delta: Delta, event: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class _ToolUse:
    """A tool that the caller runs."""

    __slots__ = ("_input", "_part", "_parts")

    def __init__(self, parts: Parts, start: bytes) -> None:
        fields = lenient_json.decode(_TOOL_USE, start)
        self._parts = parts
        self._part = parts.claim()
        given = bytes(fields.input).decode("utf-8", "replace")
        self._input = "{}" if given in ("", "null") else given
        parts.batch.tool_call(self._part, fields.id or f"toolu_{uuid4().hex}", fields.name)

    def add(self, delta: Delta, event: bytes) -> None:
        if delta.partial_json:
            self._input = ""
            self._parts.batch.tool_call(self._part, arguments=delta.partial_json)

    def close(self) -> None:
        if self._input:
            self._parts.batch.tool_call(self._part, arguments=self._input)


class _Opaque:
    """A block of a tool that the provider runs, or of a kind that is not known here: given out whole."""

    __slots__ = ("_fields", "_kind", "_parts", "_pieces", "_start")

    def __init__(self, parts: Parts, kind: str, start: bytes) -> None:
        self._parts = parts
        self._kind = kind
        self._start = start
        self._pieces: dict[str, list[str]] = {}
        self._fields: dict[str, Any] = {}

    def add(self, delta: Delta, event: bytes) -> None:
        """Text is appended to the field of the same name, as in every known delta; the rest replaces it."""
        for name, value in lenient_json.decode(_ANY_DELTA, event).delta.items():
            if name == "type":
                continue
            if isinstance(value, str):
                self._pieces.setdefault(name, []).append(value)
            else:
                self._fields[name] = value

    def close(self) -> None:
        opaque = v1.OpaquePart(format=FORMAT, type=self._kind, json=self._json())
        self._parts.batch.opaque(self._parts.claim(), opaque)

    def _json(self) -> str:
        if not self._pieces and not self._fields:
            return bytes(self._start).decode("utf-8", "replace")
        start = lenient_json.decode(_OBJECT, self._start)
        block: dict[str, Any] = {**start, **self._fields}
        for name, pieces in self._pieces.items():
            if name == "partial_json":
                block["input"] = _valid("".join(pieces)) or block.get("input")
            else:
                block[name] = _string(block.get(name)) + "".join(pieces)
        return msgspec.json.encode(block).decode()


def _valid(text: str) -> msgspec.Raw | None:
    """The text as JSON, None where it was cut short."""
    try:
        return _RAW.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _string(value: object) -> str:
    """The string that a field was given at the start, if it was."""
    try:
        return _STRING.decode(value) if isinstance(value, msgspec.Raw) else ""
    except (msgspec.DecodeError, RecursionError):
        return ""
