import asyncio
import gc
import uuid
import weakref
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import ANYONE, Outcome, Principal, RequestContext, Unlimited
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch
from outrider.policy.account import Accountant
from outrider.policy.resume import ResumableStreams, ResumeRules
from outrider.policy.upstream import Timeouts
from tests.policy.test_account import Counter, cost
from tests.support.memory_streams import MemoryStreams
from tests.support.paused_clock import PausedLoop, now, paused
from tests.support.scripted import DONE, ScriptedProvider, Step, Watcher, attempt_loop, context, upstream

KEEP, GRACE = 120.0, 30.0
WORDS = ["one ", "two ", "three ", "four ", "five"]
SLOW: list[Step] = [step for word in WORDS for step in (1.0, word)] + [1.0, DONE]
CUT: list[Step] = [1.0, "one ", 1.0, GenerationError(Reason.STREAM_TRUNCATED, "cut")]


class Reader:
    """Somebody who reads a stream until it ends, or until it is broken off."""

    def __init__(self, events: Batch) -> None:
        self.events = events
        self.error: Exception | None = None
        self.task: asyncio.Task[None]

    async def read(self, stream: AsyncGenerator[Batch, None]) -> None:
        try:
            async with aclosing(stream) as batches:
                async for batch in batches:
                    self.events += batch
        except GenerationError as error:
            self.error = error

    @property
    def numbers(self) -> list[int]:
        return [event.sequence for event in self.events]

    @property
    def text(self) -> str:
        return "".join(event.text_delta.text for event in self.events)

    @property
    def last(self) -> int:
        return self.numbers[-1] if self.events else 0

    async def leave(self, reason: str | None = None) -> None:
        self.task.cancel(reason)
        with suppress(asyncio.CancelledError):
            await self.task


class Pod:
    """A sidecar's streams, and the provider behind them."""

    def __init__(
        self, *scripts: list[Step], shared: MemoryStreams | None = None, max_bytes: int = 2**20
    ) -> None:
        self.provider = ScriptedProvider(*scripts)
        self.watcher = Watcher()
        times = Timeouts(connect=5, first_event=10, idle=10, total=1000)
        inner = attempt_loop(upstream(self.provider, max_attempts=1, timeouts=times), watcher=self.watcher)
        pipeline = Accountant(Counter(), cost, self.watcher, now)(inner)
        self.streams = ResumableStreams(pipeline, ResumeRules(KEEP, max_bytes, GRACE), shared)

    def begin(self, **changes: object) -> tuple[str, Reader]:
        call = replace(context("p/m"), id=uuid.uuid4().hex, **changes)  # type: ignore[arg-type]
        call.record.request_id = call.id
        reader = Reader([])
        reader.task = asyncio.create_task(reader.read(self.streams.begin(call)))
        return call.id, reader

    def resume(
        self, request_id: str, after: int = 0, caller: Principal = ANYONE, into: Batch | None = None
    ) -> Reader:
        reader = Reader([] if into is None else into)

        async def run() -> None:
            try:
                stream = self.streams.resume(request_id, caller, after)
            except GenerationError as error:
                reader.error = error
            else:
                await reader.read(stream)

        reader.task = asyncio.create_task(run())
        return reader

    @property
    def outcomes(self) -> list[Outcome]:
        return [record.outcome for record in self.watcher.finished]


def two_pods(*scripts: list[Step]) -> tuple[Pod, Pod, MemoryStreams]:
    shared = MemoryStreams(grace=GRACE)
    return Pod(*scripts, shared=shared), Pod([DONE], shared=shared), shared


@paused
async def test_a_caller_comes_back_and_gets_the_rest() -> None:
    """Row 30: one call of the provider, one record, usage once; nothing is repeated or missing."""
    pod = Pod(SLOW)
    request_id, first = pod.begin()
    await asyncio.sleep(2.5)
    await first.leave()
    await asyncio.sleep(1.0)
    second = pod.resume(request_id, first.last)
    await second.task
    assert first.numbers + second.numbers == list(range(1, 8))
    assert first.text + second.text == "".join(WORDS)
    assert len(pod.provider.calls) == 1
    assert first.events[0].started.request_id == request_id
    await asyncio.sleep(0)
    (record,) = pod.watcher.finished
    assert (record.outcome, record.last_sequence) == (Outcome.SUCCEEDED, 7)
    assert record.usage == second.events[-1].completed.usage
    assert record.usage is not None
    assert record.usage.output_tokens > 0


@paused
async def test_what_has_ended_is_kept_for_a_while() -> None:
    """All of it can be read again and again, and then it is forgotten."""
    pod = Pod(SLOW)
    request_id, first = pod.begin()
    await first.task
    for after in (0, 3, 6):
        again = pod.resume(request_id, after)
        await again.task
        assert again.numbers == list(range(after + 1, 8))
    nothing = pod.resume(request_id, 7)
    await nothing.task
    assert (nothing.events, nothing.error) == ([], None)
    await asyncio.sleep(KEEP + 1)
    late = pod.resume(request_id)
    await late.task
    assert isinstance(late.error, GenerationError)
    assert late.error.reason is Reason.REQUEST_UNKNOWN


@paused
async def test_another_callers_request_is_unknown() -> None:
    """As one that never was; also where a store is shared, and an id that is no id asks nobody."""
    shared = MemoryStreams(grace=GRACE)
    for pod in (Pod(SLOW), Pod(SLOW, shared=shared)):
        request_id, first = pod.begin()
        await asyncio.sleep(2.5)
        other = Principal("other")
        strangers = [pod.resume(request_id, 0, other), pod.resume("0" * 32), pod.resume("}x{")]
        await asyncio.gather(*(each.task for each in strangers))
        reasons = [isinstance(each.error, GenerationError) and each.error.reason for each in strangers]
        assert reasons == [Reason.REQUEST_UNKNOWN] * 3
        await first.task


@paused
async def test_several_may_read_at_the_same_time() -> None:
    """Each from where it wants, and who asks for more than there is waits for it."""
    pod = Pod(SLOW)
    request_id, first = pod.begin()
    await asyncio.sleep(1.5)
    whole, ahead = pod.resume(request_id), pod.resume(request_id, 4)
    await asyncio.gather(first.task, whole.task, ahead.task)
    assert first.numbers == whole.numbers == list(range(1, 8))
    assert ahead.numbers == [5, 6, 7]
    first.events[0].started.provider = "changed"
    assert whole.events[0].started.provider == "p"


@paused
async def test_nobody_reads_for_too_long() -> None:
    """Row 1: the provider is let go after the grace; that is on record once, and who comes is told."""
    pod = Pod(["one ", *([4.0, "more "] * 30), DONE])
    request_id, first = pod.begin()
    await asyncio.sleep(0.5)
    await first.leave()
    await asyncio.sleep(GRACE - 1)
    assert pod.provider.closed == 0
    await asyncio.sleep(1.5)
    assert (pod.provider.closed, pod.outcomes) == (1, [Outcome.CANCELLED])
    late = pod.resume(request_id, first.last)
    await late.task
    assert late.numbers[0] == first.last + 1
    assert isinstance(late.error, GenerationError)
    assert (late.error.reason, late.error.committed) == (Reason.CANCELLED, True)


@paused
async def test_who_comes_back_in_time_keeps_it_going() -> None:
    """As often as need be, and however short."""
    pod = Pod(["one ", *([4.0, "more "] * 30), DONE])
    request_id, reader = pod.begin()
    got = reader.events
    for _ in range(4):
        await asyncio.sleep(0.5)
        await reader.leave()
        await asyncio.sleep(GRACE - 2)
        reader = pod.resume(request_id, got[-1].sequence, into=got)
    await reader.task
    assert [event.sequence for event in got] == list(range(1, 34))
    await asyncio.sleep(0)
    assert pod.outcomes == [Outcome.SUCCEEDED]


@paused
async def test_without_an_event_nobody_can_come_back() -> None:
    """Row 1: who leaves before the first one has left for good; it is cancelled at once."""
    pod = Pod(SLOW)
    request_id, first = pod.begin()
    await asyncio.sleep(0.5)
    await first.leave()
    assert (pod.provider.closed, pod.outcomes) == (1, [Outcome.CANCELLED])
    late = pod.resume(request_id)
    await late.task
    assert isinstance(late.error, GenerationError)
    assert late.error.reason is Reason.REQUEST_UNKNOWN


@paused
async def test_a_failure_is_told_again() -> None:
    """To everyone who comes back: the same error, with the same account of what had happened."""
    pod = Pod(CUT)
    request_id, first = pod.begin()
    await first.task
    second = pod.resume(request_id, first.last)
    await second.task
    for error in (first.error, second.error):
        assert isinstance(error, GenerationError)
        assert (error.reason, error.committed) == (Reason.STREAM_TRUNCATED, True)
        assert error.failure is not None
        assert (error.failure.request_id, error.failure.last_sequence) == (request_id, 2)
        assert error.failure.partial_usage.output_tokens > 0
    assert first.error is not second.error
    assert pod.outcomes == [Outcome.FAILED]


@paused
async def test_a_failure_before_any_event_is_not_kept() -> None:
    """Nobody knows its id."""
    pod = Pod([GenerationError(Reason.PROVIDER_ERROR, "down")])
    request_id, first = pod.begin()
    await first.task
    assert isinstance(first.error, GenerationError)
    assert (first.error.reason, first.error.committed) == (Reason.PROVIDER_ERROR, False)
    late = pod.resume(request_id)
    await late.task
    assert isinstance(late.error, GenerationError)
    assert late.error.reason is Reason.REQUEST_UNKNOWN


@paused
async def test_a_bug_ends_every_reader() -> None:
    """Nobody hangs."""

    async def broken(call: RequestContext) -> AsyncGenerator[Batch, None]:
        yield [v1.GenerateResponse(started=v1.Started())]
        await asyncio.sleep(1)
        raise KeyError("bug")

    streams = ResumableStreams(broken, ResumeRules(), None)
    call = replace(context("p/m"), id="x")
    with pytest.raises(KeyError):
        async with aclosing(streams.begin(call)) as batches:
            async for _ in batches:
                pass
    with pytest.raises(KeyError):
        async with aclosing(streams.resume("x", ANYONE, 0)) as batches:
            async for _ in batches:
                pass


@paused
async def test_the_deadline_is_that_of_a_call() -> None:
    """The answer goes on beyond it: who comes back brings a deadline of its own."""
    pod = Pod(SLOW)
    _, first = pod.begin(deadline=now() + 2.0)
    await first.task
    assert (first.error, first.last) == (None, 7)


@paused
async def test_the_sidecar_stops() -> None:
    """Readers and those who are away alike: DRAINING, with what was used; nothing is left running."""
    shared = MemoryStreams(grace=GRACE)
    pod = Pod(SLOW, shared=shared)
    (_, reading), (away_id, away) = pod.begin(), pod.begin()
    await asyncio.sleep(2.5)
    await away.leave()
    reading.task.cancel(Reason.DRAINING)
    await reading.task
    assert isinstance(reading.error, GenerationError)
    assert (reading.error.reason, reading.error.committed) == (Reason.DRAINING, True)
    assert reading.error.failure is not None
    assert reading.error.failure.partial_usage.output_tokens > 0
    await pod.streams.aclose()
    assert pod.provider.closed == 2
    assert [record.reason for record in pod.watcher.finished] == [Reason.DRAINING] * 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
    late = Pod([DONE], shared=shared).resume(away_id, away.last)
    await late.task
    assert isinstance(late.error, GenerationError)
    assert late.error.reason is Reason.DRAINING


@paused
async def test_what_has_ended_makes_room() -> None:
    """The oldest go first; who reads one to its end is not disturbed."""
    pod = Pod(SLOW, max_bytes=7_000)
    ids = []
    for _ in range(3):
        request_id, reader = pod.begin()
        ids.append(request_id)
        await reader.task
        assert reader.last == 7
    assert [pod.streams._shelf.find(each, "anyone") is not None for each in ids] == [False, True, True]


@paused
async def test_without_room_an_answer_is_as_any_other() -> None:
    """It goes at its reader's pace, warns that it cannot be resumed, and ends when its caller leaves."""
    pod = Pod(SLOW, max_bytes=0)
    request_id, first = pod.begin()
    await first.task
    assert first.numbers == list(range(1, 8))
    (warning,) = first.events[-1].completed.warnings
    assert warning.field == "resumable"
    for _ in range(2):
        request_id, leaving = pod.begin()
        await asyncio.sleep(2.5)
        late = pod.resume(request_id)
        await late.task
        assert isinstance(late.error, GenerationError)
        await leaving.leave()
    assert pod.outcomes == [Outcome.SUCCEEDED, Outcome.CANCELLED, Outcome.CANCELLED]
    assert pod.provider.closed == 3


@paused
async def test_without_room_the_provider_waits_for_the_reader() -> None:
    """Row 10: what nobody can ask for again is not piled up."""
    pod = Pod([*("word" for _ in range(100)), DONE], max_bytes=0)
    call = replace(context("p/m"), id="x")
    async with aclosing(pod.streams.begin(call)) as batches:
        first = await anext(batches)
        await asyncio.sleep(1)
        assert call.record.progress is not None
        assert call.record.progress.output_chars <= 12
        rest = [event async for batch in batches for event in batch]
    assert [event.sequence for event in (*first, *rest)] == list(range(1, 103))


@paused
async def test_any_pod_gives_the_rest() -> None:
    """While it is made, and after it is whole."""
    one, other, _ = two_pods(SLOW)
    request_id, first = one.begin()
    await asyncio.sleep(2.5)
    await first.leave()
    second = other.resume(request_id, first.last)
    await second.task
    assert first.numbers + second.numbers == list(range(1, 8))
    again = other.resume(request_id)
    await again.task
    assert again.numbers == list(range(1, 8))
    assert (len(one.provider.calls), other.provider.calls, other.outcomes) == (1, [], [])
    await asyncio.sleep(KEEP + 20)
    late = other.resume(request_id)
    await late.task
    assert isinstance(late.error, GenerationError)
    assert late.error.reason is Reason.REQUEST_UNKNOWN


@paused
async def test_a_reader_at_another_pod_keeps_it_going() -> None:
    """It counts as a reader; without it the stream ends after the grace."""
    one, other, _ = two_pods(["one ", *([4.0, "more "] * 60), DONE])
    request_id, first = one.begin()
    await asyncio.sleep(0.5)
    await first.leave()
    second = other.resume(request_id, first.last)
    await asyncio.sleep(3 * GRACE)
    assert one.provider.closed == 0
    await second.leave()
    await asyncio.sleep(GRACE - 2)
    assert one.provider.closed == 0
    await asyncio.sleep(4)
    assert (one.provider.closed, one.outcomes) == (1, [Outcome.CANCELLED])


@paused
async def test_a_failure_reaches_other_pods() -> None:
    """With the same status."""
    one, other, _ = two_pods(CUT)
    request_id, first = one.begin()
    await first.task
    second = other.resume(request_id, 1)
    await second.task
    assert second.numbers == [2]
    assert isinstance(second.error, GenerationError)
    assert isinstance(first.error, GenerationError)
    assert (second.error.fact, second.error.committed, second.error.failure) == (
        first.error.fact,
        True,
        first.error.failure,
    )


@paused
async def test_the_store_is_away_for_a_while() -> None:
    """Row 23: nobody here notices; what it missed, or has forgotten, it gets when it is back."""
    one, other, shared = two_pods(SLOW)
    request_id, first = one.begin()
    await asyncio.sleep(1.5)
    shared.away = True
    await asyncio.sleep(2.0)
    assert len(first.events) == 4
    local, remote = one.resume(request_id, 2), other.resume(request_id, 2)
    shared.lose_everything()
    await asyncio.sleep(1.0)
    shared.away = False
    await asyncio.gather(first.task, local.task, remote.task)
    assert local.numbers == remote.numbers == [3, 4, 5, 6, 7]


@paused
async def test_the_store_stays_away() -> None:
    """Row 33: the pod that makes the stream gives it; another one says that it cannot know."""
    one, other, shared = two_pods(SLOW)
    shared.away = True
    request_id, first = one.begin()
    await asyncio.sleep(2.5)
    await first.leave()
    local, remote = one.resume(request_id, first.last), other.resume(request_id, first.last)
    await asyncio.gather(local.task, remote.task)
    assert first.numbers + local.numbers == list(range(1, 8))
    assert isinstance(remote.error, GenerationError)
    assert (remote.error.reason, remote.error.committed) == (Reason.STORE_UNAVAILABLE, False)


@paused
async def test_while_the_store_is_away_nobody_is_kept_waiting() -> None:
    """A stream without readers of its own ends after twice the grace, however long that lasts."""
    one, _, shared = two_pods(["one ", *([4.0, "more "] * 60), DONE])
    _, first = one.begin()
    await asyncio.sleep(0.5)
    shared.away = True
    await first.leave()
    await asyncio.sleep(2 * GRACE - 1)
    assert one.provider.closed == 0
    await asyncio.sleep(3)
    assert one.provider.closed == 1


@paused
async def test_the_pod_that_makes_it_dies() -> None:
    """Readers elsewhere get what there is, and are told once its lease is gone."""
    one, other, _ = two_pods(["one ", 1.0, "two ", 100.0, DONE])
    request_id, first = one.begin()
    await asyncio.sleep(2.0)
    second = other.resume(request_id, 1)
    for task in asyncio.all_tasks() - {asyncio.current_task(), second.task}:
        task.cancel()
    # Nothing of it runs any more: not even the ending reaches the store.
    one.streams._mirrors.clear()
    began = now()
    await second.task
    assert now() - began < 12
    assert second.numbers == [2, 3]
    assert isinstance(second.error, GenerationError)
    assert (second.error.reason, second.error.committed) == (Reason.SIDECAR_LOST, True)
    assert first.task.done()


@paused
async def test_the_store_is_written_to_by_batches() -> None:
    """However many events there are: a few appends a second."""
    one, _, shared = two_pods([*(step for _ in range(1000) for step in ("word ", 0.002)), DONE])
    _, first = one.begin()
    await first.task
    assert first.last == 1002
    assert shared.appends <= 45


def test_what_has_ended_leaves_memory_at_once() -> None:
    """Row 10: of an answer that can be read again only its events stay, not the request."""

    async def run() -> None:
        pod = Pod(SLOW)
        part = Unlimited()  # of a request, and one that can be watched
        call = replace(context("p/m"), id="x", reservation=part)
        watched = weakref.ref(part)
        async with aclosing(pod.streams.begin(call)) as batches:
            assert [len(batch) async for batch in batches]
        await asyncio.sleep(0)
        pod.provider.calls.clear()
        del call, batches, part
        assert watched() is None
        assert pod.streams._shelf.find("x", "anyone") is not None
        await pod.streams.aclose()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=PausedLoop) as runner:
            runner.run(run())
    finally:
        gc.enable()


@given(
    st.lists(st.sampled_from([0.0, 0.001, 0.3, 2.0]), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.4, 3.0]), st.sampled_from([0.0, 0.2, 5.0]), st.booleans()),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_cuts_and_any_pods_give_the_whole_stream(
    pauses: list[float], visits: list[tuple[float, float, bool]], whole: bool
) -> None:
    """For any cut points and any number of resumes: the pieces, one after another, are the stream."""

    @paused
    async def run() -> None:
        ending: Step = DONE if whole else GenerationError(Reason.STREAM_TRUNCATED, "cut")
        script = [step for i, pause in enumerate(pauses) for step in (pause, f"{i} ")]
        one, other, _ = two_pods([*script, ending])
        request_id, reader = one.begin()
        got = reader.events
        await asyncio.sleep(pauses[0] + 0.001)
        for stay, absence, here in visits:
            await asyncio.sleep(stay)
            await reader.leave()
            await asyncio.sleep(absence)
            reader = (one if here else other).resume(request_id, got[-1].sequence, into=got)
        await reader.task
        assert [event.sequence for event in got] == list(range(1, len(pauses) + 2 + whole))
        assert "".join(event.text_delta.text for event in got) == "".join(f"{i} " for i in range(len(pauses)))
        if not whole:
            assert isinstance(reader.error, GenerationError)
            assert reader.error.reason is Reason.STREAM_TRUNCATED
        await asyncio.sleep(0.1)
        assert len(one.provider.calls) == 1
        assert one.outcomes == [Outcome.SUCCEEDED if whole else Outcome.FAILED]
        await one.streams.aclose()

    run()
