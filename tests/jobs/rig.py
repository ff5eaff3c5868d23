"""A runner over a store in memory and a pipeline that does what a test says, on the paused clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.context import ANYONE, Principal, RequestContext, Target
from outrider.core.errors import GenerationError, Reason
from outrider.jobs.desk import Desk, Terms
from outrider.jobs.runner import Pace, Runner
from outrider.jobs.states import has_ended
from outrider.jobs.work import Means
from outrider.stores.memory_jobs import MemoryJobs
from tests.support.paused_clock import now

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from outrider.core.events import Event
    from outrider.core.jobs import JobStore
    from outrider.core.ports import Batch
    from outrider.jobs.desk import Accepted

EPOCH = 1_795_000_000.0
Step = str | float | Exception | asyncio.Event


def wall() -> float:
    return EPOCH + now()


def failed(reason: Reason = Reason.PROVIDER_ERROR, message: str = "down", **facts: Any) -> GenerationError:
    return GenerationError(reason, message, **facts)


class Pipeline:
    """Each try plays the next script: text, seconds to wait, an event to wait for, or an error.

    The last one is played again and again. A script that ends is a whole answer.
    """

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)
        self.contexts: list[RequestContext] = []
        self.began_at: list[float] = []
        self.running = self.most = self.closed = 0
        self.asks = True  # whether a provider is asked before a script fails

    async def __call__(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        script = self.scripts[min(len(self.contexts), len(self.scripts) - 1)]
        self.contexts.append(context)
        self.began_at.append(now())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield [v1.GenerateResponse(started=v1.Started(request_id=context.id, provider="p", model="m"))]
            for step in script:
                if isinstance(step, GenerationError):
                    outcome = v1.Attempt.OUTCOME_FAILED if self.asks else v1.Attempt.OUTCOME_SKIPPED
                    context.record.attempts.append(v1.Attempt(outcome=outcome))
                    raise failed(step.reason, step.fact.message, retry_after=step.fact.retry_after)
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, str):
                    yield [v1.GenerateResponse(text_delta=v1.TextDelta(text=step))]
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    await asyncio.sleep(step)
            yield [v1.GenerateResponse(completed=v1.Completed(usage=v1.Usage(input_tokens=3)))]
        except asyncio.CancelledError as cancel:
            if Reason.DRAINING in cancel.args:  # as the account stage has it
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                raise failed(Reason.DRAINING) from None
            raise
        finally:
            self.running -= 1
            self.closed += 1


class Rig:
    """Everything around the runner."""

    def __init__(self, *scripts: Sequence[Step], store: JobStore | None = None, **pace: Any) -> None:
        self.pipeline = Pipeline(*scripts)
        self.store: JobStore = store or MemoryJobs(clock=now, wall_clock=wall)
        self.callers: dict[str, Principal] = {"anyone": ANYONE, "shop": Principal("shop", tenant="acme")}
        self.events: list[Event] = []
        self.closed_for: Callable[[v1.GenerateRequest | None], float] = lambda _: 0.0
        numbers = iter(range(1, 1_000_000))
        self.means = Means(
            self.store, self.pipeline, self.callers.get, lambda: f"request-{next(numbers)}", now, wall
        )
        self.pace = Pace(**{"retry_delay": 5.0, **pace})
        self.runner = self.new_runner()
        self.desk = Desk(
            self.store,
            Terms(),
            check=lambda principal, request: None,
            plan=plan,
            wall_clock=wall,
            accepted=lambda: self.runner.wake(),
            on_event=self.events.append,
        )

    def new_runner(self) -> Runner:
        return Runner(
            self.means,
            self.pace,
            worker="w",
            outlook=lambda request: self.closed_for(request),
            random=Random(1),
            on_event=self.events.append,
        )

    async def submit(self, text: str = "hi", *, caller: str = "anyone", **options: Any) -> v1.Job:
        job, _ = await self.desk.submit(self.callers[caller], ask(text), v1.JobOptions(**options), "trace")
        return job

    async def submit_batch(self, models: Sequence[str], caller: str = "anyone") -> Accepted:
        requests = [ask(str(number), model=model) for number, model in enumerate(models)]
        return await self.desk.submit_batch(self.callers[caller], requests, v1.JobOptions())

    async def job(self, job: v1.Job) -> v1.Job:
        found = await self.store.get(job.job_id)
        assert found is not None
        return found

    async def ended(self, job: v1.Job) -> v1.Job:
        """The job, once it has ended; time passes meanwhile."""
        while not has_ended(found := await self.job(job)):  # noqa: ASYNC110 - the clock is paused
            await asyncio.sleep(0.01)
        return found

    async def begun(self, tries: int = 1) -> None:
        while len(self.pipeline.contexts) < tries:  # noqa: ASYNC110 - the clock is paused
            await asyncio.sleep(0.01)

    def states(self) -> list[object]:
        return [event.facts["state"] for event in self.events]


async def plan(request: v1.GenerateRequest) -> list[Target]:
    """It goes where its model says; one that is called "m" is planned by nobody."""
    provider, _, model = request.model.partition("/")
    return [Target(provider, model)] if model else []


def ask(text: str = "hi", model: str = "m", **changes: Any) -> v1.GenerateRequest:
    request = v1.GenerateRequest(model=model, **changes)
    request.messages.add(role=v1.ROLE_USER).parts.add(text=text)
    return request


@asynccontextmanager
async def working(*scripts: Sequence[Step], **settings: Any) -> AsyncIterator[Rig]:
    """A rig whose runner runs."""
    rig = Rig(*scripts, **settings)
    rig.runner.start()
    try:
        yield rig
    finally:
        with suppress(asyncio.CancelledError):
            await rig.runner.aclose()
