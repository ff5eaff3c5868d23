"""Chat Completions answers, streamed or whole, as events.

A stream is whole when it has given a finish reason and its end marker; silence is an error. Arguments of
tool calls are the model's own words: they are passed on unparsed, and may fail to be JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider.core.errors import GenerationError, Reason
from outrider.providers import lenient_json, rejection
from outrider.providers.openai_answer import Answer
from outrider.providers.openai_wire import ANYTHING, CHUNK
from outrider.providers.stream_decoder import SseDecoder, truncated

if TYPE_CHECKING:
    from outrider.core.context import Progress
    from outrider.core.ports import Batch
    from outrider.providers.sse import SseEvent

_DONE: Final = b"[DONE]"


class StreamDecoder(SseDecoder):
    """Decodes server-sent events. `done_marker`: whether `[DONE]` must come."""

    __slots__ = ("_answer", "_done_marker")

    def __init__(self, progress: Progress, signer: str, *, done_marker: bool) -> None:
        super().__init__()
        self._answer = Answer(progress, signer)
        self._done_marker = done_marker

    def _read(self, events: list[SseEvent]) -> Batch:
        answer = self._answer
        for event, payload in events:
            if self.done:
                break
            data = payload if payload.startswith(b"{") else payload.strip()
            if data.startswith(b"{") and event != b"error":
                answer.read(lenient_json.decode(CHUNK, data), data)
            elif data == _DONE:
                return self._complete()
            elif data:
                raise rejection.classify_error(lenient_json.decode(ANYTHING, data))
        return answer.take()

    def _taken(self) -> Batch:
        return self._answer.take()

    def _end(self) -> Batch:
        if self._done_marker:
            raise truncated("without its end marker")
        return self._complete()

    def _complete(self) -> Batch:
        self._answer.complete()
        self.done = True
        return self._answer.take()


class UnaryDecoder:
    """Decodes an answer that comes as one JSON object, whatever was asked for."""

    __slots__ = ("_answer", "_body", "done", "error")

    def __init__(self, progress: Progress, signer: str) -> None:
        self.done = False
        self.error: GenerationError | None = None  # content never comes before the end
        self._answer = Answer(progress, signer)
        self._body = bytearray()

    def feed(self, data: bytes) -> Batch:
        """Keep the bytes; there are no events before the end."""
        self._body += data
        return []

    def finish(self) -> Batch:
        """The whole answer. Raises GenerationError."""
        data = bytes(self._body)
        chunk = lenient_json.decode(CHUNK, data)
        self._answer.read(chunk, data)
        if not chunk.choices:
            raise GenerationError(
                Reason.PROVIDER_PROTOCOL_ERROR, "the provider sent an answer without choices"
            )
        self._answer.complete()
        self.done = True
        return self._answer.take()
