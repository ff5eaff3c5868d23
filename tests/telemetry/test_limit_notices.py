from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.context import Target
from outrider.core.events import Event, EventType
from outrider.core.quota import Crossing, Meter, Period, Rate, Unit, Window
from outrider.telemetry.limit_notices import LimitNotices
from outrider.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from tests.telemetry.conftest import LogFile


def ignore(event: Event) -> None:
    """Nobody listens."""


WINDOW = Window(1_000, Period.MONTH, (0.5, 0.8))


def crossing(scope: str, share: float = 0.5) -> Crossing:
    return Crossing(Meter(scope, Unit.NANO_USD, WINDOW), share, 600)


def test_a_budget_that_runs_out_is_one_line_and_one_count(log_file: LogFile) -> None:
    """With the scope for people, and for Prometheus only the names of its dimensions."""
    metrics = Metrics([])
    with log_file.logging():
        LimitNotices(metrics, ignore).crossed(crossing("tenant=acme,project=search"))
    line = log_file.line()
    assert (line["event"], line["level"], line["scope"]) == (
        "budget crossed",
        "warning",
        "tenant=acme,project=search",
    )
    assert (line["unit"], line["period"], line["share"]) == ("nano_usd", "month", 0.5)
    assert (line["spent"], line["limit"]) == (600, 1_000)
    labels = {"scope_kind": "tenant,project", "unit": "nano_usd", "period": "month", "share": "0.5"}
    assert metrics.registry.get_sample_value("outrider_budget_crossed_total", labels) == 1.0


def test_values_never_become_labels() -> None:
    """Row 27: 10,000 tenants are as many counts of one series."""
    metrics = Metrics([])
    notices = LimitNotices(metrics, ignore)
    for number in range(10_000):
        notices.crossed(crossing(f"tenant=t{number}"))
    samples = [
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "outrider_budget_crossed_total"
    ]
    assert samples == [10_000.0]


def test_a_budget_that_runs_out_is_an_event() -> None:
    """Of the tenant whose budget it is, so that nobody else sees it."""
    events: list[Event] = []
    LimitNotices(Metrics([]), events.append).crossed(crossing("tenant=a%2Cb,project=search", 0.8))
    (event,) = events
    assert (event.type, event.subject) == (EventType.BUDGET_CROSSED, "tenant=a%2Cb,project=search")
    assert (event.facts["tenant"], event.facts["share"], event.facts["spent"]) == ("a,b", 0.8, 600)


def test_no_person_is_logged(log_file: LogFile) -> None:
    """A budget of each user is told of without the user."""
    with log_file.logging():
        LimitNotices(Metrics([]), ignore).crossed(crossing("tenant=acme,user=bob"))
    assert log_file.line()["scope"] == "tenant,user"
    assert "bob" not in log_file.text()


def test_only_sums_are_crossed(log_file: LogFile) -> None:
    """A rate has no thresholds: nothing is told."""
    with log_file.logging():
        LimitNotices(Metrics([]), ignore).crossed(Crossing(Meter("all", Unit.TOKENS, Rate(1, 1)), 0.5, 1))
    assert log_file.text() == ""


def test_a_model_without_a_price_is_told_of_once(log_file: LogFile) -> None:
    """However many requests name it, and however many names callers make up."""
    with log_file.logging():
        notices = LimitNotices(Metrics([]), ignore)
        for number in range(5_000):
            notices.unpriced(Target("p", f"m{number % 2_500}"))
    assert [line["model"] for line in log_file.lines()] == [f"p/m{number}" for number in range(1_000)]
