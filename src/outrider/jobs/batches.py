"""Following a batch: how it stands, and each of its jobs once, as it ends."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.durations import to_duration
from outrider.jobs.groups import target_of
from outrider.jobs.outcome import unknown
from outrider.jobs.states import FAILURES, FINAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from outrider.core.jobs import Counts, JobStore
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
        self._seen: set[int] = set()  # positions of jobs that were told of
        self._most = 0  # jobs that there were: of a store that is full those that ended first are forgotten
        self._paces: defaultdict[str | None, _Pace] = defaultdict(lambda: _Pace(clock))  # by target

    async def run(self) -> AsyncGenerator[v1.WatchBatchResponse, None]:
        """Until all have ended. Raises StoreUnavailableError; GenerationError JOB_UNKNOWN: it is gone."""
        told: v1.BatchProgress | None = None
        while True:
            counts = await self._store.progress(self._batch_id)
            if not counts:
                raise unknown("batch", self._batch_id)
            progress, before = self._progress(counts), len(self._seen)
            self._most = max(self._most, progress.total)
            if told is None:
                yield v1.WatchBatchResponse(progress=progress)
                told = progress
            if not self._is_all(progress):
                async with aclosing(self._ended(progress)) as results:
                    async for result in results:
                        yield v1.WatchBatchResponse(result=result)
            nothing_new = len(self._seen) == before and progress.total < self._most
            if not progress.queued + progress.processing and (self._is_all(progress) or nothing_new):
                yield v1.WatchBatchResponse(progress=progress)
                return
            if progress != told:
                yield v1.WatchBatchResponse(progress=progress)
                told = progress
            await asyncio.sleep(_PAUSE)

    def _is_all(self, progress: v1.BatchProgress) -> bool:
        return len(self._seen) >= progress.completed + progress.failed + self._most - progress.total

    def _progress(self, counts: Counts) -> v1.BatchProgress:
        progress = v1.BatchProgress()
        states: Counter[v1.JobState] = Counter()
        by_target: defaultdict[str, Counter[v1.JobState]] = defaultdict(Counter)
        for (group, state), count in counts.items():
            states[state] += count
            by_target[target_of(group)][state] += count
        self._fill(progress, states, None)
        for target in sorted(by_target):
            provider, _, model = target.partition("/")
            group_progress = progress.groups.add(provider=provider, model=model)
            self._fill(group_progress, by_target[target], target)
        return progress

    def _fill(
        self,
        progress: v1.BatchProgress | v1.BatchGroup,
        counts: Mapping[v1.JobState, int],
        target: str | None,
    ) -> None:
        progress.total = sum(counts.values())
        progress.queued = counts.get(v1.JOB_STATE_QUEUED, 0)
        progress.processing = counts.get(v1.JOB_STATE_PROCESSING, 0)
        progress.completed = counts.get(v1.JOB_STATE_COMPLETED, 0)
        progress.failed = sum(counts.get(state, 0) for state in FAILURES)
        progress.rate = self._paces[target].rate(progress.completed + progress.failed)
        if progress.rate:
            to_duration((progress.queued + progress.processing) / progress.rate, progress.time_left)

    async def _ended(self, progress: v1.BatchProgress) -> AsyncGenerator[v1.BatchResult, None]:
        """Jobs that have ended and were not told of; those that come late are found next time."""
        query = v1.ListJobsRequest(batch_id=self._batch_id, states=FINAL, page_size=_PAGE)
        while True:
            page = await self._store.list(query, "")
            for job in page.jobs:
                if job.batch_index not in self._seen:
                    self._seen.add(job.batch_index)
                    yield await self._result(job)
            if not page.next or self._is_all(progress):
                return
            query.page_token = page.next

    async def _result(self, job: v1.Job) -> v1.BatchResult:
        result = v1.BatchResult(index=job.batch_index, job=job)
        if self._results and job.state == v1.JOB_STATE_COMPLETED:
            answer = await self._store.result(job.job_id)
            if answer is not None:
                result.response.CopyFrom(answer)
        return result


class _Pace:
    """How many jobs end per second, lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lately: deque[tuple[float, int]] = deque()  # when so many had ended

    def rate(self, ended: int) -> float:
        """With so many ended now."""
        now = self._clock()
        self._lately.append((now, ended))
        while len(self._lately) > 2 and self._lately[1][0] <= now - _LATELY:
            self._lately.popleft()
        since, before = self._lately[0]
        return max(0, ended - before) / (now - since) if now > since else 0.0
