import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.core.quota import Concurrency, Level, Meter, Period, Unit, Window
from outrider.policy.cache import Cache
from outrider.policy.cache_rules import CacheMode, CachePlan, CacheRules
from outrider.policy.limit_rules import Rule
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.tiered_answers import TieredAnswers
from tests.support.limited import cost, limited, memory
from tests.support.paused_clock import PausedLoop, now, paused
from tests.support.readers import Reader, Readers
from tests.support.scripted import DONE, ScriptedProvider, upstream

SLOW = ["one ", 1.0, "two ", 1.0, "three", DONE]
CUT = ["four", 1.0, GenerationError(Reason.STREAM_TRUNCATED, "cut")]
LIMIT = 1_000
TOKENS = Window(LIMIT, Period.DAY)


class Fleet:
    """Users with limits of their own, who ask the same of one provider; one of them can afford nothing."""

    def __init__(self, script: list[object]) -> None:
        self.store = memory()
        self.provider = ScriptedProvider(script)
        self.cache = Cache(
            TieredAnswers(MemoryAnswers(100_000, now)),
            CachePlan(CacheRules(CacheMode.ALWAYS, ttl=0.001), {}),
            price=cost,
            clock=now,
            wall=now,
        )
        self.pipeline = limited(
            [
                Rule({"user": "*"}, ((Unit.TOKENS, TOKENS), (Unit.CONCURRENT_REQUESTS, Concurrency(9)))),
                Rule({"provider": "p"}, ((Unit.TOKENS, TOKENS),)),
                Rule({"user": "poor"}, ((Unit.TOKENS, Window(3, Period.WEEK)),), kind="budget"),
            ],
            self.store,
            upstream(self.provider, max_attempts=1),
            inside=[self.cache],
        )
        self.readers = Readers(self.pipeline.handler)

    def ask(self, user: str, *, deadline: float = math.inf) -> Reader:
        """One user's request."""
        return self.readers.one(attribution=v1.Attribution(user=user), deadline=deadline)

    async def level(self, scope: str, unit: Unit = Unit.TOKENS) -> Level:
        """How a meter stands once everything is settled."""
        bound = Concurrency(9) if unit is Unit.CONCURRENT_REQUESTS else TOKENS
        await self.cache.aclose()
        await self.pipeline.reserver.aclose()
        return (await self.store.levels([Meter(scope, unit, bound)]))[0]

    async def spent(self, scope: str) -> int:
        """Tokens that are counted against a scope; fails the test where any are still reserved."""
        level = await self.level(scope)
        assert level.reserved == 0
        return LIMIT - level.remaining


def user_of(reader: Reader) -> str:
    """Who asks."""
    return reader.call.request.attribution.user


def used_by(reader: Reader) -> int:
    """Tokens on the record of a request."""
    usage = reader.record.usage
    return usage.input_tokens + usage.output_tokens if usage else 0


@paused
async def test_of_those_who_share_a_call_one_is_charged() -> None:
    """The others' limits are as they were, and so is everyone's concurrency."""
    fleet = Fleet(SLOW)
    first, second = fleet.ask("ann"), fleet.ask("bob")
    await fleet.readers.done()
    assert used_by(first) == await fleet.spent("user=ann") == await fleet.spent("provider=p") > 0
    assert used_by(second) == await fleet.spent("user=bob") == 0
    assert (await fleet.level("user=ann", Unit.CONCURRENT_REQUESTS)).remaining == 9


@paused
async def test_who_takes_over_a_call_is_charged_for_it() -> None:
    """The one that left gets everything back."""
    fleet = Fleet(SLOW)
    first, second = fleet.ask("ann"), fleet.ask("bob")
    await asyncio.sleep(0.5)
    await first.leave()
    await second.task
    assert used_by(first) == await fleet.spent("user=ann") == 0
    assert used_by(second) == await fleet.spent("user=bob") == await fleet.spent("provider=p") > 0


@paused
async def test_what_is_left_to_somebody_without_means_counts_all_the_same() -> None:
    """Its budget would have refused it, but nobody else pays: the sums stay those of the records."""
    fleet = Fleet(SLOW)
    first = fleet.ask("ann")
    await asyncio.sleep(0.5)
    heir = fleet.ask("poor")
    await asyncio.sleep(0.1)
    await first.leave()
    await heir.task
    assert used_by(heir) == await fleet.spent("user=poor") == await fleet.spent("provider=p") > 0


@paused
async def test_a_user_without_means_does_not_stop_the_others() -> None:
    """Its budget refuses it alone, though it was the first to ask."""
    fleet = Fleet(SLOW)
    refused, other = fleet.ask("poor"), fleet.ask("bob")
    await fleet.readers.done()
    assert refused.error is not None
    assert refused.error.reason is Reason.BUDGET_SPENT
    assert (other.text, len(fleet.provider.calls)) == ("one two three", 1)
    assert used_by(other) == await fleet.spent("user=bob") == await fleet.spent("provider=p") > 0


visits = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "poor"]),  # who comes
        st.floats(0, 3.5),  # when
        st.none() | st.floats(0, 3),  # for how long, if not to the end
        st.sampled_from([math.inf, 0.7, 2.0]),  # its deadline
    ),
    min_size=1,
    max_size=6,
)


@given(visits, st.sampled_from([SLOW, CUT]))
def test_limits_count_what_the_records_say(
    callers: list[tuple[str, float, float | None, float]], script: list[object]
) -> None:
    """Whoever comes, leaves or is late: nothing is lost, and nothing charged twice."""

    async def run() -> None:
        fleet = Fleet(script)

        async def visit(user: str, comes: float, stays: float | None, deadline: float) -> None:
            await asyncio.sleep(comes)
            reader = fleet.ask(user, deadline=deadline)
            if stays is None:
                await asyncio.wait([reader.task])
            else:
                await asyncio.sleep(stays)
                await reader.leave()

        await asyncio.gather(*(visit(*caller) for caller in callers))
        # Who takes over a call is charged for it, even if it could not have asked for it.
        for user in ("a", "b", "c", "poor"):
            own = [each for each in fleet.readers.all if user_of(each) == user]
            assert await fleet.spent(f"user={user}") == sum(map(used_by, own))
            assert (await fleet.level(f"user={user}", Unit.CONCURRENT_REQUESTS)).remaining == 9
        assert await fleet.spent("provider=p") == sum(map(used_by, fleet.readers.all))
        answered = sum(call.progress.output_chars > 0 for call in fleet.provider.calls)
        assert sum(used_by(reader) > 0 for reader in fleet.readers.all) == answered
        assert len(fleet.pipeline.watcher.finished) == len(callers)
        for reader in fleet.readers.all:
            if reader.record.finish_reason == v1.FINISH_REASON_STOP:
                assert reader.text == "one two three"

    with asyncio.Runner(loop_factory=PausedLoop) as runner:
        runner.run(run())
