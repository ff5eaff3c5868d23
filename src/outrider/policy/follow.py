"""Reads a stream that another sidecar makes, or has made, from its copy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason
from outrider.core.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.ports import Batch
    from outrider.core.streams import Excerpt, SharedStreams, StreamName

# A copy may be a moment behind its stream, and comes back with a store that was away.
_PATIENCE = 2.0
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.02, 1.5, 0.2  # seconds between two looks


async def follow(shared: SharedStreams, name: StreamName, after: int) -> AsyncGenerator[Batch, None]:
    """The events that follow number `after`.

    Raises GenerationError: what the stream has failed with; REQUEST_UNKNOWN where nothing is kept,
    SIDECAR_LOST where nobody makes it any more, STORE_UNAVAILABLE where it cannot be read.
    """
    clock = asyncio.get_running_loop().time
    pause, seen_at = _FIRST_PAUSE, clock()
    while True:
        found = await _look(shared, name, after)
        if isinstance(found, GenerationError):
            if clock() - seen_at >= _PATIENCE:
                raise found
        else:
            seen_at = clock()
            if found.events:
                after, pause = found.events[-1].sequence, _FIRST_PAUSE
                yield list(found.events)
            if _is_over(found):
                return
            if found.events:
                continue
        await asyncio.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def unknown(request_id: str) -> GenerationError:
    """The error for an id that leads nowhere."""
    return GenerationError(
        Reason.REQUEST_UNKNOWN, f"no stream of the request {request_id[:64]!r} is kept for this caller"
    )


async def _look(shared: SharedStreams, name: StreamName, after: int) -> Excerpt | GenerationError:
    try:
        return await shared.read(name, after) or unknown(name.request_id)
    except StoreUnavailableError:
        return GenerationError(Reason.STORE_UNAVAILABLE, "the store of streams is away")


def _is_over(found: Excerpt) -> bool:
    """Whether that was all. Raises GenerationError where it was not meant to be."""
    if found.events and found.events[-1].HasField("completed"):
        return True
    if found.ending is not None:
        if found.ending.failure is not None:
            raise found.ending.failure.error()
        return True
    if found.events or found.alive:
        return False
    lost = GenerationError(Reason.SIDECAR_LOST, "the sidecar that made this answer is gone")
    lost.committed = True
    raise lost
