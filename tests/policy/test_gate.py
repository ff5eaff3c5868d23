import asyncio

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.policy.gate import Gate
from tests.support.paused_clock import now, paused


def gate(concurrency: int = 1, waiting: int = 2, patience: float = 10.0, rpm: float | None = None) -> Gate:
    return Gate(max_concurrency=concurrency, max_waiting=waiting, max_wait=patience, requests_per_minute=rpm)


@paused
async def test_so_many_at_once() -> None:
    """A permit beyond the limit waits until one is given back, first come, first served."""
    narrow, order = gate(waiting=5), []
    await narrow.enter(100)

    async def queue(name: str) -> None:
        await narrow.enter(100)
        order.append((name, now()))
        await asyncio.sleep(1)
        narrow.leave()

    start = now()
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(queue(name))
        await asyncio.sleep(2)
        narrow.leave()
    assert order == [("a", start + 2), ("b", start + 3), ("c", start + 4)]


@paused
async def test_the_queue_is_bounded_in_number() -> None:
    """A caller beyond the queue is shed at once, with a hint when to come back."""
    narrow = gate()
    await narrow.enter(100)
    waiting = [asyncio.create_task(narrow.enter(100)) for _ in range(2)]
    await asyncio.sleep(0)
    before = now()
    with pytest.raises(GenerationError) as caught:
        await narrow.enter(100)
    assert caught.value.reason is Reason.LOAD_SHED
    assert caught.value.fact.retry_after is not None
    assert now() == before
    narrow.leave()
    await waiting[0]
    narrow.leave()
    await waiting[1]


@pytest.mark.parametrize(("remaining", "waited"), [(100.0, 10.0), (3.0, 3.0)])
def test_the_queue_is_bounded_in_time(remaining: float, waited: float) -> None:
    """Nobody waits longer than the settings say, nor past its own deadline."""

    @paused
    async def run() -> None:
        narrow = gate()
        await narrow.enter(100)
        before = now()
        with pytest.raises(GenerationError) as caught:
            await narrow.enter(remaining)
        assert caught.value.reason is Reason.LOAD_SHED
        assert now() - before == pytest.approx(waited)
        narrow.leave()
        await narrow.enter(0)

    run()


@paused
async def test_the_rate_is_kept() -> None:
    """At 60 a minute ten pass at once, then one each second: never more than rate x time + burst."""
    paced, passed, start = gate(concurrency=1000, waiting=1000, patience=1000, rpm=60), [], now()

    async def call() -> None:
        await paced.enter(1000)
        passed.append(now() - start)
        paced.leave()

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(call())
    assert sum(moment < 0.01 for moment in passed) == 10
    for index, moment in enumerate(sorted(passed), start=1):
        assert index <= 10 + moment + 1e-6
    assert max(passed) == pytest.approx(30, abs=1)


@paused
async def test_a_rate_that_would_not_allow_the_call_in_time_says_so() -> None:
    """RATE_LIMITED, not LOAD_SHED, and the permit is given back."""
    paced = gate(concurrency=1, waiting=5, patience=5, rpm=6)
    await paced.enter(100)
    paced.leave()
    with pytest.raises(GenerationError) as caught:
        await paced.enter(100)
    assert caught.value.reason is Reason.RATE_LIMITED
    assert caught.value.fact.retry_after == 10
    await asyncio.sleep(10)
    await paced.enter(0.5)


@paused
async def test_a_caller_that_leaves_the_queue_leaves_no_trace() -> None:
    """Cancelled while it waits for a permit or for the rate: nothing is lost to those behind it."""
    paced = gate(concurrency=1, waiting=1, patience=100, rpm=6)
    await paced.enter(100)
    for _ in range(5):
        leaving = asyncio.create_task(paced.enter(100))
        await asyncio.sleep(0.01)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    paced.leave()
    leaving = asyncio.create_task(paced.enter(100))
    await asyncio.sleep(0.01)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.sleep(20)
    await paced.enter(1)
