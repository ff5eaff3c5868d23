"""From the configuration of routes to the parts that make plans."""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING

import structlog

from outrider import v1
from outrider.assembly import default_model, missing_keys
from outrider.core.context import RouteSettings, Target
from outrider.core.events import Event, EventType
from outrider.core.model_facts import UNKNOWN, Capability
from outrider.policy.capabilities import Capabilities
from outrider.policy.parameters import Parameters
from outrider.policy.planner import Planner
from outrider.policy.route_changes import RouteChanges
from outrider.policy.route_order import Orders
from outrider.policy.route_table import Models, Route, RouteTable, Strategy
from outrider.policy.target_stats import TargetStats
from outrider.stores.memory_route_overrides import MemoryRouteOverrides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AsyncExitStack

    from outrider import config as configuration
    from outrider.config import Config
    from outrider.core.catalog import Catalog
    from outrider.core.events import EventSink, Fact
    from outrider.core.model_facts import ModelFacts
    from outrider.core.ports import Clock, TokenCounter
    from outrider.core.pricing import PriceBook
    from outrider.providers.credentials import Credential
    from outrider.stores.redis_link import RedisLink

_EFFORTS = {
    "none": v1.ReasoningOptions.EFFORT_NONE,
    "minimal": v1.ReasoningOptions.EFFORT_MINIMAL,
    "low": v1.ReasoningOptions.EFFORT_LOW,
    "medium": v1.ReasoningOptions.EFFORT_MEDIUM,
    "high": v1.ReasoningOptions.EFFORT_HIGH,
    "max": v1.ReasoningOptions.EFFORT_MAX,
}

_log = structlog.get_logger("outrider.routes")


def route_table(config: Config, keys: Mapping[str, Credential], catalog: Catalog) -> RouteTable:
    """Which names lead where."""
    providers = {
        name: Models(
            default=default_model(name, settings),
            names=(*settings.models, *catalog.models(name)),
        )
        for name, settings in config.providers.items()
    }
    return RouteTable(
        routes=[_route(name, settings, config) for name, settings in config.routes.items()],
        providers=providers,
        default=tuple(_default_names(config, keys)),
    )


@dataclass(frozen=True, slots=True)
class Routing:
    """What makes plans, what it learns from, and what changes it."""

    planner: Planner
    stats: TargetStats
    changes: RouteChanges


async def open_routing(
    config: Config,
    table: RouteTable,
    *,
    catalog: Catalog,
    book: PriceBook,
    counter: TokenCounter,
    clock: Clock,
    available: Callable[[Target], bool],
    events: EventSink,
    link: RedisLink | None,
    closing: AsyncExitStack,
) -> Routing:
    """Build it; `closing` gets what has to be closed. Routes are as the fleet has changed them on return."""
    stats = TargetStats(known_targets(config, table), clock)
    capabilities = Capabilities(_facts(config, catalog), counter)
    orders = Orders(stats, book, SystemRandom())
    planner = Planner(table, capabilities, orders, defaults(config), available)

    def tell(route: Route) -> None:
        facts = _facts_of(route)
        _log.warning("route changed", route=route.name, **facts)
        events.emit(Event(EventType.ROUTE_CHANGED, route.name, facts))

    if link is None:
        return Routing(planner, stats, RouteChanges(table, MemoryRouteOverrides(), tell))
    from outrider.stores.route_overrides import RedisRouteOverrides

    overrides = RedisRouteOverrides(link)
    changes = RouteChanges(table, overrides, tell)
    closing.push_async_callback(overrides.aclose)
    await overrides.start()
    return Routing(planner, stats, changes)


def defaults(config: Config) -> Parameters:
    """What requests get where they do not say."""
    return Parameters(config.defaults.max_output_tokens, config.defaults.temperature)


def known_targets(config: Config, table: RouteTable) -> Iterator[Target]:
    """Every target that is configured by name: metrics tell these apart, and call the rest "other"."""
    for route in table.routes:
        yield from route.targets
    for name, settings in config.providers.items():
        for model in filter(None, (default_model(name, settings), *settings.models)):
            yield Target(name, model)


def _facts_of(route: Route) -> dict[str, Fact]:
    """How a route is now: which target was put first, and weights, where they count."""
    weights = [f"{target}={route.weight(target):g}" for target in route.targets]
    return {
        "as_configured": not route.changed,
        "active": str(route.active) if route.active else None,
        "weights": ", ".join(weights) if route.strategy is Strategy.WEIGHTED else None,
    }


def _route(name: str, settings: configuration.Route, config: Config) -> Route:
    written = settings.timeouts
    timeouts = {each: getattr(written, each) for each in written.model_fields_set} if written else {}
    return Route(
        settings=RouteSettings(name, timeouts, settings.on_content_filter),
        targets=tuple(map(_target, settings.names)),
        strategy=Strategy(settings.strategy),
        weights={_target(each.target): each.weight for each in settings.targets},
        parameters=_parameters(settings.parameters).over(defaults(config)),
    )


def _target(name: str) -> Target:
    return Target(*name.split("/", 1))


def _parameters(settings: configuration.Parameters | None) -> Parameters:
    if settings is None:
        return Parameters()
    effort = settings.reasoning_effort
    return Parameters(
        settings.max_output_tokens,
        settings.temperature,
        settings.top_p,
        _EFFORTS[effort] if effort else None,
    )


def _facts(config: Config, catalog: Catalog) -> Callable[[Target], ModelFacts]:
    def find(target: Target) -> ModelFacts:
        entry = catalog.find(*target)
        facts = entry.facts if entry else UNKNOWN
        own = config.providers[target.provider].model_facts.get(target.model)
        if own is None:
            return facts
        given = {each: has for each in Capability if (has := getattr(own, each)) is not None}
        return facts.corrected(own.context_tokens, given)

    return find


def _default_names(config: Config, keys: Mapping[str, Credential]) -> Iterator[str]:
    """What answers where no model is named."""
    if config.default_model:
        yield config.default_model
        return
    primary = config.primary_provider or next(_usable(config, keys), None)
    for name in (primary, config.fallback_provider):
        if name and default_model(name, config.providers[name]):
            yield name


def _usable(config: Config, keys: Mapping[str, Credential]) -> Iterator[str]:
    """Providers with a default model, those that have no key last."""
    missing = missing_keys(config, keys)
    able = [name for name, settings in config.providers.items() if default_model(name, settings)]
    yield from sorted(able, key=missing.__contains__)
