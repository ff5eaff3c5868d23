"""The streams that a sidecar can give again, within a bound of time and bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.policy.resumable_stream import ResumableStream

_OVERHEAD = 2_048  # bytes that a stream takes beside its events


class Shelf:
    """At most `max_bytes`. Streams that have ended stay for as long as they say, or until there is no room.

    The oldest go first. A stream that runs, and for which there is no room even so, is let go.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[ResumableStream, int] = {}
        self._by_id: dict[str, ResumableStream] = {}
        self._ended: dict[ResumableStream, asyncio.TimerHandle] = {}  # oldest first
        self._bytes = 0

    def find(self, request_id: str, caller: str) -> ResumableStream | None:
        """The stream of a request, if it is kept, and the caller's."""
        stream = self._by_id.get(request_id)
        return stream if stream is not None and stream.name.caller == caller else None

    def grew(self, stream: ResumableStream, size: int) -> None:
        """Keep so many more bytes of a stream, if there is room."""
        if stream not in self._sizes:
            self._sizes[stream] = 0
            self._by_id[stream.name.request_id] = stream
            size += _OVERHEAD
        self._sizes[stream] += size
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._ended), stream))

    def ended(self, stream: ResumableStream) -> None:
        """It will grow no more."""
        if stream in self._sizes:
            timer = asyncio.get_running_loop().call_later(stream.keep, self._forget, stream)
            self._ended[stream] = timer

    def clear(self) -> None:
        """Forget everything that has ended."""
        for stream in list(self._ended):
            self._forget(stream)

    def _forget(self, stream: ResumableStream) -> None:
        self._bytes -= self._sizes.pop(stream)
        del self._by_id[stream.name.request_id]
        timer = self._ended.pop(stream, None)
        if timer is not None:
            timer.cancel()
        stream.let_go()
