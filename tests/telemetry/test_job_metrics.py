"""The metrics of the queue."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from outrider.core.events import Event, EventType
from outrider.telemetry.job_metrics import JobMetrics, QueueLevels


def test_levels_and_ends_are_told() -> None:
    """As they are when they are asked for; ends by state alone, whatever else happens."""
    levels = QueueLevels({"local": 2, "shared": 40}, 3, 0.25)
    metrics, registry = JobMetrics(lambda: levels), CollectorRegistry()
    registry.register(metrics)
    for state in ("queued", "processing", "completed", "completed", "expired", "odd"):
        metrics.count(Event(EventType.JOB_CHANGED, "id", {"state": state}))
    metrics.count(Event(EventType.BREAKER_CHANGED, "p/m", {"state": "failed"}))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    assert lines == [
        'outrider_jobs_waiting{queue="local"} 2.0',
        'outrider_jobs_waiting{queue="shared"} 40.0',
        'outrider_jobs_ended_total{state="completed"} 2.0',
        'outrider_jobs_ended_total{state="failed"} 0.0',
        'outrider_jobs_ended_total{state="expired"} 1.0',
        'outrider_jobs_ended_total{state="cancelled"} 0.0',
        "outrider_jobs_running 3.0",
        "outrider_jobs_queue_used_ratio 0.25",
    ]
