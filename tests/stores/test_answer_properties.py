"""What holds of the cache's stores for any course of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.stores.answer_label import Label, fits
from outrider.stores.invalidations import Invalidations
from outrider.stores.memory_answers import MemoryAnswers
from tests.support.stored_answers import SteadyClock, stored, text_of

keys = st.sampled_from("abcdef")
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "discard", "wait"]),
        keys,
        st.integers(0, 4_000),
        st.sampled_from([0, 10**6, 10**9]),
    ),
    max_size=60,
)
words = st.sampled_from(["", "a", "b"])
labels = st.builds(
    Label,
    stored_at=st.just(0.0),
    fresh_for=st.just(1.0),
    stale_for=st.just(0.0),
    tenant=words,
    model=words,
    labels=st.dictionaries(words, words, max_size=2),
    epoch=st.integers(0, 6),
)
selectors = st.builds(
    v1.InvalidateCacheRequest,
    key=words,
    tenant=words,
    model=words,
    labels=st.dictionaries(words, words, max_size=2),
    all=st.booleans(),
)


@given(steps, st.sampled_from([0, 4_000, 30_000]))
def test_memory_never_exceeds_its_bytes_nor_lies(events: list[tuple[str, str, int, int]], room: int) -> None:
    """Whatever is stored, asked for, forgotten and outlived: the bytes hold, and what is given is what was
    stored last and is not past its time.
    """
    clock = SteadyClock()
    memory = MemoryAnswers(room, clock)
    truth: dict[str, tuple[str, float]] = {}
    for what, key, size, nano_usd in events:
        if what == "put":
            text = f"{len(truth)}-{clock.now}-" + "a" * size
            memory.put(key, stored(text, at=clock.now, fresh_for=1 + size % 7, nano_usd=nano_usd))
            truth[key] = (text, clock.now + 1 + size % 7)
        elif what == "get":
            found = memory.get(key)
            text, until = truth.get(key, ("", 0.0))
            assert found is None or (text_of(found) == text and clock.now < until)
        elif what == "discard":
            assert memory.discard(key) <= (key in truth)
            truth.pop(key, None)
        else:
            clock.now += size / 1_000
        stats = memory.stats()
        assert 0 <= stats.bytes <= room
        assert stats.entries == len(memory.keys()) <= len(truth)
        assert (stats.bytes == 0) is (stats.entries == 0)


@given(st.lists(st.tuples(selectors, st.booleans()), max_size=6), words.filter(bool), labels)
def test_an_answer_falls_to_just_those_that_fit_it_and_are_newer(
    announced: list[tuple[v1.InvalidateCacheRequest, bool]], key: str, label: Label
) -> None:
    """Finding invalidations by their place gives what a look at each of them gives, in whatever portions they
    were learned.
    """
    known = Invalidations()
    portion = []
    for number, (selector, whole) in enumerate(announced, 1):
        portion.append((selector.SerializeToString(deterministic=True), number))
        if whole:
            assert len(known.learn(portion)) == len(portion)
            portion = []
    known.learn(portion)

    fallen = any(
        label.epoch < number and fits(selector, key, label)
        for number, (selector, _) in enumerate(announced, 1)
    )
    assert known.forbid(key, label) is fallen
    assert known.newest == len(announced)


def test_what_cannot_be_read_fits_everything() -> None:
    """An invalidation in a form of the future is not missed."""
    known = Invalidations()

    assert known.learn([(b"\xff\xff", 3)]) == [v1.InvalidateCacheRequest(all=True)]
    assert known.forbid("k", Label(0.0, 1.0, 0.0, "", "", {}, epoch=2))
    assert not known.forbid("k", Label(0.0, 1.0, 0.0, "", "", {}, epoch=3))
