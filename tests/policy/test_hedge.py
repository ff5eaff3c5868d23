"""Two targets asked at the same time: who is quicker answers, and nothing is left of the other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Target, Unlimited
from outrider.core.errors import GenerationError, Reason
from outrider.core.quota import Grant, Rate, Unit
from outrider.core.spent import spent
from outrider.policy.account import Accountant
from outrider.policy.breaker import State
from outrider.policy.hedging import HedgePlan, Hedging
from outrider.policy.limit_rules import Rule
from outrider.policy.upstream import Timeouts
from outrider.telemetry.fan_out import FanOut
from tests.support.limited import Counter, ScriptedQuota, call, cost, limited
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, Watcher, attempt_loop, context, text_of, upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler, Observer
    from outrider.policy.upstream import Upstream

OUTCOME = v1.Attempt.Outcome.Name
P95 = 1.0  # of the targets called "a"


def provider(name: str, *scripts: Sequence[object]) -> ScriptedProvider:
    return ScriptedProvider(*map(list, scripts), name=name)


def learned(share: float = 1.0, *, wait: float = P95, earned: int = 10) -> Hedging:
    """Hedging that has seen twenty answers of "a/m", all after the same time."""
    names = [Target(name, "m") for name in "abc"]
    hedging = Hedging(HedgePlan(0.95, share, 20), names, now)
    for streaming in (True, False):
        hedging._waits[names[0], streaming].extend([wait] * 20)
    for _ in range(earned):
        hedging.patience(context("a/m", "b/m"))
    return hedging


def loop_of(*upstreams: Upstream, hedging: Hedging | None = None, watcher: Observer | None = None) -> Handler:
    hedging = hedging or learned()
    observer = FanOut(watcher or Watcher(), hedging)
    return attempt_loop(*upstreams, watcher=observer, hedging=hedging)


async def collect(handler: Handler, request: RequestContext) -> list[Batch]:
    async with aclosing(handler(request)) as batches:
        return [batch async for batch in batches]


def outcomes(request: RequestContext) -> list[str]:
    return [
        f"{a.provider}:{OUTCOME(a.outcome)[8:]}:{a.reason}{':hedge' if a.hedge else ''}"
        for a in request.record.attempts
    ]


def tasks() -> int:
    return len(asyncio.all_tasks())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_slow_start_is_overtaken(streaming: bool) -> None:
    """After its p95 the next target is asked too; it answers, the slow one is closed, both are on record."""

    @paused
    async def run() -> None:
        slow, quick = provider("a", [50.0, "late", DONE]), provider("b", [0.5, "quick", 3.0, " end", DONE])
        request, start, watcher = context("a/m", "b/m", streaming=streaming), now(), Watcher()
        batches = await collect(loop_of(upstream(slow), upstream(quick), watcher=watcher), request)
        assert text_of(batches) == "quick end"
        assert quick.called_at == [start + P95]
        assert now() - start == pytest.approx(P95 + 3.5)
        assert outcomes(request) == ["a:OUTRUN:", "b:SUCCEEDED::hedge"]
        assert [attempt.provider for attempt in watcher.attempts] == ["a", "b"]
        assert request.record.attempts[0].duration.ToMilliseconds() == pytest.approx(1500, abs=1)
        assert (request.record.provider, batches[0][0].started.provider) == ("b", "b")
        assert batches[0][0].started.attempt == 2
        assert (slow.closed, tasks()) == (1, 1)

    run()


@paused
async def test_the_first_target_may_still_win() -> None:
    """It began before the hedge did: the hedge is closed, and the record is the winner's."""
    slow, hedge = provider("a", [1.2, "first", 3.0, DONE]), provider("b", [1.0, "second", DONE])
    hedge.warnings = [v1.Warning(field="of the hedge")]
    request = context("a/m", "b/m")
    assert text_of(await collect(loop_of(upstream(slow), upstream(hedge)), request)) == "first"
    assert outcomes(request) == ["b:OUTRUN::hedge", "a:SUCCEEDED:"]
    assert (request.record.provider, request.record.warnings) == ("a", [])
    assert (hedge.closed, tasks()) == (1, 1)


@paused
async def test_a_target_in_its_usual_time_is_not_hedged() -> None:
    """Nobody else is asked; no task remains."""
    usual, other = provider("a", [0.9, "ok", DONE]), provider("b", ["no", DONE])
    assert text_of(await collect(loop_of(upstream(usual), upstream(other)), context("a/m", "b/m"))) == "ok"
    assert (other.calls, tasks()) == ([], 1)


@paused
async def test_both_in_the_same_moment_give_one_answer() -> None:
    """Whoever comes first in it wins; the answer is whole and of one provider."""
    first, second = provider("a", [2.0, "aaa", DONE]), provider("b", [1.0, "bbb", DONE])
    request = context("a/m", "b/m")
    assert text_of(await collect(loop_of(upstream(first), upstream(second)), request)) in {"aaa", "bbb"}
    assert sorted(a.outcome for a in request.record.attempts) == [
        v1.Attempt.OUTCOME_SUCCEEDED,
        v1.Attempt.OUTCOME_OUTRUN,
    ]
    assert tasks() == 1


@paused
async def test_a_hedge_that_fails_does_no_harm() -> None:
    """The first target goes on; its answer is the answer."""
    slow, bad = (
        provider("a", [5.0, "late", DONE]),
        provider("b", [GenerationError(Reason.INVALID_REQUEST, "")]),
    )
    request = context("a/m", "b/m")
    assert text_of(await collect(loop_of(upstream(slow), upstream(bad)), request)) == "late"
    assert outcomes(request) == ["b:FAILED:INVALID_REQUEST:hedge", "a:SUCCEEDED:"]


@paused
async def test_a_first_target_that_fails_leaves_the_answer_to_the_hedge() -> None:
    """It is waited for, without another try at the first one."""
    failing = provider("a", [2.0, GenerationError(Reason.PROVIDER_ERROR, "")])
    request = context("a/m", "b/m")
    hedge = provider("b", [5.0, "ok", DONE])
    assert text_of(await collect(loop_of(upstream(failing), upstream(hedge)), request)) == "ok"
    assert outcomes(request) == ["a:FAILED:PROVIDER_ERROR", "b:SUCCEEDED::hedge"]
    assert len(failing.calls) == 1


@paused
async def test_when_both_fail_the_plan_goes_on() -> None:
    """Row 7: tries of the hedge count: no target is asked more often than configured."""
    down = [2.0, GenerationError(Reason.PROVIDER_ERROR, "down")]
    first, second, third = provider("a", down), provider("b", down), provider("c", ["ok", DONE])
    request = context("a/m", "b/m", "c/m")
    assert text_of(await collect(loop_of(*map(upstream, (first, second, third))), request)) == "ok"
    assert (len(first.calls), len(second.calls)) == (3, 3)
    assert tasks() == 1


@paused
async def test_a_hedge_goes_to_the_next_target_that_is_well() -> None:
    """Neither a probe nor a place in a queue is used for it."""
    slow, third = provider("a", [50.0]), provider("c", ["ok", DONE])
    for unwell in ("open", "paused", "full"):
        second = upstream(provider("b", ["no", DONE]), breaker_failures=1, max_concurrency=1)
        breaker = second.breakers.of("m")
        if unwell == "open":
            breaker.failed(breaker.epoch)
        elif unwell == "paused":
            breaker.pause(100)
        else:
            await second.gate.enter(1)
        loop = loop_of(upstream(slow), second, upstream(third))
        assert text_of(await collect(loop, context("a/m", "b/m", "c/m"))) == "ok"


@pytest.mark.parametrize("after", [0.5, 1.5, 3.0])
def test_a_caller_that_leaves_ends_both(after: float) -> None:
    """Rows 1 and 11: before the hedge, beside it, in mid-answer: providers closed, permits back, no task."""

    @paused
    async def run() -> None:
        slow, hedge = provider("a", [50.0]), provider("b", [1.0, "x", 50.0])
        first, second = upstream(slow, max_concurrency=1), upstream(hedge, max_concurrency=1)
        request = context("a/m", "b/m")
        task = asyncio.create_task(collect(loop_of(first, second), request))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert (slow.closed, hedge.closed) == (1, len(hedge.calls))
        assert tasks() == 1
        await first.gate.enter(0)
        await second.gate.enter(0)
        ended = {"CANCELLED", "OUTRUN"}
        assert {outcome.split(":")[1] for outcome in outcomes(request)} <= ended

    run()


@paused
async def test_a_caller_that_does_not_read_is_ended_by_the_total() -> None:
    """Row 12: also where the answer began in another task than the one that waits for its caller."""
    limits = Timeouts(connect=1, first_event=50, idle=5, total=30)
    slow, hedge = provider("a", [50.0]), provider("b", ["x", "y", DONE])
    request, start = context("a/m", "b/m"), now()
    with pytest.raises(GenerationError) as caught:
        async with aclosing(loop_of(upstream(slow), upstream(hedge, timeouts=limits))(request)) as batches:
            async for _ in batches:
                await asyncio.sleep(10_000)
    assert (caught.value.reason, caught.value.committed) == (Reason.DEADLINE_EXCEEDED, True)
    assert now() - start == pytest.approx(P95 + 30)
    assert (hedge.closed, tasks()) == (1, 1)


@pytest.mark.parametrize("gap", [4.0, 6.0])
def test_idle_timeouts_hold_for_the_winner(gap: float) -> None:
    """Row 9: a stall after the first content is named, a pause within it is not."""

    @paused
    async def run() -> None:
        hedge = provider("b", ["x", gap, "y", DONE])
        loop = loop_of(upstream(provider("a", [500.0])), upstream(hedge))
        if gap < 5:
            assert text_of(await collect(loop, context("a/m", "b/m"))) == "xy"
        else:
            with pytest.raises(GenerationError) as caught:
                await collect(loop, context("a/m", "b/m"))
            assert caught.value.reason is Reason.IDLE_TIMEOUT
        assert tasks() == 1

    run()


@paused
async def test_time_in_the_sidecars_own_queue_is_not_the_targets() -> None:
    """The patience begins when the provider is asked, not while the caller's own limit is waited for."""
    usual, other = provider("a", [0.9, "ok", DONE]), provider("b", ["no", DONE])
    pipeline = limited(
        [Rule({"tenant": "*"}, [(Unit.REQUESTS, Rate(60, 60))])],
        ScriptedQuota(tenant=[Grant(5.5)]),
        upstream(usual),
        upstream(other),
        hedging=learned(),
    )
    assert text_of(await pipeline.answer(call("x", "a/m", "b/m"))) == "ok"
    assert other.calls == []


@paused
async def test_an_outrun_target_is_not_unwell() -> None:
    """Its breaker hears neither good nor bad of it."""
    slow = upstream(provider("a", [50.0]), breaker_failures=1)
    loop = loop_of(slow, upstream(provider("b", ["ok", DONE])))
    await collect(loop, context("a/m", "b/m"))
    assert slow.breakers.of("m").state is State.CLOSED
    assert slow.breakers.of("m").success_rate() is None


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([0.01, 0.05, 0.2, 1.0]), st.integers(1, 300))
def test_no_more_than_a_share_is_hedged(share: float, requests: int) -> None:
    """Whatever is slow: hedges stay within their share of the requests, from the first one on."""

    @paused
    async def run() -> None:
        hedge = provider("b", ["ok", DONE])
        loop = loop_of(
            upstream(provider("a", [5.0, "ok", DONE])), upstream(hedge), hedging=learned(share, earned=0)
        )
        for _ in range(requests):
            await collect(loop, context("a/m", "b/m"))
        assert len(hedge.calls) <= share * requests

    run()


@paused
async def test_what_is_slow_is_learned_from_each_targets_own_answers() -> None:
    """Nothing is hedged before there are enough of them; those that were outrun count as at least so slow."""
    targets = [Target("a", "m"), Target("b", "m")]
    hedging = Hedging(HedgePlan(0.95, 1.0, 20), targets, now)
    slow, hedge = provider("a", [3.0, "ok", 50.0, DONE]), provider("b", ["ok", DONE])
    patient = Timeouts(connect=1, first_event=100, idle=100, total=1000)
    loop = loop_of(upstream(slow, timeouts=patient), upstream(hedge), hedging=hedging)
    for _ in range(20):
        assert hedging.patience(context("a/m", "b/m")) is None
        await collect(loop, context("a/m", "b/m"))
    assert hedging.patience(context("a/m", "b/m")) == pytest.approx(3.0)
    assert hedging.patience(context("a/m", "b/m", streaming=False)) is None
    assert hedge.calls == []
    slow.scripts = [[9.0, "ok", DONE]]
    for _ in range(10):
        await collect(loop, context("a/m", "b/m"))
    assert hedging.patience(context("a/m", "b/m")) == pytest.approx(3.0)
    assert len(hedge.calls) == 10


class Hard(Unlimited):
    hard = True


@paused
async def test_what_is_never_hedged() -> None:
    """A plan of one target, a target that nobody configured, and a request under a hard budget."""
    hedging = learned()
    assert hedging.patience(context("a/m", "b/m")) == P95
    assert hedging.patience(context("a/m")) is None
    assert hedging.patience(context("a/made-up", "b/m")) is None
    assert hedging.patience(replace(context("a/m", "b/m"), reservation=Hard())) is None


@paused
async def test_a_withheld_answer_wins_no_race() -> None:
    """Where another target may be asked after a content filter, a quick refusal is not the answer."""
    strict = provider("b", [DONE])
    strict.finish_reason = v1.FINISH_REASON_CONTENT_FILTER
    request = context("a/m", "b/m")
    request.request.fallback.on_content_filter = True
    loop = loop_of(upstream(provider("a", [5.0, "ok", DONE])), upstream(strict))
    assert text_of(await collect(loop, request)) == "ok"


@paused
async def test_what_the_loser_may_cost_is_on_record() -> None:
    """Usage and cost are of the answer; what the other may bill is on its try and in the sum: an estimate."""
    watcher, hedging = Watcher(), learned()
    observer = FanOut(watcher, hedging)
    slow, hedge = provider("a", [50.0]), provider("b", ["four", DONE])
    hedge.usage = v1.Usage(input_tokens=7, output_tokens=1, source=v1.USAGE_SOURCE_PROVIDER)
    loop = attempt_loop(upstream(slow), upstream(hedge), watcher=observer, hedging=hedging)
    batches = await collect(Accountant(Counter(), cost, observer, now)(loop), context("a/m", "b/m"))
    completed = batches[-1][-1].completed
    assert completed.cost.total_nano_usd == 7 * 10 + 100
    first, second = completed.attempts
    assert (first.cost.total_nano_usd, second.HasField("cost")) == (70, False)
    assert first.usage == v1.Usage(input_tokens=7, source=v1.USAGE_SOURCE_ESTIMATED)
    (record,) = watcher.finished
    assert record.cost == completed.cost
    usage, whole = spent(record)
    assert usage == v1.Usage(input_tokens=14, output_tokens=1, source=v1.USAGE_SOURCE_ESTIMATED)
    assert whole is not None
    assert (whole.total_nano_usd, whole.estimated) == (7 * 10 + 100 + 70, True)


@pytest.mark.parametrize("quicker", ["a", "b"])
def test_both_tries_are_charged_to_their_providers(quicker: str) -> None:
    """The winner its prompt and answer, the loser its prompt; the caller both."""

    @paused
    async def run() -> None:
        store, hedging = ScriptedQuota(), learned()
        first = provider("a", [1.5 if quicker == "a" else 50.0, "four", DONE])
        second = provider("b", [1.0 if quicker == "a" else 0.1, "four", DONE])
        rules = [
            Rule({"provider": name}, [(Unit.REQUESTS, Rate(60, 60)), (Unit.TOKENS, Rate(600, 600))])
            for name in "ab"
        ]
        rules.append(Rule({"tenant": "*"}, [(Unit.TOKENS, Rate(600, 600))]))
        pipeline = limited(rules, store, upstream(first), upstream(second), hedging=hedging)
        await pipeline.answer(call("x", "a/m", "b/m"))
        await pipeline.reserver.aclose()
        assert store.unsettled() == set()
        used = {
            (settled.charges[0].meter.scope, charge.meter.unit): amount
            for settled in store.all("settle")
            for charge, amount in zip(settled.charges, settled.used, strict=True)
        }
        assert used[f"provider={quicker}", Unit.TOKENS] == 5 + 1
        other = "b" if quicker == "a" else "a"
        assert used[f"provider={other}", Unit.TOKENS] == 5
        assert used["tenant=", Unit.TOKENS] == 5 + 1 + 5
        assert used["provider=a", Unit.REQUESTS] == used["provider=b", Unit.REQUESTS] == 1

    run()


@paused
async def test_a_failed_race_is_forgotten_at_once() -> None:
    """Nothing keeps its prompt alive until the garbage collector comes."""

    class Attempts(list[v1.Attempt]):
        pass

    def down(reason: Reason) -> list[object]:
        return [2.0, GenerationError(reason, "down")]

    gc.disable()
    try:
        for won in (True, False):
            request = context("a/m", "b/m")
            request.record.attempts = Attempts()
            alive = weakref.ref(request.record.attempts)
            hedge = provider("b", ["ok", DONE] if won else down(Reason.INVALID_REQUEST))
            loop = loop_of(upstream(provider("a", down(Reason.PROVIDER_QUOTA_SPENT))), upstream(hedge))
            try:
                await collect(loop, request)
            except GenerationError:
                assert not won
            del request
            await asyncio.sleep(0)
            assert alive() is None
    finally:
        gc.enable()


STEPS = st.lists(
    st.sampled_from([0.3, 0.7, 1.1, 2.0, "x", GenerationError(Reason.PROVIDER_ERROR, ""), DONE]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, STEPS, st.one_of(st.none(), st.floats(0.1, 6)))
def test_any_race_gives_one_answer_or_one_error(
    first: list[object], second: list[object], leaves_after: float | None
) -> None:
    """Rows 6 and 11: whatever the two do and whenever the caller leaves: the text is of one provider, every
    stream is closed, every permit is back, no task is left.
    """

    @paused
    async def run() -> None:
        one, two = provider("a", [s if s != "x" else "a" for s in first]), provider("b", second)
        ends = [upstream(each, max_attempts=1, max_concurrency=1) for each in (one, two)]
        seen: list[Batch] = []

        async def read() -> None:
            async with aclosing(loop_of(*ends)(context("a/m", "b/m"))) as batches:
                async for batch in batches:
                    seen.append(batch)  # noqa: PERF401 - what came before an error counts

        try:
            async with asyncio.timeout(leaves_after):
                await read()
        except (GenerationError, TimeoutError):
            pass
        assert len(set(text_of(seen))) <= 1
        assert (one.closed, two.closed) == (len(one.calls), len(two.calls))
        assert tasks() == 1
        for end in ends:
            await end.gate.enter(0)

    run()
