"""Events of answers that are being made, for those who watch: bounded, and gone some time after the last."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outrider import v1
    from outrider.core.ports import Clock

KEPT_FOR = 600.0  # seconds after the last event of a try
MOST_EVENTS = 10_000  # of a try; beyond either the oldest go
MOST_BYTES = 4 * 2**20
_MOST_BYTES_IN_ALL = 32 * 2**20


class Tail:
    """How many of a row of events are to be kept, so that count and bytes are bounded."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[int, int]] = deque()  # sequence and bytes
        self.bytes = 0

    def add(self, sequence: int, size: int) -> None:
        """One more."""
        self._sizes.append((sequence, size))
        self.bytes += size
        while len(self._sizes) > MOST_EVENTS or (self.bytes > MOST_BYTES and len(self._sizes) > 1):
            self.bytes -= self._sizes.popleft()[1]

    @property
    def first(self) -> int:
        """The sequence of the oldest that is kept."""
        return self._sizes[0][0] if self._sizes else 0


class _Try:
    """Events of one try."""

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self.events: deque[v1.GenerateResponse] = deque()
        self.tail = Tail()
        self.last_at = 0.0


class JobEvents:
    """Events of the latest try of each job. They are not to be changed: they are shared."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Try] = OrderedDict()  # the one that was added to last is last
        self._bytes = 0

    def add(self, job_id: str, tries: int, events: Iterable[v1.GenerateResponse]) -> None:
        """More events of a try; what was kept of an earlier one is dropped."""
        found = self._tries.get(job_id)
        if found is None or found.tries != tries:
            self._drop(job_id)
            found = self._tries[job_id] = _Try(tries)
        self._bytes -= found.tail.bytes
        for event in events:
            found.events.append(event)
            found.tail.add(event.sequence, event.ByteSize())
        while found.events and found.events[0].sequence < found.tail.first:
            found.events.popleft()
        self._bytes += found.tail.bytes
        found.last_at = self._clock()
        self._tries.move_to_end(job_id)
        self._forget()

    def after(self, job_id: str, tries: int, sequence: int) -> Sequence[v1.GenerateResponse]:
        """Those of a try with a higher sequence number."""
        self._forget()
        found = self._tries.get(job_id)
        if found is None or found.tries != tries:
            return []
        news = takewhile(lambda event: event.sequence > sequence, reversed(found.events))
        return list(news)[::-1]

    def _forget(self) -> None:
        while self._tries:
            job_id, oldest = next(iter(self._tries.items()))
            old = oldest.last_at + KEPT_FOR <= self._clock()
            if not old and (self._bytes <= _MOST_BYTES_IN_ALL or len(self._tries) == 1):
                return
            self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        gone = self._tries.pop(job_id, None)
        if gone is not None:
            self._bytes -= gone.tail.bytes
