"""Events to a Redis stream: one entry each, the CloudEvent as JSON in the field `event`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError
from outrider.events.cloud_event import to_json
from outrider.events.delivery import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1

_TIMEOUT = 2.0  # seconds; no request waits for it
_KEPT_FOR = 7 * 86_400  # seconds after the last event

# All of a batch or none of it, so that what comes later never stands before it.
_APPEND: Final = """
for i = 3, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""


class Runs(Protocol):
    """What runs Redis commands."""

    async def run(
        self,
        *command: str | bytes | float,
        key: str | bytes | float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the command, not the coroutine
    ) -> Any:
        """Raises StoreUnavailableError."""


class RedisChannel:
    """Appends to a stream that keeps about `max_length` entries, and none a week after the last."""

    name = "redis"

    def __init__(self, link: Runs, stream: str, max_length: int) -> None:
        self._link = link
        self._stream = stream
        self._bounds = (max_length, _KEPT_FOR)

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        """Append them in one round trip."""
        entries = [to_json(event) for event in events]
        try:
            await self._link.run(
                *("EVAL", _APPEND, 1, self._stream),
                *self._bounds,
                *entries,
                key=self._stream,
                timeout=_TIMEOUT,
            )
        except (StoreUnavailableError, ResponseError) as error:
            raise DeliveryError(str(error)) from None

    async def aclose(self) -> None:
        """Nothing to close: the link is another's."""
