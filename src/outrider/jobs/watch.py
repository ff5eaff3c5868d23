"""Following a job, whichever sidecar works on it: by looking at the store again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider import v1
from outrider.jobs.states import has_ended

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.jobs import JobStore

_PAUSE = 0.1  # seconds between two looks
_LONGEST_PAUSE = 0.5  # while it waits


async def watch(store: JobStore, job: v1.Job, after: int) -> AsyncGenerator[v1.WatchJobResponse, None]:
    """The job, its changes, and the events of its answer beyond number `after`; last the job that has ended.

    Raises StoreUnavailableError.
    """
    if not has_ended(job):
        yield v1.WatchJobResponse(job=job)
    began = after > 0  # to see an answer
    pause = _PAUSE
    while True:
        for event in await store.events(job.job_id, job.tries, after):
            began, after = True, event.sequence
            yield v1.WatchJobResponse(generation=event)
        if has_ended(job):
            yield v1.WatchJobResponse(job=job)
            return
        await asyncio.sleep(pause)
        now = await store.get(job.job_id)
        if now is None:
            return
        if now.tries != job.tries:
            after = 0
            if began:
                began = False
                yield v1.WatchJobResponse(restarted=v1.Restarted(tries=now.tries))
        pause = min(1.5 * pause, _LONGEST_PAUSE) if now.state == v1.JOB_STATE_QUEUED else _PAUSE
        if not has_ended(now) and not _is_same(now, job):
            yield v1.WatchJobResponse(job=now)
        job = now


def _is_same(now: v1.Job, before: v1.Job) -> bool:
    """Whether nothing changed but how many wait before it."""
    now.position, position = before.position, now.position
    same = now == before
    now.position = position
    return same
