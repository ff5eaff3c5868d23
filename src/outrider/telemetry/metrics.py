"""Counts what happens, for Prometheus. Labels come from closed sets only, whatever callers send."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from outrider import __version__, v1
from outrider.core.context import Target
from outrider.core.errors import Reason
from outrider.telemetry.instruments import Instruments
from outrider.telemetry.names import ATTEMPT_OUTCOMES
from outrider.telemetry.pause_metrics import PauseMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Counter, Histogram
    from prometheus_client.metrics_core import Metric

    from outrider.core.context import Record

_OTHER = "other"
_NOWHERE = Target("", "")  # the request ended before a provider was chosen
_OPERATION = "chat"
_STREAMING_METHOD = "Generate"
_USD_PER_NANO = 1e-9
_SECONDS_PER_NANO = 1e-9

_REASONS = frozenset({"", *Reason})


class Metrics:
    """The Observer that counts. `targets` and `providers` are the configured ones: others are "other"."""

    def __init__(
        self,
        targets: Iterable[Target],
        providers: Iterable[str] = (),
        *,
        dropped_log_lines: Callable[[], int] = lambda: 0,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series
        self.registry = CollectorRegistry()
        self._instruments = Instruments(self.registry)
        self._instruments.in_flight.set_function(lambda: self._in_flight)
        self._instruments.build.info({"version": __version__, "python": platform.python_version()})
        self.registry.register(_DroppedLogLines(dropped_log_lines))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._in_flight = 0
        self._targets: dict[tuple[str, str], Target] = {target: target for target in targets}
        self._providers = {*providers, *(provider for provider, _ in self._targets)}
        self._requests: dict[tuple[str, Target, str, str | None], _RequestSeries] = {}
        self._attempts: dict[tuple[Target, int, str], _AttemptSeries] = {}
        for target in self._targets.values():
            self.set_breaker_state(target, 0)

    def request_started(self, record: Record) -> None:
        """One more in flight."""
        self._in_flight += 1

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Count a try."""
        reason = attempt.reason if attempt.reason in _REASONS else _OTHER
        key = (self._target(attempt.provider, attempt.model), attempt.outcome, reason)
        series = self._attempts.get(key) or self._bind_attempt(*key)
        series.ended.inc()
        if series.duration is not None:
            series.duration.observe(seconds)
        if attempt.hedge:
            outcome = ATTEMPT_OUTCOMES.get(attempt.outcome, _OTHER)
            self._instruments.hedges.labels(*key[0], outcome).inc()

    def request_finished(self, record: Record) -> None:
        """Count a request."""
        self._in_flight -= 1
        key = (record.method, self._target(record.provider, record.model), record.outcome, record.reason)
        series = self._requests.get(key) or self._bind_request(*key)
        series.ended.inc()
        seconds = record.finished_at - record.started_at
        self._instruments.wait.observe(record.waited)
        self._instruments.overhead.observe(max(0.0, seconds - record.waited - _in_attempts(record)))
        if series.operation is not None and record.attempts:  # a stored answer tells nothing of its provider
            series.operation.observe(record, seconds)
        if record.lost:
            self._count_lost(record)

    def set_breaker_state(self, target: Target, state: int) -> None:
        """0 closed, 1 half-open, 2 open."""
        self._instruments.breaker_state.labels(*self._target(*target)).set(state)

    def show_pauses(self, read: Callable[[], Iterable[tuple[Target, float]]]) -> None:
        """Ask at every scrape, on its thread, for how many seconds targets are left alone."""

        def labelled() -> Iterator[tuple[Target, float]]:
            return ((self._target(*target), seconds) for target, seconds in read())

        self.registry.register(PauseMetrics(labelled))

    def set_provider_up(self, provider: str, *, up: bool) -> None:
        """Whether the provider's calls succeed."""
        self._instruments.provider_up.labels(provider).set(up)

    def budget_crossed(self, scope_kind: str, unit: str, period: str, share: float) -> None:
        """A share of a budget was crossed. `scope_kind` names dimensions, such as "tenant", never values."""
        self._instruments.budget_crossed.labels(scope_kind, unit, period, f"{share:g}").inc()

    def _count_lost(self, record: Record) -> None:
        for attempt, _ in record.lost:
            if attempt.HasField("cost"):
                target = self._target(attempt.provider, attempt.model)
                cost = max(0, attempt.cost.total_nano_usd) * _USD_PER_NANO
                self._instruments.outrun_cost.labels(*target).inc(cost)

    def _target(self, provider: str, model: str) -> Target:
        known = self._targets.get((provider, model))
        if known is not None:
            return known
        if not provider:
            return _NOWHERE
        return Target(provider if provider in self._providers else _OTHER, _OTHER)

    def _bind_request(self, method: str, target: Target, outcome: str, reason: str | None) -> _RequestSeries:
        labels = (method, *target, outcome, reason or "")
        operation = _Operation(self._instruments, method, target, reason) if target is not _NOWHERE else None
        series = _RequestSeries(self._instruments.requests.labels(*labels), operation)
        self._requests[method, target, outcome, reason] = series
        return series

    def _bind_attempt(self, target: Target, outcome: int, reason: str) -> _AttemptSeries:
        labels = (*target, ATTEMPT_OUTCOMES.get(outcome, _OTHER), reason)
        ran = outcome != v1.Attempt.OUTCOME_SKIPPED
        series = _AttemptSeries(
            self._instruments.attempts.labels(*labels),
            self._instruments.attempt_duration.labels(*target) if ran else None,
        )
        self._attempts[target, outcome, reason] = series
        return series


class _AttemptSeries(NamedTuple):
    ended: Counter
    duration: Histogram | None  # None: it was skipped


class _RequestSeries(NamedTuple):
    ended: Counter
    operation: _Operation | None  # None: no provider was asked


class _Operation:
    """The series of what providers were asked, bound to their labels: looking labels up costs more."""

    def __init__(self, instruments: Instruments, method: str, target: Target, reason: str | None) -> None:
        labels = (_OPERATION, *target)
        self._duration = instruments.duration.labels(*labels, reason or "")
        self._first_chunk = instruments.first_chunk.labels(*labels) if method == _STREAMING_METHOD else None
        self._input_tokens = instruments.tokens.labels(*labels, "input")
        self._output_tokens = instruments.tokens.labels(*labels, "output")
        self._cost = instruments.cost.labels(*target)
        self._cost_unknown = instruments.cost_unknown.labels(*target)

    def observe(self, record: Record, seconds: float) -> None:
        """Count one request."""
        self._duration.observe(seconds)
        if self._first_chunk is not None and record.first_content_at is not None:
            self._first_chunk.observe(record.first_content_at - record.started_at)
        usage = record.usage
        if usage is None:
            return
        self._input_tokens.observe(usage.input_tokens)
        self._output_tokens.observe(usage.output_tokens)
        if record.cost is None:
            self._cost_unknown.inc()
        else:
            self._cost.inc(max(0, record.cost.total_nano_usd) * _USD_PER_NANO)  # it raises below zero


class _DroppedLogLines(Collector):
    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "outrider_log_lines_dropped", "Log lines that were not written.", value=self._read()
        )


def _in_attempts(record: Record) -> float:
    """Seconds spent in tries."""
    seconds = 0.0
    for attempt in record.attempts:
        duration = attempt.duration
        seconds += duration.seconds + duration.nanos * _SECONDS_PER_NANO
    return seconds
