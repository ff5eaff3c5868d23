"""Which answers have been invalidated: what one sidecar knows of it.

Invalidations are numbered for the whole fleet, upwards. An answer carries the number of the newest one that
its writer knew; it falls to every later one that it fits. No pod's clock takes part: an answer whose writer
had not heard yet may fall without need, and none is kept that should have gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from outrider import v1
from outrider.stores.answer_label import fits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.stores.answer_label import Label

EVERYTHING = v1.InvalidateCacheRequest(all=True)
MOST = 10_000  # kept apart; beyond that they become one that everything fits


class Invalidations:
    """Those known, found by what they select, so that asking takes a microsecond however many there are."""

    def __init__(self) -> None:
        self.newest = 0
        self._floor = 0  # everything older has fallen
        self._places: dict[tuple[str, ...], dict[bytes, tuple[int, v1.InvalidateCacheRequest]]] = {}
        self._count = 0

    def learn(self, rows: Iterable[tuple[bytes, int]]) -> list[v1.InvalidateCacheRequest]:
        """Take in selectors, as bytes, with their numbers; gives them back."""
        learned = []
        for data, number in rows:
            selector = _read(data)
            learned.append(selector)
            self.newest = max(self.newest, number)
            place = self._places.setdefault(_place(selector.key, selector.model, selector.tenant), {})
            self._count += data not in place
            place[data] = (number, selector)
        if self._count > MOST:
            self._floor, self._count = self.newest, 0
            self._places.clear()
        return learned

    def forbid(self, key: str, label: Label) -> bool:
        """Whether an answer has been invalidated since it was stored."""
        if label.epoch < self._floor:
            return True
        places = (
            (key,),
            (label.model, label.tenant),
            (label.model, ""),
            ("", label.tenant),
            ("", ""),
        )
        return any(
            label.epoch < number and fits(selector, key, label)
            for place in places
            if place in self._places
            for number, selector in self._places[place].values()
        )


def _place(key: str, model: str, tenant: str) -> tuple[str, ...]:
    return (key,) if key else (model, tenant)


def _read(data: bytes) -> v1.InvalidateCacheRequest:
    # One that cannot be read, of another version perhaps, must not be missed: everything falls.
    try:
        return v1.InvalidateCacheRequest.FromString(data)
    except DecodeError:
        return EVERYTHING
