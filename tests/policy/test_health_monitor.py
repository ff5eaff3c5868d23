"""What the sidecar holds of its providers, from traffic and from checks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.core.errors import GenerationError, Reason
from outrider.core.events import Event, EventType
from outrider.policy.breaker import Breaker, State, Trip
from outrider.policy.breakers import Breakers
from outrider.policy.health_monitor import Health, HealthMonitor, Rhythm
from tests.support.paused_clock import now, paused
from tests.support.scripted import ScriptedProvider

if TYPE_CHECKING:
    from outrider.core.context import Target

USUAL = Rhythm()


class Published:
    def __init__(self) -> None:
        self.ready: list[tuple[float, bool]] = []
        self.providers: dict[str, list[bool]] = {}

    async def provider_changed(self, name: str, health: Health) -> None:
        self.providers.setdefault(name, []).append(health.serving)

    async def readiness_changed(self, *, ready: bool) -> None:
        self.ready.append((now(), ready))


@dataclass
class Watched:
    """A monitor over providers of two models each, "m" and "n", whose breakers open at the first failure."""

    monitor: HealthMonitor
    providers: dict[str, ScriptedProvider]
    breakers: dict[str, Breakers]
    events: list[Event]
    published: Published = field(default_factory=Published)

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.monitor.run(self.published))

    def breaker(self, name: str, model: str = "m") -> Breaker:
        return self.breakers[name].of(model)

    def fail(self, name: str, model: str = "m") -> None:
        breaker = self.breaker(name, model)
        if breaker.admit() is None:
            breaker.failed(breaker.epoch)

    def succeed(self, name: str, model: str = "m") -> None:
        breaker = self.breaker(name, model)
        if breaker.admit() is None:
            breaker.succeeded(breaker.epoch)


def make(*names: str, down: dict[str, str] | None = None, rhythm: Rhythm = USUAL, trip: int = 1) -> Watched:
    providers = {name: ScriptedProvider(["x"], name=name) for name in names}
    events: list[Event] = []

    def changed(target: Target, state: State) -> None:
        monitor.breaker_changed(target, state)

    breakers = {name: Breakers(name, ["m", "n"], Trip(trip), now, changed) for name in names}
    monitor = HealthMonitor(providers, breakers, down or {}, clock=now, rhythm=rhythm, on_event=events.append)
    return Watched(monitor, providers, breakers, events)


@paused
async def test_readiness_moves_once_in_a_long_outage_and_once_after_it() -> None:
    """Row 25: five minutes without a provider are one change, not a flapping."""
    watched, start = make("a"), now()
    task = watched.start()
    await asyncio.sleep(1)
    watched.providers["a"].healthy = False
    watched.fail("a")
    for _ in range(10):
        await asyncio.sleep(30)
        watched.fail("a")
    watched.providers["a"].healthy = True
    await asyncio.sleep(30)
    task.cancel()
    ready = watched.published.ready
    assert [each for _, each in ready] == [True, False, True]
    assert ready[1][0] - start == pytest.approx(16)
    assert watched.published.providers["a"] == [True, False, True]
    assert watched.providers["a"].checks <= 40


@paused
async def test_a_short_dip_does_not_touch_readiness() -> None:
    """Hysteresis: back within the hold time, nobody is told, however long all was well before."""
    watched = make("a")
    task = watched.start()
    await asyncio.sleep(3600)
    watched.fail("a")
    await asyncio.sleep(5)
    watched.breaker("a").wake()
    watched.succeed("a")
    await asyncio.sleep(60)
    task.cancel()
    assert [ready for _, ready in watched.published.ready] == [True]
    assert watched.published.providers["a"] == [True, False, True]


@paused
async def test_one_provider_that_serves_is_enough() -> None:
    """Readiness asks whether anyone can answer, and each provider's health is its own."""
    watched = make("a", "b", "c", down={"c": "no key"})
    watched.providers["a"].healthy = watched.providers["c"].healthy = False
    task = watched.start()
    await asyncio.sleep(1)
    watched.fail("a")
    await asyncio.sleep(300)
    task.cancel()
    assert [ready for _, ready in watched.published.ready] == [True]
    assert watched.published.providers == {"a": [True, False], "b": [True], "c": [False]}


@paused
async def test_one_broken_model_is_not_a_broken_provider() -> None:
    """Down means that all its targets with traffic in the last minute are kept from their calls."""
    watched = make("a")
    task = watched.start()
    watched.succeed("a", "n")
    watched.fail("a", "m")
    await asyncio.sleep(1)
    assert watched.monitor.health["a"].serving
    await asyncio.sleep(120)
    watched.fail("a", "m")  # its probe, with the other model idle: no news
    assert watched.breaker("a").state is State.OPEN
    assert watched.monitor.health["a"].serving
    watched.fail("a", "n")
    assert not watched.monitor.health["a"].serving
    await asyncio.sleep(1)
    task.cancel()
    assert watched.published.providers["a"] == [True, False]


@paused
async def test_only_idle_providers_are_asked() -> None:
    """A check comes after a minute without traffic, and then every minute; traffic tells by itself."""
    watched = make("busy", "idle", "never", rhythm=Rhythm(interval=60))
    task = watched.start()
    for _ in range(60):
        await asyncio.sleep(10)
        watched.succeed("busy")
    task.cancel()
    assert watched.providers["busy"].checks == 0
    assert watched.providers["idle"].checks in (9, 10)


@paused
async def test_an_answer_that_goes_on_is_traffic() -> None:
    """Who streams for ten minutes is not asked; the minute without traffic begins when the stream ends."""
    watched = make("a", rhythm=Rhythm(interval=60))
    task, breaker = watched.start(), watched.breaker("a")
    await asyncio.sleep(30)
    stream = breaker.answering(breaker.epoch)
    await asyncio.sleep(600)
    breaker.abandoned(stream)
    await asyncio.sleep(59)
    assert watched.providers["a"].checks == 0
    await asyncio.sleep(2)
    assert watched.providers["a"].checks == 1
    task.cancel()


@paused
async def test_checks_that_fail_do_not_take_down_who_answers() -> None:
    """One that failed before a call was answered is forgotten; the next one, in quiet times, is a first."""
    watched = make("a")
    watched.providers["a"].healthy = False
    task, breaker = watched.start(), watched.breaker("a")
    await asyncio.sleep(65)
    assert watched.providers["a"].checks == 1
    stream = breaker.answering(breaker.epoch)
    await asyncio.sleep(600)
    breaker.succeeded(stream)
    await asyncio.sleep(65)
    assert watched.providers["a"].checks == 2
    assert watched.monitor.health["a"].serving
    await asyncio.sleep(10)
    assert not watched.monitor.health["a"].serving
    task.cancel()
    assert watched.published.providers["a"] == [True, False]


@paused
async def test_a_target_that_answers_keeps_its_provider_up() -> None:
    """However long ago its stream began, when another target of the provider opens its breaker."""
    watched = make("a")
    task, breaker = watched.start(), watched.breaker("a", "n")
    breaker.answering(breaker.epoch)
    await asyncio.sleep(120)
    watched.fail("a", "m")
    assert watched.monitor.health["a"].serving
    task.cancel()


@paused
async def test_active_checks_can_be_turned_off() -> None:
    """With an interval of 0 only what is down is asked."""
    watched = make("a", "b", down={"b": "no key"}, rhythm=Rhythm(interval=0))
    watched.providers["b"].healthy = False
    task = watched.start()
    await asyncio.sleep(600)
    task.cancel()
    assert watched.providers["a"].checks == 0
    assert watched.providers["b"].checks >= 55


@paused
async def test_an_idle_provider_that_does_not_answer_goes_down_after_two_checks() -> None:
    """One lost packet is no outage: the second check comes soon; two good ones bring it back."""
    watched = make("a")
    task = watched.start()
    await asyncio.sleep(55)
    watched.providers["a"].healthy = False
    await asyncio.sleep(10)
    assert watched.providers["a"].checks == 1
    assert watched.monitor.health["a"].serving
    await asyncio.sleep(10)
    assert not watched.monitor.health["a"].serving
    assert "does not answer" in watched.monitor.health["a"].reason
    watched.providers["a"].healthy = True
    await asyncio.sleep(10)
    assert not watched.monitor.health["a"].serving
    await asyncio.sleep(10)
    assert watched.monitor.health["a"].serving
    task.cancel()
    assert watched.published.providers["a"] == [True, False, True]


@paused
async def test_a_call_that_succeeds_says_more_than_checks_that_fail() -> None:
    """A provider whose list of models is broken still answers: traffic brings it back."""
    watched = make("a")
    watched.providers["a"].healthy = False
    task = watched.start()
    await asyncio.sleep(80)
    assert not watched.monitor.health["a"].serving
    watched.succeed("a")
    await asyncio.sleep(10)
    assert watched.monitor.health["a"].serving
    task.cancel()


@pytest.mark.parametrize(
    ("reason", "status", "down"),
    [
        (Reason.PROVIDER_UNREACHABLE, 0, True),
        (Reason.PROVIDER_ERROR, 500, True),
        (Reason.PROVIDER_CREDENTIALS_REFUSED, 401, True),
        (Reason.PROVIDER_NOT_CONFIGURED, 0, True),
        (Reason.PROVIDER_CREDENTIALS_REFUSED, 403, False),
        (Reason.PROVIDER_RATE_LIMITED, 429, False),
        (Reason.MODEL_UNKNOWN, 404, False),
        (Reason.PROVIDER_PROTOCOL_ERROR, 404, False),
    ],
)
def test_what_a_failed_check_says(reason: Reason, status: int, down: bool) -> None:
    """A server that does not know the question, or forbids it alone, is there."""

    class Answering(ScriptedProvider):
        async def check(self) -> None:
            raise GenerationError(reason, "as scripted", upstream_status=status)

    @paused
    async def run() -> None:
        watched = make("a")
        watched.providers["a"] = watched.monitor._providers["a"] = Answering(["x"])  # type: ignore[index]
        task = watched.start()
        await asyncio.sleep(100)
        task.cancel()
        assert watched.monitor.health["a"].serving is not down

    run()


@paused
async def test_a_check_that_hangs_does_not_delay_anything() -> None:
    """What is down is checked at the same time; changes are told meanwhile."""

    class Hanging(ScriptedProvider):
        async def check(self) -> None:
            await asyncio.sleep(1000)

    watched = make("a", "b", "d", "e", down=dict.fromkeys("abd", "down"))
    for name in "ab":
        watched.monitor._providers[name] = Hanging(["x"], name=name)  # type: ignore[index]
    task = watched.start()
    await asyncio.sleep(11)
    assert watched.published.providers["d"] == [False, True]
    watched.fail("e")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert watched.published.providers["e"] == [True, False]
    task.cancel()


@paused
async def test_a_missing_key_may_still_come() -> None:
    """Not ready until a check finds the key there."""
    watched = make("a", down={"a": "no key"})
    watched.providers["a"].healthy = False
    task = watched.start()
    await asyncio.sleep(100)
    assert watched.published.ready == []
    assert watched.monitor.health["a"].reason == "no key"
    watched.providers["a"].healthy = True
    await asyncio.sleep(20)
    task.cancel()
    assert [ready for _, ready in watched.published.ready] == [True]
    assert watched.published.providers["a"] == [False, True]


@paused
async def test_what_was_down_before_a_restart_begins_so_and_is_checked_at_once() -> None:
    """It needs two good checks, as any other; the first one is made at once, the second one soon."""
    watched = make("a", "b")
    watched.providers["a"].healthy = False
    for name in ("a", "b", "unknown"):
        watched.monitor.recall(name, "it did not serve")
    task = watched.start()
    await asyncio.sleep(1)
    assert watched.providers["b"].checks == 1
    assert watched.published.providers == {"a": [False], "b": [False]}
    await asyncio.sleep(10)
    assert watched.published.providers == {"a": [False], "b": [False, True]}
    assert watched.monitor.failing() == ["a"]
    task.cancel()


@paused
async def test_a_provider_that_only_checks_well_does_not_flap() -> None:
    """Row 25: its checks succeed and its calls fail, for an hour: it is shown as well ever more rarely."""
    watched = make("a", rhythm=Rhythm(interval=60, down_interval=10))
    task = watched.start()
    for _ in range(360):
        watched.fail("a")
        await asyncio.sleep(10)
    task.cancel()
    assert watched.published.providers["a"].count(True) <= 6


@paused
async def test_checks_that_succeed_again_wake_the_breakers() -> None:
    """No caller has to wait for the rest of a long pause once the provider answers."""
    watched = make("a")
    watched.providers["a"].healthy = False
    task = watched.start()
    watched.fail("a")
    await asyncio.sleep(15)
    watched.providers["a"].healthy = True
    await asyncio.sleep(10)
    assert watched.breaker("a").retry_after() is None
    task.cancel()


@paused
async def test_a_check_does_not_end_a_rate_limit() -> None:
    """A list of models is not an answer: who asked to be left alone is left alone."""
    watched = make("a")
    task = watched.start()
    watched.breaker("a").pause(200)
    await asyncio.sleep(100)
    assert watched.providers["a"].checks == 1
    assert watched.breaker("a").paused_for() == pytest.approx(100)
    task.cancel()


@paused
async def test_changes_are_events() -> None:
    """One for each state of a breaker, one for each change of a provider's health."""
    watched = make("a")
    task = watched.start()
    watched.fail("a")
    watched.breaker("a").wake()
    watched.succeed("a")
    task.cancel()
    assert [(event.type, event.subject) for event in watched.events] == [
        (EventType.BREAKER_CHANGED, "a/m"),
        (EventType.PROVIDER_HEALTH_CHANGED, "a"),
        (EventType.BREAKER_CHANGED, "a/m"),
        (EventType.BREAKER_CHANGED, "a/m"),
        (EventType.PROVIDER_HEALTH_CHANGED, "a"),
    ]
    assert watched.events[0].facts == {"provider": "a", "model": "m", "state": "open"}
    assert watched.events[1].facts == {"serving": False, "reason": "its calls keep failing"}
    assert watched.events[4].facts == {"serving": True, "reason": ""}


@paused
async def test_nothing_is_left_when_it_is_cancelled() -> None:
    """Row 11: a check that runs ends with it."""

    class Hanging(ScriptedProvider):
        async def check(self) -> None:
            await asyncio.sleep(1000)

    watched = make("a", down={"a": "no key"})
    watched.monitor._providers["a"] = Hanging(["x"])  # type: ignore[index]
    task = watched.start()
    await asyncio.sleep(12)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "bad", "up", "down", "wait"]), st.sampled_from("mn")), max_size=60
    )
)
def test_what_is_published_is_what_is_held_and_changes_alternate(actions: list[tuple[str, str]]) -> None:
    """Row 25: no state is told twice in a row, and what was told last is true."""

    @paused
    async def run() -> None:
        watched = make("a")
        task = watched.start()
        await asyncio.sleep(0)
        for action, model in actions:
            if action in ("ok", "bad"):
                (watched.succeed if action == "ok" else watched.fail)("a", model)
            elif action == "wait":
                await asyncio.sleep(25)
            else:
                watched.providers["a"].healthy = action == "up"
            await asyncio.sleep(0.1)
        told = watched.published.providers["a"]
        assert all(one is not other for one, other in pairwise(told))
        assert told[-1] is watched.monitor.health["a"].serving
        task.cancel()

    run()
