"""Every channel by which events leave the sidecar."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outrider.core.events import ChannelCount
    from outrider.events.delivery import Delivery


class Outlets:
    """Started and closed together."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._deliveries = deliveries

    def start(self) -> None:
        """Begin to deliver."""
        for delivery in self._deliveries:
            delivery.start()

    def counts(self) -> Iterator[ChannelCount]:
        """How each keeps up."""
        return (delivery.count() for delivery in self._deliveries)

    async def aclose(self) -> None:
        """Deliver what waits, all at the same time, for seconds at most."""
        await asyncio.gather(*(delivery.aclose() for delivery in self._deliveries))
