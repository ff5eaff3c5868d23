import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Outcome, RequestContext, Target
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch
from outrider.policy.account import Accountant
from outrider.policy.flight import Flight
from tests.policy.test_account import Counter, cost
from tests.support.paused_clock import PausedLoop, now, paused
from tests.support.readers import Reader, Readers
from tests.support.scripted import DONE, ScriptedProvider, Watcher, attempt_loop, upstream

SLOW = ["one ", 1.0, "two ", 1.0, "three", DONE]
FAILING = [1.0, GenerationError(Reason.PROVIDER_ERROR, "down", retry_after=3.0)]

CUT = ["four", 1.0, GenerationError(Reason.STREAM_TRUNCATED, "cut")]


class Shared:
    """Everyone reads the same flight, or the next one once it has ended."""

    def __init__(self, *scripts: list[object]) -> None:
        self.provider = ScriptedProvider(*scripts)
        self.watcher = Watcher()
        self.inner = attempt_loop(upstream(self.provider, max_attempts=1), watcher=self.watcher)
        self.flight: Flight | None = None
        self.flights: list[Flight] = []
        self.readers = Readers(Accountant(Counter(), cost, self.watcher, now)(self.handle))

    def handle(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        if self.flight is not None:
            return self.flight.join(context)
        self.flight = Flight(context, self.inner, now, self._forget)
        self.flights.append(self.flight)
        return self.flight.read_first()

    def _forget(self, flight: Flight) -> None:
        if self.flight is flight:
            self.flight = None

    @property
    def calls(self) -> int:
        return len(self.provider.calls)

    @property
    def payers(self) -> list[Reader]:
        return [each for each in self.readers.all if each.record.usage and each.record.usage.output_tokens]


@paused
async def test_everyone_gets_the_whole_answer_of_one_call() -> None:
    """Also who comes late; each with a request id and a numbering of its own."""
    shared = Shared(SLOW)
    first, second = shared.readers.some(2)
    await asyncio.sleep(1.5)
    late = shared.readers.one()
    await shared.readers.done()
    assert shared.calls == 1
    for position, reader in enumerate((first, second, late), start=1):
        assert reader.text == "one two three"
        assert reader.events[0].started.request_id == f"id-{position}"
        assert [event.sequence for event in reader.events] == list(range(1, len(reader.events) + 1))
        assert reader.record.outcome is Outcome.SUCCEEDED
    assert [reader.response.message for reader in (second, late)] == [first.response.message] * 2


@paused
async def test_one_pays_and_the_others_use_nothing() -> None:
    """Row 30: the records together say what the provider was asked for, once."""
    shared = Shared(SLOW)
    first, second = shared.readers.some(2)
    await shared.readers.done()
    assert shared.payers == [first]
    assert first.status == v1.CACHE_STATUS_BYPASS
    assert [attempt.provider for attempt in first.record.attempts] == ["p"]
    assert first.events[-1].completed.cost.total_nano_usd > 0
    completed = second.events[-1].completed
    assert second.status == second.record.cache_status == v1.CACHE_STATUS_HIT
    assert second.events[0].started.HasField("cache_age")
    assert completed.usage == v1.Usage(source=v1.USAGE_SOURCE_PROVIDER)
    assert (completed.HasField("cost"), completed.cost.total_nano_usd) == (True, 0)
    assert list(completed.attempts) == second.record.attempts == []
    assert second.record.waited == pytest.approx(2.0)
    assert (second.record.provider, second.record.model) == ("p", "m")


@paused
async def test_who_leaves_does_not_cancel_the_others() -> None:
    """Row 1: and pays nothing; the next one does."""
    shared = Shared(SLOW)
    first, second, third = shared.readers.some(3)
    await asyncio.sleep(0.5)
    await first.leave()
    await asyncio.gather(second.task, third.task)
    assert (first.task.cancelled(), first.record.outcome) == (True, Outcome.CANCELLED)
    assert (shared.calls, shared.provider.closed) == (1, 1)
    assert shared.payers == [second]
    assert (first.record.usage, first.record.cost, first.record.progress, first.record.attempts) == (
        None,
        None,
        None,
        [],
    )
    assert second.text == third.text == "one two three"
    assert second.record.cache_status == v1.CACHE_STATUS_BYPASS
    assert [attempt.outcome for attempt in second.record.attempts] == [v1.Attempt.OUTCOME_SUCCEEDED]


@paused
async def test_with_the_last_one_the_call_ends() -> None:
    """Row 1: the provider is let go before the last caller's call has ended; what it sent is on record."""
    shared = Shared(SLOW)
    first, second = shared.readers.some(2)
    await asyncio.sleep(0.5)
    await second.leave()
    assert shared.provider.closed == 0
    await first.leave()
    assert shared.provider.closed == 1
    assert shared.flight is None
    assert first.task.cancelled()
    assert [attempt.outcome for attempt in first.record.attempts] == [v1.Attempt.OUTCOME_CANCELLED]
    assert shared.payers == [first]
    assert [record.outcome for record in shared.watcher.finished] == [Outcome.CANCELLED] * 2


@paused
async def test_a_call_of_which_all_have_left_is_not_joined() -> None:
    """Who comes next has a call of its own, also in the moment of leaving."""
    shared = Shared(SLOW)
    first = shared.readers.one()
    await asyncio.sleep(0.5)
    first.task.cancel()
    await asyncio.sleep(0)
    second = shared.readers.one()
    await second.task
    assert (shared.calls, second.text) == (2, "one two three")
    assert shared.payers == [first, second]


@paused
async def test_leaving_before_anything_has_begun() -> None:
    """Nothing was asked, nothing is owed; what was asked in the same moment is let go."""
    shared = Shared(SLOW)
    first = shared.readers.one()
    await first.leave()
    assert (shared.calls, shared.flights) == (0, [])
    second = shared.readers.one()
    await asyncio.sleep(0)
    assert shared.flight is not None
    await second.leave()
    assert (shared.flight, shared.provider.closed) == (None, shared.calls)
    assert first.record.usage is None


@paused
async def test_a_failure_before_content_is_everyones() -> None:
    """With what was tried, each as an error of its own; nobody pays for nothing."""
    shared = Shared(FAILING)
    readers = shared.readers.some(3)
    await shared.readers.done()
    assert shared.calls == 1
    errors = [reader.error for reader in readers]
    assert [error and (error.reason, error.committed) for error in errors] == [
        (Reason.PROVIDER_ERROR, False)
    ] * 3
    assert len({id(error) for error in errors}) == 3
    for position, error in enumerate(errors, start=1):
        assert error is not None
        assert error.failure is not None
        assert (error.failure.request_id, len(error.failure.attempts)) == (f"id-{position}", 1)
        assert error.fact.retry_after == 3.0
    assert not shared.payers


@paused
async def test_a_cut_is_everyones_and_paid_once() -> None:
    """Row 3: nobody takes a part for the whole."""
    shared = Shared(CUT)
    first, second = shared.readers.some(2)
    await shared.readers.done()
    for reader in (first, second):
        assert reader.error is not None
        assert (reader.error.committed, reader.text) == (True, "four")
    assert shared.payers == [first]


@paused
async def test_a_bug_is_everyones() -> None:
    """Nobody hangs."""

    async def broken(context: RequestContext) -> AsyncGenerator[Batch, None]:
        raise ZeroDivisionError
        yield []

    shared = Shared()
    shared.inner = broken  # type: ignore[assignment]
    readers = shared.readers.some(2)
    ended = await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    assert [type(error) for error in ended] == [ZeroDivisionError] * 2
    assert [reader.record.reason for reader in readers] == [Reason.INTERNAL] * 2


@paused
async def test_each_has_its_own_deadline() -> None:
    """One that is short of time fails alone; the call goes on for the others, though it was sent for it."""
    shared = Shared(SLOW)
    hurried, patient = shared.readers.one(deadline=1.5), shared.readers.one()
    await shared.readers.done()
    assert hurried.error is not None
    assert (hurried.error.reason, hurried.error.committed) == (Reason.DEADLINE_EXCEEDED, True)
    assert (patient.text, shared.calls) == ("one two three", 1)
    assert shared.payers == [patient]


@paused
async def test_the_last_ones_deadline_ends_the_call() -> None:
    """What the provider had sent by then is paid for."""
    shared = Shared(SLOW)
    only = shared.readers.one(deadline=1.5)
    await only.task
    assert only.error is not None
    assert only.error.reason is Reason.DEADLINE_EXCEEDED
    assert shared.provider.closed == 1
    assert shared.payers == [only]
    assert only.error.failure is not None
    assert only.error.failure.partial_usage.output_tokens == 2


@paused
async def test_a_slow_reader_holds_up_nobody() -> None:
    """It finds everything in its own time, and pays if it was the first."""
    shared = Shared(SLOW)
    slow, quick = shared.readers.one(pace=100.0), shared.readers.one()
    await quick.task
    assert quick.record.finished_at - quick.record.started_at == pytest.approx(2.0)
    await slow.task
    assert slow.text == quick.text
    assert shared.payers == [slow]


@paused
async def test_who_pays_is_settled_when_the_answer_is_whole() -> None:
    """The payer of a whole answer pays, though it leaves without having read all of it."""
    shared = Shared(SLOW)
    slow, slower = shared.readers.one(pace=100.0), shared.readers.one(pace=200.0)
    await asyncio.sleep(10.0)
    await slow.leave()
    await slower.task
    assert shared.payers == [slow]
    assert slow.record.outcome is Outcome.CANCELLED


@paused
async def test_many_events_do_not_come_at_once() -> None:
    """A late reader catches up in pieces, in order."""
    words = [f"{number} " for number in range(1_000)]
    shared = Shared([*words, 1.0, DONE])
    shared.readers.one()
    await asyncio.sleep(0.5)
    late = shared.readers.one()
    await shared.readers.done()
    assert late.text == "".join(words)


@pytest.mark.parametrize("script", [SLOW, FAILING, CUT])
def test_what_has_ended_leaves_memory_at_once(script: list[object]) -> None:
    """Answer and prompt do not wait for the garbage collector, however the call ended."""

    @paused
    async def run() -> None:
        shared = Shared(script)
        reader = shared.readers.one()
        await asyncio.sleep(0.5)
        assert shared.flight is not None
        flight = weakref.ref(shared.flight)
        shared.flights.clear()
        await reader.task
        reader.error = None
        await asyncio.sleep(0.1)
        assert shared.flight is None
        assert flight() is None

    gc.disable()
    try:
        run()
    finally:
        gc.enable()


class Limit:
    """A reservation that lets through after a time, or refuses."""

    def __init__(self, seconds: float = 0.0, refusal: Reason | None = None) -> None:
        self.seconds = seconds
        self.refusal = refusal
        self.begun = 0
        self.entered: list[Target] = []
        self.cancelled = False

    def begin(self) -> None:
        self.begun += 1

    async def enter(self, target: Target, since: float, patience: float) -> None:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.refusal is not None:
            raise GenerationError(self.refusal, "no")
        self.entered.append(target)

    def leave(self, target: Target) -> None:
        """Nothing was taken."""


class Limited(Shared):
    """Each caller has a reservation of its own."""

    def one(self, limit: Limit) -> Reader:
        return self.readers.one(change=lambda call: replace(call, reservation=limit))


@paused
async def test_the_limits_of_a_call_are_its_payers() -> None:
    """Those who join take nothing of theirs."""
    shared, limits = Limited(SLOW), [Limit(), Limit()]
    for limit in limits:
        shared.one(limit)
    await shared.readers.done()
    assert [limit.entered for limit in limits] == [[("p", "m")], []]


@paused
async def test_who_waits_for_its_limits_can_leave() -> None:
    """Its wait has ended before its call has; the next one enters with limits of its own."""
    shared, long, short = Limited(SLOW), Limit(100.0), Limit(1.0)
    first, second = shared.one(long), shared.one(short)
    await asyncio.sleep(0.5)
    await first.leave()
    assert long.cancelled
    await second.task
    assert (long.entered, short.entered) == ([], [("p", "m")])
    assert shared.payers == [second]


@pytest.mark.parametrize("reason", [Reason.CALLER_RATE_LIMITED, Reason.BUDGET_SPENT])
def test_who_may_not_fails_alone(reason: Reason) -> None:
    """A limit of one caller is no limit of another one that asks the same."""

    @paused
    async def run() -> None:
        shared = Limited(SLOW)
        refused, allowed = shared.one(Limit(0.5, reason)), shared.one(Limit())
        await shared.readers.done()
        assert refused.error is not None
        assert refused.error.reason is reason
        assert (allowed.text, shared.payers) == ("one two three", [allowed])

    run()


@paused
async def test_where_nobody_may_all_fail() -> None:
    """The last one's refusal is the call's."""
    shared = Limited(SLOW)
    for _ in range(3):
        shared.one(Limit(0.5, Reason.CALLER_RATE_LIMITED))
    await shared.readers.done()
    assert [each.error and each.error.reason for each in shared.readers.all] == [
        Reason.CALLER_RATE_LIMITED
    ] * 3
    assert shared.calls == 0


@paused
async def test_a_limit_of_the_provider_is_everyones() -> None:
    """Another caller would meet it too."""
    shared = Limited(SLOW)
    shared.one(Limit(0.5, Reason.RATE_LIMITED))
    other = shared.one(Limit())
    await shared.readers.done()
    assert other.error is not None
    assert other.error.reason is Reason.RATE_LIMITED


@paused
async def test_an_heir_reserves_what_it_will_pay() -> None:
    """The first one's limits get back what they gave; the next one's have to know of the call."""
    shared, first_limit, second_limit = Limited(SLOW), Limit(), Limit()
    first, second = shared.one(first_limit), shared.one(second_limit)
    await asyncio.sleep(0.5)
    await first.leave()
    assert (second_limit.begun, second.record.progress is not None) == (1, True)
    assert first.record.progress is None
    await second.task


steps = st.lists(
    st.tuples(
        st.floats(0, 3.5),  # when it comes
        st.none() | st.floats(0, 3),  # how long it stays, if it does not stay to the end
        st.sampled_from([0.0, 0.3, 5.0]),  # how slowly it reads
        st.sampled_from([float("inf"), 0.7, 2.0]),  # its deadline
    ),
    min_size=1,
    max_size=8,
)


@given(
    steps, st.sampled_from([SLOW, FAILING, ["half", 1.5, GenerationError(Reason.STREAM_TRUNCATED, "cut")]])
)
def test_whoever_comes_and_goes_each_call_is_paid_once(
    callers: list[tuple[float, float | None, float, float]], script: list[object]
) -> None:
    """N callers, any order of joins and leaves: one call at a time, and one payer for each that answered."""

    async def run() -> None:
        shared = Shared(script)

        async def visit(comes: float, stays: float | None, pace: float, deadline: float) -> None:
            await asyncio.sleep(comes)
            reader = shared.readers.one(pace=pace, deadline=deadline)
            assert len(shared.flights) - sum(flight.task.done() for flight in shared.flights) <= 2
            if stays is None:
                await asyncio.wait([reader.task])
            else:
                await asyncio.sleep(stays)
                await reader.leave()

        await asyncio.gather(*(visit(*caller) for caller in callers))
        assert all(flight.task.done() for flight in shared.flights)
        answered = [call for call in shared.provider.calls if call.progress.output_chars]
        assert len(shared.payers) == len(answered)
        assert shared.provider.closed == shared.calls == len(shared.watcher.attempts)
        assert len(shared.watcher.finished) == len(callers)
        for reader in shared.readers.all:
            if reader.record.outcome is Outcome.SUCCEEDED:
                assert reader.text == "one two three"

    with asyncio.Runner(loop_factory=PausedLoop) as runner:
        runner.run(run())
