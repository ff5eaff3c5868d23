"""What decoders of server-sent events have in common: how a stream fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason
from outrider.providers.sse import SseParser

if TYPE_CHECKING:
    from outrider.core.ports import Batch
    from outrider.providers.sse import SseEvent


class SseDecoder(ABC):
    """A Decoder; a format says how to read its events, and whether a stream that ended was whole."""

    __slots__ = ("_parser", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: GenerationError | None = None
        self._parser = SseParser()

    def feed(self, data: bytes) -> Batch:
        """The events that these bytes complete. Raises GenerationError, or keeps it behind content."""
        if self.error is not None:
            raise self.error
        try:
            return self._read(self._parser.feed(data))
        except GenerationError as error:
            batch = self._taken()
            if not batch:
                raise
            self.error = error
            return batch

    def finish(self) -> Batch:
        """The body has ended. Raises GenerationError where the answer is not whole."""
        if self.error is not None:
            raise self.error
        try:
            batch = self._read(self._parser.finish())
        except GenerationError as error:
            if error.reason is Reason.PROVIDER_PROTOCOL_ERROR:
                raise truncated("in the middle of an event") from None
            raise
        return batch if self.done else batch + self._end()

    @abstractmethod
    def _read(self, events: list[SseEvent]) -> Batch:
        """Decode whole events; sets `done` with `Completed`. Raises GenerationError."""

    @abstractmethod
    def _taken(self) -> Batch:
        """The events read so far and not given out."""

    @abstractmethod
    def _end(self) -> Batch:
        """The stream has ended without being done. Raises GenerationError unless that is its way to end."""


def truncated(how: str) -> GenerationError:
    """The error of a stream that ended too early."""
    return GenerationError(Reason.STREAM_TRUNCATED, f"the provider's stream ended {how}")
