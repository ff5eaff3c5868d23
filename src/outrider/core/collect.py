"""Events, collected into one answer."""

from __future__ import annotations

from outrider import v1


class Collector:
    """Builds a CompleteResponse from the events of a stream, in order. Takes time in line with their size."""

    def __init__(self) -> None:
        self._response = v1.CompleteResponse(message=v1.Message(role=v1.ROLE_ASSISTANT))
        self._parts: dict[int, v1.Part] = {}
        self._pieces: dict[int, list[str]] = {}

    def add(self, event: v1.GenerateResponse) -> None:
        """Add the next event."""
        kind = event.WhichOneof("event")
        if kind == "text_delta":
            part = self._append(event.text_delta.part, event.text_delta.text)
            part.text = part.text  # an empty text is a text
            _sign(part, event.text_delta)
        elif kind == "reasoning_delta":
            part = self._append(event.reasoning_delta.part, event.reasoning_delta.text)
            part.reasoning.redacted += event.reasoning_delta.redacted
            _sign(part, event.reasoning_delta)
        elif kind == "tool_call_delta":
            self._add_tool_call(event.tool_call_delta)
        elif kind == "opaque_delta":
            part = self._part(event.opaque_delta.part)
            part.opaque.CopyFrom(event.opaque_delta.opaque)
            part.signed_by = event.opaque_delta.signed_by
        elif kind == "started":
            self._response.started.CopyFrom(event.started)
        elif kind == "completed":
            self._response.completed.CopyFrom(event.completed)

    @property
    def response(self) -> v1.CompleteResponse:
        """What the events so far make; more may follow."""
        for position, pieces in self._pieces.items():
            _put_text(self._parts[position], "".join(pieces))
            pieces.clear()
        return self._response

    def _add_tool_call(self, delta: v1.ToolCallDelta) -> None:
        part = self._append(delta.part, delta.arguments_json)
        part.tool_call.id = part.tool_call.id or delta.id
        part.tool_call.name = part.tool_call.name or delta.name
        _sign(part, delta)

    def _append(self, position: int, text: str) -> v1.Part:
        # Appended in the message itself, a long answer of many pieces would be copied for each of them.
        if text:
            self._pieces.setdefault(position, []).append(text)
        return self._part(position)

    def _part(self, position: int) -> v1.Part:
        part = self._parts.get(position)
        if part is None:
            part = self._parts[position] = self._response.message.parts.add()
        return part


def _put_text(part: v1.Part, text: str) -> None:
    kind = part.WhichOneof("content")
    if kind == "text":
        part.text += text
    elif kind == "reasoning":
        part.reasoning.text += text
    elif kind == "tool_call":
        part.tool_call.arguments_json += text


def _sign(part: v1.Part, delta: v1.TextDelta | v1.ReasoningDelta | v1.ToolCallDelta) -> None:
    # Signatures come whole: a second one replaces the first.
    if delta.signature:
        part.signature = delta.signature
    if delta.signed_by:
        part.signed_by = delta.signed_by
