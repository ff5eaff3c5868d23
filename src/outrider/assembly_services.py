"""The services of the API, each with what it shows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outrider import assembly
from outrider.server.cache_service import CacheServicer
from outrider.server.event_service import EventServicer
from outrider.server.generation import GenerationServicer
from outrider.server.limit_service import LimitServicer
from outrider.server.provider_service import ProviderServicer
from outrider.server.route_service import RouteServicer
from outrider.server.usage_service import UsageServicer
from outrider.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from outrider.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from outrider.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from outrider.v1.limit_service_pb2_grpc import add_LimitServiceServicer_to_server
from outrider.v1.provider_service_pb2_grpc import add_ProviderServiceServicer_to_server
from outrider.v1.route_service_pb2_grpc import add_RouteServiceServicer_to_server
from outrider.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server

if TYPE_CHECKING:
    from outrider.assembly_events import Events
    from outrider.assembly_ground import Ground
    from outrider.assembly_jobs import Jobs
    from outrider.assembly_pipeline import Pipeline
    from outrider.assembly_resume import Streams
    from outrider.assembly_state import State
    from outrider.config import Config
    from outrider.server.app import Service
    from outrider.server.usage_feed import UsageFeed


def services(
    config: Config,
    ground: Ground,
    state: State,
    events: Events,
    pipeline: Pipeline,
    jobs: Jobs,
    streams: Streams,
    feed: UsageFeed,
) -> list[Service]:
    """All of them."""
    callers, routing = ground.callers, pipeline.routing
    limits = LimitServicer(callers=callers, routes=ground.routes, book=pipeline.limits, store=state.quotas)
    usage = UsageServicer(
        callers=callers,
        local=state.ledgers.local,
        shared=state.ledgers.shared,
        feed=feed,
        wall_clock=time.time,
        kept_for=config.usage.retention,
    )
    routes = RouteServicer(callers, routing.planner, routing.stats, routing.changes)
    cache = CacheServicer(callers, state.answers, pipeline.cache.stats.read)
    return [
        (_generation(ground, jobs, streams), add_GenerationServiceServicer_to_server),
        (_providers(config, ground, pipeline), add_ProviderServiceServicer_to_server),
        (routes, add_RouteServiceServicer_to_server),
        (limits, add_LimitServiceServicer_to_server),
        (cache, add_CacheServiceServicer_to_server),
        (usage, add_UsageServiceServicer_to_server),
        *jobs.services,
        (EventServicer(callers, events.feed), add_EventServiceServicer_to_server),
    ]


def _generation(ground: Ground, jobs: Jobs, streams: Streams) -> GenerationServicer:
    return GenerationServicer(
        pipeline=jobs.pipeline,
        keyed=streams.keyed,
        streams=streams.resumable,
        callers=ground.callers,
        routes=ground.routes,
        providers=ground.providers,
        counter=ground.counter,
        clock=time.monotonic,
    )


def _providers(config: Config, ground: Ground, pipeline: Pipeline) -> ProviderServicer:
    return ProviderServicer(
        callers=ground.callers,
        routes=ground.routes,
        providers=ground.providers,
        descriptions=assembly.descriptions(config),
        health=pipeline.guards.monitor.health,
        breakers=pipeline.guards.breakers,
        missing_keys=lambda: assembly.missing_keys(config, ground.credentials),
        describe_model=assembly.model_describer(ground.catalog, ground.prices),
    )
