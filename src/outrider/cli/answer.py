"""An answer on its way out, event by event: as text for a person, or as JSON for a machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from google.protobuf.json_format import MessageToJson

from outrider import v1
from outrider.cli.summary import write_summary
from outrider.cli.terminal import dim, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from google.protobuf.message import Message


class Answer(Protocol):
    """Where an answer goes."""

    def show(self, event: v1.GenerateResponse) -> None:
        """Show the next event of a stream."""

    def show_whole(self, response: v1.CompleteResponse) -> None:
        """Show an answer that comes in one piece."""

    def end(self) -> None:
        """Nothing more comes, whether the answer is whole or not."""


class JsonAnswer:
    """One line for each message, on standard output, in protobuf's JSON with the API's field names."""

    def show(self, event: v1.GenerateResponse) -> None:
        """Write a GenerateResponse."""
        print(_json_line(event), flush=True)

    def show_whole(self, response: v1.CompleteResponse) -> None:
        """Write a CompleteResponse."""
        print(_json_line(response), flush=True)

    def end(self) -> None:
        """Nothing: every line is whole."""


class TextAnswer:
    """The text on standard output, and nothing else there; everything about it on standard error.

    A pipe or file gets the text as it came, a terminal gets it without control characters.
    """

    def __init__(self, *, reasoning: bool) -> None:
        self._shows_reasoning = reasoning or sys.stderr.isatty()
        self._on_terminal = sys.stdout.isatty()
        self._started = v1.Started()
        self._calls: dict[int, v1.ToolCall] = {}
        self._shown = ""  # "text" or "reasoning": what was written last
        self._last = ""  # character of the text

    def show(self, event: v1.GenerateResponse) -> None:
        """Write what the event adds."""
        kind = event.WhichOneof("event")
        if kind == "text_delta":
            self._show_text(event.text_delta.text)
        elif kind == "reasoning_delta":
            self._show_reasoning(event.reasoning_delta.text)
        elif kind == "tool_call_delta":
            self._collect(event.tool_call_delta)
        elif kind == "started":
            self._started = event.started
        elif kind == "completed":
            self._complete(event.completed)

    def show_whole(self, response: v1.CompleteResponse) -> None:
        """Write everything."""
        for event in _events(response):
            self.show(event)

    def end(self) -> None:
        """Begin a new line, where what follows would stand beside the answer: not in the answer itself."""
        if self._shown == "reasoning":
            _write(sys.stderr, "\n")
        elif self._last not in ("", "\n"):
            _write(sys.stdout if self._on_terminal else sys.stderr, "\n")
        self._shown = self._last = ""

    def _show_text(self, text: str) -> None:
        if not text:
            return
        if self._shown == "reasoning":
            _write(sys.stderr, "\n\n")
        self._shown, self._last = "text", text[-1]
        try:
            _write(sys.stdout, harmless(text) if self._on_terminal else text)
        except OSError:
            self._last = ""  # nobody reads: there is no line to be ended
            raise

    def _show_reasoning(self, text: str) -> None:
        if not (text and self._shows_reasoning):
            return
        if self._shown == "text":
            self.end()
        self._shown = "reasoning"
        _write(sys.stderr, dim(harmless(text), sys.stderr))

    def _collect(self, delta: v1.ToolCallDelta) -> None:
        call = self._calls.setdefault(delta.part, v1.ToolCall())
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        call.arguments_json += delta.arguments_json

    def _complete(self, completed: v1.Completed) -> None:
        self.end()
        if sys.stderr.isatty():
            _write(sys.stderr, "\n")
        for call in self._calls.values():
            _write(sys.stderr, f"{_json_line(call)}\n")
        write_summary(self._started, completed, sys.stderr)


def _events(response: v1.CompleteResponse) -> Iterator[v1.GenerateResponse]:
    """The events from which an answer could have been collected."""
    yield v1.GenerateResponse(started=response.started)
    for position, part in enumerate(response.message.parts):
        kind = part.WhichOneof("content")
        if kind == "text":
            yield v1.GenerateResponse(text_delta=v1.TextDelta(text=part.text))
        elif kind == "reasoning":
            yield v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(text=part.reasoning.text))
        elif kind == "tool_call":
            call = part.tool_call
            delta = v1.ToolCallDelta(
                part=position, id=call.id, name=call.name, arguments_json=call.arguments_json
            )
            yield v1.GenerateResponse(tool_call_delta=delta)
    yield v1.GenerateResponse(completed=response.completed)


def _json_line(message: Message) -> str:
    return MessageToJson(message, preserving_proto_field_name=True, indent=None)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
