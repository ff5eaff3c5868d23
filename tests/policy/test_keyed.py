"""Requests with an idempotency key: one run and one answer for everyone who sends it again."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import ANYONE, NOBODY, Outcome, Principal, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.core.fingerprint import digest
from outrider.core.keys import Claim, name_of
from outrider.core.ports import Batch
from outrider.policy.account import Accountant
from outrider.policy.admit import authenticate
from outrider.policy.keyed import KeyedRequests
from outrider.policy.local_keys import LocalKeys
from outrider.policy.queue import queue
from outrider.policy.resume import ResumeRules
from outrider.policy.upstream import Timeouts
from tests.policy.test_account import Counter, cost
from tests.policy.test_resume import CUT, GRACE, SLOW, WORDS, Reader
from tests.support.memory_keys import MemoryKeys
from tests.support.memory_streams import MemoryStreams
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, Step, Watcher, attempt_loop, context, upstream

KEEP = 4 * 3600.0
DOWN = GenerationError(Reason.PROVIDER_ERROR, "down")
LONG: list[Step] = [1.0, "one ", *([4.0, "more "] * 60), DONE]


class Store:
    """What a fleet shares."""

    def __init__(self) -> None:
        self.keys = MemoryKeys(keep=KEEP)
        self.streams = MemoryStreams(grace=GRACE)

    def be_away(self, *, away: bool) -> None:
        self.keys.away = self.streams.away = away

    def lose_everything(self) -> None:
        self.keys.lose_everything()
        self.streams.lose_everything()


class Pod:
    """A sidecar, and the provider behind it."""

    def __init__(self, *scripts: list[Step], shared: Store | None = None, max_bytes: int = 2**20) -> None:
        self.provider = ScriptedProvider(*scripts)
        self.watcher = Watcher()
        times = Timeouts(connect=5, first_event=100, idle=10, total=1000)
        inner = attempt_loop(upstream(self.provider, max_attempts=1, timeouts=times), watcher=self.watcher)
        pipeline = queue(leave)(Accountant(Counter(), cost, self.watcher, now)(authenticate(inner)))
        stores = (shared.keys, shared.streams) if shared is not None else ()
        self.keyed = KeyedRequests(pipeline, ResumeRules(KEEP, max_bytes, GRACE), *stores)

    def ask(self, *args: Any, **changes: Any) -> Reader:
        reader = Reader([])
        reader.task = asyncio.create_task(reader.read(self.keyed.answer(keyed_call(*args, **changes))))
        return reader

    async def asked(self, *args: Any, **changes: Any) -> Reader:
        reader = self.ask(*args, **changes)
        await reader.task
        return reader

    @property
    def runs(self) -> int:
        return len(self.provider.calls)

    @property
    def outcomes(self) -> list[Outcome]:
        return [record.outcome for record in self.watcher.finished]


def keyed_call(
    key: str = "k", text: str = "hello", caller: Principal = ANYONE, streaming: bool = True, **fields: Any
) -> RequestContext:
    """A request with a key, and an id of its own."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
    request = v1.GenerateRequest(model="p/m", messages=[message], idempotency_key=key, **fields)
    call = replace(
        context("p/m", request=request, streaming=streaming), id=uuid.uuid4().hex, principal=caller
    )
    call.record.request_id = call.id
    return call


async def leave(call: object, request: v1.GenerateRequest) -> v1.Job:
    """A queue that takes everything, under the key that it was sent with."""
    return v1.Job(job_id=f"job-of-{request.idempotency_key}")


def two_pods(*scripts: list[Step]) -> tuple[Pod, Pod, Store]:
    shared = Store()
    return Pod(*scripts, shared=shared), Pod(*scripts, shared=shared), shared


def replayed(reader: Reader) -> bool:
    return reader.events[0].started.replayed


def reason(reader: Reader) -> Reason | None:
    return reader.error.reason if isinstance(reader.error, GenerationError) else None


@paused
async def test_the_same_key_gives_the_same_answer() -> None:
    """While it is made, before its first event too, and afterwards: one run, one record, one bill."""
    pod = Pod(SLOW)
    first, beside = pod.ask(), pod.ask()
    await asyncio.sleep(3.5)
    joining = pod.ask()
    await asyncio.gather(first.task, beside.task, joining.task)
    await asyncio.sleep(KEEP - 1)
    late = await pod.asked()
    for reader in (first, beside, joining, late):
        assert (reader.numbers, reader.text) == (list(range(1, 8)), "".join(WORDS))
        assert reader.events[-1] == first.events[-1]
        assert reader.events[0].started.request_id == first.events[0].started.request_id
    assert [replayed(each) for each in (first, beside, joining, late)] == [False, True, True, True]
    assert (pod.runs, pod.outcomes) == (1, [Outcome.SUCCEEDED])
    await asyncio.sleep(2)
    again = await pod.asked()
    assert (replayed(again), pod.runs) == (False, 2)


@paused
async def test_fifty_at_once_are_one_run() -> None:
    """At two sidecars of a fleet, in any order: one record, and forty-nine replays."""
    one, other, _ = two_pods(SLOW)
    readers = [(one, other)[number % 2].ask() for number in range(50)]
    await asyncio.gather(*(reader.task for reader in readers))
    assert {reader.text for reader in readers} == {"".join(WORDS)}
    assert sorted(map(replayed, readers)) == [False] + [True] * 49
    assert (one.runs + other.runs, one.outcomes + other.outcomes) == (1, [Outcome.SUCCEEDED])


@paused
async def test_another_request_is_refused() -> None:
    """While the first runs and afterwards, here and elsewhere. How it is fetched makes no other request."""
    one, other, _ = two_pods(SLOW)
    first = one.ask()
    await asyncio.sleep(0.5)
    for _ in range(2):
        for pod in (one, other):
            assert reason(await pod.asked(text="something else")) is Reason.KEY_REUSED
            assert reason(await pod.asked(sticky_key="s")) is Reason.KEY_REUSED
        await first.task
    assert replayed(await one.asked(resumable=True))
    assert one.runs + other.runs == 1


@paused
async def test_keys_are_their_callers() -> None:
    """Another caller's or tenant's is another key, and nobody who is unknown gets near any."""
    one, other, _ = two_pods(SLOW)
    readers = [
        one.ask(),
        other.ask(caller=Principal("other")),
        other.ask(caller=Principal("anyone", tenant="acme")),
        one.ask(attribution=v1.Attribution(tenant="corp")),
        one.ask(key="l"),
    ]
    await asyncio.gather(*(reader.task for reader in readers))
    assert not any(map(replayed, readers))
    assert one.runs + other.runs == 5
    unknown = await one.asked(caller=NOBODY)
    assert reason(unknown) is Reason.CALLER_UNKNOWN


@paused
async def test_one_piece_and_a_stream_are_one_request() -> None:
    """Whoever comes second gets what the first one's run brings."""
    pod = Pod(SLOW)
    for streaming in (True, False):
        key = str(streaming)
        first = pod.ask(key, streaming=streaming)
        second = pod.ask(key, streaming=not streaming)
        await asyncio.gather(first.task, second.task)
        assert first.text == second.text == "".join(WORDS)
    assert pod.runs == 2


@paused
async def test_a_caller_leaves_and_comes_back() -> None:
    """Before the first event or after it: within the grace it goes on, here or for another sidecar."""
    one, other, _ = two_pods([5.0, *SLOW])
    for pod, stay in ((one, 1.0), (other, 1.0), (one, 6.5), (other, 6.5)):
        key = f"{stay}{pod is one}"
        first = one.ask(key)
        await asyncio.sleep(stay)
        await first.leave()
        assert one.keyed.streams.alone == 1
        await asyncio.sleep(3.0)
        back = await pod.asked(key)
        assert (back.text, replayed(back)) == ("".join(WORDS), True)
        assert one.keyed.streams.alone == 0
    assert (one.runs, other.runs) == (4, 0)


@paused
async def test_nobody_comes_back() -> None:
    """It is cancelled after the grace, and its key is free: whoever comes then gets an answer of its own."""
    one, other, _ = two_pods(LONG, SLOW)
    first = one.ask()
    await asyncio.sleep(10)
    await first.leave()
    await asyncio.sleep(GRACE - 1)
    assert (one.provider.closed, one.keyed.streams.alone) == (0, 1)
    await asyncio.sleep(2)
    assert (one.outcomes, one.keyed.streams.alone) == ([Outcome.CANCELLED], 0)
    back = await one.asked()
    assert (back.text, replayed(back)) == ("".join(WORDS), False)
    assert replayed(await other.asked())


@paused
async def test_what_failed_before_its_first_event_may_run_again() -> None:
    """All who wait for it are told; the next one with the key tries anew, at any sidecar."""
    one, other, _ = two_pods([3.0, DOWN], SLOW)
    other.provider.scripts = [SLOW]
    readers = [one.ask(), one.ask(), other.ask()]
    await asyncio.gather(*(reader.task for reader in readers))
    assert [reason(reader) for reader in readers] == [Reason.PROVIDER_ERROR] * 3
    for pod, is_replay in ((other, False), (one, True)):
        again = await pod.asked()
        assert (again.text, replayed(again)) == ("".join(WORDS), is_replay)
    assert (one.runs, other.runs) == (1, 1)


@paused
async def test_what_failed_later_is_told_again() -> None:
    """A part of it was given, and paid for: the same events, and the same failure."""
    one, other, _ = two_pods(CUT)
    first = await one.asked()
    for pod in (one, other):
        again = await pod.asked()
        assert (again.text, reason(again)) == ("one ", Reason.STREAM_TRUNCATED)
        assert isinstance(again.error, GenerationError)
        assert isinstance(first.error, GenerationError)
        assert (again.error.fact, again.error.failure) == (first.error.fact, first.error.failure)
    assert one.runs + other.runs == 1


@paused
async def test_what_was_queued_stays_so() -> None:
    """As a job under the same key: who asks again is told of the job, in the form that it can take."""
    one, other, _ = two_pods([DOWN], SLOW)
    wanted = {"unavailability_policy": v1.UNAVAILABILITY_POLICY_QUEUE}
    for streaming in (True, False):
        key = str(streaming)
        first = await one.asked(key, streaming=streaming, **wanted)
        assert (reason(first) is None) is streaming
        for pod in (one, other):
            same = await pod.asked(key, streaming=streaming, **wanted)
            assert (same.events, reason(same)) == (first.events, reason(first))
        one.provider.calls.clear()
    piece = await one.asked("True", streaming=False, **wanted)
    assert isinstance(piece.error, GenerationError)
    assert (piece.error.reason, piece.error.fact.job_id) == (Reason.QUEUED, "job-of-True")
    assert (one.runs, other.runs) == (0, 0)


@paused
async def test_the_store_is_away() -> None:
    """A key that is not known here is refused: it may have run elsewhere. What is known here goes on."""
    one, other, shared = two_pods(SLOW)
    done, running = await one.asked("done"), one.ask("running")
    await asyncio.sleep(1.5)
    shared.be_away(away=True)
    for pod, key in ((one, "new"), (other, "done"), (other, "running")):
        refused = await pod.asked(key)
        assert isinstance(refused.error, GenerationError)
        assert (refused.error.reason, refused.error.committed) == (Reason.STORE_UNAVAILABLE, False)
    joined = one.ask("running")
    assert (await one.asked("done")).text == done.text
    await asyncio.gather(running.task, joined.task)
    assert running.text == joined.text
    await asyncio.sleep(60)
    shared.be_away(away=False)
    await asyncio.sleep(2)
    for key in ("done", "running"):
        assert replayed(await other.asked(key))
    assert (one.runs, other.runs) == (2, 0)


@paused
async def test_the_store_forgets() -> None:
    """What still runs takes its key again; where another sidecar was quicker, one of the two runs ends."""
    one, other, shared = two_pods(LONG)
    running = one.ask()
    await asyncio.sleep(2)
    shared.lose_everything()
    await asyncio.sleep(5)
    joined = other.ask()
    await asyncio.sleep(2)
    assert replayed(joined)
    shared.lose_everything()
    taken = other.ask()
    await asyncio.sleep(5)
    assert (one.runs, other.runs) == (1, 1)
    assert reason(running) is Reason.SIDECAR_LOST
    assert not taken.task.done()
    assert one.provider.closed == 1


@paused
async def test_a_key_is_taken_and_nothing_runs() -> None:
    """Its sidecar died, or its caller left, in between: whoever comes waits for the end of the lease."""
    one, _, shared = two_pods(SLOW)
    call = keyed_call()
    await shared.keys.hold(name_of(call), Claim(call.id, digest(call.request)))
    began = now()
    again = await one.asked()
    assert (again.text, replayed(again), one.runs) == ("".join(WORDS), False, 1)
    assert 10 < now() - began < 20


@paused
async def test_its_sidecar_dies() -> None:
    """Who waits for the first event gets an answer of its own once the lease has ended; who has seen some is
    told, and gets one the next time.
    """
    one, other, _ = two_pods([5.0, "one ", 100.0, DONE])
    other.provider.scripts = [SLOW]
    early, late = one.ask("early"), one.ask("late")
    await asyncio.sleep(4)
    await late.leave()
    waiting = other.ask("early")
    await asyncio.sleep(0.5)
    kill(keep=(waiting.task,))
    began = now()
    await waiting.task
    assert now() - began < 25
    assert (waiting.text, replayed(waiting)) == ("".join(WORDS), False)
    del early
    fresh = Pod([1.0, "one ", 100.0, DONE], shared=(shared := Store()))
    other = Pod(SLOW, shared=shared)
    first = fresh.ask()
    await asyncio.sleep(3)
    reading = other.ask()
    await asyncio.sleep(0.5)
    kill(keep=(reading.task,))
    await reading.task
    assert (reading.text, reason(reading)) == ("one ", Reason.SIDECAR_LOST)
    await asyncio.sleep(5)
    again = await other.asked()
    assert (again.text, replayed(again), other.runs) == ("".join(WORDS), False, 1)
    assert first.task.done()


def kill(*, keep: tuple[asyncio.Task[None], ...]) -> None:
    """End everything else at once, as a process does: not even its ends reach the store."""
    for task in asyncio.all_tasks() - {asyncio.current_task(), *keep}:
        task.cancel()
        task.cancel()


@paused
async def test_the_sidecar_stops() -> None:
    """DRAINING, with what was used; the key is free, and nothing is left running."""
    one, other, _ = two_pods(LONG)
    other.provider.scripts = [SLOW]
    reading, away = one.ask("reading"), one.ask("away")
    await asyncio.sleep(3)
    await away.leave()
    reading.task.cancel(Reason.DRAINING)
    await reading.task
    assert reason(reading) is Reason.DRAINING
    await one.keyed.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for key in ("reading", "away"):
        again = await other.asked(key)
        assert (again.text, replayed(again)) == ("".join(WORDS), False)


@paused
async def test_an_answer_that_is_not_kept() -> None:
    """Its key still never runs again: who sends it is told so; the answer itself has warned of that."""
    pod = Pod(SLOW, max_bytes=0)
    first = pod.ask()
    await asyncio.sleep(1.5)
    assert reason(await pod.asked()) is Reason.REQUEST_UNKNOWN
    await first.task
    assert [warning.field for warning in first.events[-1].completed.warnings] == ["idempotency_key"]
    assert reason(await pod.asked()) is Reason.REQUEST_UNKNOWN
    assert pod.runs == 1


@paused
async def test_failures_take_no_room_from_answers() -> None:
    """A provider that is down for long does not make a sidecar forget what others have answered."""
    pod = Pod(SLOW, [DOWN], max_bytes=10_000)
    await pod.asked("good")
    for number in range(100):
        await pod.asked(str(number))
        await asyncio.sleep(20)
    assert replayed(await pod.asked("good"))


@paused
async def test_a_sidecar_remembers_so_many_keys() -> None:
    """Of those that have ended the oldest go first; those that run stay."""
    keys = LocalKeys(KEEP, most=2)
    for number in range(5):
        keys.begin(str(number), Claim(str(number), "d"))
    for number in range(1, 5):
        keys.end(str(number), answered=True)
        await asyncio.sleep(1)
    assert [keys.find(str(number)) is not None for number in range(5)] == [True, False, False, True, True]
    await asyncio.sleep(KEEP - 1.5)
    assert [keys.find(str(number)) is not None for number in range(5)] == [True, False, False, False, True]


@paused
async def test_a_bug_is_told_to_everyone() -> None:
    """And does not keep the key where nothing was answered."""

    async def broken(call: RequestContext) -> AsyncGenerator[Batch, None]:
        await asyncio.sleep(1)
        if call.id:
            raise KeyError("bug")
        yield []

    keyed = KeyedRequests(broken, ResumeRules())
    for _ in range(2):
        with pytest.raises(KeyError):
            async with aclosing(keyed.answer(keyed_call())) as batches:
                async for _ in batches:
                    pass


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.9, 3.0, 12.0]),  # between two callers
            st.booleans(),  # which sidecar
            st.none() | st.sampled_from([0.0, 0.5, 2.5]),  # leaves after so long
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.sampled_from([SLOW, CUT, [1.0, DOWN]]), min_size=1, max_size=3),
)
def test_no_two_runs_at_the_same_time_and_one_answer(
    visits: list[tuple[float, bool, float | None]], scripts: list[list[Step]]
) -> None:
    """Whoever comes and goes, wherever: a run that was answered is the last, and everyone reads that."""

    @paused
    async def run() -> None:
        one, other, _ = two_pods(*scripts)
        readers = []
        for pause, here, stay in visits:
            await asyncio.sleep(pause)
            readers.append((one if here else other).ask())
            if stay is not None:
                await asyncio.sleep(stay)
                await readers[-1].leave()
            running = [each for pod in (one, other) for each in pod.watcher.started]
            finished = [each for pod in (one, other) for each in pod.watcher.finished]
            assert len(running) - len(finished) <= 1
        await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
        answers = {reader.text for reader in readers if reader.error is None and reader.last == 7}
        assert answers <= {"".join(WORDS)}
        answered = [
            record
            for pod in (one, other)
            for record in pod.watcher.finished
            if record.outcome is Outcome.SUCCEEDED or record.last_sequence
        ]
        assert len(answered) <= 1
        await asyncio.gather(one.keyed.aclose(), other.keyed.aclose())

    run()
