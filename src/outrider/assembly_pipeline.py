"""The way of a request, built: its stages, who watches it, and what it ends in."""

from __future__ import annotations

import time
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from outrider import assembly, assembly_guards, assembly_limits, assembly_routes, assembly_usage
from outrider.policy.account import Accountant
from outrider.policy.admit import admit, authenticate
from outrider.policy.attempt import AttemptLoop
from outrider.policy.estimate import Estimator
from outrider.policy.pipeline import compose
from outrider.policy.reserve import Reserver
from outrider.policy.route import route
from outrider.policy.validate import validate
from outrider.telemetry.cache_metrics import CacheMetrics
from outrider.telemetry.event_source import RequestEvents
from outrider.telemetry.fan_out import FanOut
from outrider.telemetry.limit_notices import LimitNotices
from outrider.telemetry.request_log import RequestLog
from outrider.telemetry.usage_metrics import UsageMetrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from outrider import v1
    from outrider.assembly_events import Events
    from outrider.assembly_ground import Ground
    from outrider.assembly_guards import Guards
    from outrider.assembly_routes import Routing
    from outrider.assembly_state import State
    from outrider.config import Config
    from outrider.core.ports import Handler, Observer, Stage
    from outrider.policy.cache import Cache
    from outrider.policy.limit_rules import LimitBook

_clock = time.monotonic


class Pipeline(NamedTuple):
    """Answers requests, and what its services show of it."""

    handler: Handler
    limits: LimitBook
    cache: Cache
    routing: Routing
    guards: Guards


async def open_pipeline(
    config: Config,
    ground: Ground,
    state: State,
    events: Events,
    publish: Callable[[v1.UsageRecord], None],
    closing: AsyncExitStack,
) -> Pipeline:
    """Build it; `closing` gets what has to be closed. `publish` is told of every usage record."""
    guards = await _guard(config, ground, state, events)
    routing = await assembly_routes.open_routing(
        config,
        ground.routes,
        catalog=ground.catalog,
        book=ground.prices,
        counter=ground.counter,
        clock=_clock,
        available=lambda target: guards.breakers[target.provider].is_available(target.model),
        events=events.bus,
        link=state.link,
        closing=closing,
    )
    limits = assembly_limits.limit_book(config)
    reserver = _reserver(config, ground, state, limits, events)
    closing.push_async_callback(reserver.aclose)
    hedging = assembly_guards.hedging(config, ground.targets, _clock)
    observer = FanOut(
        ground.metrics,
        routing.stats,
        *([hedging] if hedging else []),
        RequestLog(ground.logs),
        RequestEvents(events.bus),
        *await _ledger(config, ground, state, publish, closing),
        *([reserver] if limits else []),
    )
    accountant = Accountant(ground.counter, ground.prices.cost, observer, _clock)
    closing.push_async_callback(accountant.aclose)
    cache = assembly.cache(config, state.answers, ground.prices, _clock)
    closing.push_async_callback(cache.aclose)
    ground.metrics.registry.register(CacheMetrics(cache.stats.read))
    attempts = AttemptLoop(
        guards.upstreams,
        observer=observer,
        clock=_clock,
        random=SystemRandom(),
        windows=routing.planner.capabilities.window,
        hedging=hedging,
    )
    stages: list[Stage] = [accountant, authenticate, validate, route(routing.planner), admit, reserver, cache]
    return Pipeline(compose(stages, attempts), limits, cache, routing, guards)


async def _guard(config: Config, ground: Ground, state: State, events: Events) -> Guards:
    """What stands around the providers, knowing what the fleet knows."""
    guards = assembly_guards.guards(
        config,
        ground.providers,
        ground.credentials,
        ground.targets,
        ground.metrics,
        state.link,
        events.bus.emit,
    )
    if guards.hints is not None:
        await guards.hints.recall()
    return guards


def _reserver(config: Config, ground: Ground, state: State, limits: LimitBook, events: Events) -> Reserver:
    notices = LimitNotices(ground.metrics, events.bus.emit)
    settings = config.limits
    return Reserver(
        limits,
        state.quotas,
        Estimator(ground.counter, ground.prices.cost, settings.reserve_output_tokens, notices.unpriced),
        _clock,
        max_wait=settings.max_wait,
        max_waits=assembly_limits.max_waits(config),
        on_crossing=notices.crossed,
    )


async def _ledger(
    config: Config,
    ground: Ground,
    state: State,
    publish: Callable[[v1.UsageRecord], None],
    closing: AsyncExitStack,
) -> list[Observer]:
    """Who writes the ledger; nobody where usage is not counted."""
    writer = assembly_usage.ledger_writer(config, state.ledgers, publish=publish)
    if writer is None:
        return []
    ground.metrics.registry.register(UsageMetrics(lost=lambda: writer.lost, waiting=lambda: writer.waiting))
    closing.push_async_callback(writer.aclose)
    await writer.start()
    return [writer]
