"""Events of settled requests, and the numbers of the channels that they leave by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from outrider import v1
from outrider.core.context import Outcome
from outrider.core.errors import Reason
from outrider.core.events import ChannelCount, Event, EventType
from outrider.telemetry.event_metrics import EventMetrics
from outrider.telemetry.event_source import RequestEvents
from tests.telemetry.conftest import settled_record

if TYPE_CHECKING:
    from outrider.core.context import Record

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Sink:
    """Keeps what it wants."""

    def __init__(self, *wanted: EventType) -> None:
        self._wanted = wanted
        self.events: list[Event] = []

    def wants(self, type_: EventType) -> bool:
        return type_ in self._wanted

    def emit(self, event: Event) -> None:
        self.events.append(event)


def emitted(record: Record) -> Event:
    sink = Sink(*EventType)
    source = RequestEvents(sink)
    source.request_started(record)
    source.attempt_finished(record, record.attempts[0] if record.attempts else v1.Attempt(), 1.0)
    source.request_finished(record)
    (event,) = sink.events
    return event


def test_event_of_a_success() -> None:
    """Row 30: who asked whom, how it ended, what it took and what it cost; nothing of what was said."""
    said = v1.Attribution(tenant="acme", project="shop", user="jane@example.com", labels={"note": "private"})
    event = emitted(settled_record(attribution=said, tenant="acme", traceparent=TRACEPARENT))
    assert (event.type, event.subject) == (EventType.REQUEST_COMPLETED, "req-1")
    assert event.traceparent == TRACEPARENT
    assert event.facts == {
        "method": "Generate",
        "caller": "checkout",
        "tenant": "acme",
        "project": "shop",
        "requested_model": "fast",
        "provider": "openai",
        "model": "gpt-large",
        "outcome": "succeeded",
        "finish_reason": "STOP",
        "cache_status": "BYPASS",
        "attempts": 1,
        "seconds": 1.25,
        "seconds_to_first_content": 0.5,
        "seconds_waited": 0.0,
        "cost_nano_usd": 123_000,
        "input_tokens": 12,
        "output_tokens": 34,
        "cached_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "usage_source": "PROVIDER",
    }


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_event_of_a_failure(outcome: Outcome) -> None:
    """What is not known is not there, which is not zero; one that was cancelled has failed."""
    event = emitted(
        settled_record(
            provider="",
            model="",
            outcome=outcome,
            reason=Reason.MODEL_UNKNOWN,
            attempts=[],
            usage=None,
            cost=None,
            finish_reason=0,
            first_content_at=None,
            requested_model="x" * 1_000,
        )
    )
    assert event.type == EventType.REQUEST_FAILED
    assert event.facts == {
        "method": "Generate",
        "caller": "checkout",
        "requested_model": "x" * 256,
        "outcome": outcome.value,
        "reason": "MODEL_UNKNOWN",
        "cache_status": "BYPASS",
        "attempts": 0,
        "seconds": 1.25,
        "seconds_waited": 0.0,
    }


def test_whoever_is_not_known_speaks_for_nobody() -> None:
    """A tenant is not shown what somebody without a token did in its name."""
    said = v1.Attribution(tenant="acme")
    event = emitted(settled_record(attribution=said, outcome=Outcome.FAILED, reason=Reason.CALLER_UNKNOWN))
    assert "tenant" not in event.facts


def test_nothing_is_made_where_nobody_listens() -> None:
    """The sink is asked first, by type."""
    sink = Sink(EventType.REQUEST_FAILED)
    RequestEvents(sink).request_finished(settled_record())
    assert not sink.events


def test_channels_of_a_name_are_counted_together() -> None:
    """Two webhooks of one host are one series; nothing is shown twice."""
    counts = [
        ChannelCount("kafka", delivered=5, dropped=1, waiting=2),
        ChannelCount("webhook a", delivered=1, dropped=10, waiting=100),
        ChannelCount("webhook a", delivered=2, dropped=20, waiting=200),
    ]
    registry = CollectorRegistry()
    registry.register(EventMetrics(lambda: counts))
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'outrider_events_delivered_total{channel="kafka"} 5.0',
        'outrider_events_delivered_total{channel="webhook a"} 3.0',
        'outrider_events_dropped_total{channel="kafka"} 1.0',
        'outrider_events_dropped_total{channel="webhook a"} 30.0',
        'outrider_events_waiting{channel="kafka"} 2.0',
        'outrider_events_waiting{channel="webhook a"} 300.0',
    ]
