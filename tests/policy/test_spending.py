import asyncio
from collections.abc import AsyncGenerator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Outcome, Progress, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Handler
from outrider.core.quota import Charge, Grant, Period, Unit, Window
from outrider.policy.limit_rules import LimitBook, Rule, Values
from tests.support.limited import INPUT_TOKENS, ScriptedQuota, call, limited, memory
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, text_of, upstream

TOKEN = "four"  # as the counter of these tests sees it
BLOCK = 100


def budget(limit: int, unit: Unit = Unit.TOKENS, *, hard: bool = True, **scope: str) -> Rule:
    return Rule(scope, ((unit, Window(limit, Period.DAY, (), hard)),), f"{unit}:day")


def tokens(number: int, pace: float = 0.0) -> list[object]:
    """An answer of so many tokens, one at a time."""
    return [step for _ in range(number) for step in ([pace, TOKEN] if pace else [TOKEN])] + [DONE]


def completed(batches: list[Batch]) -> v1.Completed:
    return batches[-1][-1].completed


@paused
async def test_an_answer_ends_where_its_budget_does() -> None:
    """With the reason BUDGET, what it used and cost, its try on record, and the provider closed."""
    provider, store = ScriptedProvider(tokens(1_000)), memory()
    pipeline = limited([budget(300)], store, upstream(provider))
    request = call("a", "p/m")
    batches = await pipeline.answer(request)
    end = completed(batches)
    made = len(text_of(batches)) // len(TOKEN)
    assert 285 < made + INPUT_TOKENS <= 300
    assert end.finish_reason == v1.FINISH_REASON_BUDGET
    assert end.usage == v1.Usage(
        input_tokens=INPUT_TOKENS, output_tokens=made, source=v1.USAGE_SOURCE_ESTIMATED
    )
    assert end.cost.total_nano_usd == 10 * INPUT_TOKENS + 100 * made
    assert [attempt.outcome for attempt in end.attempts] == [v1.Attempt.OUTCOME_CANCELLED]
    assert provider.closed == 1
    assert pipeline.watcher.finished[0].outcome is Outcome.SUCCEEDED
    await pipeline.reserver.aclose()
    (level,) = await store.levels(LimitBook([budget(300)]).of_caller(Values()).all)
    assert (level.remaining, level.reserved) == (300 - made - INPUT_TOKENS, 0)
    with pytest.raises(GenerationError) as caught:
        await pipeline.answer(call("b", "p/m"))
    assert caught.value.reason is Reason.BUDGET_SPENT


@paused
async def test_more_is_reserved_before_it_is_needed() -> None:
    """In the background, a block at a time: the answer does not wait for the store."""
    pace, store = 0.01, ScriptedQuota(latency=0.05)
    pipeline = limited([budget(10_000)], store, upstream(ScriptedProvider(tokens(350, pace))))
    start = now()
    batches = await pipeline.answer(call("a", "p/m"))
    assert completed(batches).finish_reason == v1.FINISH_REASON_STOP
    assert now() - start == pytest.approx(0.05 + 350 * pace)
    assert [asked.charges[0].amount for asked in store.all("extend")] == [BLOCK] * 3
    moments = [(asked.at - start - 0.05) / pace for asked in store.all("extend")]
    assert moments == [pytest.approx(at, abs=2) for at in (75, 175, 275)]
    await pipeline.reserver.aclose()
    (settled,) = store.all("settle")
    assert settled.charges[0].amount == INPUT_TOKENS + 4 * BLOCK
    assert settled.used == [INPUT_TOKENS + 350]


@paused
async def test_a_fast_answer_waits_for_a_slow_store() -> None:
    """Beyond what is reserved nothing is made before the store has agreed."""
    store = ScriptedQuota(latency=0.05)
    pipeline = limited([budget(10_000)], store, upstream(ScriptedProvider(tokens(350))))
    start = now()
    assert completed(await pipeline.answer(call("a", "p/m"))).finish_reason == v1.FINISH_REASON_STOP
    assert now() - start == pytest.approx(4 * 0.05)


@paused
async def test_a_leap_is_reserved_for_as_a_whole() -> None:
    """A piece of several blocks at once ends no answer for which there is enough."""
    store, pieces = ScriptedQuota(), [TOKEN * 450, TOKEN, TOKEN * 730, TOKEN * 2, DONE]
    pipeline = limited([budget(10_000)], store, upstream(ScriptedProvider(pieces)))
    batches = await pipeline.answer(call("a", "p/m"))
    assert completed(batches).finish_reason == v1.FINISH_REASON_STOP
    await pipeline.reserver.aclose()
    assert store.all("settle")[0].charges[0].amount >= INPUT_TOKENS + 1_183


@paused
async def test_what_is_left_of_a_budget_is_used_up() -> None:
    """A block that is refused is asked for once more, as large as what remains."""
    store = ScriptedQuota(extend=[40.0, Grant(), None, None])
    provider = ScriptedProvider(tokens(1_000))
    batches = await limited([budget(10_000)], store, upstream(provider)).answer(call("a", "p/m"))
    assert [asked.charges[0].amount for asked in store.all("extend")][:2] == [BLOCK, 40]
    assert BLOCK + 38 <= len(text_of(batches)) // len(TOKEN) <= BLOCK + 40
    assert completed(batches).finish_reason == v1.FINISH_REASON_BUDGET


@paused
async def test_money_ends_an_answer_as_tokens_do() -> None:
    """By the price of the target that answers; the strictest of several budgets counts."""
    rules = [
        budget(10**6, Unit.NANO_USD, tenant="*"),
        budget(30_000, Unit.NANO_USD, user="*"),
        budget(10**6, provider="*"),
    ]
    store = memory()
    pipeline = limited(rules, store, upstream(ScriptedProvider(tokens(1_000))))
    batches = await pipeline.answer(call("a", "p/m", user="bob"))
    assert completed(batches).finish_reason == v1.FINISH_REASON_BUDGET
    assert 29_000 < completed(batches).cost.total_nano_usd <= 30_000
    await pipeline.reserver.aclose()
    book = LimitBook(rules)
    spent = completed(batches).cost.total_nano_usd
    levels = await store.levels(book.of_caller(Values(user="bob")).all)
    assert [level.remaining for level in levels] == [10**6 - spent, 30_000 - spent]
    assert [level.reserved for level in levels] == [0, 0]


@pytest.mark.parametrize("rule", [budget(50, hard=False), budget(10**6)])
def test_answers_that_may_go_on_are_left_alone(rule: Rule) -> None:
    """A soft budget ends nothing, and one that is large enough neither."""

    @paused
    async def run() -> None:
        pipeline = limited([rule], memory(), upstream(ScriptedProvider(tokens(500))))
        batches = await pipeline.answer(call("a", "p/m"))
        assert completed(batches).finish_reason == v1.FINISH_REASON_STOP
        assert completed(batches).usage.output_tokens == 500

    run()


@paused
async def test_an_answer_with_a_maximum_is_reserved_as_a_whole() -> None:
    """Once granted it is never cut, and the store not asked again."""
    store = ScriptedQuota(extend=[None])
    pipeline = limited([budget(10_000)], store, upstream(ScriptedProvider(tokens(500))))
    batches = await pipeline.answer(call("a", "p/m", max_output_tokens=500))
    assert completed(batches).finish_reason == v1.FINISH_REASON_STOP
    assert store.all("extend") == []


@paused
async def test_who_leaves_while_more_is_asked_for_gives_all_of_it_back() -> None:
    """Settling waits for the question that is on its way."""
    store = ScriptedQuota()
    pipeline = limited([budget(10_000)], store, upstream(ScriptedProvider(tokens(1_000, 0.01))))
    task = asyncio.create_task(pipeline.answer(call("a", "p/m")))
    await asyncio.sleep(0.1)
    store.latency = 5.0
    await asyncio.sleep(1.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(100)
    (settled,) = store.all("settle")
    assert settled.charges[0].amount == INPUT_TOKENS + 2 * BLOCK


@paused
async def test_whoever_takes_an_answer_over_pays_for_it() -> None:
    """It is charged when it has begun already, and ends where the new payer's budget does, however small."""
    reserver = []

    def taken_over(_: Handler) -> Handler:
        async def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            yield [v1.GenerateResponse(text_delta=v1.TextDelta(text=TOKEN * 50))]
            context.record.progress = progress = Progress(output_chars=4 * 50)
            context.reservation.begin()
            try:
                while True:
                    await asyncio.sleep(0.01)
                    progress.output_chars += 4
                    yield [v1.GenerateResponse(text_delta=v1.TextDelta(text=TOKEN))]
            finally:
                cut = v1.Attempt(outcome=v1.Attempt.OUTCOME_CANCELLED)
                reserver[0].attempt_finished(context.record, cut, 0.0)

        return handle

    for limit in (300, 90):
        store = memory()
        meters = LimitBook([budget(limit)]).of_caller(Values()).all
        # What the budget has left is less than would be reserved for a new request.
        await store.reserve("other", [Charge(meters[0], limit - 80)], 0)
        pipeline = limited([budget(limit)], store, inside=[taken_over])
        reserver[:] = [pipeline.reserver]
        batches = await pipeline.answer(call("a", "p/m"))
        assert completed(batches).finish_reason == v1.FINISH_REASON_BUDGET
        await pipeline.reserver.aclose()
        (level,) = await store.levels(meters)
        used = INPUT_TOKENS + completed(batches).usage.output_tokens
        assert (level.reserved, level.remaining) == (limit - 80, 80 - used)


@given(
    st.integers(200, 3_000),
    st.lists(st.tuples(st.integers(1, 600), st.floats(0, 2), st.integers(0, 3)), min_size=1, max_size=25),
    st.integers(0, 2**32),
)
def test_a_budget_is_never_exceeded_by_more_than_one_reservation(
    limit: int, answers: list[tuple[int, float, int]], seed: int
) -> None:
    """Row 29: whatever comes when, in pieces of whatever size, all at once on one budget."""

    @paused
    async def run() -> None:
        random, store = Random(seed), memory()
        scripts: list[list[object]] = []
        for length, _, pace in answers:
            script: list[object] = []
            while length > 0:
                piece = min(length, random.randint(1, 8))
                script += [pace * random.random() / 50, TOKEN * piece]
                length -= piece
            scripts.append([*script, DONE])
        pipeline = limited([budget(limit)], store, upstream(ScriptedProvider(*scripts)))

        async def one(number: int, after: float) -> int:
            await asyncio.sleep(after)
            try:
                batches = await pipeline.answer(call(str(number), "p/m"))
            except GenerationError as error:
                assert error.reason is Reason.BUDGET_SPENT
                return 0
            usage = completed(batches).usage
            return usage.input_tokens + usage.output_tokens

        spent = sum(await asyncio.gather(*(one(n, after) for n, (_, after, _) in enumerate(answers))))
        await pipeline.reserver.aclose()
        assert spent <= limit + INPUT_TOKENS + BLOCK
        (level,) = await store.levels(LimitBook([budget(limit)]).of_caller(Values()).all)
        assert level.reserved == 0
        assert level.remaining == max(0, limit - spent)

    run()
