"""The benchmarks of what a fleet shares work: on real sidecars and a real Redis, with a load of seconds."""

from dataclasses import replace

import pytest
from benchmarks.feature_subjects import REDIS, features
from benchmarks.features import CASES, measure, table
from benchmarks.fleet import Plan, ceiling, rest, simulate
from benchmarks.fleet_report import WHOLE, Model, picture, report
from benchmarks.logical_sidecar import EVERYTHING, Uses, log_failures_only
from benchmarks.processes import LOAD_CORE, on_core


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The logs of simulated sidecars are not of interest."""
    log_failures_only()


def test_at_most_one_round_trip_comes_before_the_first_token() -> None:
    """Cache, limits and budgets are asked in one; nothing is asked where nothing is configured."""
    shared = features(redis=True)
    chosen = {"memory": features(redis=False)[:2], "redis": [shared[0], shared[3], shared[6], REDIS]}
    cases = [replace(case, work=replace(case.work, calls=20, concurrency=1)) for case in CASES]
    results = measure(chosen, 1, cases)
    assert results["failures"] == {}
    trips = {name: values[0] for name, values in results["figures"]["trips_before"].items()}
    assert trips[shared[0].name] < 0.5
    for subject in chosen["redis"][1:]:
        assert 1.0 <= trips[subject.name] < 1.5
    text = table({"conditions": {}, **results})
    assert all(f"| {subject.title} |" in text for subject in chosen["redis"])


def test_what_is_recorded_is_answered_again() -> None:
    """A replay asks of Redis what the sidecars asked: as many commands in as many round trips."""
    with on_core(LOAD_CORE):
        one = ceiling("request limit", Uses(requests=True), requests=40)
        whole = ceiling("everything", EVERYTHING, requests=40)
    assert one.round_trips == pytest.approx(1, abs=0.3)
    assert one.sent == pytest.approx(1, abs=0.3)
    assert whole.sent == pytest.approx(7, abs=0.5)
    assert whole.cpu_us > one.cpu_us > 0


def test_a_fleet_of_simulated_sidecars_is_measured_and_drawn() -> None:
    """Every sidecar reaches Redis, every request is answered, and the model is held against both."""
    plan = Plan(pods=(4, 8), rate=5.0, seconds=0.5, rounds=1, requests=40)
    with on_core(LOAD_CORE):
        steps = simulate(plan)
        ceilings = [rest(sidecars=2, seconds=2.0), ceiling(WHOLE, EVERYTHING, plan.requests)]
    assert [(step.pods, step.rate) for step in steps] == [(4, 5.0), (8, 5.0), (8, 10.0), (8, 0.0)]
    assert all(step.lost == 0 for step in steps)
    assert steps[0].requests_per_s > 0 == steps[3].requests_per_s
    results = {
        "conditions": {},
        "rate": plan.rate,
        "steps": [step.as_json() for step in steps],
        "ceilings": [each.as_json() for each in ceilings],
        "idle": {"reads_per_s": 2.0, "scripts_per_s": 1.0, "commands_per_s": 7.0},
    }
    model = Model.of(results)
    assert model.cpu(8, 10.0) > model.cpu(8, 5.0) > model.cpu(4, 5.0) > 0
    assert "| 8 | 10 |" in report(results)
    assert picture(results).count("<circle") == 4
