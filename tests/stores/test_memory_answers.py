"""Answers in memory: how much room they take, and which go first."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count
from time import perf_counter

import pytest

from outrider import v1
from outrider.core.answers import StoredAnswer
from outrider.stores.memory_answers import MemoryAnswers
from tests.support.stored_answers import SteadyClock, stored, text_of

CLOCK = SteadyClock()
ROOM = 64 * 1024


def memory(max_bytes: int = ROOM) -> MemoryAnswers:
    return MemoryAnswers(max_bytes, CLOCK)


def test_it_keeps_within_its_bytes() -> None:
    """However much comes, no more is kept than there is room for, and what goes is counted."""
    answers = memory()
    for number in range(500):
        answers.put(str(number), stored("a" * (number % 7) * 500, at=CLOCK.now))

        assert answers.stats().bytes <= ROOM

    stats = answers.stats()
    assert stats.limit_bytes == ROOM
    assert stats.entries == len(answers.keys()) > 10
    assert stats.evicted == 500 - stats.entries


@pytest.mark.parametrize("length", [10, 1_000, 10_000])
@pytest.mark.parametrize("labels", [0, 4])
def test_bytes_are_those_that_memory_takes(length: int, labels: int) -> None:
    """The estimate of an entry's size is near the truth, and not below it by much."""
    answers = memory(2**30)
    gc.collect()  # what other tests left behind must not be freed meanwhile
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2_000):
            named = {f"label-{n}-{number}": f"value-{n}-{number}" for n in range(labels)}
            answers.put(f"{number:064}", stored("a" * length, at=CLOCK.now, labels=named))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.9 < answers.stats().bytes / taken < 1.2


def test_the_deltas_that_an_answer_was_built_of_are_not_kept() -> None:
    """Row 10: a message that was built delta by delta holds each stage of its text; what is kept does not."""
    answer = v1.CompleteResponse(message=v1.Message(parts=[v1.Part()]))
    for _ in range(100):
        answer.message.parts[0].text += "a"
    answers = memory()
    answers.put("k", StoredAnswer(answer, CLOCK.now, 60.0))
    answer.message.parts[0].text = "changed"

    found = answers.get("k")

    assert text_of(found) == "a" * 100
    assert found is not None
    found.answer.message.parts[0].text = "changed"
    assert text_of(answers.get("k")) == "a" * 100


def test_what_saves_most_for_its_size_stays() -> None:
    """Cheap answers make room for dear ones, quick for slow, large for small, whatever came first."""
    for dear in ({"nano_usd": 50_000_000}, {"seconds": 30.0}):
        answers = memory()
        answers.put("dear", stored("a" * 1_000, at=CLOCK.now, **dear))
        for number in range(500):
            answers.put(str(number), stored("a" * 1_000, at=CLOCK.now, nano_usd=1_000_000))
        assert answers.get("dear") is not None

    answers = memory()
    answers.put("small", stored("a", at=CLOCK.now, nano_usd=1_000_000))
    for number in range(20):
        answers.put(str(number), stored("a" * 6_000, at=CLOCK.now, nano_usd=1_000_000))
    assert answers.get("small") is not None


def test_what_is_asked_for_stays() -> None:
    """Among answers that are alike, the one that is given now and then outlives all others."""
    answers = memory()
    for number in range(500):
        answers.put(str(number), stored("a" * 1_000, at=CLOCK.now, nano_usd=1_000_000))
        answers.get("0")

    assert answers.get("0") is not None
    assert answers.get("1") is None


def test_what_nobody_asks_for_any_more_goes() -> None:
    """A past favourite does not stay for ever: newer answers outgrow it."""
    answers = memory()
    answers.put("old", stored("a" * 1_000, at=CLOCK.now, nano_usd=1_000_000))
    for _ in range(20):
        answers.get("old")
    numbers = count()
    while "old" in answers.keys():  # noqa: SIM118
        answers.put(str(next(numbers)), stored("a" * 1_000, at=CLOCK.now, nano_usd=1_000_000))

    assert 100 < next(numbers) < 3_000


def test_an_answer_too_large_for_its_share_is_not_kept() -> None:
    """One answer never pushes out all others: what takes more than an eighth is not kept at all."""
    answers = memory()
    answers.put("small", stored(at=CLOCK.now))
    answers.put("large", stored("a" * (ROOM // 8), at=CLOCK.now, nano_usd=10**12))
    answers.put("fits", stored("a" * (ROOM // 8 - 2_000), at=CLOCK.now))

    assert sorted(answers.keys()) == ["fits", "small"]
    assert answers.stats().evicted == 0


def test_no_room_is_no_memory() -> None:
    """With no bytes at all nothing is kept, and nothing fails."""
    answers = memory(0)
    answers.put("k", stored(at=CLOCK.now))

    assert answers.get("k") is None
    assert answers.stats() == (0, 0, 0, 0)


def test_what_is_past_its_time_leaves() -> None:
    """A stale answer is there until its second time is over; then it takes no room, asked for or not."""
    clock = SteadyClock()
    answers = MemoryAnswers(ROOM, clock)
    answers.put("k", stored(at=clock.now, fresh_for=10, stale_for=5))
    answers.put("unasked", stored(at=clock.now, fresh_for=10, stale_for=5))
    clock.now += 14.9
    found = answers.get("k")
    assert found is not None
    assert not found.is_fresh(clock.now)

    clock.now += 0.1

    assert answers.get("k") is None
    assert answers.stats() == (0, 0, ROOM, 0)
    answers.put("late", stored(at=clock.now - 20, fresh_for=10, stale_for=5))
    assert answers.keys() == []


def test_a_newer_answer_takes_the_place_of_the_older() -> None:
    """A key has one answer, and the room of one."""
    answers = memory()
    answers.put("k", stored("first", at=CLOCK.now))
    before = answers.stats()
    answers.put("k", stored("other", at=CLOCK.now))

    assert text_of(answers.get("k")) == "other"
    assert answers.stats() == before
    assert answers.discard("k")
    assert not answers.discard("k")
    assert answers.stats() == (0, 0, ROOM, 0)


def test_replacing_leaves_nothing_behind() -> None:
    """Row 10: the same keys stored over and over take no more memory than once."""
    answers = memory()
    for number in range(5_000):
        answers.put(str(number % 3), stored(at=CLOCK.now))

    assert len(answers._by_priority) < 100
    assert len(answers._by_expiry) < 100


def test_a_full_memory_of_many_answers_is_as_quick() -> None:
    """To store in a full memory of 20,000 answers takes microseconds, not a look at each of them."""
    answers = memory(25_000_000)
    for number in range(30_000):
        answers.put(str(number), stored("a" * 500, at=CLOCK.now))
    assert answers.stats().evicted > 5_000
    began = perf_counter()
    for number in range(1_000):
        answers.put(f"more-{number}", stored("a" * 500, at=CLOCK.now))

    assert (perf_counter() - began) / 1_000 < 0.001
