from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.context import Outcome
from outrider.core.errors import Reason
from outrider.telemetry.request_log import RequestLog
from tests.telemetry.conftest import settled_record

if TYPE_CHECKING:
    from outrider.core.context import Record
    from outrider.telemetry.logs import Level
    from tests.telemetry.conftest import LogFile


def line_of(log_file: LogFile, record: Record) -> dict[str, object]:
    with log_file.logging() as log:
        RequestLog(log).request_finished(record)
    return log_file.line()


def test_line_of_a_success(log_file: LogFile) -> None:
    """Row 30: one line says who asked whom, how it ended, what it took and what it cost."""
    line = line_of(log_file, settled_record())
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "req-1",
        "method": "Generate",
        "caller": "checkout",
        "requested_model": "fast",
        "provider": "openai",
        "model": "gpt-large",
        "outcome": "succeeded",
        "reason": None,
        "finish_reason": "STOP",
        "input_tokens": 12,
        "output_tokens": 34,
        "cached_input_tokens": 0,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "usage_source": "PROVIDER",
        "cost_usd": "0.000123",
        "attempt_count": 1,
        "attempts": [
            {
                "provider": "openai",
                "model": "gpt-large",
                "outcome": "succeeded",
                "reason": None,
                "upstream_status": None,
                "ms": 1200.0,
            }
        ],
        "seconds": 1.25,
        "time_to_first_content": 0.5,
        "waited": 0.0,
    }


def test_line_of_a_refusal(log_file: LogFile) -> None:
    """Row 21: a request that reached no provider has no tokens and no cost, which is not zero."""
    record = settled_record(
        provider="",
        model="",
        outcome=Outcome.FAILED,
        reason=Reason.MODEL_UNKNOWN,
        attempts=[],
        usage=None,
        cost=None,
        finish_reason=0,
        first_content_at=None,
    )
    line = line_of(log_file, record)
    assert (line["level"], line["outcome"], line["reason"]) == ("warning", "failed", "MODEL_UNKNOWN")
    absent = (
        "provider",
        "model",
        "finish_reason",
        "input_tokens",
        "output_tokens",
        "usage_source",
        "cost_usd",
    )
    assert [line[name] for name in (*absent, "time_to_first_content")] == [None] * 8
    assert (line["attempt_count"], line["attempts"]) == (0, [])


def test_cancelled_request_is_no_warning(log_file: LogFile) -> None:
    """Row 30: a caller that left is logged as every other, at level info."""
    record = settled_record(outcome=Outcome.CANCELLED, reason=Reason.CANCELLED)
    line = line_of(log_file, record)
    assert (line["level"], line["outcome"], line["reason"]) == ("info", "cancelled", "CANCELLED")


def test_attempts_say_what_went_wrong(log_file: LogFile) -> None:
    """Failed tries show reason, status and time; of very many, the last ten are shown and all are counted."""
    record = settled_record()
    failed = v1.Attempt(
        provider="openai",
        model="gpt-large",
        outcome=v1.Attempt.OUTCOME_FAILED,
        reason="PROVIDER_OVERLOADED",
        upstream_status=529,
    )
    failed.duration.FromMicroseconds(1_500)
    record.attempts[:0] = [failed] * 15
    line = line_of(log_file, record)
    attempts = line["attempts"]
    assert isinstance(attempts, list)
    assert attempts[0] == {
        "provider": "openai",
        "model": "gpt-large",
        "outcome": "failed",
        "reason": "PROVIDER_OVERLOADED",
        "upstream_status": 529,
        "ms": 1.5,
    }
    assert attempts[-1]["outcome"] == "succeeded"
    assert (line["attempt_count"], len(attempts)) == (16, 10)


def test_line_names_no_person(log_file: LogFile) -> None:
    """Tenant, project and agent are named where given; the person and free labels never are."""
    attribution = v1.Attribution(
        tenant="acme", agent="planner", user="ada@example.com", labels={"note": "ada"}
    )
    line = line_of(log_file, settled_record(attribution=attribution))
    assert (line["tenant"], line["agent"]) == ("acme", "planner")
    assert "project" not in line
    assert "ada" not in log_file.text()


def test_warnings_name_settings(log_file: LogFile) -> None:
    """Settings that could not be honoured are named by code and field."""
    warning = v1.Warning(code="SETTING_NOT_SUPPORTED", field="sampling.top_k", message="left out")
    line = line_of(log_file, settled_record(warnings=[warning]))
    assert line["warnings"] == ["SETTING_NOT_SUPPORTED sampling.top_k"]


@pytest.mark.parametrize("nano", [0, 1, 10, 123_000, 1_000_000_000, 2_500_000_000, 10**18 + 1])
def test_cost_is_exact(log_file: LogFile, nano: int) -> None:
    """Cost is a decimal number as text, exact to the nano-USD and without an exponent."""
    cost = line_of(log_file, settled_record(cost=v1.Cost(total_nano_usd=nano)))["cost_usd"]
    assert isinstance(cost, str)
    assert Decimal(cost) == Decimal(nano) / 10**9
    assert not set(cost) - set("0123456789.")


@pytest.mark.parametrize(("level", "outcomes"), [("warning", ["failed"]), ("error", [])])
def test_level_holds_for_requests(log_file: LogFile, level: Level, outcomes: list[str]) -> None:
    """Above level info only failures are logged, above warning none."""
    with log_file.logging(level) as log:
        requests = RequestLog(log)
        requests.request_finished(settled_record())
        requests.request_finished(settled_record(outcome=Outcome.FAILED, reason=Reason.INTERNAL))
    assert [line["outcome"] for line in log_file.lines()] == outcomes


def test_keys_in_names_do_not_leave(log_file: LogFile) -> None:
    """Row 28: a caller who sends a key where a model's name belongs does not find it in the log."""
    line = line_of(log_file, settled_record(requested_model="sk-proj-abcdefghijklmnop"))
    assert line["requested_model"] == "[redacted]"
