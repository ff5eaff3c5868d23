import asyncio

from outrider.policy.breaker import State
from outrider.policy.health_monitor import Health, HealthMonitor
from tests.support.paused_clock import now, paused
from tests.support.scripted import ScriptedProvider


class Published:
    def __init__(self) -> None:
        self.ready: list[tuple[float, bool]] = []
        self.providers: dict[str, list[bool]] = {}

    async def provider_changed(self, name: str, health: Health) -> None:
        self.providers.setdefault(name, []).append(health.serving)

    async def readiness_changed(self, *, ready: bool) -> None:
        self.ready.append((now(), ready))


def make(
    *names: str, down: dict[str, str] | None = None
) -> tuple[HealthMonitor, dict[str, ScriptedProvider]]:
    providers = {name: ScriptedProvider(["x"], name=name) for name in names}
    return HealthMonitor(providers, down or {}, clock=now), providers


@paused
async def test_readiness_moves_once_in_a_long_outage_and_once_after_it() -> None:
    """Row 25: five minutes without a provider are one change, not a flapping."""
    monitor, providers = make("a")
    published, start = Published(), now()
    task = asyncio.create_task(monitor.run(published))
    await asyncio.sleep(1)
    providers["a"].healthy = False
    monitor.breaker_changed("a", State.OPEN)
    for _ in range(10):
        await asyncio.sleep(30)
        monitor.breaker_changed("a", State.HALF_OPEN)
        monitor.breaker_changed("a", State.OPEN)
    providers["a"].healthy = True
    await asyncio.sleep(30)
    task.cancel()
    assert [ready for _, ready in published.ready] == [True, False, True]
    assert published.ready[1][0] - start >= 15
    assert published.providers["a"] == [True, False, True]
    assert providers["a"].checks <= 40


@paused
async def test_a_short_dip_does_not_touch_readiness() -> None:
    """Hysteresis: back within the hold time, nobody is told, however long all was well before."""
    monitor, _ = make("a")
    published = Published()
    task = asyncio.create_task(monitor.run(published))
    await asyncio.sleep(3600)
    monitor.breaker_changed("a", State.OPEN)
    await asyncio.sleep(5)
    monitor.breaker_changed("a", State.CLOSED)
    await asyncio.sleep(60)
    task.cancel()
    assert [ready for _, ready in published.ready] == [True]


@paused
async def test_one_provider_that_serves_is_enough() -> None:
    """Readiness asks whether anyone can answer, and each provider's health is its own."""
    monitor, providers = make("a", "b", "c", down={"c": "no key"})
    providers["a"].healthy = providers["c"].healthy = False
    published = Published()
    task = asyncio.create_task(monitor.run(published))
    await asyncio.sleep(1)
    monitor.breaker_changed("a", State.OPEN)
    await asyncio.sleep(300)
    task.cancel()
    assert [ready for _, ready in published.ready] == [True]
    assert published.providers == {"a": [True, False], "b": [True], "c": [False]}
    assert providers["b"].checks == 0


@paused
async def test_a_check_that_hangs_does_not_delay_the_others() -> None:
    """What is down is checked at the same time, and its return is told within one more interval."""

    class Hanging(ScriptedProvider):
        async def check(self) -> None:
            await asyncio.sleep(1000)

    providers = {name: Hanging(["x"], name=name) for name in "abc"} | {"d": ScriptedProvider(["x"], name="d")}
    monitor, published = HealthMonitor(providers, dict.fromkeys("abcd", "down"), clock=now), Published()
    task = asyncio.create_task(monitor.run(published))
    await asyncio.sleep(21)
    task.cancel()
    assert published.providers["d"] == [False, True]


@paused
async def test_a_missing_key_may_still_come() -> None:
    """Not ready until a check finds the key there."""
    monitor, providers = make("a", down={"a": "no key"})
    providers["a"].healthy = False
    published = Published()
    task = asyncio.create_task(monitor.run(published))
    await asyncio.sleep(100)
    assert published.ready == []
    assert monitor.health["a"].reason == "no key"
    providers["a"].healthy = True
    await asyncio.sleep(20)
    task.cancel()
    assert [ready for _, ready in published.ready] == [True]
    assert published.providers["a"] == [False, True]
