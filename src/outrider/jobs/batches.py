"""Following a batch: how it stands, and each of its jobs once, as it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.durations import to_duration
from outrider.jobs.ids import index_of
from outrider.jobs.states import FAILURES, FINAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from outrider.core.jobs import JobStore
    from outrider.core.ports import Clock

_PAUSE = 1.0  # seconds between two looks
_LATELY = 30.0  # seconds that the rate is taken over
_PAGE = 1_000


class BatchWatch:
    """Follows a batch. `clock` is monotonic; with `results`, answers come with the jobs."""

    def __init__(self, store: JobStore, batch_id: str, *, results: bool, clock: Clock) -> None:
        self._store = store
        self._batch_id = batch_id
        self._results = results
        self._clock = clock
        self._seen: set[int] = set()  # positions of jobs that were told of
        self._floor = 0  # all jobs at positions below this were
        self._lately: deque[tuple[float, int]] = deque()  # when so many had ended

    async def run(self) -> AsyncGenerator[v1.WatchBatchResponse, None]:
        """Until all have ended. Raises StoreUnavailableError."""
        told: v1.BatchProgress | None = None
        while True:
            counts = await self._store.progress(self._batch_id)
            progress = self._progress(counts)
            if told is None:
                yield v1.WatchBatchResponse(progress=progress)
                told = progress
            if not self._is_all(progress):
                async with aclosing(self._ended()) as results:
                    async for result in results:
                        yield v1.WatchBatchResponse(result=result)
            if not progress.queued + progress.processing and self._is_all(progress):
                yield v1.WatchBatchResponse(progress=progress)
                return
            if progress != told:
                yield v1.WatchBatchResponse(progress=progress)
                told = progress
            await asyncio.sleep(_PAUSE)

    def _is_all(self, progress: v1.BatchProgress) -> bool:
        return len(self._seen) >= progress.completed + progress.failed

    def _progress(self, counts: Mapping[v1.JobState, int]) -> v1.BatchProgress:
        progress = v1.BatchProgress(
            total=sum(counts.values()),
            queued=counts.get(v1.JOB_STATE_QUEUED, 0),
            processing=counts.get(v1.JOB_STATE_PROCESSING, 0),
            completed=counts.get(v1.JOB_STATE_COMPLETED, 0),
            failed=sum(counts.get(state, 0) for state in FAILURES),
        )
        progress.rate = self._rate(progress.completed + progress.failed)
        left = progress.queued + progress.processing
        if progress.rate:
            to_duration(left / progress.rate, progress.time_left)
        return progress

    def _rate(self, ended: int) -> float:
        """Jobs that ended per second, lately."""
        now = self._clock()
        self._lately.append((now, ended))
        while len(self._lately) > 2 and self._lately[1][0] <= now - _LATELY:
            self._lately.popleft()
        since, before = self._lately[0]
        return max(0, ended - before) / (now - since) if now > since else 0.0

    async def _ended(self) -> AsyncGenerator[v1.BatchResult, None]:
        """Jobs that have ended and were not told of; those that come late are found next time."""
        query = v1.ListJobsRequest(batch_id=self._batch_id, states=FINAL, page_size=_PAGE)
        while True:
            page = await self._store.list(query, "")
            for job in page.jobs:
                index = index_of(job.job_id)
                if index not in self._seen:
                    self._seen.add(index)
                    yield await self._result(index, job)
            # What follows is older, and was told of where the oldest of these is near what was.
            if not page.next or (page.jobs and index_of(page.jobs[-1].job_id) <= self._floor):
                break
            query.page_token = page.next
        while self._floor in self._seen:
            self._floor += 1

    async def _result(self, index: int, job: v1.Job) -> v1.BatchResult:
        result = v1.BatchResult(index=index, job=job)
        if self._results and job.state == v1.JOB_STATE_COMPLETED:
            answer = await self._store.result(job.job_id)
            if answer is not None:
                result.response.CopyFrom(answer)
        return result
