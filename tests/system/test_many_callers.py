"""Many callers at once, in another process than the sidecar, and callers that make names up."""

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from signal import SIGTERM

import grpc

from outrider import v1
from tests.support.caller import Caller, calling, fetch
from tests.support.process import serving
from tests.support.sidecar import ask, provider, text

CALLERS = 1000
MADE_UP = 10_000


async def test_a_thousand_streams_at_once(tmp_path: Path) -> None:
    """1,000 concurrent generations: all have begun before any goes on, and each is whole and its own."""
    # Within the first second all have called, so that the sidecar too has all of them at work at once.
    behaviour = {"first_token_delay": 1, "pace": 0.02}
    simulated = {"simulated": behaviour, "limits": {"max_concurrency": CALLERS}}
    async with (
        serving(tmp_path, providers={"simulated": simulated}) as sidecar,
        calling(sidecar.port) as caller,
        asyncio.timeout(60),
    ):
        begun = asyncio.Barrier(CALLERS)
        answers = await asyncio.gather(*(stream(caller, number, begun) for number in range(CALLERS)))
        sidecar.signal(SIGTERM)
        assert await sidecar.ended() == 0
    for number, events in enumerate(answers):
        assert text(events) == prompt(number)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert events[-1].completed.finish_reason == v1.FINISH_REASON_STOP
    records = sidecar.events("request")
    assert len(records) == CALLERS
    assert {record["outcome"] for record in records} == {"succeeded"}


def prompt(number: int) -> str:
    """What a caller says, unlike all others."""
    return f"I am caller {number} of many, each of its own"


async def stream(caller: Caller, number: int, begun: asyncio.Barrier) -> list[v1.GenerateResponse]:
    """All events of one caller's stream; read on once all callers have their first."""
    events = aiter(caller.generation.Generate(ask(text=prompt(number))))
    first = await anext(events)
    await begun.wait()
    return [first, *[event async for event in events]]


async def test_made_up_models_add_no_series(tmp_path: Path) -> None:
    """Row 27: 10,000 names of models, of known providers and of none, and not one series more."""
    async with (
        serving(
            tmp_path,
            providers={
                "gone": provider("http://127.0.0.1:9", attempts={"max_attempts": 1}),
                "simulated": {"simulated": {"first_token_delay": 0, "pace": 0}},
            },
        ) as sidecar,
        calling(sidecar.port) as caller,
    ):
        names = ("gone/{}", "simulated/{}", "{}", "{}/{}", "gone/{}\n")
        await refused(caller, [names[number % 5].format(number, number) for number in range(100)])
        before = await series(sidecar.admin_port)
        await refused(caller, [names[number % 5].format(number, number) for number in range(MADE_UP)])
        after = await series(sidecar.admin_port)
    assert after == before


async def refused(caller: Caller, models: Iterable[str]) -> None:
    """Ask for each model, fifty at a time; none may be answered."""

    async def ask_for(model: str) -> None:
        try:
            await caller.generation.Complete(v1.CompleteRequest(request=ask(model)))
        except grpc.aio.AioRpcError:
            return
        raise AssertionError(model)

    waiting: list[Awaitable[None]] = []
    for model in models:
        waiting.append(ask_for(model))
        if len(waiting) == 50:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)


async def series(admin_port: int) -> set[str]:
    """The names of all series, with their labels."""
    _, metrics = await fetch(admin_port, "/metrics")
    return {line.rpartition(" ")[0] for line in metrics.splitlines() if not line.startswith("#")}
