"""Building the batch of one network read: deltas that follow each other in one part become one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider import v1

if TYPE_CHECKING:
    from outrider.core.context import Progress
    from outrider.core.ports import Batch

_NONE: Final = 0
_TEXT: Final = 1
_REASONING: Final = 2
_TOOL_CALL: Final = 3


class BatchBuilder:
    """Merges deltas in order and counts their characters into `progress`. `signer` made what is signed.

    Signatures, ids and names are not appended: the last one that is not empty stands.
    """

    __slots__ = (
        "_call_id",
        "_events",
        "_kind",
        "_name",
        "_part",
        "_pieces",
        "_progress",
        "_redacted",
        "_signature",
        "_signer",
    )

    def __init__(self, progress: Progress, signer: str = "") -> None:
        self._progress = progress
        self._signer = signer
        self._events: Batch = []
        self._pieces: list[str] = []
        self._kind = _NONE
        self._part = 0
        self._signature = self._redacted = b""
        self._call_id = self._name = ""

    def text(self, part: int, text: str, signature: bytes = b"") -> None:
        """More text of a part."""
        if self._kind != _TEXT or self._part != part:
            self._start(_TEXT, part)
        self._pieces.append(text)
        if signature:
            self._signature = signature

    def reasoning(self, part: int, text: str, signature: bytes = b"", redacted: bytes = b"") -> None:
        """More reasoning of a part."""
        if self._kind != _REASONING or self._part != part:
            self._start(_REASONING, part)
        self._pieces.append(text)
        if signature:
            self._signature = signature
        if redacted:
            self._redacted = redacted

    def tool_call(
        self, part: int, call_id: str = "", name: str = "", arguments: str = "", signature: bytes = b""
    ) -> None:
        """A tool call, or more of its arguments."""
        if self._kind != _TOOL_CALL or self._part != part:
            self._start(_TOOL_CALL, part)
        self._pieces.append(arguments)
        if call_id:
            self._call_id = call_id
        if name:
            self._name = name
        if signature:
            self._signature = signature

    def opaque(self, part: int, opaque: v1.OpaquePart) -> None:
        """A whole part that only its provider understands."""
        self._flush()
        delta = v1.OpaqueDelta(part=part, opaque=opaque, signed_by=self._signer)
        self._events.append(v1.GenerateResponse(opaque_delta=delta))

    def completed(self, completed: v1.Completed) -> None:
        """The end of the answer; nothing may follow."""
        self._flush()
        self._events.append(v1.GenerateResponse(completed=completed))

    def take(self) -> Batch:
        """The events so far, leaving none behind."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _start(self, kind: int, part: int) -> None:
        self._flush()
        self._kind = kind
        self._part = part

    def _flush(self) -> None:
        kind = self._kind
        if kind == _NONE:
            return
        text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
        self._progress.output_chars += len(text)
        event = v1.GenerateResponse()
        delta: v1.TextDelta | v1.ReasoningDelta | v1.ToolCallDelta
        if kind == _TEXT:
            delta = event.text_delta
            delta.text = text
        elif kind == _REASONING:
            delta = event.reasoning_delta
            delta.text = text
            delta.redacted = self._redacted
        else:
            delta = event.tool_call_delta
            delta.arguments_json = text
            delta.id = self._call_id
            delta.name = self._name
        delta.part = self._part
        if self._signature:
            delta.signature = self._signature
        if self._signature or self._redacted:
            delta.signed_by = self._signer
        self._events.append(event)
        self._pieces.clear()
        self._kind = _NONE
        self._signature = self._redacted = b""
        self._call_id = self._name = ""
