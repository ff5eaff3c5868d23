"""The composition root: builds the sidecar from its configuration, starts it, drains it.

Only this file and `assembly.py`, which it calls, know every part.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import structlog

from outrider import __version__, assembly
from outrider.admin.http import AdminServer
from outrider.assembly_events import event_bus, open_events
from outrider.assembly_ground import lay_ground
from outrider.assembly_jobs import open_jobs
from outrider.assembly_notices import loaded, secret_news
from outrider.assembly_pipeline import open_pipeline
from outrider.assembly_resume import open_streams
from outrider.assembly_services import services
from outrider.assembly_state import open_state
from outrider.core.events import EventType
from outrider.server.app import GrpcServer, ListenError, service_names
from outrider.server.health import Health
from outrider.server.usage_feed import UsageFeed
from outrider.telemetry.event_metrics import EventMetrics

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from outrider.assembly_guards import Guards
    from outrider.config import Config
    from outrider.policy.health_monitor import Health as ProviderHealth
    from outrider.telemetry.metrics import Metrics

_log = structlog.get_logger("outrider")


class Sidecar:
    """Everything that runs. Used on one event loop: `start`, then `drain` or `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._closing = AsyncExitStack()
        self.port = 0  # of the gRPC listener, once started
        self.admin_port = 0  # of the HTTP listener, once started

    async def start(self) -> None:
        """Build everything and serve. Raises ListenError where an address cannot be had."""
        try:
            await self._build()
        except BaseException:
            await self._closing.aclose()
            raise
        # What is alive now stays alive: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        _log.info("serving", version=__version__, grpc=self._where(), admin_port=self.admin_port)

    async def drain(self) -> None:
        """Say that no more is served, serve what still comes for a moment, finish what runs, close."""
        drain = self._config.server.drain
        await self._health.enter_graceful_shutdown()
        _log.info("draining", delay=drain.delay, grace=drain.grace)
        await self._jobs.pause()
        await asyncio.sleep(drain.delay)
        await self.stop(drain.grace)

    async def stop(self, grace: float = 0.0) -> None:
        """End what runs, after `grace` seconds at most, settle every record, close every connection."""
        self._events.feed.close()
        await self._feed.aclose()  # those who watch would hold up the drain
        await asyncio.gather(self._jobs.drain(grace), self._server.stop(grace))
        await self._closing.aclose()

    async def _build(self) -> None:
        """Later parts close first."""
        config, closing = self._config, self._closing
        bus = event_bus(config)
        news = secret_news(bus.emit)
        ground = await lay_ground(config, news, closing)
        state = await open_state(config, news, closing)
        self._events = open_events(config, bus, state.link, news, closing)
        ground.metrics.registry.register(EventMetrics(self._events.outlets.counts))
        self._feed = UsageFeed(state.ledgers.shared, time.time)
        pipeline = await open_pipeline(config, ground, state, self._events, self._feed.publish, closing)
        self._jobs = await open_jobs(
            config,
            pipeline=pipeline.handler,
            callers=ground.callers,
            planner=pipeline.routing.planner,
            upstreams=pipeline.guards.upstreams,
            link=state.link,
            closing=closing,
            on_event=self._events.bus.emit,
            registry=ground.metrics.registry,
        )
        streams = open_streams(config, self._jobs.pipeline, state.link, closing)
        ground.metrics.registry.register(streams.metrics)
        served = services(config, ground, state, self._events, pipeline, self._jobs, streams, self._feed)
        self._health = Health(service_names(served), config.providers)
        self._server = GrpcServer(assembly.server_settings(config), served, self._health, streams.alone)
        await self._serve(ground.metrics, pipeline.guards)
        if bus.wants(EventType.CONFIG_LOADED):
            bus.emit(loaded(config))

    async def _serve(self, metrics: Metrics, guards: Guards) -> None:
        if self._config.admin.listen:
            admin = AdminServer(
                self._config.admin.listen, metrics.registry, live=_alive, ready=self._health.readiness
            )
            self._closing.push_async_callback(admin.aclose)
            try:
                self.admin_port = await admin.start()
            except OSError as error:
                raise ListenError(
                    f"cannot listen on {self._config.admin.listen}: {error.strerror}"
                ) from error
        # Last, so that nothing that fails leaves a server behind that has begun to take calls.
        await self._server.start()
        self.port = self._server.port
        await self._health.set_serving()
        self._jobs.start()
        self._run(guards.monitor.run(_Publisher(self._health, metrics)), "health-monitor")
        if guards.hints is not None:
            self._run(guards.hints.run(), "hints")

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """In the background, until the sidecar stops."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_of_death)
        self._closing.push_async_callback(_cancel, task)

    def _where(self) -> list[str]:
        server = self._config.server
        tcp = [f"{server.listen.rpartition(':')[0]}:{self.port}"] if server.listen else []
        return tcp + ([f"unix://{server.unix_socket}"] if server.unix_socket else [])


class _Publisher:
    """Shows health where people and machines look for it."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def provider_changed(self, name: str, health: ProviderHealth) -> None:
        self._metrics.set_provider_up(name, up=health.serving)
        await self._health.set_provider(name, serving=health.serving)
        if health.serving:
            _log.info("provider serves", provider=name)
        else:
            _log.warning("provider does not serve", provider=name, why=health.reason)

    async def readiness_changed(self, *, ready: bool) -> None:
        await self._health.set_ready(ready=ready)
        _log.info("readiness", ready=ready)


def _alive() -> tuple[bool, str]:
    # Whoever can answer is alive.
    return True, "alive"


def _tell_of_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("a task of the sidecar has died", task=task.get_name(), exc_info=task.exception())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
