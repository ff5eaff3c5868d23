"""Requests that are sent again under the same idempotency key, on real sockets."""

from __future__ import annotations

import asyncio
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from tests.support.answers import (
    gated,
    json_body,
    openai_completion,
    openai_events,
    openai_stream,
    silence,
    unending,
)
from tests.support.caller import calling
from tests.support.process import serving
from tests.support.redis_server import redis_server
from tests.support.sidecar import PATIENCE, Failure, ask, collect, provider, running, text
from tests.support.upstream import Upstream
from tests.system.test_resume import (
    LAST,
    WHOLE,
    WORDS,
    Pace,
    failure,
    first_words,
    fleet,
    numbers,
    records,
    rest,
    resume,
    take,
    words,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.caller import Caller
    from tests.support.redis_server import Server
    from tests.support.sidecar import Running

KEY = "order-1"


def send(caller: Caller | Running, key: str = KEY, **fields: Any) -> Any:
    """A call with a key."""
    return caller.generation.Generate(ask(idempotency_key=key, **fields), wait_for_ready=True)


async def complete(caller: Caller | Running, key: str = KEY, **fields: Any) -> v1.CompleteResponse:
    """The same in one piece."""
    request = v1.CompleteRequest(request=ask(idempotency_key=key, **fields))
    answer: v1.CompleteResponse = await caller.generation.Complete(request)
    return answer


async def failure_of(call: Any) -> Failure:
    """How such a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Failure.of(caught.value)


async def end_leases(redis: Server) -> None:
    """What Redis does by itself ten seconds after a sidecar's last sign of life."""
    keys = [
        *(await redis.cli("--scan", "--pattern", "outrider:idempotency:*")).split(),
        *(await redis.cli("--scan", "--pattern", "outrider:stream:*:lease")).split(),
    ]
    assert len(keys) == 2
    assert await redis.cli("del", *keys) == "2"


async def test_fifty_calls_are_one(tmp_path: Path) -> None:
    """In streams and in one piece, at the same time: one call of the provider, one entry in the ledger."""
    gate = asyncio.Event()
    async with fleet(tmp_path, gated(gate, openai_stream(*WORDS))) as (upstream, pods):
        (sidecar,) = pods.sidecars
        first = asyncio.create_task(collect(send(sidecar)))
        await upstream.received()
        others = [asyncio.create_task(collect(send(sidecar))) for _ in range(29)]
        pieces = [asyncio.create_task(complete(sidecar)) for _ in range(20)]
        gate.set()
        answers = await asyncio.gather(first, *others)
        whole = await asyncio.gather(*pieces, complete(sidecar))
        assert [text(answer) for answer in answers] == [WHOLE] * 30
        assert [answer.message.parts[0].text for answer in whole] == [WHOLE] * 21
        assert {answer[-1].completed.usage.input_tokens for answer in answers} == {9}
        assert [answer[0].started.replayed for answer in answers] == [False] + [True] * 29
        assert all(answer.started.replayed for answer in whole)
        assert len(upstream.requests) == 1
        assert await sidecar.counted("outrider_replays_total") == 50
        (record,) = await records(sidecar)
        assert record.request_id == answers[7][0].started.request_id
        await collect(sidecar.generation.Generate(ask()))
        assert len(upstream.requests) == 2


async def test_a_complete_that_was_given_up(tmp_path: Path) -> None:
    """The caller ends its call, not the request: sent again, it gives the answer."""
    gate = asyncio.Event()
    async with fleet(tmp_path, gated(gate, openai_completion("paid once"))) as (upstream, pods):
        (sidecar,) = pods.sidecars
        request = v1.CompleteRequest(request=ask(idempotency_key=KEY))
        hasty = sidecar.generation.Complete(request)
        await upstream.received()
        hasty.cancel()
        again = asyncio.create_task(complete(sidecar))
        gate.set()
        answer = await again
        assert (answer.message.parts[0].text, answer.started.replayed) == ("paid once", True)
        assert len(upstream.requests) == 1
        (record,) = await records(sidecar)
        assert (record.outcome, record.method) == ("succeeded", "Complete")


async def test_another_request_and_another_caller(tmp_path: Path) -> None:
    """The same key for another request is an error; for another caller it is another key."""
    callers = {"one": {"token": "one-one-one"}, "two": {"token": "two-two-two"}}
    async with (
        redis_server() as redis,
        fleet(tmp_path, openai_stream("a"), 2, callers=callers, redis={"url": redis.url}) as (upstream, pods),
    ):
        one, two = ((("authorization", f"Bearer {each['token']}"),) for each in callers.values())
        first, second = (pod.generation for pod in pods.sidecars)
        await collect(first.Generate(ask(idempotency_key=KEY), metadata=one))
        for stub in (first, second):
            changed = stub.Generate(ask(idempotency_key=KEY, text="something else"), metadata=one)
            failed = await failure(changed)
            assert (failed.code, failed.reason) == (grpc.StatusCode.ALREADY_EXISTS, "KEY_REUSED")
        assert len(upstream.requests) == 1
        theirs = await collect(second.Generate(ask(idempotency_key=KEY), metadata=two))
        assert (len(upstream.requests), theirs[0].started.replayed) == (2, False)
        nobody = await failure(first.Generate(ask(idempotency_key=KEY)))
        assert nobody.code is grpc.StatusCode.UNAUTHENTICATED


async def test_any_sidecar_has_the_answer(tmp_path: Path) -> None:
    """Before the first event, while it is made, and when it is whole; and by its id as well."""
    pace = Pace(openai_events(*WORDS))
    async with (
        redis_server() as redis,
        fleet(tmp_path, pace, 2, redis={"url": redis.url}) as (upstream, pods),
    ):
        one, other = pods.callers
        call = send(one)
        await upstream.received()
        waiting = send(other)
        events = await first_words(pace, call, 2)
        joined = await take(send(other), 3)
        assert numbers(joined) == [1, 2, 3]
        call.cancel()
        waited = await take(waiting, 3) + await words(pace, waiting, len(WORDS) - 2)
        pace.step(100)
        waited += await collect(waiting)
        late = await collect(send(one))
        assert text(waited) == text(late) == WHOLE
        assert [each[0].started.replayed for each in (events, joined, waited, late)] == [
            False,
            True,
            True,
            True,
        ]
        for pod in (one, other):
            again = await rest(resume(pod, late[0].started.request_id, 2))
            assert numbers(again) == list(range(3, LAST + 1))
        assert len(upstream.requests) == 1
        assert len(await records(pods.sidecars[0])) == 1


async def test_its_sidecar_is_killed(tmp_path: Path) -> None:
    """kill -9 before the first event: who waits elsewhere gets an answer from its own sidecar, not before the
    dead one's lease has ended.
    """
    async with redis_server() as redis, Upstream(silence, openai_stream("anew")) as upstream:
        config: dict[str, Any] = {"providers": {"p": provider(upstream.url)}, "redis": {"url": redis.url}}
        async with (
            running(tmp_path, **config) as survivor,
            serving(tmp_path, **config) as victim,
            calling(victim.port) as caller,
        ):
            dying = send(caller)
            await upstream.received()
            waiting = asyncio.create_task(collect(send(survivor)))
            await redis.until("--scan", "--pattern", "outrider:stream:*:read", shows="stream")
            victim.signal(SIGKILL)
            await victim.ended()
            assert (await failure(dying)).code is grpc.StatusCode.UNAVAILABLE
            assert len(upstream.requests) == 1
            await end_leases(redis)
            anew = await waiting
            assert (text(anew), anew[0].started.replayed, len(upstream.requests)) == ("anew", False, 2)


async def test_its_sidecar_is_killed_in_mid_answer(tmp_path: Path) -> None:
    """Who had begun to read is told; the next call with the key runs anew."""
    pace = Pace(openai_events(*WORDS))
    async with redis_server() as redis, Upstream(pace, openai_stream("anew")) as upstream:
        config: dict[str, Any] = {"providers": {"p": provider(upstream.url)}, "redis": {"url": redis.url}}
        async with (
            running(tmp_path, **config) as survivor,
            serving(tmp_path, **config) as victim,
            calling(victim.port) as caller,
        ):
            await first_words(pace, send(caller), 3)
            reading = send(survivor)
            assert numbers(await take(reading, 4)) == [1, 2, 3, 4]
            victim.signal(SIGKILL)
            await victim.ended()
            await end_leases(redis)
            failed = await failure(reading)
            assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "SIDECAR_LOST")
            anew = await collect(send(survivor))
            assert (text(anew), anew[0].started.replayed, len(upstream.requests)) == ("anew", False, 2)
            assert (await collect(send(survivor)))[0].started.replayed


async def test_redis_away(tmp_path: Path) -> None:
    """Row 23: what is known here is given, what is not is refused at once, and what has no key goes on."""
    async with (
        redis_server() as redis,
        fleet(tmp_path, openai_stream("a"), 2, redis={"url": redis.url}) as (upstream, pods),
    ):
        one, other = pods.callers
        await collect(send(one))
        await redis.kill()
        assert (await collect(send(one)))[0].started.replayed
        for call in (send(other), send(one, "new")):
            failed = await failure(call)
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert failed.retry_delay == 1.0
        assert len(upstream.requests) == 1
        assert text(await collect(other.generation.Generate(ask()))) == "a"


async def test_what_fails_before_it_answers_may_be_sent_again(tmp_path: Path) -> None:
    """The status is that of any call, and the key is free."""
    down = json_body({"error": {"message": "down"}}, 500)
    async with (
        Upstream(down, openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, attempts={"max_attempts": 1})}) as sidecar,
    ):
        failed = await failure(send(sidecar))
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_ERROR")
        assert text(await collect(send(sidecar))) == "fine"
        assert (await collect(send(sidecar)))[0].started.replayed
        assert len(upstream.requests) == 2


async def test_a_queued_request_keeps_its_key(tmp_path: Path) -> None:
    """The job has it: whoever sends it again is told of that job, and no second one is made."""
    down = json_body({"error": {"message": "down"}}, 500)
    async with (
        Upstream(down) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, attempts={"max_attempts": 1})},
            jobs={"workers": 0},
        ) as sidecar,
    ):
        policy = v1.UNAVAILABILITY_POLICY_QUEUE
        first, second = [await collect(send(sidecar, unavailability_policy=policy)) for _ in range(2)]
        assert first == second
        request = v1.CompleteRequest(request=ask(idempotency_key=KEY, unavailability_policy=policy))
        failed = await failure_of(sidecar.generation.Complete(request))
        assert (failed.reason, failed.info.metadata["job_id"]) == ("QUEUED", first[0].queued.job_id)
        assert len(upstream.requests) == 1


async def begun(caller: Running, key: str) -> Any:
    """A call that has begun to be answered, once there is room for it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            call = send(caller, key)
            try:
                await take(call, 2)
            except grpc.aio.AioRpcError as error:
                assert Failure.of(error).reason == "LOAD_SHED"
                await asyncio.sleep(0.02)
            else:
                return call


async def test_what_goes_on_without_its_caller_takes_a_place(tmp_path: Path) -> None:
    """A resumable stream, or a keyed request, that nobody reads counts as a call until it ends."""
    pace = Pace(openai_events(*WORDS))
    async with (
        Upstream(pace, unending(openai_events("a")[:1])) as upstream,
        running(
            tmp_path, server={"max_concurrent_requests": 2}, providers={"p": provider(upstream.url)}
        ) as sidecar,
    ):
        detached = sidecar.generation.Generate(ask(resumable=True))
        await first_words(pace, detached, 1)
        keyed = send(sidecar)
        await take(keyed, 2)
        detached.cancel()
        keyed.cancel()
        for _ in range(20):
            failed = await failure(send(sidecar, "third"))
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "LOAD_SHED")
        assert await sidecar.counted("outrider_detached_requests") == 2
        pace.step(100)
        third = await begun(sidecar, "third")
        assert (await failure(send(sidecar, "fourth"))).reason == "LOAD_SHED"
        third.cancel()
