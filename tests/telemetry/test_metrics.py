from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from outrider import __version__, v1
from outrider.core.context import Outcome, Progress, Target
from outrider.core.errors import Reason
from outrider.telemetry.fan_out import FanOut
from outrider.telemetry.metrics import Metrics
from tests.telemetry.conftest import settled_record

if TYPE_CHECKING:
    from outrider.core.context import Record

TARGETS = (Target("openai", "gpt-large"), Target("groq", "llama"))
GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-large",
}
OPENAI = {"provider": "openai", "model": "gpt-large"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(TARGETS)


def finish(metrics: Metrics, **changes: object) -> Record:
    record = settled_record(**changes)
    metrics.request_started(record)
    for attempt in record.attempts:
        metrics.attempt_finished(record, attempt, attempt.duration.ToMilliseconds() / 1_000)
    metrics.request_finished(record)
    return record


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def labels_of(metrics: Metrics, name: str) -> list[dict[str, str]]:
    return [
        sample.labels
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]


def series(metrics: Metrics) -> int:
    return sum(len(family.samples) for family in metrics.registry.collect())


def test_request_is_counted(metrics: Metrics) -> None:
    """A request counts once, by method, target, outcome and reason."""
    finish(metrics)
    finish(metrics, outcome=Outcome.FAILED, reason=Reason.IDLE_TIMEOUT)
    name = "outrider_requests_total"
    assert value(metrics, name, method="Generate", **OPENAI, outcome="succeeded", reason="") == 1
    assert value(metrics, name, method="Generate", **OPENAI, outcome="failed", reason="IDLE_TIMEOUT") == 1


def test_requests_in_flight(metrics: Metrics) -> None:
    """A request is in flight from its start to its end."""
    record = settled_record()
    metrics.request_started(record)
    assert value(metrics, "outrider_requests_in_flight") == 1
    metrics.request_finished(record)
    assert value(metrics, "outrider_requests_in_flight") == 0


def test_operation_follows_the_conventions(metrics: Metrics) -> None:
    """Duration, time to first chunk and tokens have the names and labels of the GenAI conventions."""
    finish(metrics)
    prefix = "gen_ai_client_operation"
    assert value(metrics, f"{prefix}_duration_seconds_sum", **GEN_AI, error_type="") == 1.25
    assert value(metrics, f"{prefix}_time_to_first_chunk_seconds_sum", **GEN_AI) == 0.5
    tokens = "gen_ai_client_token_usage_sum"
    assert value(metrics, tokens, **GEN_AI, gen_ai_token_type="input") == 12
    assert value(metrics, tokens, **GEN_AI, gen_ai_token_type="output") == 34


def test_buckets_follow_the_conventions(metrics: Metrics) -> None:
    """Buckets double from 10 ms for seconds, and quadruple from 1 for tokens."""
    finish(metrics)
    seconds = labels_of(metrics, "gen_ai_client_operation_duration_seconds_bucket")
    assert [labels["le"] for labels in seconds[:3] + seconds[-2:]] == [
        "0.01",
        "0.02",
        "0.04",
        "81.92",
        "+Inf",
    ]
    tokens = labels_of(metrics, "gen_ai_client_token_usage_bucket")
    assert [labels["le"] for labels in tokens[:3]] == ["1.0", "4.0", "16.0"]
    assert tokens[13]["le"] == "6.7108864e+07"


def test_error_has_its_type(metrics: Metrics) -> None:
    """A failed operation carries its reason as the error type."""
    finish(metrics, outcome=Outcome.FAILED, reason=Reason.PROVIDER_ERROR)
    name = "gen_ai_client_operation_duration_seconds_count"
    assert value(metrics, name, **GEN_AI, error_type="PROVIDER_ERROR") == 1


def test_only_streams_have_a_first_chunk(metrics: Metrics) -> None:
    """An answer in one piece has no time to first chunk, nor has a stream that brought no content."""
    finish(metrics, method="Complete")
    finish(metrics, first_content_at=None)
    name = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    assert value(metrics, name, **GEN_AI) == 0


def test_request_without_a_provider_is_no_operation(metrics: Metrics) -> None:
    """A request that was refused before a provider was chosen is counted, and measured nowhere else."""
    finish(
        metrics,
        provider="",
        model="",
        attempts=[],
        usage=None,
        cost=None,
        outcome=Outcome.FAILED,
        reason=Reason.MODEL_UNKNOWN,
    )
    labels = {
        "method": "Generate",
        "provider": "",
        "model": "",
        "outcome": "failed",
        "reason": "MODEL_UNKNOWN",
    }
    assert labels_of(metrics, "outrider_requests_total") == [labels]
    assert labels_of(metrics, "gen_ai_client_operation_duration_seconds_count") == []
    assert labels_of(metrics, "outrider_cost_unknown_total") == []


def test_attempts_are_counted(metrics: Metrics) -> None:
    """Each try counts by target, outcome and reason, and is timed unless it was skipped."""
    record = settled_record()
    skipped = v1.Attempt(
        provider="groq", model="llama", outcome=v1.Attempt.OUTCOME_SKIPPED, reason="BREAKER_OPEN"
    )
    metrics.attempt_finished(record, skipped, 0.0)
    metrics.attempt_finished(record, record.attempts[0], 1.2)
    groq = {"provider": "groq", "model": "llama"}
    name = "outrider_attempts_total"
    assert value(metrics, name, **groq, outcome="skipped", reason="BREAKER_OPEN") == 1
    assert value(metrics, name, **OPENAI, outcome="succeeded", reason="") == 1
    assert value(metrics, "outrider_attempt_duration_seconds_sum", **OPENAI) == 1.2
    assert value(metrics, "outrider_attempt_duration_seconds_sum", **groq) is None


def test_cost_is_summed_or_unknown(metrics: Metrics) -> None:
    """Cost adds up in USD and never falls; tokens without a known price count as unknown cost."""
    finish(metrics, cost=v1.Cost(total_nano_usd=1_500_000_000))
    finish(metrics, cost=v1.Cost(total_nano_usd=500_000_000))
    finish(
        metrics, cost=v1.Cost(total_nano_usd=-1)
    )  # a provider may claim more cached tokens than there were
    finish(metrics, cost=None)
    finish(metrics, cost=None, usage=None)
    assert value(metrics, "outrider_cost_usd_total", **OPENAI) == 2.0
    assert value(metrics, "outrider_cost_unknown_total", **OPENAI) == 1


def test_wait_and_overhead_are_apart(metrics: Metrics) -> None:
    """What is neither a try nor a wait is the sidecar's own overhead; clocks that disagree make it zero."""
    finish(metrics, finished_at=101.5, waited=0.25)
    assert value(metrics, "outrider_wait_seconds_sum") == 0.25
    assert value(metrics, "outrider_overhead_seconds_sum") == pytest.approx(0.05)
    finish(metrics, finished_at=100.0)
    assert value(metrics, "outrider_overhead_seconds_sum") == pytest.approx(0.05)


def test_providers_have_a_state(metrics: Metrics) -> None:
    """The state of a breaker and of a provider is what was set last; a breaker begins closed."""
    known, made_up = TARGETS[0], {"provider": "openai", "model": "other"}
    assert value(metrics, "outrider_breaker_state", **known._asdict()) == 0
    assert value(metrics, "outrider_breaker_state", **made_up) is None
    metrics.set_breaker_state(known, 2)
    metrics.set_breaker_state(known, 1)
    metrics.set_breaker_state(Target("openai", "*"), 2)
    metrics.set_provider_up("openai", up=True)
    metrics.set_provider_up("groq", up=False)
    assert value(metrics, "outrider_breaker_state", **known._asdict()) == 1
    assert value(metrics, "outrider_breaker_state", **made_up) == 2
    assert value(metrics, "outrider_provider_up", provider="openai") == 1
    assert value(metrics, "outrider_provider_up", provider="groq") == 0


def test_a_provider_is_named_though_none_of_its_models_is() -> None:
    """Providers of which callers name the models are configured, too: each has a series of its own."""
    metrics = Metrics(TARGETS, ["local", "other-one"])
    finish(metrics, provider="local", model="made up", attempts=[])
    metrics.set_breaker_state(Target("local", "*"), 2)
    metrics.set_breaker_state(Target("other-one", "*"), 0)
    for provider, state in (("local", 2), ("other-one", 0), ("other", None)):
        assert value(metrics, "outrider_breaker_state", provider=provider, model="other") == state
    assert {each["provider"] for each in labels_of(metrics, "outrider_requests_total")} == {"local"}


def test_pauses_are_read_when_they_are_wanted() -> None:
    """Seconds, as they are at each scrape; one series for each target, be a model called "other"."""
    metrics, left = Metrics([*TARGETS, Target("openai", "other")]), [20.0]
    targets = (*TARGETS, Target("openai", "other"), Target("openai", "*"))
    metrics.show_pauses(lambda: zip(targets, (left[0], 0.0, 3.0, 0.0), strict=True))
    assert value(metrics, "outrider_target_pause_seconds", **OPENAI) == 20
    left[0] = 0.0
    assert value(metrics, "outrider_target_pause_seconds", **OPENAI) == 0
    assert value(metrics, "outrider_target_pause_seconds", provider="openai", model="other") == 3
    assert len(labels_of(metrics, "outrider_target_pause_seconds")) == 3


def test_hedges_are_counted_by_how_they_end(metrics: Metrics) -> None:
    """With them what tries that gave no answer may have cost, apart from the cost of answers."""
    outrun = v1.Attempt(**OPENAI, outcome=v1.Attempt.OUTCOME_OUTRUN, cost=v1.Cost(total_nano_usd=2_000_000))
    won = v1.Attempt(provider="groq", model="llama", outcome=v1.Attempt.OUTCOME_SUCCEEDED, hedge=True)
    finish(metrics, provider="groq", model="llama", attempts=[outrun, won], lost=((outrun, Progress()),))
    llama = {"provider": "groq", "model": "llama"}
    assert value(metrics, "outrider_hedges_total", **llama, outcome="succeeded") == 1
    assert value(metrics, "outrider_hedges_total", **OPENAI, outcome="outrun") is None
    assert value(metrics, "outrider_outrun_cost_usd_total", **OPENAI) == pytest.approx(0.002)


def test_made_up_names_make_no_series(metrics: Metrics) -> None:
    """Row 27: 10,000 made-up models, providers and reasons end in a handful of series called "other"."""
    finish(metrics, provider="openai", model="made up", attempts=[])
    finish(metrics, provider="made up", model="made up", attempts=[])
    attempt = v1.Attempt(provider="openai", model="made up", outcome=99, reason="made up")
    metrics.attempt_finished(settled_record(), attempt, 0.1)
    bounded = series(metrics)
    for number in range(10_000):
        name = f"made up {number}"
        record = finish(metrics, requested_model=name, provider="openai", model=name, attempts=[])
        finish(metrics, requested_model=name, provider=name, model=name, attempts=[])
        attempt = v1.Attempt(provider="openai", model=name, outcome=99, reason=name)
        metrics.attempt_finished(record, attempt, 0.1)
    assert series(metrics) == bounded
    exposed = generate_latest(metrics.registry).decode()
    assert "made up" not in exposed
    assert 'model="other",outcome="other",provider="openai",reason="other"' in exposed


def test_no_request_is_named(metrics: Metrics) -> None:
    """Row 27: no request, caller, tenant or person is a label."""
    finish(metrics, attribution=v1.Attribution(tenant="acme", user="ada", project="p9", agent="planner"))
    exposed = generate_latest(metrics.registry).decode()
    assert not [name for name in ("req-1", "checkout", "acme", "ada", "p9", "planner") if name in exposed]


def test_exposition_is_sound(metrics: Metrics) -> None:
    """The whole registry is valid OpenMetrics; counters have no second series for their creation."""
    finish(metrics)
    text = generate_openmetrics(metrics.registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {
        "outrider_requests",
        "outrider_build",
        "process_resident_memory_bytes",
        "python_gc_collections",
    } <= names
    assert "_created" not in text


def test_build_is_named(metrics: Metrics) -> None:
    """The version that runs is a label."""
    (build,) = labels_of(metrics, "outrider_build_info")
    assert build["version"] == __version__


def test_dropped_log_lines_are_read() -> None:
    """Dropped log lines are asked for at every scrape."""
    dropped = [3]
    metrics = Metrics(TARGETS, dropped_log_lines=lambda: dropped[0])
    assert value(metrics, "outrider_log_lines_dropped_total") == 3
    dropped[0] = 5
    assert value(metrics, "outrider_log_lines_dropped_total") == 5


def test_fan_out_tells_all() -> None:
    """Several observers behind one see the same."""
    both = (Metrics(TARGETS), Metrics(TARGETS))
    fan_out = FanOut(*both)
    record = settled_record()
    fan_out.request_started(record)
    fan_out.attempt_finished(record, record.attempts[0], 1.2)
    fan_out.request_finished(record)
    for metrics in both:
        assert value(metrics, "outrider_attempts_total", **OPENAI, outcome="succeeded", reason="") == 1
        assert value(metrics, "outrider_wait_seconds_count") == 1
        assert value(metrics, "outrider_requests_in_flight") == 0
