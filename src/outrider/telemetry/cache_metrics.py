"""The numbers of the cache, for Prometheus: read when they are asked for, so that requests pay nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from outrider import v1

_USD_PER_NANO = 1e-9


class CacheMetrics(Collector):
    """Shows what `read` tells."""

    def __init__(self, read: Callable[[], v1.GetCacheStatsResponse]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The series of now."""
        stats = self._read()
        requests = CounterMetricFamily(
            "outrider_cache_requests", "Requests that the cache was asked for.", labels=("status",)
        )
        for status, count in (
            ("memory_hit", stats.memory_hits),
            ("shared_hit", stats.shared_hits),
            ("joined", stats.joined),
            ("stale", stats.stale_hits),
            ("miss", stats.misses),
        ):
            requests.add_metric((status,), count)
        yield requests
        yield CounterMetricFamily("outrider_cache_stored", "Answers stored.", value=stats.stored)
        yield CounterMetricFamily(
            "outrider_cache_evicted", "Answers that memory had no room for any more.", value=stats.evicted
        )
        yield CounterMetricFamily(
            "outrider_cache_saved_usd",
            "What providers would have charged for answers from the cache.",
            value=stats.saved_nano_usd * _USD_PER_NANO,
        )
        yield CounterMetricFamily(
            "outrider_cache_saved_seconds",
            "How long providers took for answers from the cache.",
            value=stats.saved_seconds,
        )
        yield GaugeMetricFamily("outrider_cache_entries", "Answers in memory.", value=stats.memory_entries)
        yield GaugeMetricFamily("outrider_cache_bytes", "Bytes they take.", value=stats.memory_bytes)
