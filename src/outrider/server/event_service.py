"""EventService: what happens in this sidecar, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.errors import GenerationError, Reason, Violation
from outrider.core.events import EventType, is_beginning
from outrider.policy.admit import check_caller
from outrider.server.bounded_write import bounded_write
from outrider.v1.event_service_pb2_grpc import EventServiceServicer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc.aio import ServicerContext

    from outrider import v1
    from outrider.server.callers import Callers
    from outrider.server.event_feed import EventFeed

_MOST_TYPES = 32


class EventServicer(EventServiceServicer):
    """WatchEvents."""

    def __init__(self, callers: Callers, feed: EventFeed) -> None:
        self._callers = callers
        self._feed = feed

    async def WatchEvents(  # type: ignore[override]  # a coroutine that writes, as in GenerationServicer
        self,
        request: v1.WatchEventsRequest,
        context: ServicerContext[v1.WatchEventsRequest, v1.WatchEventsResponse],
    ) -> None:
        """Stream events; to a caller of a tenant its tenant's alone. Headers tell that it has begun."""
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        _check_types(request.types)
        with self._feed.watch(request.types, principal.tenant) as watch:
            await context.send_initial_metadata(())
            while True:
                for response in await watch.take():
                    await bounded_write(context, response)


def _check_types(types: Sequence[str]) -> None:
    if len(types) > _MOST_TYPES:
        _refuse("types", f"at most {_MOST_TYPES} can be given")
    for position, text in enumerate(types):
        if not is_beginning(text):
            _refuse(f"types[{position}]", f"no type of events begins so; there are {', '.join(EventType)}")


def _refuse(field: str, description: str) -> None:
    raise GenerationError(
        Reason.INVALID_REQUEST, f"{field}: {description}", violations=[Violation(field, description)]
    )
