"""A provider that does what a test says, and the pieces around it, for tests of policies."""

from __future__ import annotations

import asyncio
import math
from random import Random
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import ANYONE, Record, RequestContext, Target
from outrider.core.errors import GenerationError, Reason
from outrider.policy.attempt import AttemptLoop
from outrider.policy.backoff import Backoff
from outrider.policy.breaker import Trip
from outrider.policy.breakers import Breakers
from outrider.policy.gate import Gate
from outrider.policy.retry_budget import RetryBudget
from outrider.policy.upstream import Retries, Timeouts, Upstream
from tests.support.paused_clock import now

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from outrider.core.ports import Batch, Call, Observer
    from outrider.policy.hedging import Hedging

DONE = object()
Step = str | float | GenerationError | object


class ScriptedProvider:
    """Each attempt plays the next script: text, seconds to wait, an error to raise, or DONE.

    The last script is played for all further attempts.
    """

    def __init__(self, *scripts: list[Step], name: str = "p") -> None:
        self.name = name
        self.scripts = list(scripts)
        self.calls: list[Call] = []
        self.called_at: list[float] = []
        self.closed = 0
        self.healthy = True
        self.checks = 0
        self.finish_reason = v1.FINISH_REASON_STOP
        self.usage: v1.Usage | None = None  # as it says at the end
        self.warnings: list[v1.Warning] = []

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        self.calls.append(call)
        self.called_at.append(now())
        call.warnings.extend(self.warnings)
        try:
            for step in script:
                if isinstance(step, GenerationError):
                    raise type(step)(step.reason, step.fact.message, retry_after=step.fact.retry_after)
                if isinstance(step, float | int):
                    await asyncio.sleep(step)
                elif isinstance(step, str):
                    call.progress.upstream_status = 200
                    call.progress.output_chars += len(step)
                    yield [v1.GenerateResponse(text_delta=v1.TextDelta(text=step))]
                else:
                    completed = v1.Completed(finish_reason=self.finish_reason, usage=self.usage)
                    yield [v1.GenerateResponse(completed=completed)]
        finally:
            self.closed += 1

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        return None

    async def check(self) -> None:
        self.checks += 1
        if not self.healthy:
            raise GenerationError(Reason.PROVIDER_UNREACHABLE, "down")

    async def aclose(self) -> None: ...


class Watcher:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.started: list[Record] = []
        self.attempts: list[v1.Attempt] = []
        self.finished: list[Record] = []

    def request_started(self, record: Record) -> None:
        self.started.append(record)

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        self.attempts.append(attempt)

    def request_finished(self, record: Record) -> None:
        self.finished.append(record)


def upstream(
    provider: ScriptedProvider,
    *,
    max_attempts: int = 3,
    max_concurrency: int = 100,
    timeouts: Timeouts | None = None,
    backoff: Backoff | None = None,
    max_retry_after: float = 60.0,
    retry_ratio: float = 0.2,
    retry_reserve: float = 100.0,
    breaker_failures: int = 1000,
    models: Sequence[str] = ("m",),
) -> Upstream:
    """A provider with generous guards."""
    return Upstream(
        provider=provider,
        gate=Gate(max_concurrency=max_concurrency, max_waiting=10, max_wait=10.0),
        breakers=Breakers(
            provider.name,
            models,
            Trip(breaker_failures, minimum=breaker_failures, open_for=30.0),
            now,
        ),
        retry_budget=RetryBudget(retry_ratio, now, retry_reserve),
        timeouts=timeouts or Timeouts(connect=5, first_event=10, idle=5, total=100),
        retries=Retries(max_attempts, backoff or Backoff(), max_retry_after),
    )


def context(
    *targets: str,
    deadline: float = math.inf,
    request: v1.GenerateRequest | None = None,
    streaming: bool = True,
) -> RequestContext:
    """A request with a plan of "provider/model" targets; `deadline` is in seconds from now."""
    plan = tuple(Target(*target.split("/", 1)) for target in targets)
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])
    record = Record("id", "Generate", "anyone", targets[0] if targets else "", now())
    return RequestContext(
        "id",
        request or v1.GenerateRequest(model=record.requested_model, messages=[message]),
        ANYONE,
        record,
        streaming,
        now() + deadline,
        plan,
    )


def attempt_loop(
    *upstreams: Upstream,
    watcher: Observer | None = None,
    seed: int = 1,
    windows: Mapping[str, int] | None = None,
    hedging: Hedging | None = None,
) -> AttemptLoop:
    """The innermost handler over these providers. `windows`: tokens that "provider/model" reads."""
    by_name = {each.provider.name: each for each in upstreams}
    known = windows or {}
    return AttemptLoop(
        by_name,
        observer=watcher or Watcher(),
        clock=now,
        random=Random(seed),
        windows=lambda target: known.get(str(target), 0),
        hedging=hedging,
    )


def text_of(batches: list[Batch]) -> str:
    """All text of an answer."""
    return "".join(event.text_delta.text for batch in batches for event in batch)
