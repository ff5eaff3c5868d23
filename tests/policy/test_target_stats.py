"""What is learnt of targets from the tries at them."""

from __future__ import annotations

import pytest

from outrider import v1
from outrider.core.context import Record, Target
from outrider.policy.target_stats import TargetStats
from tests.support.routing import Clock, Routing, route_of, target

A = target("a/m")


def routing() -> Routing:
    return Routing(route_of("r", "a/m", "b/m"))


def test_nothing_is_known_at_first() -> None:
    """No rate and no time, which is not the same as none."""
    stats = routing().stats
    assert (stats.success_rate(A), stats.time_to_first_token(A)) == (None, None)
    assert stats.availability(A) == 1.0
    assert stats.expected_latency(A, streaming=True) == 0.0


def test_times_are_averaged_and_the_newest_counts_most() -> None:
    """From the start of the try to its first content: what the caller waited before is not the target's."""
    made = routing()
    made.tried("a/m", 3.0, first=1.0)
    assert made.stats.time_to_first_token(A) == pytest.approx(1.0)
    made.tried("a/m", 3.0, first=2.0)
    assert made.stats.time_to_first_token(A) == pytest.approx(1.2)


def test_what_did_not_come_in_time_counts_as_slow() -> None:
    """Row 35: a target that is alive but slow is known to be; other failures say nothing of its speed."""
    made = routing()
    made.tried("a/m", 5.0, reason="FIRST_EVENT_TIMEOUT")
    assert made.stats.time_to_first_token(A) == pytest.approx(5.0)
    made.tried("b/m", 0.01, reason="PROVIDER_ERROR")
    assert made.stats.time_to_first_token(target("b/m")) is None


def test_answers_in_one_piece_are_timed_apart() -> None:
    """They come when they are done, which says nothing of a first token."""
    made = routing()
    record = Record("id", "Complete", "anyone", "", made.clock())
    attempt = v1.Attempt(provider="a", model="m", outcome=v1.Attempt.OUTCOME_SUCCEEDED)
    made.stats.attempt_finished(record, attempt, 7.0)
    assert made.stats.time_to_first_token(A) is None
    assert made.stats.expected_latency(A, streaming=False) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        ("PROVIDER_OVERLOADED", True),
        ("PROVIDER_RATE_LIMITED", True),
        ("PROVIDER_CREDENTIALS_REFUSED", True),
        ("STREAM_TRUNCATED", True),
        ("INVALID_REQUEST", False),
        ("DEADLINE_EXCEEDED", False),
        ("INTERNAL", False),
    ],
)
def test_failures_count_where_they_are_the_targets(reason: str, *, counts: bool) -> None:
    """A caller's mistake, and its impatience, are not held against a target."""
    made = routing()
    made.tried("a/m", 0.0)
    made.tried("a/m", 0.0, reason=reason)
    assert made.stats.success_rate(A) == pytest.approx(0.5 if counts else 1.0)


@pytest.mark.parametrize("outcome", [v1.Attempt.OUTCOME_SKIPPED, v1.Attempt.OUTCOME_CANCELLED])
def test_what_was_not_tried_tells_nothing(outcome: v1.Attempt.Outcome) -> None:
    """A breaker that is open, and a caller that leaves before anything came."""
    made = routing()
    attempt = v1.Attempt(provider="a", model="m", outcome=outcome)
    made.stats.attempt_finished(Record("id", "Generate", "anyone", "", 0.0), attempt, 1.0)
    assert (made.stats.success_rate(A), made.stats.time_to_first_token(A)) == (None, None)


def test_what_is_old_fades() -> None:
    """Half of it in a minute; in the end nothing is known again."""
    made = routing()
    for _ in range(3):
        made.tried("a/m", 0.0, reason="PROVIDER_ERROR")
    made.clock.now += 60
    made.tried("a/m", 0.0)
    assert made.stats.success_rate(A) == pytest.approx(1 / 2.5)
    made.clock.now += 3_600
    assert made.stats.success_rate(A) is None
    assert made.stats.availability(A) == pytest.approx(1.0)


def test_only_what_is_configured_is_kept() -> None:
    """Names that callers make up cost no memory."""
    stats = TargetStats([A], Clock())
    for number in range(10_000):
        attempt = v1.Attempt(provider="a", model=f"x{number}", outcome=v1.Attempt.OUTCOME_SUCCEEDED)
        stats.attempt_finished(Record("id", "Generate", "anyone", "", 0.0), attempt, 1.0)
    assert stats.success_rate(Target("a", "x1")) is None
    assert len(stats._targets) == 1
