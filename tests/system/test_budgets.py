"""Budgets as callers meet them: over real gRPC, with a provider on a real socket."""

import asyncio
from pathlib import Path

import grpc
import pytest

from outrider import v1
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub
from tests.support.answers import CHUNKED, SSE, openai_events, openai_stream
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Exchange, Upstream

PRICES = {"m": {"input": 1, "output": 10}}
DAILY = {"scope": {"tenant": "*"}, "period": "day"}
RESERVED = 64  # tokens of an answer


async def endless(exchange: Exchange) -> None:
    """A word after another, until the client leaves."""
    await exchange.head(200, {**SSE, **CHUNKED})
    while not exchange.connection.is_closed:
        await exchange.chunk(openai_events("word ")[0])
        await asyncio.sleep(0.001)


async def test_a_budget_that_is_spent_refuses(tmp_path: Path) -> None:
    """Row 29: RESOURCE_EXHAUSTED without RetryInfo, pushback -1; thresholds are told once each."""
    # An answer costs 9 x 1 + 3 x 10 = 39 millionths of a dollar.
    budget = {**DAILY, "usd": 0.001, "soft": [0.03, 0.07, 0.9]}
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            prices=PRICES,
            budgets=[budget],
            limits={"reserve_output_tokens": 90},
        ) as sidecar,
    ):
        series = (
            'outrider_budget_crossed_total{{period="day",scope_kind="tenant",share="{}",unit="nano_usd"}}'
        )
        for _ in range(3):
            assert text(await collect(sidecar.generation.Generate(ask(), timeout=5))) == "fine"
        told = await LimitServiceStub(sidecar.channel).GetLimits(v1.GetLimitsRequest())
        assert (told.limits[0].scope, told.limits[0].limit) == ("tenant=", 1_000_000)
        assert told.limits[0].remaining == 1_000_000 - 3 * 39_000
        crossed = [await sidecar.counted(series.format(share)) for share in ("0.03", "0.07", "0.9")]
        assert crossed == [1.0, 1.0, 0.0]
        large = v1.Sampling(max_output_tokens=100)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(sidecar.generation.Generate(ask(sampling=large), timeout=5))
        failure = Failure.of(caught.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_SPENT")
        assert (failure.retry_delay, failure.pushback) == (None, "-1")
        assert failure.quota is not None
        assert failure.quota.violations[0].subject == "tenant="
        assert "0.001 USD a day" in failure.message
        assert len(upstream.requests) == 3


async def test_a_budget_ends_a_running_stream(tmp_path: Path) -> None:
    """Finish reason BUDGET with partial usage and cost, OK for the caller; the provider is left at once."""
    async with (
        Upstream(endless) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            prices=PRICES,
            budgets=[{**DAILY, "tokens": 400}],
            limits={"reserve_output_tokens": RESERVED},
        ) as sidecar,
    ):
        events = await collect(sidecar.generation.Generate(ask(), timeout=5))
        completed = events[-1].completed
        assert completed.finish_reason == v1.FINISH_REASON_BUDGET
        used = completed.usage.input_tokens + completed.usage.output_tokens
        assert 350 < used <= 400 + RESERVED
        assert completed.usage.source == v1.USAGE_SOURCE_ESTIMATED
        assert completed.cost.total_nano_usd > 0
        assert [attempt.provider for attempt in completed.attempts] == ["p"]
        assert len(text(events)) == pytest.approx(4 * completed.usage.output_tokens, abs=4)
        await upstream.connections[0].closed(within=1)


async def test_many_callers_share_one_budget(tmp_path: Path) -> None:
    """Row 29: 200 parallel callers on one budget: never over by more than one reservation."""
    limit = 12_000
    script = "Once upon a time there was a sidecar. " * 80  # 760 tokens
    async with running(
        tmp_path,
        providers={
            "simulated": {
                "simulated": {"script": script, "first_token_delay": 0, "pace": "1ms", "chunk_chars": 40}
            }
        },
        budgets=[{**DAILY, "tokens": limit}],
        limits={"reserve_output_tokens": RESERVED},
    ) as sidecar:

        async def one() -> v1.Completed | None:
            try:
                events = await collect(sidecar.generation.Generate(ask("simulated/echo"), timeout=30))
            except grpc.aio.AioRpcError as error:
                assert Failure.of(error).reason == "BUDGET_SPENT"
                return None
            return events[-1].completed

        ends = [end for end in await asyncio.gather(*(one() for _ in range(200))) if end is not None]
        spent = sum(end.usage.input_tokens + end.usage.output_tokens for end in ends)
        assert limit - 2 * RESERVED < spent <= limit + RESERVED
        assert {end.finish_reason for end in ends} == {v1.FINISH_REASON_BUDGET}
        (level,) = (await LimitServiceStub(sidecar.channel).GetLimits(v1.GetLimitsRequest())).limits
        assert (level.remaining, level.reserved) == (max(0, limit - spent), 0)
