"""How the channels keep up by which events leave."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from outrider.core.events import ChannelCount


class EventMetrics(Collector):
    """Asks for the numbers whenever they are wanted. Channels of the same name are counted together."""

    def __init__(self, read: Callable[[], Iterable[ChannelCount]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All, as they are now."""
        delivered = CounterMetricFamily(
            "outrider_events_delivered", "Events that a channel has taken.", labels=("channel",)
        )
        dropped = CounterMetricFamily(
            "outrider_events_dropped",
            "Events that there was no room for until a channel took them, or that it refused for good.",
            labels=("channel",),
        )
        waiting = GaugeMetricFamily(
            "outrider_events_waiting", "Events that a channel has not taken yet.", labels=("channel",)
        )
        for name, sums in self._sums().items():
            delivered.add_metric((name,), sums[0])
            dropped.add_metric((name,), sums[1])
            waiting.add_metric((name,), sums[2])
        yield from (delivered, dropped, waiting)

    def _sums(self) -> dict[str, list[int]]:
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for channel, *counts in self._read():
            sums[channel] = [before + more for before, more in zip(sums[channel], counts, strict=True)]
        return sums
