"""Events, collected into one answer."""

from __future__ import annotations

from outrider import v1


class Collector:
    """Builds a CompleteResponse from the events of a stream, in order."""

    def __init__(self) -> None:
        self.response = v1.CompleteResponse(message=v1.Message(role=v1.ROLE_ASSISTANT))
        self._parts: dict[int, v1.Part] = {}

    def add(self, event: v1.GenerateResponse) -> None:
        """Add the next event."""
        kind = event.WhichOneof("event")
        if kind == "text_delta":
            part = self._part(event.text_delta.part)
            part.text += event.text_delta.text
            _sign(part, event.text_delta.signature)
        elif kind == "reasoning_delta":
            part = self._part(event.reasoning_delta.part)
            part.reasoning.text += event.reasoning_delta.text
            part.reasoning.redacted += event.reasoning_delta.redacted
            _sign(part, event.reasoning_delta.signature)
        elif kind == "tool_call_delta":
            self._add_tool_call(event.tool_call_delta)
        elif kind == "opaque_delta":
            self._part(event.opaque_delta.part).opaque.CopyFrom(event.opaque_delta.opaque)
        elif kind == "started":
            self.response.started.CopyFrom(event.started)
        elif kind == "completed":
            self.response.completed.CopyFrom(event.completed)

    def _add_tool_call(self, delta: v1.ToolCallDelta) -> None:
        part = self._part(delta.part)
        part.tool_call.id = part.tool_call.id or delta.id
        part.tool_call.name = part.tool_call.name or delta.name
        part.tool_call.arguments_json += delta.arguments_json
        _sign(part, delta.signature)

    def _part(self, position: int) -> v1.Part:
        part = self._parts.get(position)
        if part is None:
            part = self._parts[position] = self.response.message.parts.add()
        return part


def _sign(part: v1.Part, signature: bytes) -> None:
    # Signatures come whole: a second one replaces the first.
    if signature:
        part.signature = signature
