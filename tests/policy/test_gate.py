import asyncio

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.policy.gate import Gate
from tests.support.paused_clock import now, paused


def gate(concurrency: int = 1, waiting: int = 2, patience: float = 10.0) -> Gate:
    return Gate(max_concurrency=concurrency, max_waiting=waiting, max_wait=patience)


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
async def test_a_caller_that_leaves_the_queue_leaves_no_trace() -> None:
    """Cancelled while it waits for a permit: nothing is lost to those behind it."""
    narrow = gate(concurrency=1, waiting=1, patience=100)
    await narrow.enter(100)
    for _ in range(5):
        leaving = asyncio.create_task(narrow.enter(100))
        await asyncio.sleep(0.01)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    narrow.leave()
    await narrow.enter(0)
