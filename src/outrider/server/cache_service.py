"""CacheService: what the cache did, and forgetting what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.policy.admit import check_caller
from outrider.v1.cache_service_pb2_grpc import CacheServiceServicer

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from outrider.core.answers import AnswerStore
    from outrider.core.context import Principal
    from outrider.server.callers import Callers


class CacheServicer(CacheServiceServicer):
    """GetCacheStats and InvalidateCache."""

    def __init__(
        self, callers: Callers, answers: AnswerStore, read_stats: Callable[[], v1.GetCacheStatsResponse]
    ) -> None:
        self._callers = callers
        self._answers = answers
        self._read_stats = read_stats

    async def GetCacheStats(
        self,
        request: v1.GetCacheStatsRequest,
        context: ServicerContext[v1.GetCacheStatsRequest, v1.GetCacheStatsResponse],
    ) -> v1.GetCacheStatsResponse:
        """The numbers since the start."""
        self._identify(context)
        return self._read_stats()

    async def InvalidateCache(
        self,
        request: v1.InvalidateCacheRequest,
        context: ServicerContext[v1.InvalidateCacheRequest, v1.InvalidateCacheResponse],
    ) -> v1.InvalidateCacheResponse:
        """Forget answers; a caller that has a tenant, those of its tenant alone."""
        principal = self._identify(context)
        _check(request, principal)
        if principal.tenant:
            request.tenant = principal.tenant
        return v1.InvalidateCacheResponse(removed=await self._answers.invalidate(request))

    def _identify(self, context: ServicerContext[Any, Any]) -> Principal:
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        return principal


def _check(request: v1.InvalidateCacheRequest, principal: Principal) -> None:
    if not (request.all or request.key or request.model or request.tenant or request.labels):
        _refuse("all", "set this, or what the answers to forget have in common")
    if request.tenant and principal.tenant not in ("", request.tenant):
        _refuse("tenant", "another one than the caller's own")


def _refuse(field: str, description: str) -> None:
    raise GenerationError(
        Reason.INVALID_REQUEST, f"{field}: {description}", violations=[Violation(field, description)]
    )
