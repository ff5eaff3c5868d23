"""A gRPC server in a sidecar's place: it answers as it is told, right or wrong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.errors import GenerationError
from outrider.server.status import to_status
from outrider.v1.cache_service_pb2_grpc import CacheServiceServicer, add_CacheServiceServicer_to_server
from outrider.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from outrider.v1.limit_service_pb2_grpc import LimitServiceServicer, add_LimitServiceServicer_to_server
from outrider.v1.provider_service_pb2_grpc import (
    ProviderServiceServicer,
    add_ProviderServiceServicer_to_server,
)
from outrider.v1.route_service_pb2_grpc import RouteServiceServicer, add_RouteServiceServicer_to_server
from outrider.v1.usage_service_pb2_grpc import UsageServiceServicer, add_UsageServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_Response = TypeVar("_Response")

PATIENCE = 10.0  # seconds; far more than anything here takes


@dataclass(frozen=True, slots=True)
class Status:
    """Ends the call."""

    code: grpc.StatusCode
    text: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()


class Hold:
    """Keeps the call open until its caller leaves."""


class Wait:
    """Goes on when the test says so."""


Step: TypeAlias = v1.GenerateResponse | GenerationError | Status | Hold | Wait
RecordStep: TypeAlias = v1.UsageRecord | GenerationError | Status | Hold | Wait


@dataclass
class StandIn(
    GenerationServiceServicer,
    ProviderServiceServicer,
    UsageServiceServicer,
    LimitServiceServicer,
    CacheServiceServicer,
    RouteServiceServicer,
    health_pb2_grpc.HealthServicer,  # type: ignore[misc]
):
    """What it answers, and what it was asked."""

    script: Sequence[Step] = ()
    providers: list[v1.Provider] = field(default_factory=list)
    models: list[v1.Model] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    usage: v1.GetUsageResponse = field(default_factory=v1.GetUsageResponse)
    costs: v1.GetCostBreakdownResponse = field(default_factory=v1.GetCostBreakdownResponse)
    records: Sequence[RecordStep] = ()  # their cursors are their places, from 1
    limits: v1.GetLimitsResponse = field(default_factory=v1.GetLimitsResponse)
    cache: v1.GetCacheStatsResponse = field(default_factory=v1.GetCacheStatsResponse)
    removed: int = 0
    routes: list[v1.Route] = field(default_factory=list)
    plan: v1.ExplainRouteResponse = field(default_factory=v1.ExplainRouteResponse)
    refusal: Status | None = None  # of whatever is one message
    silent: bool = False  # health is asked for in vain
    address: str = ""
    port: int = 0
    requests: list[Any] = field(default_factory=list)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    remaining: float = 0.0  # seconds until the deadline of the last call
    asked: threading.Event = field(default_factory=threading.Event)  # a request is here
    go_on: threading.Event = field(default_factory=threading.Event)  # set by the test, for Wait
    left: threading.Event = field(default_factory=threading.Event)  # the call is over

    def Generate(
        self, request: v1.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.GenerateResponse]:
        self._note(request, context)
        for number, step in enumerate(self.script, 1):
            if isinstance(step, v1.GenerateResponse):
                step.sequence = number
                yield step
            else:
                self._do(step, context)

    def Complete(self, request: v1.CompleteRequest, context: grpc.ServicerContext) -> v1.CompleteResponse:
        self._note(request, context)
        collector = Collector()
        for step in self.script:
            if isinstance(step, v1.GenerateResponse):
                collector.add(step)
            else:
                self._do(step, context)
        return collector.response

    def ListProviders(
        self, request: v1.ListProvidersRequest, context: grpc.ServicerContext
    ) -> v1.ListProvidersResponse:
        return self._answer(v1.ListProvidersResponse(providers=self.providers), request, context)

    def ListModels(
        self, request: v1.ListModelsRequest, context: grpc.ServicerContext
    ) -> v1.ListModelsResponse:
        return self._answer(v1.ListModelsResponse(models=self.models), request, context)

    def ListRoutes(
        self, request: v1.ListRoutesRequest, context: grpc.ServicerContext
    ) -> v1.ListRoutesResponse:
        return self._answer(v1.ListRoutesResponse(routes=self.routes), request, context)

    def ExplainRoute(
        self, request: v1.ExplainRouteRequest, context: grpc.ServicerContext
    ) -> v1.ExplainRouteResponse:
        return self._answer(self.plan, request, context)

    def SetRouteWeights(
        self, request: v1.SetRouteWeightsRequest, context: grpc.ServicerContext
    ) -> v1.SetRouteWeightsResponse:
        return self._answer(v1.SetRouteWeightsResponse(route=self.routes[0]), request, context)

    def ActivateTarget(
        self, request: v1.ActivateTargetRequest, context: grpc.ServicerContext
    ) -> v1.ActivateTargetResponse:
        return self._answer(v1.ActivateTargetResponse(route=self.routes[0]), request, context)

    def GetUsage(self, request: v1.GetUsageRequest, context: grpc.ServicerContext) -> v1.GetUsageResponse:
        return self._answer(self.usage, request, context)

    def GetCostBreakdown(
        self, request: v1.GetCostBreakdownRequest, context: grpc.ServicerContext
    ) -> v1.GetCostBreakdownResponse:
        return self._answer(self.costs, request, context)

    def ExportUsage(
        self, request: v1.ExportUsageRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.ExportUsageResponse]:
        self._note(request, context)
        for number, step in enumerate(self.records, 1):
            if isinstance(step, v1.UsageRecord):
                yield v1.ExportUsageResponse(record=step, cursor=str(number))
            else:
                self._do(step, context)

    def WatchUsage(
        self, request: v1.WatchUsageRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.WatchUsageResponse]:
        self._note(request, context)
        for step in self.records:
            if isinstance(step, v1.UsageRecord):
                yield v1.WatchUsageResponse(record=step)
            else:
                self._do(step, context)

    def GetLimits(self, request: v1.GetLimitsRequest, context: grpc.ServicerContext) -> v1.GetLimitsResponse:
        return self._answer(self.limits, request, context)

    def GetCacheStats(
        self, request: v1.GetCacheStatsRequest, context: grpc.ServicerContext
    ) -> v1.GetCacheStatsResponse:
        return self._answer(self.cache, request, context)

    def InvalidateCache(
        self, request: v1.InvalidateCacheRequest, context: grpc.ServicerContext
    ) -> v1.InvalidateCacheResponse:
        return self._answer(v1.InvalidateCacheResponse(removed=self.removed), request, context)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        if self.silent:
            self.left.wait(PATIENCE)
        if request.service not in self.statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return health_pb2.HealthCheckResponse(status=self.statuses[request.service])

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status) for name, status in self.statuses.items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    def _answer(self, response: _Response, request: Any, context: grpc.ServicerContext) -> _Response:
        self._note(request, context)
        if self.refusal:
            self._do(self.refusal, context)
        return response

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        context.add_callback(self.left.set)
        self.asked.set()

    def _do(self, step: Step | RecordStep, context: grpc.ServicerContext) -> None:
        if isinstance(step, GenerationError):
            code, text, trailers = to_status(step)
            step = Status(code, text, trailers)
        if isinstance(step, Status):
            context.set_trailing_metadata(step.trailers)
            context.abort(step.code, step.text)
        if isinstance(step, Wait):
            self.go_on.wait(PATIENCE)
        else:
            self.left.wait(PATIENCE)


@contextmanager
def serving(
    stand_in: StandIn, folder: Path, credentials: grpc.ServerCredentials | None = None
) -> Iterator[StandIn]:
    """Serve on a Unix socket in the folder and on a TCP port, which has TLS if there are credentials."""
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, options=[("grpc.max_receive_message_length", -1)])
        add_GenerationServiceServicer_to_server(stand_in, server)
        add_ProviderServiceServicer_to_server(stand_in, server)
        add_UsageServiceServicer_to_server(stand_in, server)
        add_LimitServiceServicer_to_server(stand_in, server)
        add_CacheServiceServicer_to_server(stand_in, server)
        add_RouteServiceServicer_to_server(stand_in, server)
        health_pb2_grpc.add_HealthServicer_to_server(stand_in, server)
        stand_in.address = f"unix://{folder}/outrider.sock"
        server.add_insecure_port(stand_in.address)
        if credentials is None:
            stand_in.port = server.add_insecure_port("127.0.0.1:0")
        else:
            stand_in.port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield stand_in
        finally:
            stand_in.left.set()
            server.stop(0).wait()


class Junk(grpc.GenericRpcHandler):
    """Knows no method, or answers each with bytes that are no message."""

    def __init__(self) -> None:
        self.answers = False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if not self.answers:
            return None
        if details.method.endswith("Generate"):
            return grpc.unary_stream_rpc_method_handler(lambda *_: iter([b"\xff\xff"]))
        return grpc.unary_unary_rpc_method_handler(lambda *_: b"\xff\xff")
