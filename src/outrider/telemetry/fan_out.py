"""One Observer that stands for several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider import v1
    from outrider.core.context import Record
    from outrider.core.ports import Observer


class FanOut:
    """Tells each observer, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def request_started(self, record: Record) -> None:
        """Tell of a request that was accepted."""
        for observer in self._observers:
            observer.request_started(record)

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Tell of a try that ended."""
        for observer in self._observers:
            observer.attempt_finished(record, attempt, seconds)

    def request_finished(self, record: Record) -> None:
        """Tell of a request that was settled."""
        for observer in self._observers:
            observer.request_finished(record)
