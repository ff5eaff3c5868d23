"""One answer of Chat Completions, put together from stream chunks or from its only object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers import lenient_json, rejection
from outrider.providers.batch import BatchBuilder
from outrider.providers.openai_reasoning import ReasoningDetails
from outrider.providers.openai_tool_calls import ToolCalls, thought_signature
from outrider.providers.openai_usage import UsageReader
from outrider.providers.openai_wire import ANYTHING

if TYPE_CHECKING:
    from outrider.core.context import Progress
    from outrider.core.ports import Batch
    from outrider.providers.openai_wire import Choice, Chunk, Delta, XGroq

_FINISH_REASONS: Final = {
    "stop": v1.FINISH_REASON_STOP,
    "eos": v1.FINISH_REASON_STOP,  # Together
    "length": v1.FINISH_REASON_MAX_TOKENS,
    "model_length": v1.FINISH_REASON_MAX_TOKENS,  # Mistral
    "model_context_window_exceeded": v1.FINISH_REASON_MAX_TOKENS,  # Z.ai
    "tool_calls": v1.FINISH_REASON_TOOL_CALLS,
    "function_call": v1.FINISH_REASON_TOOL_CALLS,
    "content_filter": v1.FINISH_REASON_CONTENT_FILTER,
    "sensitive": v1.FINISH_REASON_CONTENT_FILTER,  # Z.ai
}
_FAILURES: Final = {
    "error": Reason.PROVIDER_ERROR,  # OpenRouter, Mistral
    "network_error": Reason.PROVIDER_ERROR,  # Z.ai
    "insufficient_system_resource": Reason.PROVIDER_OVERLOADED,  # DeepSeek
}

_NONE: Final = 0
_TEXT: Final = 1
_REASONING: Final = 2
_TOOL_CALL: Final = 3


class Answer:
    """Numbers the parts: a new one begins where the kind of content changes, and with every tool call."""

    __slots__ = (
        "_batch",
        "_calls",
        "_details",
        "_finish_reason",
        "_kind",
        "_model",
        "_part",
        "_parts",
        "_progress",
        "_refused",
        "_response_id",
        "_usage",
    )

    def __init__(self, progress: Progress, signer: str) -> None:
        self._progress = progress
        self._batch = BatchBuilder(progress, signer)
        self._calls = ToolCalls(self._batch, self._new_tool_call)
        self._details = ReasoningDetails()
        self._usage = UsageReader()
        self._kind = _NONE
        self._part = 0
        self._parts = 0  # begun so far
        self._response_id = self._model = ""
        self._finish_reason: Any = None
        self._refused = False

    def read(self, chunk: Chunk, data: bytes) -> None:
        """Add a chunk, decoded from `data`. Raises GenerationError where it is an error."""
        if chunk.usage is not None:
            self._progress.usage = self._usage.read(chunk.usage)
        if chunk.error:
            raise rejection.classify_error(lenient_json.decode(ANYTHING, data))
        if chunk.x_groq is not None:
            self._read_x_groq(chunk.x_groq)
        if chunk.choices is None:
            _refuse_error_without_field(data)
            return
        if not self._response_id and chunk.id:
            self._response_id = str(chunk.id)
        if not self._model and chunk.model:
            self._model = str(chunk.model)
        for choice in chunk.choices:
            if not choice.index:
                self._read_choice(choice)

    def complete(self) -> None:
        """The provider says that this was all. Raises GenerationError where it has not said why."""
        word = "" if self._finish_reason is None else str(self._finish_reason)
        if not word:
            raise GenerationError(Reason.STREAM_TRUNCATED, "the provider's answer has no finish reason")
        if word in _FAILURES:
            raise GenerationError(_FAILURES[word], f"the provider ended the answer with {word!r}")
        self._calls.close()
        if (opaque := self._details.opaque()) is not None:
            self._batch.opaque(self._parts, opaque)
        completed = v1.Completed(
            finish_reason=self._outcome(word),
            provider_finish_reason=word,
            response_id=self._response_id,
            response_model=self._model,
        )
        if self._progress.usage is not None:
            completed.usage.CopyFrom(self._progress.usage)
        self._batch.completed(completed)

    def take(self) -> Batch:
        """The events so far, leaving none behind."""
        return self._batch.take()

    def _outcome(self, word: str) -> v1.FinishReason:
        outcome = _FINISH_REASONS.get(word.lower(), v1.FINISH_REASON_OTHER)
        if outcome == v1.FINISH_REASON_STOP:
            if self._refused:
                return v1.FINISH_REASON_REFUSAL
            if self._calls:
                return v1.FINISH_REASON_TOOL_CALLS  # Gemini and Ollama say "stop"
        return outcome

    def _read_x_groq(self, field: XGroq) -> None:
        if field.usage is not None:
            self._progress.usage = self._usage.read(field.usage)
        if field.error:
            raise rejection.classify_error(field.error)

    def _read_choice(self, choice: Choice) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            self._read_delta(delta)
        if choice.usage is not None:
            self._progress.usage = self._usage.read(choice.usage)
        if choice.error:
            raise rejection.classify_error(choice.error)
        reason = choice.finish_reason
        if reason is not None and reason != "":
            self._finish_reason = reason

    def _read_delta(self, delta: Delta) -> None:
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            self._read_reasoning(delta)
        content = delta.content
        if content:
            if type(content) is str:
                self._text(content)
            else:
                self._read_parts(content)
        if delta.refusal and isinstance(delta.refusal, str):
            self._refused = True
            self._text(delta.refusal)
        if delta.extra_content is not None and (signature := thought_signature(delta.extra_content)):
            self._text("", signature)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._calls.add(call)
        if delta.function_call is not None:
            self._calls.add_legacy(delta.function_call)

    def _read_reasoning(self, delta: Delta) -> None:
        text, signature = self._details.add(delta.reasoning_details)
        same = delta.reasoning_content or delta.reasoning  # vendors send one text under two or three names
        if isinstance(same, str) and same:
            text = same
        if text or signature:
            self._reasoning(text, signature)

    def _read_parts(self, content: object) -> None:
        """Mistral's reasoning models: https://docs.mistral.ai/capabilities/reasoning"""
        for part in content if isinstance(content, list) else (content,):
            if not isinstance(part, dict):
                continue
            thinking = part.get("thinking")
            for piece in thinking if isinstance(thinking, list) else ():
                if isinstance(piece, dict) and isinstance(piece.get("text"), str):
                    self._reasoning(piece["text"])
            if isinstance(thinking, str):
                self._reasoning(thinking)
            elif isinstance(part.get("text"), str):
                self._text(part["text"])

    def _text(self, text: str, signature: bytes = b"") -> None:
        if self._kind != _TEXT:
            self._begin(_TEXT)
        self._batch.text(self._part, text, signature)

    def _reasoning(self, text: str, signature: bytes = b"") -> None:
        if self._kind != _REASONING:
            self._begin(_REASONING)
        self._batch.reasoning(self._part, text, signature)

    def _new_tool_call(self) -> int:
        self._begin(_TOOL_CALL)
        return self._part

    def _begin(self, kind: int) -> None:
        self._kind = kind
        self._part = self._parts
        self._parts += 1


def _refuse_error_without_field(data: bytes) -> None:
    """Raise where an object without choices is an error in another shape, such as Mistral's or FastAPI's."""
    answer = lenient_json.decode(ANYTHING, data)
    if answer.get("object") == "error" or answer.get("message") or answer.get("detail"):
        raise rejection.classify_error(answer)
