"""What every SharedStreams promises: Redis, and the one that tests of policies share, alike."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.errors import Fact, Reason, Violation
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import Ending, Excerpt, Failure, SharedStreams, StreamName
from outrider.stores.redis_link import RedisLink
from outrider.stores.redis_streams import RedisStreams
from tests.support.memory_streams import MemoryStreams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Make: TypeAlias = Callable[[float], SharedStreams]

LONG, SHORT = 600.0, 0.2
FAILURE = Failure(
    Fact(
        Reason.STREAM_TRUNCATED,
        "cut — früh",
        provider="p",
        model="m",
        upstream_status=200,
        retry_after=math.inf,
        violations=(Violation("a", "b"),),
        job_id="j",
        quota_subject="tenant=acme",
        free_in=1.5,
    ),
    committed=True,
    detail=v1.GenerationFailure(request_id="r", last_sequence=3),
)


@pytest_asyncio.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> AsyncIterator[Make]:
    """Makes stores of each kind, with a grace of so many seconds."""
    if request.param == "memory":
        yield lambda seconds: MemoryStreams(grace=seconds)
        return
    link = RedisLink(redis_url, prefix=prefix, timeout=5)
    await link.start(10)
    yield lambda seconds: RedisStreams(link, grace=seconds)
    await link.aclose()


@pytest.fixture
def store(stores: Make) -> SharedStreams:
    """A store that forgets nothing while a test runs."""
    return stores(LONG)


@pytest.fixture
def name() -> StreamName:
    """Of a stream that is not there yet."""
    return StreamName(uuid.uuid4().hex, "anyone")


def events(first: int, last: int) -> list[bytes]:
    """Numbered ones."""
    return [
        v1.GenerateResponse(sequence=number, text_delta=v1.TextDelta(text=f"{number} ")).SerializeToString()
        for number in range(first, last + 1)
    ]


async def numbers(store: SharedStreams, name: StreamName, after: int) -> list[int]:
    """What follows, to the end of what is there."""
    found: list[int] = []
    while (page := await store.read(name, after)) is not None and page.events:
        found += [event.sequence for event in page.events]
        after = found[-1]
    return found


async def look(store: SharedStreams, name: StreamName, after: int = 0) -> Excerpt:
    """What is there."""
    page = await store.read(name, after)
    assert page is not None
    return page


async def test_events_are_read_from_any_number_on(store: SharedStreams, name: StreamName) -> None:
    """However they were appended, what follows a number comes in order, without a gap or a repeat."""
    at = 0
    for size in (1, 2, 5, 1, 1, 9, 3, 1, 1, 1, 1, 20):
        assert await store.append(name, at, events(at + 1, at + size), None, LONG) == at + size
        at += size
    for after in range(at + 2):
        assert await numbers(store, name, after) == list(range(after + 1, at + 1))


async def test_what_does_not_follow_is_not_added(store: SharedStreams, name: StreamName) -> None:
    """An append that is repeated, or comes late, changes nothing and tells where the stream is."""
    await store.append(name, 0, events(1, 3), None, LONG)
    assert await store.append(name, 0, events(1, 2), None, LONG) == 3
    assert await store.append(name, 5, events(6, 7), None, LONG) == 3
    assert await numbers(store, name, 0) == [1, 2, 3]
    assert await store.append(name, 3, [], Ending(), LONG) == 3
    assert await store.append(name, 3, [], Ending(), LONG) == 3
    assert await store.append(name, 3, events(4, 4), None, LONG) == 3
    assert await numbers(store, name, 0) == [1, 2, 3]


async def test_a_stream_may_end_without_an_event(store: SharedStreams, name: StreamName) -> None:
    """Whoever waits for its first one is told."""
    await store.append(name, 0, [], None, LONG)
    await store.append(name, 0, [], Ending(FAILURE), LONG)
    assert await look(store, name) == Excerpt([], Ending(FAILURE), alive=False)


@pytest.mark.parametrize("ending", [Ending(), Ending(FAILURE)])
async def test_the_ending_is_told_behind_the_last_event(
    store: SharedStreams, name: StreamName, ending: Ending
) -> None:
    """To everyone, also to who asks for more than there is; a failure with all that was known of it."""
    await store.append(name, 0, events(1, 2), None, LONG)
    assert (await look(store, name, 1)).ending is None
    await store.append(name, 2, [], ending, LONG)
    for after in (0, 1, 2, 7, 2**64 - 1):
        page = await look(store, name, after)
        assert ([event.sequence for event in page.events], page.ending) == (
            list(range(after + 1, 3)),
            ending,
        )


def test_every_field_of_a_failure_is_told() -> None:
    """The failure of these tests has all of them, so that none that is added is forgotten."""
    assert all(getattr(FAILURE.fact, field.name) != field.default for field in fields(Fact))


async def test_a_stream_is_alive_while_its_sidecar_says_so(store: SharedStreams, name: StreamName) -> None:
    """From the first append, which may come before the first event, to the ending."""
    assert await store.read(name, 0) is None
    await store.append(name, 0, [], None, LONG)
    assert await look(store, name) == Excerpt([], None, alive=True)
    await store.append(name, 0, events(1, 1), None, LONG)
    assert (await look(store, name)).alive
    await store.append(name, 1, [], Ending(), LONG)
    assert not (await look(store, name)).alive


async def test_streams_are_their_callers(store: SharedStreams, name: StreamName) -> None:
    """Another caller's id leads nowhere."""
    await store.append(name, 0, events(1, 1), None, LONG)
    assert await store.read(name._replace(caller="other"), 0) is None
    assert await store.read(name._replace(request_id=uuid.uuid4().hex), 0) is None


async def test_who_reads_is_noticed(stores: Make, name: StreamName) -> None:
    """For the grace, and only while the stream runs."""
    store = stores(LONG)
    await store.append(name, 0, events(1, 1), None, LONG)
    assert await store.attention(name) == 0
    await store.read(name, 1)
    assert LONG - 60 < await store.attention(name) <= LONG
    store = stores(SHORT)
    await store.read(name, 1)
    async with asyncio.timeout(5):
        while await store.attention(name):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    await store.append(name, 1, [], Ending(), LONG)
    await store.read(name, 1)
    assert await store.attention(name) == 0


async def test_streams_are_forgotten(store: SharedStreams, name: StreamName) -> None:
    """At once where that is asked for, else some time after their end."""
    other = name._replace(caller="other")
    for each in (name, other):
        await store.append(each, 0, events(1, 2), None, LONG)
    await store.remove(name)
    assert await store.read(name, 0) is None
    assert await store.read(other, 0) is not None
    await store.append(name, 0, events(1, 2), None, SHORT)
    await store.append(name, 2, [], Ending(), SHORT)
    async with asyncio.timeout(5):
        while await store.read(name, 0) is not None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_every_key_in_redis_has_a_time_to_live(redis_url: str, prefix: str, name: StreamName) -> None:
    """Row 24: also while the stream runs, and the beginning that is lost makes it unknown."""
    link = RedisLink(redis_url, prefix=prefix, timeout=5)
    await link.start(10)
    store = RedisStreams(link, grace=30)
    await store.append(name, 0, events(1, 2), None, 60)
    await store.read(name, 0)
    keys = [f"{prefix}:stream:1:{{{name.request_id}}}:anyone{end}" for end in ("", ":lease", ":read")]
    assert [0 < await link.run("PTTL", key) <= 70_000 for key in keys] == [True] * 3
    await store.append(name, 2, events(3, 4), None, LONG)
    await link.run("XTRIM", keys[0], "MAXLEN", 1)
    assert await store.read(name, 0) is None
    assert await numbers(store, name, 2) == [3, 4]
    await link.aclose()


async def test_a_store_that_is_away_says_so(name: StreamName) -> None:
    """Every call raises, and none hangs."""
    link = RedisLink("redis://127.0.0.1:1")
    store = RedisStreams(link, grace=30)
    calls = (
        store.read(name, 0),
        store.append(name, 0, [], None, LONG),
        store.attention(name),
        store.remove(name),
    )
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            await call
