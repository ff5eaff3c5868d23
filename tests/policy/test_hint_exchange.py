"""What sidecars tell each other of unwell targets, and what each makes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError
from outrider.policy.breaker import State, Trip
from outrider.policy.breakers import Breakers
from outrider.policy.health_monitor import HealthMonitor
from outrider.policy.hint_exchange import HintExchange
from tests.support.paused_clock import now, paused
from tests.support.scripted import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Mapping


class Board:
    """A store in memory; each test plays the other sidecars."""

    def __init__(self) -> None:
        self.hints: dict[str, float] = {}
        self.told: list[Mapping[str, float]] = []
        self.is_away = False

    async def exchange(self, own: Mapping[str, float]) -> Mapping[str, float]:
        if self.is_away:
            raise StoreUnavailableError("away")
        self.told.append(own)
        return self.hints


def make(board: Board, failures: int = 10) -> tuple[HintExchange, Breakers, HealthMonitor]:
    breakers = Breakers(
        "p", ["m", "n"], Trip(failures), now, lambda target, state: monitor.breaker_changed(target, state)
    )
    monitor = HealthMonitor({"p": ScriptedProvider(["x"])}, {"p": breakers}, {}, clock=now)
    return HintExchange(board, {"p": breakers}, monitor), breakers, monitor


def fail(breakers: Breakers, model: str) -> State:
    breaker = breakers.of(model)
    breaker.failed(breaker.epoch)
    return breaker.state


@paused
async def test_a_hint_makes_one_failure_enough() -> None:
    """Decided locally: without a failure seen here nothing opens, and other targets are as they were."""
    board = Board()
    board.hints = {"p/m": 30.0, "p/*": 30.0, "elsewhere/m": 30.0, "p/unknown": 30.0, "p": 60.0}
    exchange, breakers, monitor = make(board)
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(1)
    assert all(breaker.state is State.CLOSED for _, breaker in breakers)
    assert monitor.health["p"].serving
    assert fail(breakers, "m") is State.OPEN
    assert fail(breakers, "made-up") is State.OPEN
    assert fail(breakers, "n") is State.CLOSED
    task.cancel()


@paused
async def test_a_hint_of_a_model_that_is_not_configured_here_says_nothing_of_others() -> None:
    """Models that only callers name share a breaker, which another sidecar's model must not open."""
    board = Board()
    board.hints = {"p/configured-there": 30.0}
    exchange, breakers, _ = make(board)
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(1)
    assert fail(breakers, "configured-there") is State.CLOSED
    task.cancel()


@paused
async def test_suspicion_ends_soon_after_its_hint() -> None:
    """A sidecar that sees the target well again takes its hint back; ours lasts a few seconds more."""
    board = Board()
    board.hints = {"p/m": 300.0}
    exchange, breakers, _ = make(board)
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(3)
    board.hints = {}
    await asyncio.sleep(6)
    assert fail(breakers, "m") is State.CLOSED
    task.cancel()


@paused
async def test_what_opens_here_is_told_at_once_and_for_as_long_as_it_lasts() -> None:
    """With it the provider that is down; both are taken back when a call succeeds."""
    board = Board()
    exchange, breakers, monitor = make(board, failures=1)
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(0.5)
    fail(breakers, "m")
    exchange.hurry()
    await asyncio.sleep(0.15)
    assert set(board.told[-1]) == {"p/m", "p"}
    assert board.told[-1]["p/m"] > 30
    await asyncio.sleep(20)
    assert set(board.told[-1]) == {"p/m", "p"}
    breakers.of("m").wake()
    assert breakers.of("m").admit() is None
    breakers.of("m").succeeded(breakers.of("m").epoch)
    await asyncio.sleep(3)
    assert board.told[-1] == {}
    assert monitor.health["p"].serving
    task.cancel()


@paused
async def test_the_store_is_asked_every_two_seconds_and_no_more_often_than_ten_times_in_one() -> None:
    """Whatever happens in between."""
    board = Board()
    exchange, _, _ = make(board)
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(59)
    assert len(board.told) == 30
    board.told.clear()
    for _ in range(1000):
        exchange.hurry()
        await asyncio.sleep(0.001)
    assert len(board.told) <= 11
    task.cancel()


@paused
async def test_at_start_what_is_known_is_recalled() -> None:
    """Breakers are suspicious, and health begins with what was known, also of a restarted sidecar itself."""
    board = Board()
    board.hints = {"p/m": 90.0, "p": 60.0, "gone": 60.0}
    exchange, breakers, monitor = make(board)
    await exchange.recall()
    assert not monitor.health["p"].serving
    assert monitor.health["p"].reason == "it did not serve when it was last heard of"
    assert fail(breakers, "m") is State.OPEN


@paused
async def test_without_the_store_nothing_changes() -> None:
    """Rows 23 and 33: neither at start nor later; on its return hints are told again."""
    board = Board()
    board.is_away = True
    exchange, breakers, monitor = make(board, failures=2)
    await exchange.recall()
    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(10)
    assert monitor.health["p"].serving
    assert fail(breakers, "m") is State.CLOSED
    assert fail(breakers, "m") is State.OPEN
    board.is_away = False
    await asyncio.sleep(3)
    assert "p/m" in board.told[-1]
    task.cancel()
