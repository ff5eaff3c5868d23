"""How the usage ledger is kept up with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric


class UsageMetrics(Collector):
    """Asks for the numbers whenever they are wanted: `lost` and `waiting` records."""

    def __init__(self, *, lost: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._lost = lost
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Both, as they are now."""
        yield CounterMetricFamily(
            "outrider_usage_records_lost",
            "Usage records that there was no room to keep until the ledger could count them.",
            value=self._lost(),
        )
        yield GaugeMetricFamily(
            "outrider_usage_records_waiting",
            "Usage records that the ledger has not counted yet.",
            value=self._waiting(),
        )
