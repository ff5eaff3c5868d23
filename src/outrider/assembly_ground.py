"""What everything else stands on: logs, providers, names, prices, callers, metrics."""

from __future__ import annotations

import asyncio
import sys
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from outrider import assembly, assembly_events, assembly_routes
from outrider.core.catalog import load_catalog
from outrider.telemetry.logs import start_logging
from outrider.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AsyncExitStack

    from outrider.assembly import SecretNews
    from outrider.config import Config
    from outrider.core.catalog import Catalog
    from outrider.core.context import Target
    from outrider.core.ports import Provider, TokenCounter
    from outrider.core.pricing import PriceBook
    from outrider.policy.route_table import RouteTable
    from outrider.providers.credentials import Credential
    from outrider.server.callers import Callers
    from outrider.telemetry.logs import LogPipeline


class Ground(NamedTuple):
    """Parts that need nothing but the configuration."""

    credentials: Mapping[str, Credential]
    logs: LogPipeline
    providers: Mapping[str, Provider]
    catalog: Catalog
    prices: PriceBook
    routes: RouteTable
    targets: tuple[Target, ...]  # that are configured by name
    counter: TokenCounter
    callers: Callers
    metrics: Metrics


async def lay_ground(config: Config, news: SecretNews, closing: AsyncExitStack) -> Ground:
    """Build them; what has to be closed is pushed on `closing`."""
    credentials = assembly.credentials(config, news)
    logs = _open_logs(config, credentials)
    closing.push_async_callback(logs.aclose)
    providers = await assembly.open_providers(config, credentials)
    for provider in providers.values():
        closing.push_async_callback(provider.aclose)
    catalog = load_catalog()
    routes = assembly_routes.route_table(config, credentials, catalog)
    targets = tuple(assembly_routes.known_targets(config, routes))
    return Ground(
        credentials=credentials,
        logs=logs,
        providers=providers,
        catalog=catalog,
        prices=assembly.price_book(config, catalog),
        routes=routes,
        targets=targets,
        counter=await asyncio.to_thread(assembly.token_counter, config),
        callers=assembly.callers(config, news),
        metrics=Metrics(targets, config.providers, dropped_log_lines=lambda: logs.dropped),
    )


def _open_logs(config: Config, credentials: Mapping[str, Credential]) -> LogPipeline:
    sources = assembly.secrets(config, credentials), assembly_events.event_secrets(config)

    def secrets() -> Iterator[str]:
        return chain.from_iterable(source() for source in sources)

    return start_logging(config.log.level, config.log.format, sys.stderr, secrets)
