"""Answers that are kept for callers who come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric


class StreamMetrics(Collector):
    """Asks for the numbers whenever they are wanted: `replays` so far, and how many run `alone`."""

    def __init__(self, *, replays: Callable[[], int], alone: Callable[[], int]) -> None:
        self._replays = replays
        self._alone = alone

    def collect(self) -> Iterator[Metric]:
        """Both, as they are now."""
        yield CounterMetricFamily(
            "outrider_replays",
            "Calls that were given the answer of an earlier one with the same idempotency key.",
            value=self._replays(),
        )
        yield GaugeMetricFamily(
            "outrider_detached_requests", "Requests that go on without a caller.", value=self._alone()
        )
