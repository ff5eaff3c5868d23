"""Answers of Anthropic's Messages API, streamed or whole, as events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers import lenient_json, rejection
from outrider.providers.anthropic_blocks import Parts, open_block
from outrider.providers.anthropic_wire import ANYTHING, EVENT, MESSAGE, Usage
from outrider.providers.batch import BatchBuilder
from outrider.providers.stream_decoder import SseDecoder, truncated

if TYPE_CHECKING:
    from outrider.core.context import Progress
    from outrider.core.ports import Batch
    from outrider.providers.anthropic_blocks import Block
    from outrider.providers.anthropic_wire import Event, Message
    from outrider.providers.sse import SseEvent

_FINISH_REASONS: Final = {
    "end_turn": v1.FINISH_REASON_STOP,
    "stop_sequence": v1.FINISH_REASON_STOP,
    "max_tokens": v1.FINISH_REASON_MAX_TOKENS,
    "model_context_window_exceeded": v1.FINISH_REASON_MAX_TOKENS,
    "tool_use": v1.FINISH_REASON_TOOL_CALLS,
    "refusal": v1.FINISH_REASON_REFUSAL,
    "pause_turn": v1.FINISH_REASON_PAUSED,
}


class _Answer:
    """What an answer says of itself besides its blocks; ends as `Completed`."""

    __slots__ = ("_completed", "_progress", "_usage")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._usage: Usage | None = None
        self._completed = v1.Completed()

    def head(self, message: Message) -> None:
        self._completed.response_id = message.id or ""
        self._completed.response_model = message.model or ""
        self.count(message.usage)

    def stop(self, reason: str | None, sequence: str | None) -> None:
        if reason:
            self._completed.provider_finish_reason = reason
            self._completed.finish_reason = _FINISH_REASONS.get(reason, v1.FINISH_REASON_OTHER)
        if sequence:
            self._completed.stop_sequence = sequence

    def count(self, usage: Usage | None) -> None:
        if usage is None:
            return
        if self._usage is None:
            self._usage = usage
        else:
            self._usage.merge(usage)
        self._progress.usage = self._usage.totals()

    def completed(self) -> v1.Completed:
        """The end, once the answer has said why; raises GenerationError where it has not."""
        if not self._completed.provider_finish_reason:
            raise GenerationError(Reason.STREAM_TRUNCATED, "the answer ended without a stop reason")
        if self._progress.usage is not None:
            self._completed.usage.CopyFrom(self._progress.usage)
        return self._completed


class StreamDecoder(SseDecoder):
    """Decodes server-sent events. The answer is whole with `message_stop`, and nothing after it counts."""

    __slots__ = ("_answer", "_batch", "_blocks", "_empty", "_parts")

    def __init__(self, progress: Progress, signer: str) -> None:
        super().__init__()
        self._batch = BatchBuilder(progress, signer)
        self._parts = Parts(self._batch)
        self._blocks: dict[int, Block] = {}
        self._answer = _Answer(progress)
        self._empty = True

    def _read(self, events: list[SseEvent]) -> Batch:
        for name, data in events:
            if self.done:
                break
            self._empty = False
            if name == b"error":
                raise rejection.classify_error(lenient_json.decode(ANYTHING, data))
            if data and name != b"ping":
                event = lenient_json.decode(EVENT, data)
                self._take(event.type or name.decode("utf-8", "replace"), event, data)
        return self._batch.take()

    def _taken(self) -> Batch:
        return self._batch.take()

    def _end(self) -> Batch:
        if self._empty:
            raise _protocol_error("no event")
        raise truncated("before message_stop")

    def _take(self, kind: str, event: Event, data: bytes) -> None:
        if event.error is not None:
            raise rejection.classify_error(lenient_json.decode(ANYTHING, data))
        match kind:
            case "content_block_delta":
                block = self._blocks.get(event.index)
                if block is None:
                    raise _protocol_error("a delta of a block that is not open")
                if event.delta is not None:
                    block.add(event.delta, data)
            case "content_block_start":
                self._close(event.index)
                self._blocks[event.index] = open_block(self._parts, bytes(event.content_block))
            case "content_block_stop":
                self._close(event.index)
            case _:
                self._take_message(kind, event)

    def _take_message(self, kind: str, event: Event) -> None:
        if kind == "message_start" and event.message is not None:
            self._answer.head(event.message)
        elif kind == "message_delta":
            if event.delta is not None:
                self._answer.stop(event.delta.stop_reason, event.delta.stop_sequence)
            self._answer.count(event.usage)
        elif kind == "message_stop":
            for index in list(self._blocks):
                self._close(index)
            self._batch.completed(self._answer.completed())
            self.done = True

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is not None:
            block.close()


class MessageDecoder:
    """Decodes an answer in one piece, when all of it has come."""

    __slots__ = ("_body", "_progress", "_signer", "done", "error")

    def __init__(self, progress: Progress, signer: str) -> None:
        self._progress = progress
        self._signer = signer
        self._body: list[bytes] = []
        self.done = False
        self.error: GenerationError | None = None

    def feed(self, data: bytes) -> Batch:
        """Keep the bytes; there are no events before the end."""
        self._body.append(data)
        return []

    def finish(self) -> Batch:
        """The whole answer. Raises GenerationError."""
        body = b"".join(self._body)
        message = lenient_json.decode(MESSAGE, body)
        if message.error is not None or message.type == "error":
            raise rejection.classify_error(lenient_json.decode(ANYTHING, body))
        if message.content is None:
            raise _protocol_error("JSON that is not a message")
        answer = _Answer(self._progress)
        answer.head(message)
        answer.stop(message.stop_reason, message.stop_sequence)
        batch = BatchBuilder(self._progress, self._signer)
        parts = Parts(batch)
        for start in message.content:
            open_block(parts, bytes(start)).close()
        batch.completed(answer.completed())
        self.done = True
        return batch.take()


def _protocol_error(what: str) -> GenerationError:
    return GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, f"the provider sent {what}")
