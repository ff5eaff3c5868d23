"""The events of one stream, numbered, and kept as bytes: messages take many times the room."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.ports import Batch

_OVERHEAD = 48  # bytes that an event takes beside its own


class EventLog:
    """Grows at its end. Numbers begin with 1 and have no gap."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._dropped = 0
        self.size = 0  # bytes

    @property
    def last(self) -> int:
        """The number of the last event; 0 where there is none."""
        return self._dropped + len(self._events)

    def add(self, batch: Batch) -> int:
        """Number events, and keep them; how many bytes that takes."""
        before, last = self.size, self.last
        for number, event in enumerate(batch, start=last + 1):
            event.sequence = number
            data = event.SerializeToString()
            self._events.append(data)
            self.size += len(data) + _OVERHEAD
        return self.size - before

    def after(self, number: int, most: int) -> list[bytes]:
        """At most so many of the events that follow a number; they must not have been dropped."""
        start = number - self._dropped
        return self._events[start : start + most]

    def drop(self) -> None:
        """Keep nothing of what is there. Numbers go on."""
        self._dropped = self.last
        self._events.clear()
        self.size = 0
