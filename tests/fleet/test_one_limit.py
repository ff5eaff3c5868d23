"""Eight sidecars whose clocks disagree by ten seconds, and one Redis: together they are one."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import grpc

from outrider import v1
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub
from tests.fleet.support import fleet, tell
from tests.support.redis_server import redis_server
from tests.support.sidecar import Failure, ask, collect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.support import Member

SECONDS = float(os.environ.get("OUTRIDER_FLEET_SECONDS", "7"))  # of load
SIDECARS = 8
SKEWS = (5.0, -5.0)

PER_SECOND, BURST = 80, 40
CALLERS = 6  # of each sidecar, always asking

# Sidecars that wait in vain go on with their share: here they are to wait, however busy the machine is.
PATIENT = "5s"

SPENDERS = 200  # at once, on one budget
BUDGET, ANSWER = 6_000, 64  # tokens
RESERVATION = ANSWER + 2  # with the prompt
STORY = "Once upon a time there was a sidecar. " * 20  # 190 tokens

CONFIG = {
    "providers": {
        "quick": {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}},
        "teller": {
            "format": "simulated",
            "simulated": {"script": STORY, "first_token_delay": 0, "pace": "1ms", "chunk_chars": 40},
        },
    },
    "limits": {
        "rules": [{"scope": {"tenant": "hurried"}, "requests_per_minute": 60 * PER_SECOND, "burst": BURST}],
        "max_wait": "400ms",
        "reserve_output_tokens": ANSWER,
    },
    "budgets": [{"scope": {"tenant": "lavish", "project": "*"}, "tokens": BUDGET, "period": "total"}],
}
HURRIED = ask("quick/echo", attribution=v1.Attribution(tenant="hurried"))


@dataclass
class Tally:
    """What the callers of a limit have seen."""

    answered: int = 0
    refused: int = 0


async def hurry(sidecar: Member, until: float, tally: Tally) -> None:
    """Ask all the time, and come back when told to."""
    request = v1.CompleteRequest(request=HURRIED)
    while time.monotonic() < until:
        try:
            await sidecar.caller.generation.Complete(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            failure = Failure.of(error)
            assert failure.reason == "CALLER_RATE_LIMITED", failure.message
            assert failure.retry_delay is not None
            tally.refused += 1
            await asyncio.sleep(failure.retry_delay)
        else:
            tally.answered += 1


async def spend(sidecar: Member, project: str) -> int:
    """Tokens of one caller after another, up to the one that is told that the budget is spent."""
    spent = 0
    request = ask("teller/echo", attribution=v1.Attribution(tenant="lavish", project=project))
    while True:
        try:
            events = await collect(sidecar.caller.generation.Generate(request, timeout=30))
        except grpc.aio.AioRpcError as error:
            assert Failure.of(error).reason == "BUDGET_SPENT"
            return spent
        completed = events[-1].completed
        assert completed.finish_reason in (v1.FINISH_REASON_STOP, v1.FINISH_REASON_BUDGET)
        spent += completed.usage.input_tokens + completed.usage.output_tokens


async def spend_budgets(sidecars: list[Member], until: float) -> list[int]:
    """What was spent of one budget after another, each by all spenders at once."""
    spent: list[int] = []
    while not spent or time.monotonic() < until:
        project = f"project-{len(spent)}"
        calls = (spend(sidecars[number % SIDECARS], project) for number in range(SPENDERS))
        spent.append(sum(await asyncio.gather(*calls)))
        told = [await left_of(sidecar, project) for sidecar in sidecars]
        assert told == [(max(0, BUDGET - spent[-1]), 0)] * SIDECARS
    return spent


async def left_of(sidecar: Member, project: str) -> tuple[int, int]:
    """What a sidecar says is left of a budget, and reserved, once everything is settled."""
    request = v1.GetLimitsRequest(attribution=v1.Attribution(tenant="lavish", project=project))
    async with asyncio.timeout(10):
        while True:
            (limit,) = (await LimitServiceStub(sidecar.caller.channel).GetLimits(request)).limits
            if not limit.reserved:
                return limit.remaining, limit.reserved


async def test_eight_sidecars_hold_one_limit_and_one_budget(tmp_path: Path) -> None:
    """Rows 24 and 29: with clocks off by 5 s, never over rate x time + burst, nor by one reservation."""
    async with (
        redis_server() as redis,
        fleet(
            tmp_path, SIDECARS, skews=SKEWS, redis={"url": redis.url, "timeout": PATIENT}, **CONFIG
        ) as sidecars,
    ):
        for sidecar in sidecars:
            said = datetime.fromisoformat((await sidecar.child.logged("serving"))["timestamp"]).timestamp()
            assert abs(time.time() + sidecar.skew - said) < 4.5
        tally = Tally()
        began = time.monotonic()
        until = began + SECONDS
        async with asyncio.TaskGroup() as group:
            spending = group.create_task(spend_budgets(sidecars, until))
            await asyncio.gather(*(hurry(sidecar, until, tally) for sidecar in sidecars * CALLERS))
            passed = time.monotonic() - began
    spent = spending.result()
    allowed = PER_SECOND * passed + BURST
    tell(
        f"{SIDECARS} sidecars, {passed:.1f} s: {tally.answered} answered of {allowed:.0f} allowed"
        f" ({tally.answered / allowed:.1%}), {tally.refused} refused;"
        f" {len(spent)} budgets of {BUDGET}: {min(spent)} to {max(spent)} spent"
    )
    assert 0.85 * allowed < tally.answered <= allowed
    assert tally.refused
    assert all(BUDGET - 2 * RESERVATION < each <= BUDGET + RESERVATION for each in spent)
