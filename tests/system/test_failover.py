"""Failover, pauses, breakers and hedging over real sockets."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from outrider import v1
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub
from tests.support.answers import (
    body,
    html,
    json_body,
    openai_completion,
    openai_error,
    openai_events,
    openai_stream,
    silence,
    sse,
    stream,
    unending,
)
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Answer, Exchange, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sidecar import Running

ONCE = {"max_attempts": 1}
SAFE = {"safe": ["first/m", "second/m"]}
DOWN = json_body(openai_error("no", kind="server_error"), 500)
FAILURES: dict[str, Answer] = {
    "error event": stream(sse({"error": {"message": "busy", "code": 503}})),
    "error body": json_body(openai_error("no", kind="server_error")),
    "html": html(),
    "empty": body(b"", headers={"content-type": "text/event-stream"}),
    "server error": DOWN,
    "key refused": json_body(openai_error("bad key", "invalid_api_key"), 401),
    "rate limit": json_body(openai_error("slow down"), 429, {"retry-after": "30"}),
    "cut": unending([], "close"),
}


def outcomes(answer: list[v1.GenerateResponse]) -> list[str]:
    """Who was tried, and what came of it."""
    name = v1.Attempt.Outcome.Name
    return [f"{a.provider} {name(a.outcome)[8:]} {a.reason}" for a in answer[-1].completed.attempts]


async def failed(sidecar: Running, model: str) -> Failure:
    """How a request ends that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(sidecar.generation.Generate(ask(model)))
    return Failure.of(caught.value)


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_fallback_is_asked_at_once(tmp_path: Path, failure: str) -> None:
    """Rows 4 and 5: from the failure's last byte to the fallback's request it takes less than 50 ms."""
    ended: list[float] = []

    async def failing(exchange: Exchange) -> None:
        try:
            await FAILURES[failure](exchange)
        finally:
            ended.append(asyncio.get_running_loop().time())

    async with (
        Upstream(failing) as first,
        Upstream(openai_stream("fine")) as second,
        running(
            tmp_path,
            providers={
                "first": provider(first.url, attempts=ONCE),
                "second": provider(second.url),
            },
            routes=SAFE,
            breaker={"failures": 1000, "minimum": 1000},
        ) as sidecar,
    ):
        waits = []
        for _ in range(5):
            answer = await collect(sidecar.generation.Generate(ask("safe")))
            assert text(answer) == "fine"
            assert outcomes(answer)[-1] == "second SUCCEEDED "
            if len(ended) == len(second.requests):  # a rate limit pauses the target: it is asked once
                waits.append(second.requests[-1].at - ended[-1])
        # The quickest tells: on a busy machine the others measure that.
        assert min(waits) < 0.05


USED_UP = {
    "rate": {"requests_per_minute": 8, "max_wait": "60s"},
    "place": {"max_concurrency": 1, "max_wait": "60s"},
}


@pytest.mark.parametrize("limit", USED_UP)
async def test_a_target_that_is_used_up_is_not_waited_for(tmp_path: Path, limit: str) -> None:
    """From the call to the fallback's request it takes less than 50 ms: the first is not waited for."""
    async with (
        Upstream(unending(openai_events("a")[:1])) as first,
        Upstream(openai_stream("fine")) as second,
        running(
            tmp_path,
            providers={
                "first": provider(first.url, limits=USED_UP[limit]),
                "second": provider(second.url),
            },
            routes=SAFE,
        ) as sidecar,
    ):
        holding = sidecar.generation.Generate(ask("safe"))
        await holding.read()
        waits = []
        for _ in range(5):
            called_at = asyncio.get_running_loop().time()
            answer = await collect(sidecar.generation.Generate(ask("safe")))
            reason = "RATE_LIMITED" if limit == "rate" else "LOAD_SHED"
            assert outcomes(answer) == [f"first SKIPPED {reason}", "second SUCCEEDED "]
            waits.append(second.requests[-1].at - called_at)
        holding.cancel()
        assert min(waits) < 0.05  # as above
        assert len(first.requests) == 1


@pytest.mark.parametrize("freed", [0, 1])
async def test_where_all_places_are_taken_the_first_that_is_left_is_had(tmp_path: Path, freed: int) -> None:
    """Whichever of the two it is: the request stands in both queues."""
    begun = unending(openai_events("a")[:1])
    narrow = {"max_concurrency": 1, "max_wait": "60s"}
    async with (
        Upstream(begun, openai_stream("of first")) as first,
        Upstream(begun, openai_stream("of second")) as second,
        running(
            tmp_path,
            providers={name: provider(end.url, limits=narrow) for name, end in
                       (("first", first), ("second", second))},
            routes=SAFE,
        ) as sidecar,
    ):  # fmt: skip
        holding = []
        for _ in range(2):
            holding.append(sidecar.generation.Generate(ask("safe")))
            await holding[-1].read()
        waiting = asyncio.create_task(collect(sidecar.generation.Generate(ask("safe"))))
        shed = 'outrider_attempts_total{model="m",outcome="skipped",provider="second",reason="LOAD_SHED"}'
        while not await sidecar.counted(shed):
            assert not waiting.done()
        holding[freed].cancel()
        answer = await waiting
        name = ("first", "second")[freed]
        assert text(answer) == f"of {name}"
        skipped = [f"{each} SKIPPED LOAD_SHED" for each in ("first", "second")]
        assert outcomes(answer) == [*skipped, f"{name} SUCCEEDED "]
        holding[1 - freed].cancel()


async def test_metrics_name_a_provider_of_which_no_model_is_configured(tmp_path: Path) -> None:
    """With the pause that it has asked for, in seconds, while its breaker is closed."""
    async with (
        Upstream(FAILURES["rate limit"]) as upstream,
        running(
            tmp_path, providers={"p": provider(upstream.url, default_model=None, attempts=ONCE)}
        ) as sidecar,
    ):
        assert (await failed(sidecar, "p/any")).reason == "PROVIDER_RATE_LIMITED"
        target = 'model="other",outcome="failed",provider="p",reason="PROVIDER_RATE_LIMITED"'
        assert await sidecar.counted(f"outrider_attempts_total{{{target}}}") == 1
        pause = await sidecar.counted('outrider_target_pause_seconds{model="other",provider="p"}')
        assert 20 < pause <= 30


@pytest.mark.parametrize("failure", ["error event", "error body", "html", "empty", "cut"])
async def test_whatever_is_no_answer_counts_for_the_breaker(tmp_path: Path, failure: str) -> None:
    """Rows 4 and 5: under status 200 too; the target is then left alone, and another model of it is not."""
    async with (
        Upstream(FAILURES[failure], FAILURES[failure], openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, attempts=ONCE, models=["n"])},
            breaker={"failures": 2, "open_for": 60},
        ) as sidecar,
    ):
        for _ in range(2):
            await failed(sidecar, "p/m")
        assert (await failed(sidecar, "p/m")).reason == "BREAKER_OPEN"
        assert len(upstream.requests) == 2
        assert text(await collect(sidecar.generation.Generate(ask("p/n")))) == "fine"
        assert await sidecar.counted('outrider_breaker_state{model="m",provider="p"}') == 2
        assert await sidecar.counted('outrider_breaker_state{model="n",provider="p"}') == 0


async def test_an_error_after_a_delta_is_not_mended(tmp_path: Path) -> None:
    """Row 4: ABORTED with the provider's reason; the fallback hears nothing."""
    cut = stream([*openai_events("a")[:1], *sse({"error": {"message": "busy", "code": 503}})])
    async with (
        Upstream(cut) as first,
        Upstream(openai_stream("fine")) as second,
        running(
            tmp_path,
            providers={"first": provider(first.url), "second": provider(second.url)},
            routes=SAFE,
        ) as sidecar,
    ):
        failure = await failed(sidecar, "safe")
        assert failure.code is grpc.StatusCode.ABORTED
        assert (len(first.requests), second.requests) == (1, [])


async def test_a_rate_limit_is_heard_by_all_requests(tmp_path: Path) -> None:
    """One 429 with Retry-After: none of the next twenty requests goes there, and its breaker is closed."""
    async with (
        Upstream(FAILURES["rate limit"]) as first,
        Upstream(openai_stream("fine")) as second,
        running(
            tmp_path,
            providers={"first": provider(first.url), "second": provider(second.url)},
            routes=SAFE,
        ) as sidecar,
    ):
        answers = [await collect(sidecar.generation.Generate(ask("safe"))) for _ in range(20)]
        assert len(first.requests) == 1
        assert outcomes(answers[0])[0] == "first FAILED PROVIDER_RATE_LIMITED"
        assert {outcomes(answer)[-1] for answer in answers} == {"second SUCCEEDED "}
        listed = await sidecar.providers.ListProviders(v1.ListProvidersRequest())
        (target,) = listed.providers[0].targets
        assert target.state == v1.TARGET_STATE_PAUSED
        assert 20 < target.until.ToNanoseconds() / 1e9 - time.time() <= 30
        assert listed.providers[0].status == v1.PROVIDER_STATUS_SERVING


async def test_targets_are_listed_with_how_they_fare(tmp_path: Path) -> None:
    """Per target: state, share of successes, until when; models that nobody configured come together."""
    async with (
        Upstream(openai_stream("fine"), DOWN, openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, attempts=ONCE, models=["n"])},
            breaker={"failures": 1, "open_for": 60},
        ) as sidecar,
    ):
        await collect(sidecar.generation.Generate(ask("p/m")))
        await failed(sidecar, "p/m")
        await collect(sidecar.generation.Generate(ask("p/made-up")))
        listed = await sidecar.providers.ListProviders(v1.ListProvidersRequest())
        first, second, others = listed.providers[0].targets
    assert (first.model, first.state, first.success_rate) == ("m", v1.TARGET_STATE_OPEN, 0.5)
    assert 50 < first.until.ToNanoseconds() / 1e9 - time.time() <= 60
    assert (second.model, second.state, second.HasField("success_rate")) == (
        "n",
        v1.TARGET_STATE_CLOSED,
        False,
    )
    assert (others.model, others.success_rate, others.HasField("until")) == ("", 1.0, False)


async def test_a_withheld_answer_may_go_on(tmp_path: Path) -> None:
    """Where the request says so the next target answers, in both forms of a filter."""
    refusals = {
        "finish reason": stream(openai_events(finish="content_filter")),
        "error": json_body(openai_error("no", "content_filter"), 400),
    }
    for refusal in refusals.values():
        async with (
            Upstream(refusal) as first,
            Upstream(openai_stream("fine")) as second,
            running(
                tmp_path,
                providers={"first": provider(first.url), "second": provider(second.url)},
                routes=SAFE,
            ) as sidecar,
        ):
            plain = await collect(sidecar.generation.Generate(ask("safe")))
            assert plain[-1].completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
            allowing = ask("safe", fallback=v1.FallbackOptions(on_content_filter=True))
            answer = await collect(sidecar.generation.Generate(allowing))
            assert text(answer) == "fine"
            assert outcomes(answer) == ["first FAILED CONTENT_FILTERED", "second SUCCEEDED "]


HEDGING = {"enabled": True, "min_samples": 5, "max_share": 1.0}


def quick(exchange_of: str) -> Answer:
    return openai_stream("quick") if exchange_of == "Generate" else openai_completion("quick")


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("method", ["Generate", "Complete"])
async def test_a_slow_target_is_hedged(tmp_path: Path, method: str, transport: str) -> None:
    """The second one answers within moments; the loser's socket closes within 250 ms, none of it is left."""
    answers = [quick(method)] * 6 + [silence]
    async with (
        Upstream(*answers) as first,
        Upstream(quick(method)) as second,
        running(
            tmp_path,
            providers={
                "openai": provider(first.url, transport=transport),
                "second": provider(second.url, transport="direct"),
            },
            routes={"safe": ["openai/m", "second/m"]},
            hedging=HEDGING,
        ) as sidecar,
    ):

        async def answer() -> v1.Completed:
            if method == "Generate":
                return (await collect(sidecar.generation.Generate(ask("safe"), timeout=5)))[-1].completed
            request = v1.CompleteRequest(request=ask("safe"))
            return (await sidecar.generation.Complete(request, timeout=5)).completed

        for _ in range(6):
            assert (await answer()).attempts[-1].outcome == v1.Attempt.OUTCOME_SUCCEEDED
        stalled = len(first.connections)
        completed = await answer()
        answered_at = asyncio.get_running_loop().time()
        loser = first.requests[-1].connection
        assert await loser.closed(within=2) - answered_at < 0.25
        outrun, won = completed.attempts[-2:]
        assert (outrun.provider, outrun.outcome) == ("openai", v1.Attempt.OUTCOME_OUTRUN)
        assert (won.provider, won.outcome, won.hedge) == ("second", v1.Attempt.OUTCOME_SUCCEEDED, True)
        assert stalled <= len(first.connections)
        won_series = 'outrider_hedges_total{model="m",outcome="succeeded",provider="second"}'
        assert await sidecar.counted(won_series) >= 1
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "attempt" not in names


async def test_what_the_loser_of_a_race_may_cost_is_counted(tmp_path: Path) -> None:
    """In the ledger and the caller's budget, as an estimate; usage and cost of the answer stay its own."""
    budget = {"scope": {"tenant": "*"}, "usd": 1, "period": "day", "hard": False}
    async with (
        Upstream(*[openai_stream("quick")] * 5, silence) as first,
        Upstream(openai_stream("quick")) as second,
        running(
            tmp_path,
            providers={"first": provider(first.url), "second": provider(second.url)},
            routes=SAFE,
            hedging=HEDGING,
            prices={"first/m": {"input": 1, "output": 10}, "second/m": {"input": 2, "output": 10}},
            budgets=[budget],
        ) as sidecar,
    ):
        cost = 0
        while True:
            completed = (await collect(sidecar.generation.Generate(ask("safe"))))[-1].completed
            cost += completed.cost.total_nano_usd
            lost = [each for each in completed.attempts if each.HasField("usage")]
            cost += sum(each.cost.total_nano_usd for each in lost)
            if lost and lost[0].provider == "first":
                break
        assert completed.cost.total_nano_usd == 9 * 2_000 + 3 * 10_000
        assert (lost[0].usage.input_tokens, lost[0].usage.source) == (9, v1.USAGE_SOURCE_ESTIMATED)
        assert lost[0].cost.total_nano_usd == 9 * 1_000
        limits = LimitServiceStub(sidecar.channel)
        async with asyncio.timeout(5):
            told = await limits.GetLimits(v1.GetLimitsRequest())
            while told.limits[0].reserved:
                told = await limits.GetLimits(v1.GetLimitsRequest())
        assert told.limits[0].remaining == 10**9 - cost
        ledger, requests = UsageServiceStub(sidecar.channel), len(first.requests)
        async with asyncio.timeout(5):
            total = (await ledger.GetUsage(v1.GetUsageRequest())).total
            while total.requests < requests:
                total = (await ledger.GetUsage(v1.GetUsageRequest())).total
        assert (total.cost.total_nano_usd, total.cost.estimated) == (cost, True)


async def test_a_caller_that_leaves_a_race_closes_both_sockets(tmp_path: Path) -> None:
    """Row 1: within 250 ms, before either has begun to answer."""
    async with (
        Upstream(*[openai_stream("quick")] * 6, silence) as first,
        Upstream(silence) as second,
        running(
            tmp_path,
            providers={"first": provider(first.url), "second": provider(second.url)},
            routes=SAFE,
            hedging=HEDGING,
        ) as sidecar,
    ):
        for _ in range(6):
            await collect(sidecar.generation.Generate(ask("safe")))
        call = sidecar.generation.Generate(ask("safe"))
        await second.received(within=5)
        left_at = asyncio.get_running_loop().time()
        call.cancel()
        for loser in (first.requests[-1].connection, second.requests[-1].connection):
            assert await loser.closed(within=2) - left_at < 0.25
