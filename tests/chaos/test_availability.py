"""What callers see of providers that fail one request in five, before the answer begins."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.chaos.provider import digest
from tests.fleet.support import tell
from tests.support.answers import json_body, openai_error, openai_stream, raw, silence, sse, stream
from tests.support.sidecar import Failure, ask, provider, running, text
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sidecar import Running
    from tests.support.upstream import Answer, Exchange

CALLS, AT_ONCE = 2_000, 32
SHARE = 0.2
FAULTS: tuple[Answer, ...] = (
    json_body(openai_error("down"), status=503),
    raw(b"", "reset"),
    silence,
    stream(sse(openai_error("overloaded", kind="server_error"))),
)

# As they are by default, but for the time that callers wait. Pauses are those of `provider`.
SETTINGS: dict[str, Any] = {
    "timeouts": {"first_event": 1.0},
    "breaker": {"open_for": 0.5},
    "log": {"level": "error"},
}


class Faulty:
    """Which requests fail follows from the prompt and from how often it was sent, not from the machine."""

    def __init__(self, name: str) -> None:
        self.faults = 0
        self.asked: Counter[str] = Counter()
        self._name = name

    async def answer(self, exchange: Exchange) -> None:
        """Answer with a digest of the prompt, or fail."""
        prompt = exchange.request.json()["messages"][-1]["content"]
        self.asked[prompt] += 1
        random = Random(f"{self._name} {prompt} {self.asked[prompt]}")
        if random.random() < SHARE:
            self.faults += 1
            await random.choice(FAULTS)(exchange)
        else:
            whole = digest(prompt)
            await openai_stream(whole[:32], whole[32:])(exchange)


async def call_all(sidecar: Running, model: str) -> Counter[str]:
    """How calls ended. A wrong answer fails the test."""
    ends: Counter[str] = Counter()
    numbers = iter(range(CALLS))

    async def caller() -> None:
        for number in numbers:
            prompt = f"prompt {number}"
            try:
                events = [
                    event async for event in sidecar.generation.Generate(ask(model, prompt), timeout=30)
                ]
            except grpc.aio.AioRpcError as error:
                ends[Failure.of(error).reason] += 1
            else:
                assert text(events) == digest(prompt)
                ends["succeeded"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    return ends


@pytest.mark.parametrize(
    ("names", "least"), [pytest.param("ab", 0.995, id="fallback"), pytest.param("a", 0.95, id="alone")]
)
async def test_most_calls_succeed_where_one_try_in_five_fails(
    names: str, least: float, tmp_path: Path
) -> None:
    """Row 5: 99.5 % with a fallback that is as bad, 95 % with retries alone; every answer is right."""
    faulty = [Faulty(name) for name in names]
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(Upstream(each.answer)) for each in faulty]
        providers = {name: provider(each.url) for name, each in zip(names, upstreams, strict=True)}
        routes = {"any": [f"{name}/m" for name in names]}
        sidecar = await stack.enter_async_context(
            running(tmp_path, providers=providers, routes=routes, **SETTINGS)
        )
        ends = await call_all(sidecar, "any")
    tries = [sum(each.asked.values()) for each in faulty]
    tell(f"\n{CALLS} calls: {dict(ends)}; tries {tries}, of which failed {[each.faults for each in faulty]}")
    assert sum(each.faults for each in faulty) >= 0.18 * sum(tries)
    assert ends["succeeded"] >= least * CALLS
