"""Streams that callers come back to: the requests that ask to be resumable, and who goes on reading them."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from outrider.core.streams import StreamName
from outrider.policy.follow import follow, unknown
from outrider.policy.mirror import Mirror
from outrider.policy.resumable_stream import ResumableStream
from outrider.policy.shelf import Shelf
from outrider.policy.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.context import Principal, RequestContext
    from outrider.core.ports import Batch, Handler
    from outrider.core.streams import SharedStreams
    from outrider.policy.event_log import EventLog

_CLOSING_SECONDS = 1.0  # for the last copies
_REQUEST_ID = re.compile("[0-9a-f]{32}")  # anything else is no name for a key

_log = structlog.get_logger("outrider")


@dataclass(frozen=True, slots=True)
class ResumeRules:
    """Seconds that streams are kept after their end, bytes of all, seconds that they run without readers."""

    keep: float = 120.0
    max_bytes: int = 64 * 2**20
    grace: float = 30.0


class ResumableStreams:
    """Wraps the whole pipeline. Owns what runs without a caller: `aclose` ends it with DRAINING.

    `shared` has copies of the streams of all sidecars; without it only this sidecar's can be resumed.
    """

    def __init__(self, pipeline: Handler, rules: ResumeRules, shared: SharedStreams | None = None) -> None:
        self._pipeline = pipeline
        self._rules = rules
        self._shared = shared
        self._shelf = Shelf(rules.max_bytes, rules.keep)
        self._running: set[ResumableStream] = set()
        self._mirrors: set[asyncio.Task[None]] = set()

    def begin(self, call: RequestContext) -> AsyncGenerator[Batch, None]:
        """The numbered events of a new stream, for its caller. Raises GenerationError."""
        stream = ResumableStream(
            call,
            self._pipeline,
            grace=self._rules.grace,
            mirror=None if self._shared is None else partial(self._mirror, shared=self._shared),
            on_growth=self._shelf.grew,
            on_end=self._ended,
        )
        self._running.add(stream)
        return stream.read()

    def resume(self, request_id: str, caller: Principal, after: int) -> AsyncGenerator[Batch, None]:
        """The numbered events that follow number `after`. Raises GenerationError: REQUEST_UNKNOWN too."""
        stream = self._shelf.find(request_id, caller.name)
        if stream is not None:
            return stream.read(after)
        if self._shared is None or not _REQUEST_ID.fullmatch(request_id):
            raise unknown(request_id)
        return follow(self._shared, StreamName(request_id, caller.name), after)

    async def aclose(self) -> None:
        """End what runs, and let the copies learn of it; within two seconds."""
        await asyncio.gather(*(stream.cut() for stream in list(self._running)))
        if self._mirrors:
            await asyncio.wait(self._mirrors, timeout=_CLOSING_SECONDS)
        for mirror in self._mirrors:
            mirror.cancel()
        await asyncio.gather(*self._mirrors, return_exceptions=True)
        self._shelf.clear()

    def _ended(self, stream: ResumableStream) -> None:
        self._running.discard(stream)
        self._shelf.ended(stream)

    def _mirror(self, log: EventLog, name: StreamName, shared: SharedStreams) -> Mirror:
        mirror = Mirror(log, name, shared)
        self._mirrors.add(mirror.task)
        mirror.task.add_done_callback(self._mirrors.discard)
        mirror.task.add_done_callback(_tell)
        return mirror


async def not_resumable(answer: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """An answer that asked to be resumable where it cannot be: the caller is warned."""
    async with aclosing(answer) as batches:
        async for batch in batches:
            if batch[-1].HasField("completed"):
                why = "only Generate keeps its events, and only where this sidecar is configured to"
                batch[-1].completed.warnings.append(unsupported("resumable", why))
            yield batch


def _tell(mirror: asyncio.Task[None]) -> None:
    if not mirror.cancelled() and mirror.exception() is not None:
        _log.error("a stream is no longer copied", exc_info=mirror.exception())
