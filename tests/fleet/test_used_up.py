"""Two sidecars and one Redis: a target that one of them has used up is passed over by the other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest

from outrider import v1
from tests.fleet.support import fleet, tell
from tests.support.redis_server import PATIENCE, redis_server
from tests.support.sidecar import Failure, ask, collect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.support import Member

QUICK = {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}}
SLOW = {"format": "simulated", "simulated": {"first_token_delay": "600ms", "pace": 0}}
SAFE = {"safe": ["first/echo", "second/echo"]}
# Sidecars that wait in vain go on with their share: here they are to wait, however busy the machine is.
PATIENT = "5s"


async def tried(sidecar: Member, model: str = "safe") -> v1.Completed:
    """The end of an answer."""
    answer = await collect(sidecar.caller.generation.Generate(ask(model), timeout=PATIENCE))
    return answer[-1].completed


def outcomes(completed: v1.Completed) -> list[str]:
    """Who was tried, and what came of it."""
    name = v1.Attempt.Outcome.Name
    return [f"{a.provider} {name(a.outcome)[8:]} {a.reason}".strip() for a in completed.attempts]


async def test_what_one_has_used_up_the_other_passes_over(tmp_path: Path) -> None:
    """A rate and a place: at once, in one round trip for each target, though `max_wait` would last for it."""
    rules = [
        {"scope": {"model": "rated/echo"}, "requests_per_minute": 2, "burst": 1},
        {"scope": {"model": "narrow/echo"}, "max_concurrency": 1},
        {"scope": {"provider": "second"}, "requests_per_minute": 60_000, "burst": 1000},
    ]
    limits = {"rules": rules, "max_wait": "60s"}
    providers = {
        "rated": QUICK,
        "narrow": {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": "60s"}},
        "second": QUICK,
    }
    routes = {name: [f"{name}/echo", "second/echo"] for name in ("rated", "narrow")}
    async with (
        redis_server() as redis,
        fleet(
            tmp_path, 2, redis={"url": redis.url, "timeout": PATIENT},
            providers=providers, routes=routes, limits=limits,
        ) as (one, other),
    ):  # fmt: skip
        assert outcomes(await tried(one, "rated")) == ["rated SUCCEEDED"]
        holding = one.caller.generation.Generate(ask("narrow"), timeout=PATIENCE)
        await holding.read()
        for name in routes:
            waits = []
            for _ in range(10):
                completed = await tried(other, name)
                assert outcomes(completed) == [f"{name} SKIPPED RATE_LIMITED", "second SUCCEEDED"]
                waits.append(completed.timings.waited.ToNanoseconds() / 1e6)
            tell(f"{name}: two questions to Redis in {min(waits):.2f} ms at best")
            assert min(waits) < 50
        holding.cancel()


async def test_together_they_exceed_no_limit_and_waste_none(tmp_path: Path) -> None:
    """Places of both targets, a rate of one: requests of both sidecars wait for whichever is free first."""
    limits = {
        "rules": [
            {"scope": {"provider": "first"}, "max_concurrency": 1},
            {"scope": {"provider": "second"}, "requests_per_minute": 600, "burst": 1},
        ],
        "max_wait": "30s",
    }
    async with (
        redis_server() as redis,
        fleet(
            tmp_path, 2, redis={"url": redis.url, "timeout": PATIENT},
            providers={"first": SLOW, "second": QUICK}, routes=SAFE, limits=limits,
        ) as members,
    ):  # fmt: skip
        began = time.monotonic()
        ended = await asyncio.gather(*(tried(member) for _ in range(12) for member in members))
        took = time.monotonic() - began
    by = Counter(outcomes(each)[-1] for each in ended)
    tell(f"24 requests in {took:.2f} s: {dict(by)}")
    assert sum(by.values()) == 24
    assert by["first SUCCEEDED"] <= 1 + took / 0.6
    assert by["second SUCCEEDED"] <= 1 + took / 0.1
    # One line alone would have taken 14 s, the other one 2.3 s.
    assert by["second SUCCEEDED"] >= 12


async def test_where_both_are_used_up_for_long_the_caller_is_told(tmp_path: Path) -> None:
    """At once, with when to come back: nobody waits for what does not come within `max_wait`."""
    limits = {
        "rules": [{"scope": {"provider": "*"}, "requests_per_minute": 1, "burst": 1}],
        "max_wait": "2s",
    }
    async with (
        redis_server() as redis,
        fleet(
            tmp_path, 2, redis={"url": redis.url, "timeout": PATIENT},
            providers={"first": QUICK, "second": QUICK}, routes=SAFE, limits=limits,
        ) as (one, other),
    ):  # fmt: skip
        assert outcomes(await tried(one)) == ["first SUCCEEDED"]
        assert outcomes(await tried(other)) == ["first SKIPPED RATE_LIMITED", "second SUCCEEDED"]
        for member in (one, other):
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await tried(member)
            failure = Failure.of(caught.value)
            assert failure.reason == "RATE_LIMITED"
            assert failure.retry_delay is not None
            assert time.monotonic() - began < 2
