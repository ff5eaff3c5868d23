import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Handler
from outrider.core.quota import Bound, Concurrency, Grant, Period, Rate, Unit, Window
from outrider.policy.backoff import Backoff
from outrider.policy.limit_rules import LimitBook, Rule, Values
from tests.support.limited import INPUT_TOKENS, ScriptedQuota, call, limited, memory
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, text_of, upstream

NO = None  # a refusal that waiting does not end


def rates(unit: Unit = Unit.REQUESTS, **scope: str) -> Rule:
    return Rule(scope, ((unit, Rate(600, 100)),))


def budget(limit: int, unit: Unit = Unit.TOKENS, *, hard: bool = True, **scope: str) -> Rule:
    return Rule(scope, ((unit, Window(limit, Period.DAY, (0.5,), hard)),), f"{unit}:day")


def places(limit: int, **scope: str) -> Rule:
    return Rule(scope, ((Unit.CONCURRENT_REQUESTS, Concurrency(limit)),))


def failing(reason: Reason = Reason.PROVIDER_ERROR) -> GenerationError:
    return GenerationError(reason, "as scripted")


async def refused(awaited: object) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        await awaited  # type: ignore[misc]
    return caught.value


CALLER, PROVIDER = rates(tenant="*"), rates(provider="*")


@paused
async def test_all_scopes_are_asked_in_one_round_trip() -> None:
    """Caller and first target together: one latency, and the provider is called once both have agreed."""
    store, provider = ScriptedQuota(latency=0.01), ScriptedProvider(["ok", DONE])
    pipeline, start = limited([CALLER, PROVIDER], store, upstream(provider)), now()
    await pipeline.answer(call("a", "p/m"))
    assert {asked.at for asked in store.all("reserve")} == {start}
    assert provider.called_at == [pytest.approx(start + 0.01)]
    await pipeline.reserver.aclose()
    assert not store.unsettled()


@paused
async def test_what_was_begun_early_is_not_asked_again() -> None:
    """`begin` asks in its own tick, however often it is called; `enter` waits for that answer."""
    store, provider, start = ScriptedQuota(latency=0.01), ScriptedProvider(["ok", DONE]), now()

    def early(inner: Handler) -> Handler:
        async def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            context.reservation.begin()
            context.reservation.begin()
            await asyncio.sleep(0.01)
            async with aclosing(inner(context)) as batches:
                async for batch in batches:
                    yield batch

        return handle

    await limited([CALLER, PROVIDER], store, upstream(provider), inside=[early]).answer(call("a", "p/m"))
    assert [asked.at for asked in store.all("reserve")] == [start, start]
    assert provider.called_at == [pytest.approx(start + 0.01)]


@paused
async def test_what_was_begun_and_not_needed_is_given_back() -> None:
    """An answer that comes from elsewhere, such as a cache, counts nowhere."""
    store = ScriptedQuota(latency=0.01)

    def stored(inner: Handler) -> Handler:
        async def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            context.reservation.begin()
            completed = v1.Completed(usage=v1.Usage(input_tokens=50, output_tokens=50))
            yield [v1.GenerateResponse(completed=completed)]

        return handle

    pipeline = limited([CALLER, PROVIDER], store, inside=[stored])
    await pipeline.answer(call("a", "p/m"))
    await pipeline.reserver.aclose()
    assert {asked.holder: asked.used for asked in store.all("settle")} == {"a": [0], "a:1": [0]}


@paused
async def test_a_grant_is_used_when_it_may_be() -> None:
    """Its delay is waited, on record for request and attempt, outside the time of the attempt."""
    store, provider, start = ScriptedQuota(tenant=[Grant(3.0)]), ScriptedProvider(["ok", DONE]), now()
    request = call("a", "p/m")
    await limited([CALLER], store, upstream(provider)).answer(request)
    assert provider.called_at == [start + 3]
    assert request.record.waited == 3
    (attempt,) = request.record.attempts
    assert (attempt.waited.seconds, attempt.duration.seconds) == (3, 0)


@paused
async def test_a_providers_own_delay_is_waited_too() -> None:
    """The later of the two: both have given a place of their own."""
    store, provider = (
        ScriptedQuota(tenant=[Grant(2.0)], provider=[Grant(5.0)]),
        ScriptedProvider(["ok", DONE]),
    )
    start = now()
    await limited([CALLER, PROVIDER], store, upstream(provider)).answer(call("a", "p/m"))
    assert provider.called_at == [start + 5]


@pytest.mark.parametrize(
    ("deadline", "max_wait", "patience"), [(100.0, 10.0, 10.0), (4.0, 10.0, 4.0), (100.0, 0.0, 0.0)]
)
def test_nobody_waits_longer_than_agreed(deadline: float, max_wait: float, patience: float) -> None:
    """The store is told how long: up to the deadline, and to the maximum. It refuses what is later."""

    @paused
    async def run() -> None:
        store, provider = ScriptedQuota(tenant=[42.0]), ScriptedProvider(["ok", DONE])
        pipeline = limited([CALLER], store, upstream(provider), max_wait=max_wait)
        start = now()
        error = await refused(pipeline.answer(call("a", "p/m", deadline=deadline, tenant="acme")))
        assert (error.reason, error.fact.retry_after) == (Reason.CALLER_RATE_LIMITED, 42.0)
        assert error.fact.quota_subject == "tenant=acme"
        assert store.all("reserve")[0].patience == patience
        assert now() == start
        assert provider.calls == []

    run()


@paused
async def test_a_providers_own_limit_sends_on_to_the_next_target() -> None:
    """At once: it is not waited for. The try is on record as skipped, the caller charged once."""
    store = ScriptedQuota(provider=[9.0])
    other = ScriptedProvider(["ok", DONE], name="q")
    request = call("a", "p/m", "q/m")
    pipeline = limited(
        [CALLER, PROVIDER], store, upstream(ScriptedProvider([])), upstream(other), max_waits={"p": 2.0}
    )
    assert text_of(await pipeline.answer(request)) == "ok"
    assert [attempt.reason for attempt in request.record.attempts] == ["RATE_LIMITED", ""]
    asked = [(each.charges[0].meter.scope, each.patience) for each in store.all("reserve")]
    assert asked == [("tenant=", 10.0), ("provider=p", 0.0), ("provider=q", 10.0)]


@paused
async def test_the_callers_delay_holds_whichever_target_answers() -> None:
    """A target that refuses at once does not let the caller in before its time."""
    store, start = ScriptedQuota(tenant=[Grant(5.0)], provider=[NO]), now()
    other = ScriptedProvider(["ok", DONE], name="q")
    pipeline = limited([CALLER, PROVIDER], store, upstream(ScriptedProvider([])), upstream(other))
    await pipeline.answer(call("a", "p/m", "q/m"))
    assert other.called_at == [start + 5]


@paused
async def test_a_caller_that_is_refused_gives_the_target_back() -> None:
    """What the target had granted is free again, and nothing else is tried."""
    store = ScriptedQuota(tenant=[NO])
    pipeline = limited(
        [CALLER, PROVIDER], store, upstream(ScriptedProvider([])), upstream(ScriptedProvider([], name="q"))
    )
    error = await refused(pipeline.answer(call("a", "p/m", "q/m")))
    assert (error.reason, error.fact.retry_after) == (Reason.CALLER_RATE_LIMITED, float("inf"))
    await pipeline.reserver.aclose()
    (settled,) = store.all("settle")
    assert (settled.holder, settled.used) == ("a:1", [0])


@paused
async def test_retries_are_charged_to_the_provider_alone() -> None:
    """Each try to the provider, without tokens where it failed; the request once to its caller."""
    store = ScriptedQuota()
    provider = ScriptedProvider([failing()], [failing()], ["four", DONE])
    rules = [
        Rule(scope, ((Unit.REQUESTS, Rate(60, 10)), (Unit.TOKENS, Rate(6_000, 1_000))))
        for scope in ({"tenant": "*"}, {"provider": "*"})
    ]
    pipeline = limited(rules, store, upstream(provider, backoff=Backoff(0, 1, 0)))
    await pipeline.answer(call("a", "p/m", max_output_tokens=50))
    await pipeline.reserver.aclose()
    reserve = INPUT_TOKENS + 50
    held = {each.holder: [charge.amount for charge in each.charges] for each in store.all("reserve")}
    assert held == {holder: [1, reserve] for holder in ("a", "a:1", "a:2", "a:3")}
    used = {each.holder: each.used for each in store.all("settle")}
    assert used == {"a": [1, 6], "a:1": [1, 0], "a:2": [1, 0], "a:3": [1, 6]}


@paused
async def test_a_failed_try_gives_its_tokens_back_before_the_next() -> None:
    """The backoff between them does not hold what nobody uses."""
    store, start = ScriptedQuota(), now()
    pipeline = limited(
        [rates(Unit.TOKENS, provider="*")],
        store,
        upstream(ScriptedProvider([2.0, failing()], ["ok", DONE]), backoff=Backoff(8, 1, 8)),
    )
    await pipeline.answer(call("a", "p/m"))
    assert store.all("settle")[0].at == start + 2 < store.all("reserve")[1].at


@pytest.mark.parametrize(
    ("leave_after", "used"),
    [(1.0, {}), (4.0, {"a": [0, 0], "a:1": [0, 0]}), (6.0, {"a": [1, 0], "a:1": [1, 0]}),
     (8.0, {"a": [1, 6], "a:1": [1, 6]})],
)  # fmt: skip
def test_who_leaves_gives_back_what_was_not_used(leave_after: float, used: dict[str, list[int]]) -> None:
    """While the store is asked, while waiting, before the answer and in it; what was used stays used."""

    @paused
    async def run() -> None:
        store = ScriptedQuota(latency=2.0, tenant=[Grant(3.0)])
        scopes = ({"tenant": "*"}, {"provider": "*"})
        rules = [
            Rule(scope, ((Unit.REQUESTS, Rate(60, 9)), (Unit.TOKENS, Rate(600, 99)))) for scope in scopes
        ]
        provider = ScriptedProvider([2.0, "four", 100.0])
        pipeline = limited(rules, store, upstream(provider))
        request = call("a", "p/m", max_output_tokens=20)
        task = asyncio.create_task(pipeline.answer(request))
        await asyncio.sleep(leave_after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)
        settled = {each.holder: each.used for each in store.all("settle")}
        assert settled == (used or {"a": [0, 0], "a:1": [0, 0]})
        assert all(held.charges == settle.charges for held, settle in zip(
            sorted(store.all("reserve"), key=lambda each: each.holder),
            sorted(store.all("settle"), key=lambda each: each.holder), strict=True))  # fmt: skip

    run()


@paused
async def test_a_try_that_was_not_made_counts_nothing() -> None:
    """Left while it waited for its second try: the first one was made, this one was not."""
    store = ScriptedQuota(provider=[Grant(), Grant(9.0)])
    pipeline = limited(
        [CALLER, PROVIDER], store, upstream(ScriptedProvider([failing()]), backoff=Backoff(0, 1, 0))
    )
    task = asyncio.create_task(pipeline.answer(call("a", "p/m")))
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pipeline.reserver.aclose()
    assert {each.holder: each.used for each in store.all("settle")} == {"a": [1], "a:1": [1], "a:2": [0]}


@paused
async def test_an_open_breaker_costs_nothing() -> None:
    """What was begun for a target that is not tried is given back; the next one is charged instead."""
    store = ScriptedQuota()
    dead = upstream(ScriptedProvider([failing()]), max_attempts=1, breaker_failures=1)
    alive = upstream(ScriptedProvider(["ok", DONE], name="q"))
    pipeline = limited([PROVIDER], store, dead, alive)
    await pipeline.answer(call("first", "p/m", "q/m"))
    store.asked.clear()
    await pipeline.answer(call("a", "p/m", "q/m"))
    await pipeline.reserver.aclose()
    assert [each.charges[0].meter.scope for each in store.all("reserve")] == ["provider=q"]


@paused
async def test_a_full_queue_behind_the_limit_gives_it_back() -> None:
    """A call that the gate sheds has not been made: its request does not count."""
    store, provider = ScriptedQuota(), ScriptedProvider([50.0, "ok", DONE])
    narrow = upstream(provider, max_concurrency=1)
    pipeline = limited([CALLER, PROVIDER], store, narrow)
    running = asyncio.create_task(pipeline.answer(call("running", "p/m")))
    await asyncio.sleep(0)
    error = await refused(pipeline.answer(call("shed", "p/m")))
    assert error.reason is Reason.LOAD_SHED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await pipeline.reserver.aclose()
    used = {each.holder: each.used for each in store.all("settle")}
    assert used == {"shed": [0], "shed:1": [0], "running": [1], "running:1": [1]}


@paused
async def test_who_waits_for_a_rate_holds_no_permit() -> None:
    """The provider's permits are for those that may call it now."""
    store = ScriptedQuota(tenant=[Grant(5.0), Grant()])
    provider, start = ScriptedProvider(["ok", DONE]), now()
    narrow = limited([CALLER], store, upstream(provider, max_concurrency=1))
    await asyncio.gather(narrow.answer(call("slow", "p/m")), narrow.answer(call("quick", "p/m")))
    assert provider.called_at == [start, start + 5]


@paused
async def test_a_dearer_target_is_reserved_for() -> None:
    """A budget of money holds as much as the target that is tried may cost, also after a fallback."""
    store = ScriptedQuota()
    pipeline = limited(
        [budget(10**9, Unit.NANO_USD, tenant="*")],
        store,
        upstream(ScriptedProvider([failing(Reason.PROVIDER_QUOTA_SPENT)])),
        upstream(ScriptedProvider(["four", DONE], name="q")),
    )
    await pipeline.answer(call("a", "p/m", "q/dear", max_output_tokens=10))
    await pipeline.reserver.aclose()
    first, more = 10 * INPUT_TOKENS + 100 * 10, 9 * (10 * INPUT_TOKENS + 100 * 10)
    (reserved,), (extended,), (settled,) = (store.all(each) for each in ("reserve", "extend", "settle"))
    assert [reserved.charges[0].amount, extended.charges[0].amount] == [first, more]
    assert settled.charges[0].amount == first + more
    assert settled.used == [100 * INPUT_TOKENS + 1_000]


@paused
async def test_a_budget_that_is_spent_is_no_matter_of_waiting() -> None:
    """BUDGET_SPENT ends the request; a target's own budget sends it on to the next one."""
    store = ScriptedQuota(provider=[60.0], tenant=[Grant(), 60.0])
    rules = [budget(1_000, tenant="*"), budget(1_000, provider="*")]
    other = upstream(ScriptedProvider(["ok", DONE], name="q"))
    pipeline = limited(rules, store, upstream(ScriptedProvider(["ok", DONE])), other)
    request = call("a", "p/m", "q/m")
    assert text_of(await pipeline.answer(request)) == "ok"
    assert request.record.attempts[0].reason == "PROVIDER_BUDGET_SPENT"
    error = await refused(pipeline.answer(call("b", "p/m", "q/m")))
    assert (error.reason, error.fact.retry_after) == (Reason.BUDGET_SPENT, None)


@paused
async def test_a_model_without_a_price_is_told_of_and_costs_a_budget_nothing() -> None:
    """Requests and tokens count all the same."""
    rules = [budget(100, Unit.NANO_USD, tenant="*"), budget(1_000, tenant="*")]
    store = memory()
    pipeline = limited(rules, store, upstream(ScriptedProvider(["four", DONE])))
    await pipeline.answer(call("a", "p/unpriced"))
    await pipeline.reserver.aclose()
    assert [str(target) for target in pipeline.unpriced] == ["p/unpriced"]
    levels = await store.levels(LimitBook(rules).of_caller(Values()).all)
    assert [level.remaining for level in levels] == [100, 1_000 - INPUT_TOKENS - 1]


@pytest.mark.parametrize(
    ("unit", "bound", "named", "reserved"),
    [
        (Unit.TOKENS, Window(50, Period.DAY), None, 50),
        (Unit.TOKENS, Window(50, Period.DAY, hard=False), None, 105),
        (Unit.TOKENS, Window(3, Period.DAY), None, 6),
        (Unit.TOKENS, Window(50, Period.DAY), 80, 85),
        (Unit.TOKENS, Rate(30, 10), None, 30),
        (Unit.NANO_USD, Window(1_060, Period.DAY), None, 1_050),
    ],
)
def test_no_more_is_reserved_than_could_ever_be_had(
    unit: Unit, bound: Bound, named: int, reserved: int
) -> None:
    """Where the request leaves the length of its answer open; one that names a maximum means it."""

    @paused
    async def run() -> None:
        store = ScriptedQuota()
        pipeline = limited([Rule({}, ((unit, bound),))], store, upstream(ScriptedProvider(["ok", DONE])))
        await pipeline.answer(call("a", "p/m", max_output_tokens=named))
        assert [charge.amount for charge in store.all("reserve")[0].charges] == [reserved]

    run()


@paused
async def test_places_are_given_in_the_order_of_coming() -> None:
    """Also to those that come while others wait, and at once when a place is left."""
    provider, order, start = ScriptedProvider([1.0, "ok", DONE]), [], now()
    pipeline = limited([places(1, tenant="*")], memory(), upstream(provider), max_wait=100)

    async def one(name: str, after: float) -> None:
        await asyncio.sleep(after)
        await pipeline.answer(call(name, "p/m"))
        order.append((name, round(now() - start, 6)))

    await asyncio.gather(*(one(name, 0.1 * number) for number, name in enumerate("abcdefgh")))
    assert order == [(name, number) for number, name in enumerate("abcdefgh", start=1)]


@paused
async def test_whoever_comes_stands_behind_those_who_wait() -> None:
    """Between two questions of the first in line a place may be free: it is for the first."""
    store = ScriptedQuota(tenant=[0.2, 0.2])
    pipeline = limited([places(1, tenant="*")], store, upstream(ScriptedProvider(["ok", DONE])))

    async def late() -> None:
        await asyncio.sleep(0.005)
        await pipeline.answer(call("late", "p/m"))

    await asyncio.gather(pipeline.answer(call("first", "p/m")), late())
    assert [asked.holder for asked in store.all("reserve")] == ["first", "first", "first", "late"]


@paused
async def test_only_the_first_in_line_asks() -> None:
    """The store is spared the others, and the first asks less and less often."""
    store = ScriptedQuota(tenant=[0.2] * 12)
    pipeline = limited([places(1, tenant="*")], store, upstream(ScriptedProvider(["ok", DONE])))
    start = now()
    await asyncio.gather(*(pipeline.answer(call(name, "p/m")) for name in "abc"))
    by_holder = [asked.holder for asked in store.all("reserve")]
    assert by_holder[:3] == ["a", "b", "c"]  # they came in the same tick
    assert by_holder[3:] == ["a"] * 10 + ["b", "c"]
    moments = [round(asked.at - start, 6) for asked in store.all("reserve")[3:]]
    assert moments[:7] == [0, 0.01, 0.03, 0.07, 0.15, 0.25, 0.35]


@paused
async def test_waiting_for_a_place_is_bounded() -> None:
    """By the caller's patience; whoever gives up leaves the line to the others."""
    provider = ScriptedProvider([30.0, "ok", DONE])
    pipeline = limited([places(1, tenant="*")], memory(), upstream(provider, max_attempts=1), max_wait=5)
    provider_limits = [asyncio.create_task(pipeline.answer(call("first", "p/m", deadline=1000)))]
    await asyncio.sleep(0)
    start = now()
    waiting = [asyncio.create_task(refused(pipeline.answer(call(name, "p/m")))) for name in "bcd"]
    errors = await asyncio.gather(*waiting)
    assert {error.reason for error in errors} == {Reason.CALLER_RATE_LIMITED}
    assert all(error.fact.retry_after for error in errors)
    assert now() - start == pytest.approx(5, abs=0.2)
    for task in provider_limits:
        task.cancel()
    await asyncio.gather(*provider_limits, return_exceptions=True)


@paused
async def test_who_leaves_the_line_leaves_no_trace() -> None:
    """Cancelled as the first or as another: those behind move up, and the place is not lost."""
    provider = ScriptedProvider([1.0, "ok", DONE])
    pipeline, start = limited([places(1, tenant="*")], memory(), upstream(provider), max_wait=100), now()
    tasks = [asyncio.create_task(pipeline.answer(call(name, "p/m"))) for name in "abcd"]
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, True, False]
    assert now() - start == pytest.approx(2)


@paused
async def test_a_rate_is_a_fair_queue() -> None:
    """At one a second they pass in the order they came, none before its time, whatever their size."""
    rule = Rule({"tenant": "*"}, ((Unit.TOKENS, Rate(60, 10)),))
    provider, start = ScriptedProvider(["ok", DONE]), now()
    order: list[str] = []
    pipeline = limited([rule], memory(), upstream(provider), max_wait=1_000)

    async def one(name: str, tokens: int) -> None:
        await pipeline.answer(call(name, "p/m", max_output_tokens=tokens))
        order.append(name)

    sizes = [5, 40, 1, 1, 20, 1, 50]
    await asyncio.gather(*(one(str(number), size) for number, size in enumerate(sizes)))
    assert order == [str(number) for number in range(len(sizes))]
    passed = 0
    for moment, size in zip(provider.called_at, sizes, strict=True):
        # What is settled gives back, so less than was reserved has really passed.
        passed += INPUT_TOKENS + 1
        assert passed <= 10 + (moment - start) + max(10, INPUT_TOKENS + size)


ENDS: dict[str, Callable[[], list[object]]] = {
    "answers": lambda: ["four", 0.5, "more", DONE],
    "fails": lambda: [0.3, failing()],
    "breaks off": lambda: ["four", 0.3, failing()],
    "hangs": lambda: [0.2, "four", 500.0],
    "is refused": lambda: [failing(Reason.INVALID_REQUEST)],
}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(ENDS)),
            st.sampled_from([None, 1, 30]),
            st.floats(0, 3),
            st.sampled_from([0.0, 0.2, 1.0, 50.0]),
        ),
        max_size=12,
    )
)
def test_reserving_and_settling_conserve(requests: list[tuple[str, int | None, float, float]]) -> None:
    """However requests end, in the end nothing is held, and what counts is what their records say."""

    @paused
    async def run() -> None:
        rules = [
            budget(10**6, tenant="*"),
            budget(10**9, Unit.NANO_USD, tenant="*"),
            budget(10**6, provider="*"),
            Rule({"user": "*"}, ((Unit.REQUESTS, Window(10**6, Period.DAY)),)),
            places(3, project="*"),
        ]
        store, records = memory(), []
        scripts = [ENDS[how]() for how, *_ in requests]
        provider = ScriptedProvider(*scripts or [[DONE]])
        pipeline = limited(rules, store, upstream(provider, max_attempts=1), max_wait=2)

        async def one(number: int, maximum: int | None, after: float, patience: float) -> None:
            await asyncio.sleep(after)
            request = call(str(number), "p/m", max_output_tokens=maximum)
            records.append(request.record)
            task = asyncio.create_task(pipeline.answer(request))
            await asyncio.wait([task], timeout=patience)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(one(number, *rest) for number, (_, *rest) in enumerate(requests)))
        await pipeline.reserver.aclose()
        usages = [record.usage or v1.Usage() for record in records]
        tokens = sum(usage.input_tokens + usage.output_tokens for usage in usages)
        money = sum(record.cost.total_nano_usd for record in records if record.cost)
        meters = [meter for rule in rules for meter in _meters(rule)]
        levels = await store.levels(meters)
        assert [level.reserved for level in levels] == [0] * 5
        counted = [10**6, 10**9, 10**6, 10**6, 3]
        spent = [limit - level.remaining for limit, level in zip(counted, levels, strict=True)]
        assert spent == [tokens, money, tokens, len(provider.calls), 0]

    run()


def _meters(rule: Rule):  # type: ignore[no-untyped-def]
    book = LimitBook([rule])
    return (*book.of_caller(Values()).all, *book._of_target(Values(provider="p")).all)
