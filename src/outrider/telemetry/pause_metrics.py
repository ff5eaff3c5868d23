"""For how long targets are left alone because they have asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from outrider.core.context import Target


class PauseMetrics(Collector):
    """Asks for the seconds whenever they are wanted, from the thread of whoever wants them."""

    def __init__(self, read: Callable[[], Iterable[tuple[Target, float]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All targets, as they are now."""
        pauses = GaugeMetricFamily(
            "outrider_target_pause_seconds",
            "Time for which a target whose rate limit is used up is left alone.",
            labels=("provider", "model"),
        )
        longest: dict[Target, float] = {}  # a series must not come twice
        for target, seconds in self._read():
            longest[target] = max(seconds, longest.get(target, 0.0))
        for target, seconds in longest.items():
            pauses.add_metric(target, seconds)
        yield pauses
