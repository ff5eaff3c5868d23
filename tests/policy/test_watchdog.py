import asyncio

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.policy.watchdog import Watchdog
from tests.support.paused_clock import now, paused


@paused
async def test_a_wait_that_lasts_too_long_is_ended() -> None:
    """The error names the limit that passed."""
    start = now()
    with pytest.raises(GenerationError) as caught, Watchdog(100, Reason.TOTAL_TIMEOUT) as watchdog:
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(50)
    assert caught.value.reason is Reason.IDLE_TIMEOUT
    assert now() - start == pytest.approx(5)


@paused
async def test_each_wait_has_its_own_limit() -> None:
    """Many waits just under the limit are fine, and the limit after them still holds."""
    with pytest.raises(GenerationError) as caught, Watchdog(10_000, Reason.TOTAL_TIMEOUT) as watchdog:
        watchdog.arm(10, Reason.FIRST_EVENT_TIMEOUT)
        await asyncio.sleep(9)
        for _ in range(100):
            watchdog.rest()
            watchdog.arm(5, Reason.IDLE_TIMEOUT)
            await asyncio.sleep(4.9)
        start = now()
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(50)
    assert caught.value.reason is Reason.IDLE_TIMEOUT
    assert now() - start == pytest.approx(5)


@paused
async def test_a_shorter_limit_takes_over_at_once() -> None:
    """A long first-event limit does not delay the shorter idle limit that follows it."""
    start = now()
    with pytest.raises(GenerationError), Watchdog(1000, Reason.TOTAL_TIMEOUT) as watchdog:
        watchdog.arm(100, Reason.FIRST_EVENT_TIMEOUT)
        await asyncio.sleep(1)
        watchdog.arm(2, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(50)
    assert now() - start == pytest.approx(3)


@paused
async def test_time_at_rest_does_not_count() -> None:
    """A slow caller does not make the provider look slow."""
    with Watchdog(1000, Reason.TOTAL_TIMEOUT) as watchdog:
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(1)
        watchdog.rest()
        await asyncio.sleep(500)
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(4)


@paused
async def test_the_total_bounds_time_at_rest() -> None:
    """A caller that does not read holds nothing for ever, and it is not the provider that was slow."""
    start = now()
    with pytest.raises(GenerationError) as caught, Watchdog(20, Reason.TOTAL_TIMEOUT) as watchdog:
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(1)
        watchdog.rest()
        await asyncio.sleep(500)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert "did not read" in caught.value.fact.message
    assert now() - start == pytest.approx(20)


@paused
async def test_the_total_bounds_every_wait() -> None:
    """Progress does not extend the total."""
    start = now()
    with pytest.raises(GenerationError) as caught, Watchdog(20, Reason.TOTAL_TIMEOUT) as watchdog:
        while True:
            watchdog.arm(5, Reason.IDLE_TIMEOUT)
            await asyncio.sleep(3)
            watchdog.rest()
    assert caught.value.reason is Reason.TOTAL_TIMEOUT
    assert now() - start == pytest.approx(20)


@paused
async def test_a_real_cancel_stays_a_cancel() -> None:
    """Also in the very moment in which the limit passes."""
    for moment in (1.0, 5.0):

        async def watched() -> None:
            with Watchdog(100, Reason.TOTAL_TIMEOUT) as watchdog:
                watchdog.arm(5, Reason.IDLE_TIMEOUT)
                await asyncio.sleep(50)

        task = asyncio.create_task(watched())
        asyncio.get_running_loop().call_later(moment, task.cancel)
        with pytest.raises((asyncio.CancelledError, GenerationError)) as caught:
            await task
        if moment == 1.0:
            assert caught.type is asyncio.CancelledError


@paused
async def test_the_task_can_be_cancelled_again_afterwards() -> None:
    """An expired watchdog leaves no cancel pending behind."""
    with pytest.raises(GenerationError), Watchdog(1, Reason.DEADLINE_EXCEEDED) as watchdog:
        watchdog.arm(5, Reason.IDLE_TIMEOUT)
        await asyncio.sleep(50)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(1)
