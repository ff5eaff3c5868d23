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
    from collections.abc import AsyncGenerator, Callable

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
        self._shelf = Shelf(rules.max_bytes)
        self._running: set[ResumableStream] = set()
        self._alone: set[ResumableStream] = set()
        self._mirrors: set[asyncio.Task[None]] = set()

    @property
    def alone(self) -> int:
        """How many run that nobody reads here: they take what a call would."""
        return len(self._alone)

    def begin(self, call: RequestContext) -> AsyncGenerator[Batch, None]:
        """The numbered events of a new stream, for its caller. Raises GenerationError."""
        return self._start(call, None).read()

    def begin_keyed(self, call: RequestContext, told: Callable[[ResumableStream], None]) -> ResumableStream:
        """A new stream, to be read, that can be resumed from now on; `told` is called when it has ended."""
        stream = self._start(call, told)
        self._shelf.grew(stream, 0)
        return stream

    def has(self, request_id: str, caller: Principal) -> bool:
        """Whether it is kept in this sidecar."""
        return self._shelf.find(request_id, caller.name) is not None

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

    def _start(self, call: RequestContext, told: Callable[[ResumableStream], None] | None) -> ResumableStream:
        stream = ResumableStream(
            call,
            self._pipeline,
            keyed=told is not None,
            keep=self._rules.keep,
            grace=self._rules.grace,
            alone=self._alone,
            mirror=None if self._shared is None else partial(self._mirror, shared=self._shared),
            on_growth=self._shelf.grew,
            on_end=partial(self._ended, told=told),
        )
        self._running.add(stream)
        return stream

    def _ended(self, stream: ResumableStream, told: Callable[[ResumableStream], None] | None) -> None:
        self._running.discard(stream)
        self._shelf.ended(stream)
        if told is not None:
            told(stream)

    def _mirror(self, log: EventLog, name: StreamName, shared: SharedStreams) -> Mirror:
        mirror = Mirror(log, name, shared, self._rules.keep)
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
