"""Where a request goes when a target cannot answer, how soon, and with what."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import RouteSettings, Target
from outrider.core.errors import TRAITS, Fault, GenerationError, Reason, Remedy
from outrider.policy.backoff import Backoff
from outrider.policy.breaker import State
from outrider.policy.course import Course
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, attempt_loop, context, text_of, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Call
    from outrider.policy.attempt import AttemptLoop

OUTCOME = v1.Attempt.Outcome.Name


def error(reason: Reason = Reason.PROVIDER_ERROR, retry_after: float | None = None) -> GenerationError:
    return GenerationError(reason, f"as scripted: {reason}", retry_after=retry_after)


def provider(name: str, *scripts: Sequence[object]) -> ScriptedProvider:
    return ScriptedProvider(*map(list, scripts), name=name)


async def collect(loop: AttemptLoop, call: RequestContext) -> list[Batch]:
    async with aclosing(loop(call)) as batches:
        return [batch async for batch in batches]


async def fails(loop: AttemptLoop, call: RequestContext) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        await collect(loop, call)
    return caught.value


def outcomes(call: RequestContext) -> list[str]:
    return [f"{a.provider}:{OUTCOME(a.outcome)[8:]}:{a.reason}" for a in call.record.attempts]


ELSEWHERE = [
    Reason.PROVIDER_CREDENTIALS_REFUSED,
    Reason.PROVIDER_QUOTA_SPENT,
    Reason.PROVIDER_NOT_CONFIGURED,
    Reason.PROVIDER_BUDGET_SPENT,
    Reason.RATE_LIMITED,
    Reason.LOAD_SHED,
    Reason.BREAKER_OPEN,
    Reason.MODEL_UNKNOWN,
]


@pytest.mark.parametrize("reason", ELSEWHERE)
def test_what_another_target_may_do_better_goes_there_at_once(reason: Reason) -> None:
    """One call, no wait, and both tries in the answer."""

    @paused
    async def run() -> None:
        dead, alive = provider("dead", [error(reason)]), provider("alive", ["ok", DONE])
        call, start = context("dead/m", "alive/m"), now()
        assert text_of(await collect(attempt_loop(upstream(dead), upstream(alive)), call)) == "ok"
        assert (len(dead.calls), now()) == (1, start)
        assert outcomes(call) == [f"dead:FAILED:{reason}", "alive:SUCCEEDED:"]

    run()


@pytest.mark.parametrize("reason", [each for each in Reason if TRAITS[each].remedy is Remedy.RETRY])
def test_every_failure_that_may_pass_ends_at_the_next_target(reason: Reason) -> None:
    """Once a target is used up, the next one is called without another wait."""

    @paused
    async def run() -> None:
        dead, alive = provider("dead", [error(reason)]), provider("alive", ["ok", DONE])
        call = context("dead/m", "alive/m")
        assert text_of(await collect(attempt_loop(upstream(dead), upstream(alive)), call)) == "ok"
        # Another timeout would use up the caller's time: no second one while others are left.
        assert len(dead.calls) == (1 if TRAITS[reason].timeout else 3)
        assert alive.called_at[0] == dead.called_at[-1]

    run()


@paused
async def test_a_rate_limit_pauses_the_target_for_everyone() -> None:
    """Retry-After: this request and all others go on to the next target at once; the breaker stays closed."""
    busy = provider("busy", [error(Reason.PROVIDER_RATE_LIMITED, 5)], ["back", DONE])
    guarded, start = upstream(busy), now()
    loop = attempt_loop(guarded, upstream(provider("alive", ["ok", DONE])))
    first, second = context("busy/m", "alive/m"), context("busy/m", "alive/m")
    assert text_of(await collect(loop, first)) == text_of(await collect(loop, second)) == "ok"
    assert outcomes(first) == ["busy:FAILED:PROVIDER_RATE_LIMITED", "alive:SUCCEEDED:"]
    assert outcomes(second) == ["busy:SKIPPED:PROVIDER_RATE_LIMITED", "alive:SUCCEEDED:"]
    assert (len(busy.calls), now()) == (1, start)
    assert guarded.breakers.of("m").state is State.CLOSED
    await asyncio.sleep(5)
    assert text_of(await collect(loop, context("busy/m", "alive/m"))) == "back"


@paused
async def test_a_pause_is_of_one_target_alone() -> None:
    """Another model of the same provider is called."""
    busy = provider("p", [error(Reason.PROVIDER_RATE_LIMITED, 500)], ["ok", DONE])
    loop = attempt_loop(upstream(busy, models=("m", "n")))
    await fails(loop, context("p/m"))
    assert text_of(await collect(loop, context("p/n"))) == "ok"


@paused
async def test_the_only_target_is_waited_for() -> None:
    """A request that finds it paused waits for as long as it asked, and that is no retry."""
    busy = provider("p", [error(Reason.PROVIDER_RATE_LIMITED, 5)], ["ok", DONE])
    loop, start = attempt_loop(upstream(busy, max_attempts=1, backoff=Backoff(0, 1, 0))), now()
    await fails(loop, context("p/m"))
    call = context("p/m")
    assert text_of(await collect(loop, call)) == "ok"
    assert now() - start == pytest.approx(5)
    assert call.record.waited == pytest.approx(5)
    assert outcomes(call) == ["p:SKIPPED:PROVIDER_RATE_LIMITED", "p:SUCCEEDED:"]


@pytest.mark.parametrize(("longest", "deadline"), [(4.0, 100.0), (60.0, 4.0)])
def test_a_pause_that_is_too_long_is_not_waited_for(longest: float, deadline: float) -> None:
    """Past max_retry_after or the deadline the caller hears at once, and when to come back."""

    @paused
    async def run() -> None:
        busy = provider("p", [error(Reason.PROVIDER_RATE_LIMITED, 5)])
        loop, start = attempt_loop(upstream(busy, max_retry_after=longest)), now()
        for _ in range(2):
            failure = await fails(loop, context("p/m", deadline=deadline))
            assert (failure.reason, failure.fact.retry_after) == (Reason.PROVIDER_RATE_LIMITED, 5)
        assert (len(busy.calls), now()) == (1, start)

    run()


@paused
async def test_an_absurd_pause_is_not_believed_for_ever() -> None:
    """A week is ten times the breaker's own pause at most; then the target is asked again."""
    busy = provider("p", [error(Reason.PROVIDER_RATE_LIMITED, 7 * 86_400)], ["ok", DONE])
    loop = attempt_loop(upstream(busy))
    await fails(loop, context("p/m"))
    await asyncio.sleep(300)
    assert text_of(await collect(loop, context("p/m"))) == "ok"


@paused
async def test_where_all_targets_rest_the_first_to_be_back_is_waited_for() -> None:
    """Not the last one of the plan: an answer comes as soon as any target can give one."""
    soon = provider("soon", [error(Reason.PROVIDER_RATE_LIMITED, 2)], ["ok", DONE])
    late = provider("late", [error(Reason.PROVIDER_RATE_LIMITED, 30)])
    call, start = context("soon/m", "late/m"), now()
    quick = Backoff(0, 1, 0)
    loop = attempt_loop(upstream(soon, backoff=quick), upstream(late, backoff=quick))
    assert text_of(await collect(loop, call)) == "ok"
    assert now() - start == pytest.approx(2)
    assert len(late.calls) == 1


@paused
async def test_a_target_that_was_waited_for_is_not_followed_by_those_that_were_tried() -> None:
    """Row 7: the plan is gone through once; the wait adds tries of one target, up to its limit."""
    busy = provider("busy", [error(Reason.PROVIDER_RATE_LIMITED, 1)], [error()])
    dead = provider("dead", [error()])
    call = context("busy/m", "dead/m")
    await fails(attempt_loop(upstream(busy), upstream(dead)), call)
    assert (len(busy.calls), len(dead.calls)) == (3, 3)


@paused
async def test_a_prompt_that_is_too_long_goes_where_more_fits() -> None:
    """Targets whose window is known to be no larger are passed over, also after a further failure."""
    too_long = error(Reason.CONTEXT_TOO_LONG)
    small, unknown = provider("small", [too_long]), provider("unknown", [too_long])
    broken, large = provider("broken", [error(Reason.PROVIDER_QUOTA_SPENT)]), provider("large", ["ok", DONE])
    same = provider("same", ["no", DONE])
    windows = {"small/m": 8_000, "same/m": 8_000, "broken/m": 9_000, "large/m": 200_000}
    loop = attempt_loop(*map(upstream, (small, unknown, broken, same, large)), windows=windows)
    call = context("small/m", "unknown/m", "same/m", "broken/m", "large/m")
    assert text_of(await collect(loop, call)) == "ok"
    assert [attempt.provider for attempt in call.record.attempts] == ["small", "unknown", "broken", "large"]


@paused
async def test_a_prompt_that_is_too_long_everywhere_is_the_callers() -> None:
    """Where every other window is known to be as small, nothing else is asked."""
    small, other = provider("small", [error(Reason.CONTEXT_TOO_LONG)]), provider("other", ["no", DONE])
    loop = attempt_loop(upstream(small), upstream(other), windows={"small/m": 8_000, "other/m": 8_000})
    assert (await fails(loop, context("small/m", "other/m"))).reason is Reason.CONTEXT_TOO_LONG
    assert other.calls == []


def filtering(name: str) -> ScriptedProvider:
    made = provider(name, [DONE])
    made.finish_reason = v1.FINISH_REASON_CONTENT_FILTER
    return made


def allowing(call: RequestContext, by: str) -> RequestContext:
    if by == "route":
        return replace(call, route=RouteSettings(on_content_filter=True))
    if by == "request":
        call.request.fallback.on_content_filter = True
    return call


@pytest.mark.parametrize("by", ["request", "route", "nobody"])
def test_a_withheld_answer_goes_on_only_where_that_is_allowed(by: str) -> None:
    """Else it is an answer, with its finish reason; the breaker holds nothing against the target."""

    @paused
    async def run() -> None:
        strict, other = filtering("strict"), provider("other", ["ok", DONE])
        call = allowing(context("strict/m", "other/m"), by)
        guarded = upstream(strict, breaker_failures=1)
        batches = await collect(attempt_loop(guarded, upstream(other)), call)
        assert text_of(batches) == ("" if by == "nobody" else "ok")
        if by == "nobody":
            assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
        else:
            assert outcomes(call) == ["strict:FAILED:CONTENT_FILTERED", "other:SUCCEEDED:"]
        assert guarded.breakers.of("m").state is State.CLOSED

    run()


@paused
async def test_the_last_target_may_withhold_its_answer() -> None:
    """With nobody left to ask, a filtered answer is the answer."""
    call = allowing(context("a/m", "b/m"), "request")
    batches = await collect(attempt_loop(upstream(filtering("a")), upstream(filtering("b"))), call)
    assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
    assert outcomes(call) == ["a:FAILED:CONTENT_FILTERED", "b:SUCCEEDED:"]


@paused
async def test_the_failure_that_may_pass_is_told() -> None:
    """A fallback without a key does not hide that the first target was only overloaded."""
    loop = attempt_loop(
        upstream(provider("busy", [error(Reason.PROVIDER_OVERLOADED)])),
        upstream(provider("keyless", [error(Reason.PROVIDER_NOT_CONFIGURED)])),
    )
    failure = await fails(loop, context("busy/m", "keyless/m"))
    assert (failure.reason, failure.fact.provider) == (Reason.PROVIDER_OVERLOADED, "busy")


@paused
async def test_each_model_has_its_own_breaker() -> None:
    """One broken model does not keep callers from another; made-up models share one."""
    broken = provider("p", [error()], [error()], ["ok", DONE])
    guarded = upstream(broken, models=("m", "n"), max_attempts=1, breaker_failures=1)
    loop = attempt_loop(guarded)
    await fails(loop, context("p/m"))
    assert (await fails(loop, context("p/m"))).reason is Reason.BREAKER_OPEN
    await fails(loop, context("p/made-up"))
    assert (await fails(loop, context("p/another"))).reason is Reason.BREAKER_OPEN
    assert text_of(await collect(loop, context("p/n"))) == "ok"
    assert sum(1 for _ in guarded.breakers) == 3


@paused
async def test_a_route_has_its_own_timeouts() -> None:
    """Row 35: its first-event timeout holds in place of the provider's."""
    slow, fast = provider("slow", [500.0]), provider("fast", ["ok", DONE])
    call = replace(context("slow/m", "fast/m"), route=RouteSettings(timeouts={"first_event": 2.0}))
    start = now()
    assert text_of(await collect(attempt_loop(upstream(slow, max_attempts=1), upstream(fast)), call)) == "ok"
    assert now() - start == pytest.approx(2)


FAILURES = st.sampled_from([each for each in Reason if each is not Reason.INTERNAL])
PLANS = st.lists(
    st.lists(st.tuples(FAILURES, st.sampled_from([None, 0.5, 3.0, 100.0])), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(PLANS, st.integers(1, 3), st.booleans(), st.integers(0, 2**32))
def test_any_failures_are_gone_through_in_order_and_within_bounds(
    plan: list[list[tuple[Reason, float | None]]], max_attempts: int, bounded: bool, seed: int
) -> None:
    """Row 7: targets first come up in the order of the plan, none more often than configured, and the end
    comes before the deadline; after what no target can mend nothing more is asked.
    """

    @paused
    async def run() -> None:
        providers = [
            provider(f"p{place}", *[[error(reason, wait)] for reason, wait in failures])
            for place, failures in enumerate(plan)
        ]
        upstreams = [upstream(each, max_attempts=max_attempts) for each in providers]
        names = [f"p{place}/m" for place in range(len(plan))]
        call, start = context(*names, deadline=20.0 if bounded else 10_000.0), now()
        failure = await fails(attempt_loop(*upstreams, seed=seed), call)
        asked = [a.provider for a in call.record.attempts if a.outcome != v1.Attempt.OUTCOME_SKIPPED]
        assert list(dict.fromkeys(asked)) == [f"p{place}" for place in range(len(set(asked)))]
        assert all(len(each.calls) <= max_attempts for each in providers)
        assert now() - start <= (20.0 if bounded else 10_000.0)
        final = [place for place, attempt in enumerate(call.record.attempts) if _ends(attempt.reason)]
        assert final in ([], [len(call.record.attempts) - 1])
        assert failure.fact.reason in {attempt.reason for attempt in call.record.attempts}

    run()


def _ends(reason: str) -> bool:
    known = Reason(reason)
    elsewhere = (Reason.CONTEXT_TOO_LONG, Reason.MODEL_UNKNOWN)
    return TRAITS[known].remedy is Remedy.NONE and known not in elsewhere


@given(st.integers(1, 12), st.floats(0.01, 5), st.floats(1, 4), st.floats(0.01, 20), st.integers(0, 2**32))
def test_backoff_lies_under_its_ceiling(
    retry: int, base: float, factor: float, cap: float, seed: int
) -> None:
    """Full jitter: between nothing and the exponential ceiling, which never passes the cap."""
    backoff = Backoff(base, factor, cap)
    assert 0 <= backoff.delay(retry, Random(seed)) <= backoff.ceiling(retry) <= cap
    assert backoff.ceiling(retry) <= backoff.ceiling(retry + 1)


@pytest.mark.parametrize(("names", "share"), [(["p"], 0.95), (["p", "q"], 0.995)])
def test_most_requests_survive_a_provider_that_fails_now_and_then(names: list[str], share: float) -> None:
    """With one failure in five, 50 requests a second for a minute: retries save most, a fallback nearly all.

    The budget for retries and the breakers are as configured by default.
    """

    class Flaky(ScriptedProvider):
        async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
            await asyncio.sleep(0.05)
            if dice.random() < 0.2:
                raise error(dice.choice([Reason.PROVIDER_OVERLOADED, Reason.STREAM_TRUNCATED]))
            async with aclosing(super().generate(call)) as batches:
                async for batch in batches:
                    yield batch

    dice = Random(7)

    @paused
    async def run() -> None:
        ends = [
            upstream(Flaky(["ok", DONE], name=name), retry_reserve=10, breaker_failures=20) for name in names
        ]
        loop, requests = attempt_loop(*ends), []
        for _ in range(3000):
            requests.append(asyncio.create_task(collect(loop, context(*(f"{name}/m" for name in names)))))
            await asyncio.sleep(0.02)
        ended = await asyncio.gather(*requests, return_exceptions=True)
        failed = sum(isinstance(each, GenerationError) for each in ended)
        assert 1 - failed / len(ended) >= share

    run()


@paused
async def test_the_decision_takes_no_time() -> None:
    """Under 1 ms of CPU, with a plan of 16 targets whose windows have to be looked at."""
    names = [f"p{place}" for place in range(16)]
    upstreams = {name: upstream(provider(name, ["x"])) for name in names}
    spent = []
    for _ in range(50):
        call = context(*(f"{name}/m" for name in names))
        course = Course(call, upstreams, lambda target: int(target.provider[1:]), now, Random(1))
        before = time.process_time()
        for _ in range(15):
            course.after(error(Reason.CONTEXT_TOO_LONG))
        spent.append((time.process_time() - before) / 15)
        assert course.target == Target("p15", "m")
    assert min(spent) < 0.001


@pytest.mark.parametrize("reason", Reason)
def test_breakers_count_what_is_the_providers_fault(reason: Reason) -> None:
    """Row 5: a breaker opens by failures of the provider; a caller's, the operator's and limits open none."""

    @paused
    async def run() -> None:
        guarded = upstream(provider("p", [error(reason)]), max_attempts=1, breaker_failures=1)
        await fails(attempt_loop(guarded), context("p/m"))
        opens = guarded.breakers.of("m").state is State.OPEN
        assert opens is TRAITS[reason].trips_breaker
        assert not opens or TRAITS[reason].fault is Fault.PROVIDER

    run()
