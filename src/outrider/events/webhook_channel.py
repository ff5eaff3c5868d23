"""Events to a URL, signed as standardwebhooks.com says, so that receivers can check them by a library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

from outrider.events.cloud_event import JSON_BATCH, to_json_batch
from outrider.events.delivery import DeliveryError
from outrider.events.http_post import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider import v1

# A receiver that answers so will not take the same bytes later either.
_LASTING: Final = frozenset({400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431})
_PREFIX: Final = "whsec_"


class WebhookChannel:
    """POSTs batches. `secret` is asked anew for every try: its file may change. Follows no redirect."""

    def __init__(self, name: str, url: str, secret: Callable[[], str | None], timeout: float) -> None:
        self.name = name
        self._endpoint = Endpoint(url)
        self._secret = secret
        self._timeout = timeout

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        """Deliver them; any status of 2xx is a receipt."""
        body = to_json_batch(events)
        headers = {"Content-Type": JSON_BATCH, **self._sign(events[0].id, body)}
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._endpoint.post(headers, body)
        except TimeoutError:
            raise DeliveryError(f"no answer within {self._timeout:g} s") from None
        except (OSError, EOFError, ValueError) as error:
            raise DeliveryError(type(error).__name__) from None
        if not 200 <= answer.status < 300:
            raise DeliveryError(
                f"status {answer.status}",
                lasting=answer.status in _LASTING,
                retry_after=answer.retry_after(time.time()),
            )

    async def aclose(self) -> None:
        """Nothing is kept open."""

    def _sign(self, message_id: str, body: bytes) -> dict[str, str]:
        try:
            return signature(message_id, int(time.time()), body, self._secret() or "")
        except ValueError as error:
            raise DeliveryError(str(error)) from None


def signature(message_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """The headers that prove where a message comes from and when it was sent. Raises ValueError."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def signing_key(secret: str) -> bytes:
    """The key in a secret: base64, after "whsec_" or as it is. Raises ValueError, which does not show it."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("the secret is missing, or is not base64")
    return key
