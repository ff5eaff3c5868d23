"""A caller that leaves, in every way a caller can."""

import asyncio
from pathlib import Path

import grpc
import pytest

from outrider import v1
from tests.support.answers import (
    body,
    json_body,
    keep_alive_comments,
    openai_events,
    openai_stream,
    silence,
    unending,
)
from tests.support.sidecar import ask, collect, provider, running, text
from tests.support.upstream import Answer, Exchange, Upstream

NOT_YET: dict[str, Answer] = {
    "before the headers": silence,
    "before the first token": keep_alive_comments(),
    "in mid-stream": unending(openai_events("a")[:1]),
}


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("moment", NOT_YET)
async def test_cancel_reaches_the_provider(tmp_path: Path, moment: str, transport: str) -> None:
    """Row 1: the provider's socket closes within 250 ms."""
    async with (
        Upstream(NOT_YET[moment]) as upstream,
        running(tmp_path, providers={"openai": provider(upstream.url, transport=transport)}) as sidecar,
    ):
        call = sidecar.generation.Generate(ask())
        if moment == "in mid-stream":
            await call.read()
        await upstream.received()
        left_at = asyncio.get_running_loop().time()
        call.cancel()
        closed_at = await upstream.connections[0].closed(within=2)
        assert closed_at - left_at < 0.25


async def test_cancel_reaches_the_provider_of_an_answer_in_one_piece(tmp_path: Path) -> None:
    """Row 1: Complete as well."""
    async with (
        Upstream(silence) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        call = sidecar.generation.Complete(v1.CompleteRequest(request=ask()))
        waiting = asyncio.ensure_future(call)
        await upstream.received()
        call.cancel()
        await upstream.connections[0].closed(within=1)
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_abandoned_streams_do_not_use_up_the_pool(tmp_path: Path, transport: str) -> None:
    """Row 2: two permits, three streams left in the middle, and the fourth request works."""
    left = unending(openai_events("a")[:1])
    settings = provider("", transport=transport, limits={"max_concurrency": 2, "max_wait": 5})
    async with Upstream(left, left, left, openai_stream("fine")) as upstream:
        settings["base_url"] = upstream.url
        async with running(tmp_path, providers={"openai": settings}) as sidecar:
            for _ in range(3):
                call = sidecar.generation.Generate(ask())
                await call.read()
                call.cancel()
            assert text(await collect(sidecar.generation.Generate(ask()))) == "fine"


async def test_no_further_call_for_a_caller_who_has_left(tmp_path: Path) -> None:
    """Row 37: cancel during backoff ends the retries."""
    failing = json_body({"error": {"message": "no"}}, 500, {"retry-after": "1"})
    async with (
        Upstream(failing, openai_stream("late")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        call = sidecar.generation.Generate(ask())
        await upstream.received()
        call.cancel()
        with pytest.raises(asyncio.TimeoutError):
            await upstream.received(2, within=1.5)


async def test_a_dropped_call_is_ended_by_our_own_limit(tmp_path: Path) -> None:
    """Row 12: one message read, then nothing: idle and total timeouts end it, and the permit is free."""
    async with (
        Upstream(unending(openai_events("a")[:1]), openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, limits={"max_concurrency": 1})},
            timeouts={"idle": 0.3},
        ) as sidecar,
    ):
        call = sidecar.generation.Generate(ask())
        await call.read()
        # `call` is neither read nor cancelled from here on.
        await upstream.connections[0].closed(within=2)
        assert text(await collect(sidecar.generation.Generate(ask()))) == "fine"


async def test_a_soak_of_cancels_leaves_nothing_behind(tmp_path: Path) -> None:
    """Row 11: 300 calls left at every stage; no task, no call in flight, no open connection stays."""

    async def as_asked(exchange: Exchange) -> None:
        answer = NOT_YET.get(exchange.request.json()["messages"][0]["content"], openai_stream("fine"))
        await answer(exchange)

    async with (
        Upstream(as_asked) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        await collect(sidecar.generation.Generate(ask()))
        baseline = len(asyncio.all_tasks()) + 1  # the connection to the provider that is kept
        for moment in [*NOT_YET] * 10:
            asked = len(upstream.requests)
            calls = [sidecar.generation.Generate(ask(text=moment)) for _ in range(10)]
            if moment == "in mid-stream":
                for call in calls:
                    await call.read()
            await upstream.received(asked + 10)
            for call in calls:
                call.cancel()
        async with asyncio.timeout(10):
            while await sidecar.counted("outrider_requests_in_flight"):
                pass
            for connection in upstream.connections[1:]:
                await connection.closed()
            while len(asyncio.all_tasks()) > baseline:
                await sidecar.metrics()
        assert text(await collect(sidecar.generation.Generate(ask()))) == "fine"


async def test_every_call_has_a_record(tmp_path: Path) -> None:
    """Row 30: succeeded, failed and cancelled calls are counted once each, with what they used."""
    answers = [openai_stream("ok"), body(b"", 400), unending(openai_events("some text")[:1])]
    async with (
        Upstream(*answers) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        await collect(sidecar.generation.Generate(ask()))
        with pytest.raises(grpc.aio.AioRpcError):
            await collect(sidecar.generation.Generate(ask()))
        call = sidecar.generation.Generate(ask())
        await call.read()
        await call.read()
        call.cancel()
        await upstream.connections[-1].closed()
        labels = 'model="m",outcome="{}",provider="p",reason="{}"'
        series = {
            labels.format(*ending)
            for ending in (("succeeded", ""), ("failed", "INVALID_REQUEST"), ("cancelled", "CANCELLED"))
        }
        async with asyncio.timeout(5):
            for each in series:
                name = f'outrider_requests_total{{method="Generate",{each}}}'
                while await sidecar.counted(name) != 1:
                    pass
        tokens = (
            'gen_ai_client_token_usage_count{gen_ai_operation_name="chat",gen_ai_provider_name="p",'
            'gen_ai_request_model="m",gen_ai_token_type="output"}'
        )
        assert await sidecar.counted(tokens) == 2
