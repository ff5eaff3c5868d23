"""Works on jobs: so many at once, and nothing while there are none."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from outrider import v1
from outrider.core.errors import Fault, GenerationError, Reason
from outrider.core.store_errors import StoreUnavailableError
from outrider.jobs.left_out import LeftOut
from outrider.jobs.outcome import after, reason_of
from outrider.jobs.states import changed, has_ended, word_of
from outrider.jobs.work import Try

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from outrider.core.jobs import Claim
    from outrider.jobs.states import OnEvent
    from outrider.jobs.work import Means

_FIRST_PAUSE = 0.05  # seconds until an empty queue is looked at again
_LONGEST_PAUSE = 1.0
_PAUSE_AFTER_ERROR = 5.0
_MARGIN = 0.01  # by which clocks may differ that count the same time
_LAST_WORDS = 2.0  # for giving back what is worked on

_log = structlog.get_logger("outrider.jobs")


@dataclass(frozen=True, slots=True)
class Pace:
    """`workers` jobs at once; each is renewed every `renew_every` seconds, and tried again `retry_delay`
    seconds after a failure, then after twice that, and so on.
    """

    workers: int = 8
    retry_delay: float = 5.0
    renew_every: float = 1.0


class Runner:
    """Claims jobs and ends them. `start`, then `wake` whenever a job was submitted here, `drain`, `aclose`.

    `outlook` gives the seconds until some provider may answer a request, or any request; 0: now.
    """

    def __init__(
        self,
        means: Means,
        pace: Pace,
        *,
        worker: str,
        outlook: Callable[[v1.GenerateRequest | None], float],
        random: Random,
        on_event: OnEvent = lambda _: None,
    ) -> None:
        self._means = means
        self._store = means.store
        self._pace = pace
        self._worker = worker
        self._outlook = outlook
        self._random = random
        self._on_event = on_event
        self._news = asyncio.Event()
        self._due: list[float] = []  # when jobs of ours are to be tried again: heap
        self._left_out = LeftOut(means.clock)
        self._tries: dict[asyncio.Task[None], str] = {}  # job ids
        self._trying: dict[str, asyncio.Task[v1.CompleteResponse]] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._store.on_ended(self._tell_of)

    @property
    def running(self) -> int:
        """How many jobs are worked on."""
        return len(self._tries)

    def start(self) -> None:
        """Work."""
        if self._pace.workers:
            self._claiming = asyncio.create_task(self._claim_all(), name="jobs")
            self._claiming.add_done_callback(_tell_of_death)

    def wake(self) -> None:
        """A job was submitted: look at once."""
        self._news.set()

    def stop_job(self, job_id: str) -> None:
        """A job was cancelled: end the work on it, if it is worked on here."""
        trying = self._trying.get(job_id)
        if trying is not None:
            trying.cancel()

    async def pause(self) -> None:
        """Claim no more."""
        claiming, self._claiming = self._claiming, None
        if claiming is not None:
            claiming.cancel()
            await asyncio.wait([claiming])

    async def drain(self, grace: float) -> None:
        """Claim no more, and give back what has not ended within so many seconds."""
        await self.pause()
        if self._tries:
            await asyncio.wait(self._tries, timeout=grace)
        for trying in self._trying.values():
            trying.cancel(Reason.DRAINING)
        if self._tries:
            await asyncio.wait(self._tries, timeout=_LAST_WORDS)

    async def aclose(self) -> None:
        """Stop at once. What could not be given back is found by others when its lease ends."""
        await self.drain(0.0)
        for task in list(self._tries):
            task.cancel()
        await asyncio.gather(*self._tries, return_exceptions=True)

    async def _claim_all(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._news.clear()
            if len(self._tries) >= self._pace.workers:
                await self._news.wait()  # whoever ends a try says so
                continue
            try:
                claim = await self._next()
            except StoreUnavailableError:
                claim = None
            except Exception:  # noqa: BLE001 - a store that is broken now may be whole later
                _log.exception("jobs cannot be claimed")
                await asyncio.sleep(_PAUSE_AFTER_ERROR)
                continue
            if claim is not None:
                self._begin(claim)
                pause = _FIRST_PAUSE
                continue
            pause = _FIRST_PAUSE if await self._wait(pause) else min(2 * pause, _LONGEST_PAUSE)

    async def _next(self) -> Claim | None:
        if self._outlook(None):
            await self._store.sweep()
            return None
        return await self._store.claim(self._worker, self._left_out.now())

    async def _wait(self, pause: float) -> bool:
        """Wait for so many seconds, or until there may be something to do; whether there may."""
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
        due = self._due[0] - now if self._due else pause
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pause, due)):
                await self._news.wait()
                return True
        return due < pause

    def _begin(self, claim: Claim) -> None:
        wait = self._outlook(claim.request)
        if wait:
            self._left_out.add(claim.group, wait)
        else:
            self._left_out.begin(claim.group)
        task = asyncio.create_task(self._give_back(claim, wait) if wait else self._work(claim))
        self._tries[task] = claim.job.job_id
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tries[task]
        self._news.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("a job was left", exc_info=task.exception())

    async def _give_back(self, claim: Claim, wait: float) -> None:
        try:
            await self._store.release(claim, wait)
            self._come_back(wait)
        except StoreUnavailableError:
            _log.warning("a job could not be given back", job=claim.job.job_id)

    async def _work(self, claim: Claim) -> None:
        try:
            self._on_event(changed(claim.job, traceparent=claim.traceparent))
            await self._try(claim)
        except StoreUnavailableError:
            _log.warning("the end of a try could not be told", job=claim.job.job_id)
        finally:
            self._left_out.end(claim.group)

    async def _try(self, claim: Claim) -> None:
        """Run it, and say what became of it."""
        this = Try(claim, self._means)
        trying = self._trying[claim.job.job_id] = asyncio.create_task(this.answer())
        try:
            await self._hold(claim, trying)
        finally:
            del self._trying[claim.job.job_id]
            if not trying.done():
                trying.cancel()
                await asyncio.wait([trying])
        if trying.cancelled():
            claim.job.state = v1.JOB_STATE_QUEUED
            self._tell(claim, counts=await self._store.release(claim))  # in vain, unless this sidecar stops
        elif (error := trying.exception()) is None:
            claim.job.state = v1.JOB_STATE_COMPLETED
            self._tell(claim, counts=await self._store.complete(claim, trying.result()))
        else:
            await self._fail(claim, this, _as_ours(error, claim))

    async def _hold(self, claim: Claim, trying: asyncio.Task[v1.CompleteResponse]) -> None:
        """Keep the claim while the try runs; stop the try once the claim is lost."""
        while True:
            done, _ = await asyncio.wait([trying], timeout=self._pace.renew_every)
            if done:
                return
            with suppress(StoreUnavailableError):
                if not await self._store.renew(claim):
                    trying.cancel()

    async def _fail(self, claim: Claim, this: Try, error: GenerationError) -> None:
        retry = after(
            error,
            asked=this.asked,
            failures=claim.failures,
            delay=self._pace.retry_delay,
            random=self._random,
        )
        if retry is not None and not retry.counts:
            if error.traits.fault is not Fault.CALLER:
                self._left_out.add(claim.group, retry.delay)
            claim.job.state = v1.JOB_STATE_QUEUED
            done = await self._store.release(claim, retry.delay)
        else:
            retry_in = None if retry is None else retry.delay
            reason, message = reason_of(error, this.record.attempts)
            is_last = retry is None or claim.failures >= claim.max_retries
            claim.job.state = v1.JOB_STATE_FAILED if is_last else v1.JOB_STATE_QUEUED
            claim.job.reason = reason
            done = await self._store.fail(claim, reason, message, retry_in, error.failure)
        if retry is not None:
            self._come_back(retry.delay)
        self._tell(claim, counts=done)

    def _come_back(self, delay: float) -> None:
        """The queue has something to do then."""
        heapq.heappush(self._due, asyncio.get_running_loop().time() + delay + _MARGIN)
        self._news.set()

    def _tell(self, claim: Claim, *, counts: bool) -> None:
        # What others have done with it they tell, and the store that its time was up, or that what a store
        # which was away could not say has counted after all.
        if counts:
            self._tell_of(claim.job, claim.traceparent)

    def _tell_of(self, job: v1.Job, traceparent: str) -> None:
        self._on_event(changed(job, traceparent=traceparent))
        if has_ended(job):
            state, reason = word_of(job.state), job.reason or None
            _log.info("job ended", job=job.job_id, state=state, tries=job.tries, reason=reason)


def _as_ours(error: BaseException, claim: Claim) -> GenerationError:
    if isinstance(error, GenerationError):
        return error
    _log.error("a job met an unexpected error", job=claim.job.job_id, exc_info=error)
    return GenerationError(Reason.INTERNAL, "unexpected error")


def _tell_of_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("no more jobs are claimed", exc_info=task.exception())
