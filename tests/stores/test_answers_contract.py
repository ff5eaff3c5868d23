"""What every AnswerStore promises: this sidecar's memory alone, and memory in front of Redis, alike."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.answers import Lease, StoredAnswer
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.redis_answers import RedisAnswers
from outrider.stores.redis_link import RedisLink
from outrider.stores.tiered_answers import TieredAnswers
from tests.support.stored_answers import SteadyClock, stored, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.core.answers import AnswerStore

KEYS = [f"{number:x}" * 64 for number in range(8)]
KEY = KEYS[0]
CLOCK = SteadyClock()


@pytest_asyncio.fixture(params=["memory", "redis", "redis away"])
async def store(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> AsyncIterator[AnswerStore]:
    """A store of each kind."""
    async with AsyncExitStack() as stack:
        shared = None
        if request.param != "memory":
            url = redis_url if request.param == "redis" else "redis://127.0.0.1:1"
            link = RedisLink(url, prefix=prefix, timeout=5)
            stack.push_async_callback(link.aclose)
            await link.start(10)
            shared = RedisAnswers(link, CLOCK)
        answers = TieredAnswers(MemoryAnswers(2**20, CLOCK), shared)
        stack.push_async_callback(answers.aclose)
        await answers.start()
        yield answers


async def fill(store: AnswerStore) -> None:
    """Answers of two tenants, two models and two labels each."""
    for number, key in enumerate(KEYS):
        labels = {"team": "ab"[number // 4 % 2], "n": str(number)}
        place = {"tenant": ("acme", "zeta")[number % 2], "model": f"openai/{'ab'[number // 2 % 2]}"}
        await store.put(key, stored(at=CLOCK.now, labels=labels, **place), None)


def kept(store: AnswerStore) -> list[int]:
    """The numbers of those that memory still has."""
    return [number for number, key in enumerate(KEYS) if store.recall(key) is not None]


async def test_what_is_stored_is_recalled(store: AnswerStore) -> None:
    """An answer comes back whole, with all that was stored with it; another key has none."""
    answer = stored(at=CLOCK.now, stale_for=5, tenant="acme", model="openai/a", labels={"team": "a"})
    assert store.recall(KEY) is None

    await store.put(KEY, answer, None)

    assert store.recall(KEY) == answer
    assert store.recall(KEYS[1]) is None
    assert store.stats().entries == 1


async def test_a_newer_answer_takes_the_place_of_an_older(store: AnswerStore) -> None:
    """The last one stored is the one given."""
    await store.put(KEY, stored("first", at=CLOCK.now), None)
    await store.put(KEY, stored("second", at=CLOCK.now), None)

    assert text_of(store.recall(KEY)) == "second"


async def test_an_empty_store_knows_nothing(store: AnswerStore) -> None:
    """Looking up what is nowhere gives nothing, or a lease; waiting without one under way ends at once."""
    assert await store.look_up(KEY, lease=False) is None
    found = await store.look_up(KEY, lease=True)
    assert isinstance(found, Lease) if store.shared else found is None
    assert await store.wait_for(KEYS[1], 60) is None


async def test_leases_can_always_be_given_back(store: AnswerStore) -> None:
    """Renewing and releasing never fails, not even for a lease that nobody has given."""
    lease = Lease(KEY, "made-up")
    await store.renew(lease)
    await store.release(lease)
    await store.put(KEY, stored(at=CLOCK.now), lease)

    assert store.recall(KEY) is not None


@pytest.mark.parametrize(
    ("selector", "left"),
    [
        (v1.InvalidateCacheRequest(key=KEYS[3]), [0, 1, 2, 4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(model="openai/a"), [2, 3, 6, 7]),
        (v1.InvalidateCacheRequest(tenant="acme"), [1, 3, 5, 7]),
        (v1.InvalidateCacheRequest(labels={"team": "a"}), [4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(labels={"team": "a", "n": "2"}), [0, 1, 3, 4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(tenant="acme", model="openai/b"), [0, 1, 3, 4, 5, 7]),
        (v1.InvalidateCacheRequest(tenant="acme", labels={"team": "b"}, all=True), [0, 1, 2, 3, 5, 7]),
        (v1.InvalidateCacheRequest(key=KEYS[3], tenant="acme"), [0, 1, 2, 3, 4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(tenant="nobody"), [0, 1, 2, 3, 4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(labels={"team": ""}), [0, 1, 2, 3, 4, 5, 6, 7]),
        (v1.InvalidateCacheRequest(all=True), []),
        (v1.InvalidateCacheRequest(), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=str,
)
async def test_invalidation(store: AnswerStore, selector: v1.InvalidateCacheRequest, left: list[int]) -> None:
    """Just what fits everything that is set is forgotten, everywhere, and counted in each place."""
    await fill(store)

    removed = await store.invalidate(selector)

    assert kept(store) == left
    assert removed == (8 - len(left)) * (2 if store.shared else 1)
    if store.shared:
        found = [await store.look_up(key, lease=False) for key in KEYS]
        assert [number for number, answer in enumerate(found) if answer is not None] == left


async def test_what_is_stored_after_an_invalidation_stays(store: AnswerStore) -> None:
    """An invalidation is of what is stored already."""
    await store.put(KEY, stored("old", at=CLOCK.now), None)
    await store.invalidate(v1.InvalidateCacheRequest(all=True))

    await store.put(KEY, stored("new", at=CLOCK.now), None)

    assert text_of(store.recall(KEY)) == "new"
    if store.shared:
        assert text_of(await store.look_up(KEY, lease=True)) == "new"


async def test_an_answer_past_its_time_is_nowhere(store: AnswerStore) -> None:
    """What was old when it was stored is not kept."""
    await store.put(KEY, stored(at=CLOCK.now - 100, fresh_for=60), None)

    assert store.recall(KEY) is None
    assert not isinstance(await store.look_up(KEY, lease=True), StoredAnswer)
