"""The composition root: builds the sidecar from its configuration, starts it, drains it.

Only this file and `assembly.py`, which it calls, know every part.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from contextlib import AsyncExitStack, suppress
from random import SystemRandom
from typing import TYPE_CHECKING

import structlog

from outrider import __version__, assembly
from outrider.admin.http import AdminServer
from outrider.core.catalog import load_catalog
from outrider.policy.account import Accountant
from outrider.policy.admit import admit, authenticate
from outrider.policy.attempt import AttemptLoop
from outrider.policy.health_monitor import HealthMonitor
from outrider.policy.pipeline import compose
from outrider.policy.route import route
from outrider.policy.unsupported import only_stored
from outrider.policy.validate import validate
from outrider.server.app import SERVICES, GrpcServer, ListenError
from outrider.server.generation import GenerationServicer
from outrider.server.health import Health
from outrider.server.provider_service import ProviderServicer
from outrider.telemetry.fan_out import FanOut
from outrider.telemetry.logs import start_logging
from outrider.telemetry.metrics import Metrics
from outrider.telemetry.request_log import RequestLog

if TYPE_CHECKING:
    from outrider.config import Config
    from outrider.core.ports import Provider
    from outrider.policy.breaker import State
    from outrider.policy.health_monitor import Health as ProviderHealth
    from outrider.policy.upstream import Upstream
    from outrider.providers.credentials import Credential

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
        await asyncio.sleep(drain.delay)
        await self.stop(drain.grace)

    async def stop(self, grace: float = 0.0) -> None:
        """End what runs, after `grace` seconds at most, settle every record, close every connection."""
        await self._server.stop(grace)
        await self._closing.aclose()

    async def _build(self) -> None:
        """Later parts close first."""
        config, clock = self._config, time.monotonic
        credentials = assembly.credentials(config)
        log = config.log
        logs = start_logging(log.level, log.format, sys.stderr, assembly.secrets(config, credentials))
        self._closing.push_async_callback(logs.aclose)

        providers = await assembly.open_providers(config, credentials)
        for provider in providers.values():
            self._closing.push_async_callback(provider.aclose)
        catalog = load_catalog()
        book = assembly.price_book(config, catalog)
        routes = assembly.route_table(config, credentials, catalog)
        counter = await asyncio.to_thread(assembly.token_counter, config)
        callers = assembly.callers(config)

        metrics = Metrics(assembly.known_targets(config, routes), dropped_log_lines=lambda: logs.dropped)
        observer = FanOut(metrics, RequestLog(logs))
        monitor, upstreams = self._guard(providers, credentials, metrics)
        accountant = Accountant(counter, book.cost, observer, clock)
        self._closing.push_async_callback(accountant.aclose)
        pipeline = compose(
            [
                accountant,
                authenticate,
                validate,
                route(routes, assembly.defaults(config)),
                admit,
                only_stored,
            ],
            AttemptLoop(upstreams, observer=observer, clock=clock, random=SystemRandom()),
        )

        self._health = Health(SERVICES, config.providers)
        generation = GenerationServicer(
            pipeline=pipeline,
            callers=callers,
            routes=routes,
            providers=providers,
            counter=counter,
            clock=clock,
        )
        provider_service = ProviderServicer(
            callers=callers,
            routes=routes,
            providers=providers,
            descriptions=assembly.descriptions(config),
            health=monitor.health,
            missing_keys=lambda: assembly.missing_keys(config, credentials),
            describe_model=assembly.model_describer(catalog, book),
        )
        self._server = GrpcServer(
            assembly.server_settings(config), generation, provider_service, self._health
        )
        await self._serve(metrics, monitor)

    def _guard(
        self, providers: dict[str, Provider], credentials: dict[str, Credential], metrics: Metrics
    ) -> tuple[HealthMonitor, dict[str, Upstream]]:
        """Each provider's guards, and who watches them: breakers tell of failures, checks wake breakers."""
        monitor = HealthMonitor(
            providers,
            assembly.missing_keys(self._config, credentials),
            clock=time.monotonic,
            on_recovery=lambda name: upstreams[name].breaker.wake(),
        )

        def breaker_changed(name: str, state: State) -> None:
            metrics.set_breaker_state(name, state.value)
            monitor.breaker_changed(name, state)
            _log.warning("breaker", provider=name, state=state.name.lower())

        upstreams = assembly.upstreams(self._config, providers, time.monotonic, breaker_changed)
        return monitor, upstreams

    async def _serve(self, metrics: Metrics, monitor: HealthMonitor) -> None:
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
        watching = asyncio.create_task(monitor.run(_Publisher(self._health, metrics)), name="health-monitor")
        watching.add_done_callback(_tell_of_death)
        self._closing.push_async_callback(_cancel, watching)

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
        _log.error("health is no longer watched", exc_info=task.exception())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
