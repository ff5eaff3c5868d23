"""Events as CloudEvents 1.0 (github.com/cloudevents/spec, v1.0.2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from outrider import v1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.events import Event

JSON = "application/cloudevents+json"
JSON_BATCH = "application/cloudevents-batch+json"

_encode = msgspec.json.encode


def cloud_event(event: Event, source: str, now: float) -> v1.CloudEvent:
    """The event with its attributes. `now` is Unix time; ids sort by it."""
    made = v1.CloudEvent(
        id=f"{int(now * 1000):012x}{os.urandom(8).hex()}",
        source=source,
        type=event.type,
        subject=event.subject,
        traceparent=event.traceparent,
        data_json=_encode(event.facts).decode(),
    )
    made.time.FromMicroseconds(round(now * 1e6))
    return made


def to_json(event: v1.CloudEvent) -> bytes:
    """One event, in the JSON format."""
    return _encode(_attributes(event))


def to_json_batch(events: Sequence[v1.CloudEvent]) -> bytes:
    """Many, in the JSON batch format."""
    return _encode([_attributes(event) for event in events])


def _attributes(event: v1.CloudEvent) -> dict[str, Any]:
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time.ToJsonString(),
        "datacontenttype": "application/json",
        "data": msgspec.Raw(event.data_json.encode()),
    }
    if event.traceparent:
        attributes["traceparent"] = event.traceparent
    return attributes
