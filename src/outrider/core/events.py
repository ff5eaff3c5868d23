"""What happens in the sidecar, for whoever listens: the port of event sinks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Fact: TypeAlias = str | int | float | bool | None


class EventType(StrEnum):
    """The types of events. The names are public: they are the `type` of CloudEvents."""

    REQUEST_COMPLETED = "dev.outrider.request.completed"
    REQUEST_FAILED = "dev.outrider.request.failed"
    JOB_CHANGED = "dev.outrider.job.changed"
    PROVIDER_HEALTH_CHANGED = "dev.outrider.provider.health.changed"
    BREAKER_CHANGED = "dev.outrider.breaker.changed"
    BUDGET_CROSSED = "dev.outrider.budget.crossed"
    ROUTE_CHANGED = "dev.outrider.route.changed"
    CONFIG_LOADED = "dev.outrider.config.loaded"
    SECRET_CHANGED = "dev.outrider.config.secret.changed"  # noqa: S105 - the name of a type


def is_beginning(text: str) -> bool:
    """Whether any type of events is this, or begins so up to a dot: "dev.outrider.job" is all about jobs."""
    return any(f"{each}.".startswith(f"{text.removesuffix('.')}.") for each in EventType)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `subject` is what it happened to; never the text of a prompt or an answer.

    `facts["tenant"]` is the tenant whom it concerns: callers of that tenant are shown nothing else.
    """

    type: EventType
    subject: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    traceparent: str = ""


class EventSink(Protocol):
    """Takes events; must neither block nor raise."""

    def emit(self, event: Event) -> None:
        """Take one. A sink that is full drops it, and counts that."""


class SelectiveSink(EventSink, Protocol):
    """A sink that can be asked first, by those to whom making an event is work."""

    def wants(self, type_: EventType) -> bool:
        """Whether anybody listens for events of this type now."""


class ChannelCount(NamedTuple):
    """How a channel that events leave by keeps up."""

    channel: str
    delivered: int
    dropped: int  # for want of room, or refused for good
    waiting: int
