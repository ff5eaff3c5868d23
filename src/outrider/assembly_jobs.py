"""From the configuration of jobs to the queue and those who work on it."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

from outrider import v1
from outrider.assembly_job_routes import Outlook, checker, plan_by
from outrider.jobs.desk import Desk, Terms
from outrider.jobs.runner import Pace, Runner
from outrider.jobs.work import Means
from outrider.policy.queue import queue
from outrider.server.app import ListenError
from outrider.server.generation import new_id
from outrider.server.job_service import JobServicer
from outrider.server.watches import Watches
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from outrider.telemetry.job_metrics import JobMetrics, QueueLevels
from outrider.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AsyncExitStack

    from prometheus_client import CollectorRegistry

    from outrider.config import Config
    from outrider.core.context import RequestContext
    from outrider.core.events import Event
    from outrider.core.jobs import JobStore
    from outrider.core.ports import Handler
    from outrider.jobs.states import OnEvent
    from outrider.policy.planner import Planner
    from outrider.policy.queue import Leave
    from outrider.policy.upstream import Upstream
    from outrider.server.app import Service
    from outrider.server.callers import Callers
    from outrider.stores.fleet_jobs import FleetJobs
    from outrider.stores.redis_jobs import RedisJobs
    from outrider.stores.redis_link import RedisLink


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
    on_event: OnEvent,
    registry: CollectorRegistry,
) -> Jobs:
    """Build it; `closing` gets what has to be closed. Raises ListenError where the journal cannot be used."""
    settings = config.jobs
    if not settings.enabled:
        return Jobs(queue(None)(pipeline))
    queues = await _open_queues(config, link, closing)
    store = queues.store
    metrics = JobMetrics(lambda: queues.levels(runner.running))
    registry.register(metrics)

    def tell(event: Event) -> None:
        metrics.count(event)
        on_event(event)

    runner = Runner(
        Means(store, pipeline, callers.named, new_id, time.monotonic, time.time),
        Pace(settings.workers, settings.retry_delay),
        worker=f"{socket.gethostname()}-{secrets.token_hex(6)}",
        outlook=Outlook(planner, upstreams),
        random=SystemRandom(),
        on_event=tell,
    )
    closing.push_async_callback(runner.aclose)
    desk = Desk(
        store,
        Terms(settings.ttl, settings.max_ttl, settings.max_retries),
        check=checker(planner),
        plan=plan_by(planner),
        wall_clock=time.time,
        accepted=runner.wake,
        on_event=tell,
    )
    watches = Watches()
    servicer = JobServicer(
        callers=callers,
        store=store,
        desk=desk,
        watches=watches,
        stop_job=runner.stop_job,
        clock=time.monotonic,
        on_event=tell,
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


@dataclass(frozen=True, slots=True)
class _Queues:
    """The queue, and what it is made of."""

    store: JobStore
    local: MemoryJobs
    shared: RedisJobs | None = None

    def levels(self, running: int) -> QueueLevels:
        """How they stand, while so many jobs are worked on."""
        waiting = {"local": self.local.waiting}
        if self.shared is not None:
            waiting["shared"] = self.shared.waiting
        return QueueLevels(waiting, running, self.local.level)


async def _open_queues(config: Config, link: RedisLink | None, closing: AsyncExitStack) -> _Queues:
    settings = config.jobs
    journal = JobJournal(settings.journal) if settings.journal else None
    local = MemoryJobs(
        journal,
        capacity=settings.capacity,
        max_bytes=settings.max_bytes,
        max_result_bytes=settings.max_result_bytes,
        lease=settings.lease,
    )
    store: MemoryJobs | FleetJobs = local
    shared: RedisJobs | None = None
    if link is not None:
        from outrider.stores.fleet_jobs import FleetJobs
        from outrider.stores.redis_jobs import RedisJobs

        shared = RedisJobs(
            link,
            capacity=settings.fleet.capacity,
            max_bytes=settings.fleet.max_bytes,
            max_result_bytes=settings.fleet.max_result_bytes,
            lease=settings.lease,
        )
        store = FleetJobs(link, shared, local)
    try:
        await store.start()
    except OSError as error:
        raise ListenError(f"cannot use jobs.journal {settings.journal}: {error.strerror or error}") from error
    closing.push_async_callback(store.aclose)
    return _Queues(store, local, shared)
