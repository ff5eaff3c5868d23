"""The events and the usage of a simulated answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.providers.batch import BatchBuilder
from outrider.providers.simulated_script import CHARS_PER_TOKEN, FINISHES, CallTool, Finish, Say, Think

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.core.ports import Batch, Call
    from outrider.providers.simulated_script import Step


class SimulatedAnswer:
    """What has been said so far, and what of it was not yet given out."""

    def __init__(self, call: Call, response_id: str) -> None:
        self._progress = call.progress
        self._builder = BatchBuilder(call.progress)
        self._model = call.model
        self._response_id = response_id
        self._usage = v1.Usage(input_tokens=input_tokens(call.request), source=v1.USAGE_SOURCE_PROVIDER)
        self._part = -1
        self._kind: type[Step] | None = None
        self._reasoning_chars = 0
        self.finish = Finish("stop")
        self.pending = False
        self._progress.usage = self._usage

    def add(self, step: Say | Think, chunk: str) -> None:
        """Say or think a chunk; a part lasts as long as the kind of step does."""
        self.pending = True
        if self._kind is not type(step):
            self._begin(type(step))
        if isinstance(step, Say):
            self._builder.text(self._part, chunk)
        else:
            self._builder.reasoning(self._part, chunk)
            self._reasoning_chars += len(chunk)

    def call(self, step: CallTool) -> None:
        """Call a tool, in a part of its own."""
        self.pending = True
        self._begin(CallTool)
        self._builder.tool_call(self._part, f"call_{self._part}", step.name, step.arguments_json)
        self.finish = Finish("tool_calls")

    def take(self) -> Batch:
        """What was not yet given out; empty unless `pending`."""
        self.pending = False
        return self._builder.take()

    def complete(self) -> Batch:
        """The rest, and the end."""
        batch = self.take()
        self._usage.output_tokens = _tokens(self._progress.output_chars)
        self._usage.reasoning_output_tokens = _tokens(self._reasoning_chars)
        completed = v1.Completed(
            finish_reason=FINISHES[self.finish.reason],
            provider_finish_reason=self.finish.reason,
            usage=self._usage,
            response_id=self._response_id,
            response_model=self._model,
            stop_sequence=self.finish.stop_sequence,
        )
        return [*batch, v1.GenerateResponse(completed=completed)]

    def _begin(self, kind: type[Step]) -> None:
        self._part += 1
        self._kind = kind


def input_tokens(request: v1.GenerateRequest) -> int:
    """Tokens of a prompt with its tools; media count for nothing."""
    messages = sum(_chars(message.parts) for message in request.messages)
    tools = sum(
        len(tool.name) + len(tool.description) + len(tool.parameters_json_schema) for tool in request.tools
    )
    return _tokens(messages + tools)


def _chars(parts: Iterable[v1.Part]) -> int:
    return sum(
        len(part.text)
        + len(part.reasoning.text)
        + len(part.tool_call.arguments_json)
        + _chars(part.tool_result.parts)
        for part in parts
    )


def _tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)
