"""Telling a stream from an answer in one piece by its first bytes.

Providers send one where the other was asked for, and they or the proxies before them label either as the
other, or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.errors import GenerationError
    from outrider.core.ports import Batch, Decoder

_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = tuple(
    start + name for start in (b"", _BOM) for name in (b":", b"data:", b"event:", b"id:", b"retry:")
)
_LONGEST: Final = max(map(len, _FIELDS))


class SniffingDecoder:
    """Becomes the decoder for what comes, or for what the content type says where the bytes do not tell."""

    __slots__ = ("_beginning", "_chosen", "_labelled_stream", "_stream", "_whole", "done", "error")

    def __init__(
        self, content_type: str, streaming: bool, stream: Callable[[], Decoder], whole: Callable[[], Decoder]
    ) -> None:
        self.done = False
        self.error: GenerationError | None = None
        self._labelled_stream = "event-stream" in content_type.lower() or (not content_type and streaming)
        self._stream = stream
        self._whole = whole
        self._chosen: Decoder | None = None
        self._beginning = b""

    def feed(self, data: bytes) -> Batch:
        """Decode what came. Raises GenerationError."""
        decoder = self._chosen
        if decoder is None:
            data = self._beginning = (self._beginning + data).lstrip()
            may_be_cut = len(data) < _LONGEST and not data.startswith(_FIELDS)
            if may_be_cut and any(field.startswith(data) for field in _FIELDS):
                return []  # the first bytes of a field's name, or none yet
            decoder = self._choose(data)
        batch = decoder.feed(data)
        self.done, self.error = decoder.done, decoder.error
        return batch

    def finish(self) -> Batch:
        """The body has ended. Raises GenerationError."""
        decoder = self._chosen
        if decoder is None:
            decoder = self._choose(self._beginning)
            decoder.feed(self._beginning)
        batch = decoder.finish()
        self.done, self.error = decoder.done, decoder.error
        return batch

    def _choose(self, beginning: bytes) -> Decoder:
        is_stream = beginning.startswith(_FIELDS) or (
            self._labelled_stream and not beginning.startswith((b"{", b"[", b"<"))
        )
        self._chosen = self._stream() if is_stream else self._whole()
        return self._chosen
