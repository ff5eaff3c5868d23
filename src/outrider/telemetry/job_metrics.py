"""How the queue of jobs is kept up with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from outrider.core.events import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from outrider.core.events import Event

_FINAL = ("completed", "failed", "expired", "cancelled")


class QueueLevels(NamedTuple):
    """How the queues stand."""

    waiting: Mapping[str, int]  # jobs, by queue: "local", "shared"
    running: int  # jobs that this sidecar works on
    full: float  # share of the local queue's capacity that is used


class JobMetrics(Collector):
    """Asks for the levels whenever they are wanted, and counts the ends that it is told of."""

    def __init__(self, read: Callable[[], QueueLevels]) -> None:
        self._read = read
        self._ended: Counter[str] = Counter()

    def count(self, event: Event) -> None:
        """Something happened: count it where a job has ended."""
        state = event.facts.get("state")
        if event.type is EventType.JOB_CHANGED and state in _FINAL:
            self._ended[str(state)] += 1

    def collect(self) -> Iterator[Metric]:
        """All, as they are now."""
        levels = self._read()
        waiting = GaugeMetricFamily(
            "outrider_jobs_waiting",
            "Jobs that wait for their turn or for their next try; in the shared queue, as last seen.",
            labels=("queue",),
        )
        for queue, jobs in levels.waiting.items():
            waiting.add_metric((queue,), jobs)
        ended = CounterMetricFamily(
            "outrider_jobs_ended", "Jobs of which this sidecar has told that they ended.", labels=("state",)
        )
        for state in _FINAL:
            ended.add_metric((state,), self._ended[state])
        yield from (waiting, ended)
        yield GaugeMetricFamily(
            "outrider_jobs_running", "Jobs that this sidecar works on.", value=levels.running
        )
        yield GaugeMetricFamily(
            "outrider_jobs_queue_used_ratio",
            "Share of the local queue's capacity that is used, by count or bytes.",
            value=levels.full,
        )
