"""From configuration to what guards providers: breakers, retries, hedging, and who watches their health."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import structlog

from outrider import assembly
from outrider.policy.backoff import Backoff
from outrider.policy.breaker import Trip
from outrider.policy.breakers import Breakers
from outrider.policy.gate import Gate
from outrider.policy.health_monitor import HealthMonitor, Rhythm
from outrider.policy.hedging import HedgePlan, Hedging
from outrider.policy.hint_exchange import HintExchange
from outrider.policy.retry_budget import RetryBudget
from outrider.policy.upstream import Retries, Timeouts, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from outrider.config import Config
    from outrider.core.context import Target
    from outrider.core.events import Event
    from outrider.core.hints import HintStore
    from outrider.core.ports import Clock, Provider
    from outrider.policy.breaker import State
    from outrider.providers.credentials import Credential
    from outrider.stores.redis_link import RedisLink
    from outrider.telemetry.metrics import Metrics

_LEAST_RETRIES = 10.0  # a second

_log = structlog.get_logger("outrider")


class Guards(NamedTuple):
    """What stands around the providers, by their names."""

    upstreams: Mapping[str, Upstream]
    breakers: Mapping[str, Breakers]
    monitor: HealthMonitor
    hints: HintExchange | None  # None: there is no fleet to share them with


def guards(
    config: Config,
    providers: Mapping[str, Provider],
    keys: Mapping[str, Credential],
    targets: Collection[Target],
    metrics: Metrics,
    link: RedisLink | None,
    on_event: Callable[[Event], None],
) -> Guards:
    """Breakers tell the monitor and the fleet of failures; the monitor's checks wake breakers. `targets` are
    the configured ones.
    """
    clock, health = time.monotonic, config.health

    def changed(target: Target, state: State) -> None:
        metrics.set_breaker_state(target, state.value)
        monitor.breaker_changed(target, state)
        if hints is not None:
            hints.hurry()
        _log.warning("breaker", provider=target.provider, model=target.model, state=state.name.lower())

    def pauses() -> Iterator[tuple[Target, float]]:
        for target, breaker in chain.from_iterable(breakers.values()):
            yield target, max(0.0, breaker.paused_until - clock())

    breakers = {name: _breakers(config, name, targets, clock, changed) for name in providers}
    metrics.show_pauses(pauses)
    monitor = HealthMonitor(
        providers,
        breakers,
        assembly.missing_keys(config, keys),
        clock=clock,
        rhythm=Rhythm(health.interval, health.down_interval, health.hold),
        on_event=on_event,
    )
    hints = None if link is None else HintExchange(_hint_store(link), breakers, monitor)
    upstreams = {name: _upstream(config, provider, breakers[name]) for name, provider in providers.items()}
    return Guards(upstreams, breakers, monitor, hints)


def hedging(config: Config, targets: Iterable[Target], clock: Clock) -> Hedging | None:
    """Whether and when a second target is asked; an observer."""
    settings = config.hedging
    if not settings.enabled:
        return None
    return Hedging(HedgePlan(settings.quantile, settings.max_share, settings.min_samples), targets, clock)


def _breakers(
    config: Config,
    provider: str,
    targets: Iterable[Target],
    clock: Clock,
    changed: Callable[[Target, State], None],
) -> Breakers:
    breaker = config.breaker
    trip = Trip(breaker.failures, breaker.ratio, breaker.window, breaker.minimum, breaker.open_for)
    models = dict.fromkeys(target.model for target in targets if target.provider == provider)
    return Breakers(provider, models, trip, clock, changed)


def _upstream(config: Config, provider: Provider, breakers: Breakers) -> Upstream:
    name = provider.name
    limits, times = config.providers[name].limits, config.timeouts_for(name)
    attempts = config.attempts_for(name)
    return Upstream(
        provider=provider,
        gate=Gate(
            max_concurrency=limits.max_concurrency, max_waiting=limits.max_waiting, max_wait=limits.max_wait
        ),
        breakers=breakers,
        retry_budget=RetryBudget(
            attempts.retry_budget, time.monotonic, least=_LEAST_RETRIES if attempts.retry_budget else 0.0
        ),
        timeouts=Timeouts(times.connect, times.first_event, times.idle, times.total),
        retries=Retries(
            attempts.max_attempts,
            Backoff(attempts.base_delay, attempts.factor, attempts.max_delay),
            attempts.max_retry_after,
        ),
    )


def _hint_store(link: RedisLink) -> HintStore:
    from outrider.stores.target_hints import TargetHints

    return TargetHints(link)
