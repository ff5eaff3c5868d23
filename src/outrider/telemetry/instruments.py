"""Every metric the sidecar exposes: names, labels and buckets.

`gen_ai_*` follow the OpenTelemetry semantic conventions for generative AI metrics, buckets included
(github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md). An empty label value
means that there is none: no error, or no provider was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, Info

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
_OVERHEAD_SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.064, 0.256, 1.024)

_TARGET = ("provider", "model")
_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class Instruments:
    """The metrics, registered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._register_gen_ai(registry)
        self._register_requests(registry)
        self._register_providers(registry)
        self.build = Info("outrider_build", "What is running.", registry=registry)

    def _register_gen_ai(self, registry: CollectorRegistry) -> None:
        """Named and shaped by OpenTelemetry's conventions."""
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time from a request's arrival to its end, retries and waits included.",
            (*_GEN_AI, "error_type"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Time from a streaming request's arrival to the first content.",
            _GEN_AI,
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request, estimated where the provider did not count.",
            (*_GEN_AI, "gen_ai_token_type"),
            buckets=_TOKENS,
            registry=registry,
        )

    def _register_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "outrider_requests_total",
            "Requests that have ended.",
            ("method", *_TARGET, "outcome", "reason"),
            registry=registry,
        )
        self.in_flight = Gauge(
            "outrider_requests_in_flight", "Requests that have begun and not ended.", registry=registry
        )
        self.wait = Histogram(
            "outrider_wait_seconds",
            "Time a request spent waiting in the sidecar: limits, queue and backoff.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.overhead = Histogram(
            "outrider_overhead_seconds",
            "Time of a request that was neither a try at a provider nor a wait.",
            buckets=_OVERHEAD_SECONDS,
            registry=registry,
        )
        self.cost = Counter(
            "outrider_cost_usd_total", "Cost of requests by published prices.", _TARGET, registry=registry
        )
        self.cost_unknown = Counter(
            "outrider_cost_unknown_total",
            "Requests that used tokens of a model without a known price.",
            _TARGET,
            registry=registry,
        )

        self.budget_crossed = Counter(
            "outrider_budget_crossed_total",
            "Soft thresholds of budgets that were crossed, each counted once per period in the fleet.",
            ("scope_kind", "unit", "period", "share"),
            registry=registry,
        )

    def _register_providers(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "outrider_attempts_total",
            "Tries at a provider that have ended.",
            (*_TARGET, "outcome", "reason"),
            registry=registry,
        )
        self.attempt_duration = Histogram(
            "outrider_attempt_duration_seconds",
            "Time of a try at a provider, from its start to its end.",
            _TARGET,
            buckets=_SECONDS,
            registry=registry,
        )
        self.breaker_state = Gauge(
            "outrider_breaker_state", "0 closed, 1 half-open, 2 open.", _TARGET, registry=registry
        )
        self.hedges = Counter(
            "outrider_hedges_total",
            "Tries that were started beside another one that was slow to begin.",
            (*_TARGET, "outcome"),
            registry=registry,
        )
        self.outrun_cost = Counter(
            "outrider_outrun_cost_usd_total",
            "What tries that gave no answer may have cost; not in outrider_cost_usd_total.",
            _TARGET,
            registry=registry,
        )
        self.provider_up = Gauge(
            "outrider_provider_up",
            "1 where the provider's calls succeed, or none was made yet.",
            ("provider",),
            registry=registry,
        )
