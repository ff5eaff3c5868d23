"""ProviderService: what the sidecar can reach. Never tells a key."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.durations import to_duration
from outrider.core.errors import GenerationError, Reason
from outrider.policy.admit import check_caller, may_use_all
from outrider.policy.breaker import State
from outrider.policy.breakers import OTHERS
from outrider.v1.provider_service_pb2_grpc import ProviderServiceServicer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from grpc.aio import ServicerContext

    from outrider.core.context import Principal, Target
    from outrider.core.ports import Provider
    from outrider.policy.breaker import Breaker
    from outrider.policy.breakers import Breakers
    from outrider.policy.health_monitor import Health
    from outrider.policy.route_table import RouteTable
    from outrider.server.callers import Callers

_CHECK_TIMEOUT = 10.0


class ProviderServicer(ProviderServiceServicer):
    """ListProviders, CheckProvider and ListModels."""

    def __init__(
        self,
        *,
        callers: Callers,
        routes: RouteTable,
        providers: Mapping[str, Provider],
        descriptions: Iterable[v1.Provider],
        health: Mapping[str, Health],
        breakers: Mapping[str, Breakers],
        missing_keys: Callable[[], Mapping[str, str]],
        describe_model: Callable[[Target], v1.Model],
    ) -> None:
        self._callers = callers
        self._routes = routes
        self._providers = providers
        self._descriptions = {description.name: description for description in descriptions}
        self._health = health
        self._breakers = breakers
        self._missing_keys = missing_keys
        self._describe_model = describe_model

    async def ListProviders(
        self,
        request: v1.ListProvidersRequest,
        context: ServicerContext[v1.ListProvidersRequest, v1.ListProvidersResponse],
    ) -> v1.ListProvidersResponse:
        """The configured providers and their health."""
        self._identify(context)
        return v1.ListProvidersResponse(providers=[self._describe(name) for name in self._descriptions])

    async def CheckProvider(
        self,
        request: v1.CheckProviderRequest,
        context: ServicerContext[v1.CheckProviderRequest, v1.CheckProviderResponse],
    ) -> v1.CheckProviderResponse:
        """Ask a provider now whether it answers and accepts the key."""
        self._identify(context)
        if request.provider not in self._descriptions:
            known = ", ".join(self._descriptions) or "none"
            raise GenerationError(
                Reason.MODEL_UNKNOWN, f"no provider {request.provider[:64]!r}; configured are: {known}"
            )
        response = v1.CheckProviderResponse(provider=self._describe(request.provider))
        started = time.perf_counter()
        failure = await self._check(request.provider)
        to_duration(time.perf_counter() - started, response.latency)
        if failure is None:
            response.provider.status = v1.PROVIDER_STATUS_SERVING
            response.provider.status_reason = ""
        else:
            response.reason, response.provider.status_reason = failure
            if response.provider.status == v1.PROVIDER_STATUS_SERVING:
                response.provider.status = v1.PROVIDER_STATUS_NOT_SERVING
        return response

    async def ListModels(
        self,
        request: v1.ListModelsRequest,
        context: ServicerContext[v1.ListModelsRequest, v1.ListModelsResponse],
    ) -> v1.ListModelsResponse:
        """The models that the caller may use."""
        principal = self._identify(context)
        response = v1.ListModelsResponse()
        for name, targets in self._routes.names():
            if not may_use_all(principal, name, targets):
                continue
            if request.provider and all(target.provider != request.provider for target in targets):
                continue
            model = self._describe_model(targets[0])
            model.name = name
            model.targets.extend(map(str, targets))
            model.is_default = targets == self._routes.default
            response.models.append(model)
        return response

    def _identify(self, context: ServicerContext[Any, Any]) -> Principal:
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        return principal

    def _describe(self, name: str) -> v1.Provider:
        provider = v1.Provider()
        provider.CopyFrom(self._descriptions[name])
        health = self._health[name]
        provider.status_reason = health.reason
        provider.status_changed_at.FromNanoseconds(int(health.since * 1e9))
        if name in self._missing_keys():
            provider.status = v1.PROVIDER_STATUS_DISABLED
        elif health.serving:
            provider.status = v1.PROVIDER_STATUS_SERVING
        else:
            provider.status = v1.PROVIDER_STATUS_NOT_SERVING
        provider.targets.extend(_targets(self._breakers[name]))
        return provider

    async def _check(self, name: str) -> tuple[str, str] | None:
        """None where the provider is well, else reason and message."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT):
                await self._providers[name].check()
        except GenerationError as error:
            return error.reason, error.fact.message
        except TimeoutError:
            return Reason.TOTAL_TIMEOUT, f"no answer within {_CHECK_TIMEOUT:g} s"
        return None


_STATES = {
    State.CLOSED: v1.TARGET_STATE_CLOSED,
    State.HALF_OPEN: v1.TARGET_STATE_HALF_OPEN,
    State.OPEN: v1.TARGET_STATE_OPEN,
}


def _targets(breakers: Breakers) -> Iterator[v1.ProviderTarget]:
    """How each target fares; models that only callers name, once there is something to tell."""
    for target, breaker in breakers:
        if target.model != OTHERS:
            yield _describe_target(target.model, breaker)
        elif breaker.was_asked:
            yield _describe_target("", breaker)


def _describe_target(model: str, breaker: Breaker) -> v1.ProviderTarget:
    described = v1.ProviderTarget(model=model, state=_STATES[breaker.state])
    rate = breaker.success_rate()
    if rate is not None:
        described.success_rate = rate
    pause = breaker.paused_for()
    if breaker.state is State.CLOSED and pause:
        described.state = v1.TARGET_STATE_PAUSED
    elif breaker.state is State.OPEN:
        pause = max(pause, breaker.retry_after() or 0.0)
    if pause:
        described.until.FromNanoseconds(int((time.time() + pause) * 1e9))
    return described
