"""grpc.health.v1 for the whole sidecar, its services and its providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

LIVENESS = "liveness"
READINESS = "readiness"


def provider_service(name: str) -> str:
    """The health service name of a provider."""
    return f"provider/{name}"


class Health(HealthServicer):  # type: ignore[misc]
    """Answers Check, Watch and List. Names: "", "liveness", "readiness", services, "provider/<name>".

    Everything but liveness starts as NOT_SERVING. The process and its services serve from start to drain;
    readiness also asks whether any provider can answer.
    """

    def __init__(self, services: Iterable[str], providers: Iterable[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        names = (*self._services, READINESS, *map(provider_service, providers))
        self._server_status = dict.fromkeys(names, NOT_SERVING) | {LIVENESS: SERVING}

    async def List(self, request: health_pb2.HealthListRequest, context: object) -> object:
        """Every name and its status."""
        return health_pb2.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=status)
                for name, status in self._server_status.items()
            }
        )

    async def enter_graceful_shutdown(self) -> None:
        """Nothing serves any more but liveness, for good: to drain is not to be dead."""
        for name in self._server_status:
            if name != LIVENESS:
                await self.set(name, NOT_SERVING)
        self._gracefully_shutting_down = True

    async def set_serving(self) -> None:
        """The process and its services have started."""
        for name in self._services:
            await self.set(name, SERVING)

    async def set_ready(self, *, ready: bool) -> None:
        """Whether any provider can answer."""
        await self.set(READINESS, SERVING if ready else NOT_SERVING)

    async def set_provider(self, name: str, *, serving: bool) -> None:
        """Whether this provider can answer."""
        await self.set(provider_service(name), SERVING if serving else NOT_SERVING)

    def readiness(self) -> tuple[bool, str]:
        """Whether readiness is SERVING, and in words why or why not."""
        if self._gracefully_shutting_down:
            return False, "draining"
        if self._server_status[READINESS] == SERVING:
            return True, "ready"
        return False, "no provider can answer"
