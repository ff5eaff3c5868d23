from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.quota import Concurrency, Period, Window
from outrider.stores.quota_share import QuotaShare
from tests.stores.quota_rig import DAY, Clocks, budget, places, requests


@dataclass
class Seat:
    """Which sidecar of a fleet of so many."""

    size: int
    rank: int | None


def share(size: int, rank: int | None, clocks: Clocks) -> QuotaShare:
    return QuotaShare(Seat(size, rank), lambda: clocks.monotonic, lambda: clocks.wall)


@given(st.integers(1, 300), st.integers(0, 2_000), st.integers(0, 2_000))
def test_shares_add_up(size: int, limit: int, left: int) -> None:
    """What the sidecars of a fleet may take on their own is together what was left, and no place more."""
    clocks, meter = Clocks(), budget(2_000)
    windows = places = 0
    for rank in range(size):
        one = share(size, rank, clocks)
        one.saw(meter, left)
        bound = one.of(meter).bound
        assert isinstance(bound, Window)
        windows += bound.limit
        places += one.places(Concurrency(limit))
    assert (windows, places) == (left, limit)


def test_what_was_left_is_forgotten_with_its_period() -> None:
    """In a new period a share is one of the whole limit again; that of a total never is."""
    clocks = Clocks()
    one = share(4, 1, clocks)
    day, total = budget(100), budget(100, period=Period.TOTAL)
    for meter in (day, total):
        one.saw(meter, 50)
        one.saw(meter, 8)
    clocks.advance(DAY)
    assert [one.of(meter).bound.limit for meter in (day, total)] == [25, 2]


def test_a_rate_opens_with_a_part_of_what_was_left() -> None:
    """And of what has come since, at this sidecar's pace, up to its part of the burst."""
    clocks = Clocks()
    one, meter = share(4, 0, clocks), requests(240, 80)
    part = one.of(meter)
    assert one.opening_level(part) is None
    one.saw(meter, 20)
    levels = []
    for seconds in (0, 5, 100):
        clocks.advance(seconds)
        levels.append(one.opening_level(part))
    assert levels == pytest.approx([5, 10, 20])


def test_what_is_remembered_is_bounded() -> None:
    """10,000 made-up tenants push out others, and places are not remembered at all."""
    clocks = Clocks()
    one = share(2, 0, clocks)
    one.saw(budget(100), 10)
    for i in range(10_000):
        one.saw(budget(100, f"tenant={i}"), 10)
        one.saw(places(3, f"tenant={i}"), 1)
    assert len(one._seen) == 10_000
    assert one.of(budget(100)).bound.limit == 50
