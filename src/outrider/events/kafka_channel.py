"""Events to a Kafka topic: one record each, keyed by its subject, the CloudEvent as JSON."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from outrider.events.cloud_event import JSON, to_json
from outrider.events.delivery import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider import v1

_TIMEOUT: Final = 30.0  # seconds for a batch, connecting included
_GOODBYE: Final = 1.0  # seconds
# Not idempotent: such a producer never gives up, nor can it be stopped. Any sends one request at a time.
_OPTIONS: Final = {"client_id": "outrider", "acks": "all", "request_timeout_ms": 5_000}
_HEADERS: Final = [("content-type", JSON.encode())]

# It would tell of every try to connect; that events wait is told by whoever delivers them.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class KafkaChannel:
    """Produces with acknowledgement by all replicas, in order for each subject. Connects at the first event.

    `options` go to AIOKafkaProducer: brokers, TLS and SASL. They are asked anew for every connection.
    """

    name = "kafka"

    def __init__(self, topic: str, options: Callable[[], dict[str, Any]]) -> None:
        self._topic = topic
        self._options = options
        self._producer: AIOKafkaProducer | None = None

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        """Deliver them."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._produce(await self._connected(), events)
        except MessageSizeTooLargeError as error:
            raise DeliveryError(type(error).__name__, lasting=True) from None
        except (KafkaError, OSError) as error:
            # A fresh start next time: with new addresses, and no half-sent batch.
            await self._stop()
            raise DeliveryError(type(error).__name__) from None

    async def aclose(self) -> None:
        """Close the connections."""
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._stop()
        except TimeoutError:
            return  # it was cut

    async def _produce(self, producer: AIOKafkaProducer, events: Sequence[v1.CloudEvent]) -> None:
        sent: list[asyncio.Future[Any]] = []
        for event in events:
            key = event.subject.encode()
            sent.append(await producer.send(self._topic, to_json(event), key=key, headers=_HEADERS))
            sent[-1].add_done_callback(_look)
        await asyncio.gather(*sent)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(**(_OPTIONS | self._options()))
            await self._producer.start()
        return self._producer

    async def _stop(self) -> None:
        """Let go of the producer, which gives up what it still holds once its time is over."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await producer.stop()
        except (KafkaError, OSError):
            return  # it is gone already
        except asyncio.CancelledError:
            await producer.client.close()
            raise


def _look(sent: asyncio.Future[Any]) -> None:
    """Take notice of a failure, of which a batch may have several."""
    if not sent.cancelled():
        sent.exception()
