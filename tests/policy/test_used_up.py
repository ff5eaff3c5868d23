"""Targets whose own limits are used up: who is asked in their place, and who is waited for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import GenerationError, Reason
from outrider.core.quota import Charge, Concurrency, Grant, Period, Rate, Unit, Window
from outrider.policy.backoff import Backoff
from outrider.policy.cache import Cache
from outrider.policy.cache_rules import CacheMode, CachePlan, CacheRules
from outrider.policy.hedging import HedgePlan, Hedging
from outrider.policy.limit_rules import LimitBook, Rule, Values
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.tiered_answers import TieredAnswers
from tests.support.limited import ScriptedQuota, call, cost, limited, memory
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, text_of, upstream

if TYPE_CHECKING:
    from outrider.core.context import RequestContext
    from tests.support.limited import Limited

OUTCOME = v1.Attempt.Outcome.Name
EPSILON = 1e-6  # seconds


def provider(name: str, *scripts: list[object]) -> ScriptedProvider:
    return ScriptedProvider(*(scripts or (["ok", DONE],)), name=name)


def rate(name: str, per_minute: float, burst: float = 1) -> Rule:
    return Rule({"provider": name}, ((Unit.REQUESTS, Rate(per_minute, burst)),))


def places(name: str, limit: int) -> Rule:
    return Rule({"provider": name}, ((Unit.CONCURRENT_REQUESTS, Concurrency(limit)),))


def outcomes(request: RequestContext) -> list[str]:
    return [f"{a.provider}:{OUTCOME(a.outcome)[8:]}:{a.reason}" for a in request.record.attempts]


async def refused(pipeline: Limited, request: RequestContext) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        await pipeline.answer(request)
    return caught.value


@paused
async def test_the_next_target_is_asked_at_once() -> None:
    """Whatever of the first one is used up: rate, tokens, places, its gate. Each is on record as skipped."""
    ten = provider("p", [10.0, "ok", DONE])
    for rule, reason in [
        (rate("p", 6), "RATE_LIMITED"),
        (Rule({"model": "p/m"}, ((Unit.TOKENS, Rate(600, 105)),)), "RATE_LIMITED"),
        (places("p", 1), "RATE_LIMITED"),
        (None, "LOAD_SHED"),
    ]:
        narrow = upstream(ten, max_concurrency=1 if rule is None else 100)
        rules = [rule] if rule else [rate("p", 6000, 100)]
        store = memory()
        pipeline, start = limited(rules, store, narrow, upstream(provider("q"))), now()
        first = asyncio.create_task(pipeline.answer(call("first", "p/m", "q/m")))
        await asyncio.sleep(0)
        request = call("a", "p/m", "q/m")
        assert text_of(await pipeline.answer(request)) == "ok"
        assert now() == start
        assert outcomes(request) == [f"p:SKIPPED:{reason}", "q:SUCCEEDED:"]
        assert request.record.waited == 0
        await first
        await pipeline.reserver.aclose()


@paused
async def test_it_takes_one_round_trip_for_each_target() -> None:
    """The caller's limits and the first target are asked together, the next one when that is refused."""
    store, other = ScriptedQuota(latency=0.01, provider=[5.0]), provider("q")
    rules = [Rule({"tenant": "*"}, ((Unit.REQUESTS, Rate(60, 10)),)), rate("p", 60), rate("q", 60)]
    pipeline, start = limited(rules, store, upstream(provider("p")), upstream(other)), now()
    await pipeline.answer(call("a", "p/m", "q/m"))
    assert [round(asked.at - start, 6) for asked in store.all("reserve")] == [0, 0, 0.01]
    assert other.called_at == [pytest.approx(start + 0.02)]
    await pipeline.reserver.aclose()
    assert {asked.holder: asked.used for asked in store.all("settle")} == {"a": [1], "a:2": [1]}


@paused
async def test_what_a_skipped_target_had_granted_is_given_back() -> None:
    """Its gate was full: neither its rate nor its place is used."""
    store, narrow = memory(), upstream(provider("p"), max_concurrency=1)
    await narrow.gate.enter(0)
    rules = [rate("p", 60, 5), places("p", 5)]
    pipeline = limited(rules, store, narrow, upstream(provider("q")))
    await pipeline.answer(call("a", "p/m", "q/m"))
    await pipeline.reserver.aclose()
    meters = LimitBook(rules).of_target(Values(), Target("p", "m")).all
    assert [level.remaining for level in await store.levels(meters)] == [5]


@paused
async def test_where_others_stand_in_line_nobody_is_asked() -> None:
    """Whoever can go elsewhere goes, without a question to the store."""
    store = ScriptedQuota(provider=[0.2] * 4)
    rules = [places("p", 1)]
    pipeline = limited(rules, store, upstream(provider("p")), upstream(provider("q")))
    waiting = asyncio.create_task(pipeline.answer(call("waits", "p/m")))
    await asyncio.sleep(0.005)
    request = call("a", "p/m", "q/m")
    await pipeline.answer(request)
    assert outcomes(request) == ["p:SKIPPED:RATE_LIMITED", "q:SUCCEEDED:"]
    await waiting
    assert {asked.holder for asked in store.all("reserve")} == {"waits:1"}


@paused
async def test_limits_of_the_caller_are_waited_for() -> None:
    """No other target would help; the first one of the plan is asked then."""
    first, start = provider("p"), now()
    rules = [Rule({"tenant": "*"}, ((Unit.REQUESTS, Rate(6, 1)),))]
    pipeline = limited(rules, memory(), upstream(first), upstream(provider("q")))
    for name in "ab":
        await pipeline.answer(call(name, "p/m", "q/m"))
    assert first.called_at == [start, start + 10]


@paused
async def test_a_place_of_the_caller_is_waited_for_beside_a_target_that_is_used_up() -> None:
    """Then the next target is asked, as the first one still has no room."""
    start = now()
    rules = [Rule({"tenant": "*"}, ((Unit.CONCURRENT_REQUESTS, Concurrency(1)),)), rate("p", 1)]
    other = provider("q")
    pipeline = limited(rules, memory(), upstream(provider("p", [3.0, "ok", DONE])), upstream(other))
    first = asyncio.create_task(pipeline.answer(call("a", "p/m", "q/m")))
    await asyncio.sleep(1)
    request = call("b", "p/m", "q/m")
    await pipeline.answer(request)
    await first
    assert other.called_at == [start + 3]
    assert request.record.waited == pytest.approx(2)


@paused
async def test_where_all_are_used_up_the_soonest_is_waited_for() -> None:
    """Not the first of the plan, nor the last; the last request by who has room before the others do."""
    ends = [provider(name) for name in "pqr"]
    rules = [rate("p", 6), rate("q", 20), rate("r", 8)]
    pipeline, start = limited(rules, memory(), *map(upstream, ends)), now()
    requests = [call(str(number), "p/m", "q/m", "r/m") for number in range(6)]
    await asyncio.gather(*map(pipeline.answer, requests))
    called = {end.name: [at - start for at in end.called_at] for end in ends}
    assert called == {"p": [0], "q": [0, pytest.approx(3), pytest.approx(6)], "r": [0, pytest.approx(7.5)]}
    skipped = [f"{name}:SKIPPED:RATE_LIMITED" for name in "pqr"]
    assert outcomes(requests[3]) == [*skipped, "q:SUCCEEDED:"]
    assert requests[3].record.waited == pytest.approx(3)
    assert requests[3].record.attempts[-1].waited.ToMilliseconds() == pytest.approx(3000, abs=1)
    await pipeline.reserver.aclose()


@pytest.mark.parametrize("kind", ["places", "gates"])
def test_whichever_is_free_first_takes_the_request(kind: str) -> None:
    """Nobody knows before which one that is: the request stands in both lines, and leaves the other."""

    @paused
    async def run() -> None:
        most = 1 if kind == "gates" else 100
        rules = [places("p", 1), places("q", 1)] if kind == "places" else [rate("p", 6000, 100)]
        slow = provider("p", [9.0, "slow", DONE])
        quick = provider("q", [1.0, "quick", DONE])
        store = memory()
        ends = [upstream(each, max_concurrency=most) for each in (slow, quick)]
        pipeline, start = limited(rules, store, *ends, max_wait=20), now()
        requests = [call(str(number), "p/m", "q/m") for number in range(5)]
        await asyncio.gather(*map(pipeline.answer, requests))
        assert [at - start for at in slow.called_at] == [0]
        assert [at - start for at in quick.called_at] == [pytest.approx(each) for each in range(4)]
        assert [request.record.waited for request in requests] == [pytest.approx(n) for n in (0, 0, 1, 2, 3)]
        await pipeline.reserver.aclose()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        for end in ends:
            await end.gate.enter(0)

    run()


@paused
async def test_a_target_whose_time_has_come_is_asked_beside_a_line() -> None:
    """A place may take long: a rate that said when it has room is asked then."""
    rate_limited, start = provider("q"), now()
    rules = [places("p", 1), rate("q", 20)]
    pipeline = limited(rules, memory(), upstream(provider("p", [500.0, DONE])), upstream(rate_limited))
    stuck = asyncio.create_task(pipeline.answer(call("stuck", "p/m")))
    await asyncio.sleep(0)
    await pipeline.answer(call("a", "p/m", "q/m"))
    await pipeline.answer(call("b", "p/m", "q/m"))
    assert rate_limited.called_at == [start, pytest.approx(start + 3)]
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await pipeline.reserver.aclose()


@paused
async def test_a_paused_target_and_one_that_is_used_up_are_waited_for_together() -> None:
    """The provider's own pause ends first, and so it answers."""
    busy = provider("p", [GenerationError(Reason.PROVIDER_RATE_LIMITED, "", retry_after=2)], ["back", DONE])
    pipeline, start = (
        limited([rate("q", 10)], memory(), upstream(busy, backoff=Backoff(0, 1, 0)), upstream(provider("q"))),
        now(),
    )
    await pipeline.answer(call("a", "p/m", "q/m"))
    request = call("b", "p/m", "q/m")
    assert text_of(await pipeline.answer(request)) == "back"
    assert now() - start == pytest.approx(2)
    assert outcomes(request) == [
        "p:SKIPPED:PROVIDER_RATE_LIMITED", "q:SKIPPED:RATE_LIMITED", "p:SUCCEEDED:"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("max_wait", "deadline", "waits"), [(4.0, 100.0, 4.0), (50.0, 3.0, 0.0), (0.0, 9.0, 0.0)]
)
def test_nobody_is_waited_for_beyond_the_patience(max_wait: float, deadline: float, waits: float) -> None:
    """Places that do not come are given up once, for all targets together; a rate that is later at once."""

    @paused
    async def run() -> None:
        rules = [places("p", 1), rate("q", 1)] if deadline > 3 else [rate("p", 1), rate("q", 1)]
        ends = [upstream(provider("p", [500.0, DONE])), upstream(provider("q", [500.0, DONE]))]
        pipeline = limited(rules, memory(), *ends, max_wait=max_wait)
        stuck = [asyncio.create_task(pipeline.answer(call(name, f"{name}/m"))) for name in "pq"]
        await asyncio.sleep(0)
        start, request = now(), call("a", "p/m", "q/m", deadline=deadline)
        error = await refused(pipeline, request)
        assert error.reason is Reason.RATE_LIMITED
        assert now() - start == pytest.approx(waits)
        assert len(request.record.attempts) == (3 if waits else 2)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await pipeline.reserver.aclose()

    run()


@paused
async def test_a_single_target_that_is_in_time_is_waited_for() -> None:
    """Those that would be free after the deadline, or may not be asked again, are no reason to go round."""
    start, wanted = now(), provider("p")
    resting = provider("r", [GenerationError(Reason.PROVIDER_RATE_LIMITED, "", retry_after=900)])
    ends = [upstream(wanted), upstream(provider("q")), upstream(resting)]
    pipeline = limited([rate("p", 30), rate("q", 10)], memory(), *ends)
    for name in ("first", "second"):
        await pipeline.answer(call(name, "p/m", "q/m"))
    await pipeline.answer(call("a", "p/m", "q/m", "r/m", deadline=4))
    assert wanted.called_at == [start, pytest.approx(start + 2)]


@paused
async def test_a_turn_that_somebody_else_has_taken_is_not_waited_for_in_vain() -> None:
    """Told two seconds, it would now be four: the other one is free before, and is reserved alone."""
    store = ScriptedQuota(provider=[2.0, 3.0, 4.0, Grant(3.0)])
    first, second, start = provider("p"), provider("q"), now()
    pipeline = limited([rate("p", 30), rate("q", 20)], store, upstream(first), upstream(second))
    await pipeline.answer(call("a", "p/m", "q/m"))
    asked = [(each.charges[0].meter.scope[-1], each.patience) for each in store.all("reserve")]
    assert asked == [("p", 0), ("q", 0), ("p", pytest.approx(3, abs=0.01)), ("q", pytest.approx(4, abs=0.01))]
    assert (first.called_at, second.called_at) == ([], [pytest.approx(start + 3)])


@paused
async def test_two_that_are_always_taken_by_others_are_not_asked_for_ever() -> None:
    """Of those that are free at the same time one is asked for its turn then, and each once for any turn."""
    store = ScriptedQuota(provider=[2.0] * 4 + [Grant(2.0)])
    pipeline = limited(
        [rate("p", 30), rate("q", 30)], store, upstream(provider("p")), upstream(provider("q"))
    )
    assert text_of(await pipeline.answer(call("a", "p/m", "q/m"))) == "ok"
    assert [round(each.patience) for each in store.all("reserve")] == [0, 0, 2, 10, 10]


@paused
async def test_a_quota_of_a_day_is_not_waited_for() -> None:
    """Neither is a request that a limit could never let in: both are asked once."""
    store = memory()
    rules = [
        Rule({"provider": "p"}, ((Unit.REQUESTS, Window(1, Period.DAY)),)),
        Rule({"provider": "q"}, ((Unit.TOKENS, Rate(60, 60)),)),
    ]
    pipeline = limited(rules, store, upstream(provider("p")), upstream(provider("q")), max_wait=10**6)
    await pipeline.answer(call("a", "p/m"))
    start, request = now(), call("b", "p/m", "q/m", max_output_tokens=100)
    assert (await refused(pipeline, request)).reason is Reason.RATE_LIMITED
    assert now() == start
    assert outcomes(request) == ["p:SKIPPED:RATE_LIMITED", "q:SKIPPED:RATE_LIMITED"]


@paused
async def test_a_target_that_was_waited_for_and_failed_makes_way_for_the_others() -> None:
    """Its retries come first, as always; skips are no tries. Then the next line is stood in."""
    down = provider("p", [GenerationError(Reason.PROVIDER_QUOTA_SPENT, "no")])
    rules = [rate("p", 30), rate("q", 20)]
    store = memory()
    pipeline = limited(rules, store, upstream(down), upstream(provider("q")))
    await pipeline.answer(call("first", "p/m", "q/m"))
    start, request = now(), call("a", "p/m", "q/m")
    assert text_of(await pipeline.answer(request)) == "ok"
    assert outcomes(request)[2:] == ["p:FAILED:PROVIDER_QUOTA_SPENT", "q:SUCCEEDED:"]
    assert now() - start == pytest.approx(3)


@paused
async def test_a_request_that_was_skipped_may_be_retried_as_often() -> None:
    """A wait for a limit takes none of the tries of its target."""
    flaky = provider("p", *[[GenerationError(Reason.PROVIDER_ERROR, "")]] * 2, ["ok", DONE])
    rules, store = [rate("p", 600), rate("q", 1)], memory()
    pipeline = limited(
        rules,
        store,
        upstream(flaky, backoff=Backoff(0, 1, 0)),
        upstream(provider("q")),
    )
    for name in "pq":
        (meter,) = LimitBook(rules).of_target(Values(), Target(name, "m")).all
        await store.reserve(name, [Charge(meter, 1)], 0)
    request = call("a", "p/m", "q/m")
    assert text_of(await pipeline.answer(request)) == "ok"
    assert [o for o in outcomes(request) if "SKIPPED" not in o] == ["p:FAILED:PROVIDER_ERROR"] * 2 + [
        "p:SUCCEEDED:"
    ]


@paused
async def test_passing_over_a_target_takes_under_a_millisecond() -> None:
    """Of CPU, all that belongs to it included: asking the store, the record of the try, going on."""
    names = [f"p{place}" for place in range(16)]
    rules, store = [rate(name, 1) for name in names[:-1]], memory()
    for name in names[:-1]:
        (meter,) = LimitBook(rules).of_target(Values(), Target(name, "m")).all
        await store.reserve(name, [Charge(meter, 1)], 0)
    pipeline = limited(rules, store, *(upstream(provider(name)) for name in names))
    taken, start = [], now()
    for number in range(50):
        request = call(str(number), *(f"{name}/m" for name in names))
        before = time.process_time()
        await pipeline.answer(request)
        taken.append((time.process_time() - before) / len(request.record.attempts))
        assert len(request.record.attempts) == 16
    assert now() == start
    # The quickest tells: on a busy machine the others measure that.
    assert min(taken) < 0.001


@paused
async def test_what_many_ask_for_waits_in_the_lines_of_whoever_pays() -> None:
    """A flight stands in both lines; when its payer leaves, the next one does, under limits of its own."""
    rules, store = [places("p", 1), places("q", 1)], memory()
    ends = [upstream(provider("p", [50.0, DONE])), upstream(provider("q", [9.0, DONE], ["ok", DONE]))]
    pipeline = limited(rules, store, *ends, inside=[_cache()], max_wait=100)
    others = [call(name, f"{name}/m") for name in "pq"]
    for number, other in enumerate(others):
        other.request.sampling.seed = number
    stuck = [asyncio.create_task(pipeline.answer(other)) for other in others]
    await asyncio.sleep(0)
    shared = [call(name, "p/m", "q/m") for name in ("first", "second")]
    first, second = (asyncio.create_task(pipeline.answer(request)) for request in shared)
    await asyncio.sleep(3)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    start = now()
    assert text_of(await second) == "ok"
    assert now() - start == pytest.approx(6)
    assert outcomes(shared[1])[-1] == "q:SUCCEEDED:"
    stuck[0].cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    await pipeline.reserver.aclose()
    meters = [LimitBook(rules).of_target(Values(), Target(name, "m")).all[0] for name in "pq"]
    assert [level.remaining for level in await store.levels(meters)] == [1, 1]


def _cache() -> Cache:
    answers = TieredAnswers(MemoryAnswers(100_000, now))
    plan = CachePlan(CacheRules(CacheMode.ALWAYS, ttl=0.001), {})
    return Cache(answers, plan, price=cost, clock=now, wall=now)


@pytest.mark.parametrize("after", [1.0, 4.0])
def test_who_leaves_the_lines_gives_everything_back(after: float) -> None:
    """Before any let it in, and just as one did; no task is left, and the next one is let in."""

    @paused
    async def run() -> None:
        store, rules = memory(), [rate("p", 15), places("q", 1)]
        ends = [upstream(provider("p", [1.0, "ok", DONE])), upstream(provider("q", [50.0, DONE]))]
        pipeline = limited(rules, store, *ends)
        stuck = [asyncio.create_task(pipeline.answer(call(name, f"{name}/m"))) for name in "pq"]
        await asyncio.sleep(0)
        leaving = asyncio.create_task(pipeline.answer(call("a", "p/m", "q/m")))
        await asyncio.sleep(after)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        stuck[1].cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await pipeline.reserver.aclose()
        assert len(asyncio.all_tasks()) == 1
        meter = LimitBook(rules).of_target(Values(), Target("q", "m")).all
        assert [level.remaining for level in await store.levels(meter)] == [1]

    run()


@paused
async def test_a_hedge_waits_for_no_limit() -> None:
    """It is worth its cost only where it is asked at once."""
    hedging = Hedging(HedgePlan(0.95, 1.0, 1), [Target("a", "m")], now)
    hedging._waits[Target("a", "m"), True].append(1.0)
    store = ScriptedQuota(provider=[Grant(), 5.0])
    slow, other = provider("a", [3.0, "ok", DONE]), provider("b")
    rules = [rate("a", 60), rate("b", 60)]
    pipeline = limited(rules, store, upstream(slow), upstream(other), hedging=hedging)
    request = call("x", "a/m", "b/m")
    assert text_of(await pipeline.answer(request)) == "ok"
    assert outcomes(request) == ["b:SKIPPED:RATE_LIMITED", "a:SUCCEEDED:"]
    assert [asked.patience for asked in store.all("reserve")] == [0, 0]


@dataclass
class End:
    """A target of the law below: what holds for it."""

    kind: str
    limit: int
    seconds: float  # of an answer


ENDS = st.lists(
    st.builds(
        End, st.sampled_from(["rate", "places", "gate"]), st.integers(1, 3), st.sampled_from([0.5, 1.0, 7.0])
    ),
    min_size=1,
    max_size=3,
)
ARRIVALS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.3, 1.0, 4.0]), st.permutations([0, 1, 2]), st.integers(1, 3)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ENDS, ARRIVALS)
def test_no_target_is_waited_for_while_another_has_room(
    ends: list[End], arrivals: list[tuple[float, list[int], int]]
) -> None:
    """And no limit is exceeded: whatever the limits, the plans and the moments in which requests come.

    Who waits was refused by every target of its plan, at once; no place at any of them is free meanwhile.
    """

    @paused
    async def run() -> None:
        providers = [provider(str(n), [end.seconds, "ok", DONE]) for n, end in enumerate(ends)]
        upstreams = [
            upstream(each, max_concurrency=end.limit if end.kind == "gate" else 100)
            for each, end in zip(providers, ends, strict=True)
        ]
        rules = [rate("other", 1)]
        for number, end in enumerate(ends):
            if end.kind == "rate":
                rules.append(rate(str(number), 30 * end.limit, end.limit))
            elif end.kind == "places":
                rules.append(places(str(number), end.limit))
        pipeline = limited(rules, memory(), *upstreams, max_wait=10.0)  # as that of the gates
        waits: list[tuple[float, float, list[int]]] = []  # from, to, plan
        tasks, start = [], now()

        async def one(number: int, plan: list[int]) -> None:
            request, began = call(str(number), *(f"{n}/m" for n in plan)), now()
            try:
                await pipeline.answer(request)
            except GenerationError as error:
                assert error.reason in (Reason.RATE_LIMITED, Reason.LOAD_SHED)
                return
            asked_at = began + request.record.waited
            if request.record.waited > EPSILON:
                told = {a.provider for a in request.record.attempts if a.outcome == a.OUTCOME_SKIPPED}
                assert told == {str(n) for n in plan} or len(plan) == 1
                waits.append((began, asked_at, plan))

        for number, (pause, order, length) in enumerate(arrivals):
            await asyncio.sleep(pause)
            plan = [n for n in order if n < len(ends)][:length]
            tasks.append(asyncio.create_task(one(number, plan or [0])))
        await asyncio.gather(*tasks)
        await pipeline.reserver.aclose()
        _check(start, ends, providers, waits)

    run()


def _check(
    start: float,
    ends: list[End],
    providers: list[ScriptedProvider],
    waits: list[tuple[float, float, list[int]]],
) -> None:
    for end, asked in zip(ends, providers, strict=True):
        for number, at in enumerate(asked.called_at, start=1):
            if end.kind == "rate":
                assert number <= end.limit + (at - start) * end.limit / 2 + EPSILON
            else:
                assert _running(asked, end, at) <= end.limit
    for began, until, plan in waits:
        for number in plan:
            end, asked = ends[number], providers[number]
            moments = [began, *(at + end.seconds for at in asked.called_at)]
            if end.kind != "rate":
                busy = [
                    _running(asked, end, at + EPSILON) for at in moments if began <= at < until - 2 * EPSILON
                ]
                assert all(each == end.limit for each in busy)


def _running(asked: ScriptedProvider, end: End, at: float) -> int:
    return sum(began <= at < began + end.seconds - EPSILON for began in asked.called_at)
