"""From the configuration of jobs to the queue and those who work on it."""

from __future__ import annotations

import math
import secrets
import socket
import time
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.errors import GenerationError
from outrider.jobs.desk import Desk, Terms
from outrider.jobs.runner import Pace, Runner
from outrider.jobs.work import Means
from outrider.policy.admit import check_models
from outrider.policy.queue import queue
from outrider.policy.validate import check_request
from outrider.server.app import ListenError
from outrider.server.generation import new_id
from outrider.server.job_service import JobServicer
from outrider.server.watches import Watches
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from outrider.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AsyncExitStack

    from outrider.config import Config
    from outrider.core.context import Principal, RequestContext, Target
    from outrider.core.jobs import JobStore
    from outrider.core.ports import Handler
    from outrider.jobs.states import OnEvent
    from outrider.policy.breaker import Breaker
    from outrider.policy.planner import Planner
    from outrider.policy.queue import Leave
    from outrider.policy.upstream import Upstream
    from outrider.server.app import Service
    from outrider.server.callers import Callers
    from outrider.stores.fleet_jobs import FleetJobs
    from outrider.stores.redis_link import RedisLink

# A breaker may close before it said it would.
_LOOK_AGAIN = 15.0  # seconds


@dataclass(frozen=True, slots=True)
class Jobs:
    """The queue of a sidecar. `pipeline` leaves there what asks for it and cannot be answered."""

    pipeline: Handler
    services: Sequence[Service] = ()
    runner: Runner | None = None  # None: there is no queue
    watches: Watches | None = None

    def start(self) -> None:
        """Work on what waits."""
        if self.runner is not None:
            self.runner.start()

    async def pause(self) -> None:
        """Begin no more."""
        if self.runner is not None:
            await self.runner.pause()

    async def drain(self, grace: float) -> None:
        """Send home who watches, and give back what has not ended within so many seconds."""
        if self.watches is not None:
            self.watches.close()
        if self.runner is not None:
            await self.runner.drain(grace)


async def open_jobs(
    config: Config,
    *,
    pipeline: Handler,
    callers: Callers,
    planner: Planner,
    upstreams: Mapping[str, Upstream],
    link: RedisLink | None,
    closing: AsyncExitStack,
    on_event: OnEvent = lambda _: None,
) -> Jobs:
    """Build it; `closing` gets what has to be closed. Raises ListenError where the journal cannot be used."""
    settings = config.jobs
    if not settings.enabled:
        return Jobs(queue(None)(pipeline))
    store = await _open_store(config, link, closing)
    runner = Runner(
        Means(store, pipeline, callers.named, new_id, time.monotonic, time.time),
        Pace(settings.workers, settings.retry_delay),
        worker=f"{socket.gethostname()}-{secrets.token_hex(6)}",
        outlook=Outlook(planner, upstreams),
        random=SystemRandom(),
        on_event=on_event,
    )
    closing.push_async_callback(runner.aclose)
    desk = Desk(
        store,
        Terms(settings.ttl, settings.max_ttl, settings.max_retries),
        check=checker(planner),
        wall_clock=time.time,
        accepted=runner.wake,
        on_event=on_event,
    )
    watches = Watches()
    servicer = JobServicer(
        callers=callers,
        store=store,
        desk=desk,
        watches=watches,
        stop_job=runner.stop_job,
        clock=time.monotonic,
        on_event=on_event,
    )
    return Jobs(
        queue(_leaving(desk))(pipeline),
        [(servicer, add_JobServiceServicer_to_server)],
        runner,
        watches,
    )


def _leaving(desk: Desk) -> Leave:
    async def leave(context: RequestContext, request: v1.GenerateRequest) -> v1.Job:
        trace = context.record.traceparent
        job, _ = await desk.leave(context.principal, request, v1.JobOptions(), trace)
        return job

    return leave


def checker(planner: Planner) -> Callable[[Principal, v1.GenerateRequest], None]:
    """Raises the GenerationError of a request that its caller may not make; the request stays as it is."""

    def check(principal: Principal, request: v1.GenerateRequest) -> None:
        check_request(request)
        names = _names(request)
        targets = planner.candidates(names).all
        check_models(principal, names, targets)

    return check


class Outlook:
    """Seconds until some target of a request, or any at all, may be asked; 0: now."""

    def __init__(self, planner: Planner, upstreams: Mapping[str, Upstream]) -> None:
        self._planner = planner
        self._upstreams = upstreams

    def __call__(self, request: v1.GenerateRequest | None) -> float:
        """None: of any request."""
        if request is None:
            return min(map(_closed_for, self._in_use()), default=0.0)
        try:
            targets = self._planner.candidates(_names(request)).all
        except GenerationError:
            return 0.0  # its try will tell
        return min(map(self._of, targets), default=0.0)

    def _in_use(self) -> Iterator[Breaker]:
        """All but those of models that nobody has named, which are never open."""
        for upstream in self._upstreams.values():
            breakers = [breaker for _, breaker in upstream.breakers]
            for breaker in breakers:
                if breaker is not breakers[-1] or len(breakers) == 1 or breaker.heard_at > -math.inf:
                    yield breaker

    def _of(self, target: Target) -> float:
        return _closed_for(self._upstreams[target.provider].breakers.of(target.model))


def _names(request: v1.GenerateRequest) -> v1.GenerateRequest:
    """What of a request decides where it may go; planning fills in what is left out."""
    names = v1.GenerateRequest(model=request.model)
    if request.HasField("fallback"):
        names.fallback.CopyFrom(request.fallback)
    return names


def _closed_for(breaker: Breaker) -> float:
    return max(breaker.paused_for(), min(breaker.retry_after() or 0.0, _LOOK_AGAIN))


async def _open_store(config: Config, link: RedisLink | None, closing: AsyncExitStack) -> JobStore:
    settings = config.jobs
    journal = JobJournal(settings.journal) if settings.journal else None
    local = MemoryJobs(
        journal, capacity=settings.capacity, max_bytes=settings.max_bytes, lease=settings.lease
    )
    store: MemoryJobs | FleetJobs = local
    if link is not None:
        from outrider.stores.fleet_jobs import FleetJobs
        from outrider.stores.redis_jobs import RedisJobs

        store = FleetJobs(link, RedisJobs(link, lease=settings.lease), local)
    try:
        await store.start()
    except OSError as error:
        raise ListenError(f"cannot use jobs.journal {settings.journal}: {error.strerror or error}") from error
    closing.push_async_callback(store.aclose)
    return store
