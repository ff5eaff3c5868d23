"""The cache of a whole sidecar, over real gRPC and real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from outrider import v1
from outrider.v1.cache_service_pb2_grpc import CacheServiceStub
from tests.support.answers import (
    SSE,
    gated,
    json_body,
    openai_completion,
    openai_error,
    openai_events,
    openai_stream,
    stream,
)
from tests.support.sidecar import PATIENCE, Failure, Running, ask, collect, provider, running, text
from tests.support.upstream import Exchange, Upstream

COLD = v1.Sampling(temperature=0)
HIT, MISS, STALE, BYPASS = (
    v1.CACHE_STATUS_HIT,
    v1.CACHE_STATUS_MISS,
    v1.CACHE_STATUS_STALE,
    v1.CACHE_STATUS_BYPASS,
)
CANCELLED = (
    'outrider_requests_total{method="Generate",model="m",outcome="cancelled",provider="p",reason="CANCELLED"}'
)
DOWN = json_body(openai_error("down"), status=503)


async def answered(sidecar: Running, **changes: Any) -> list[v1.GenerateResponse]:
    """One stream, to its end."""
    return await collect(sidecar.generation.Generate(ask(**{"sampling": COLD} | changes)))


async def stats(sidecar: Running) -> v1.GetCacheStatsResponse:
    return await CacheServiceStub(sidecar.channel).GetCacheStats(v1.GetCacheStatsRequest())


def usage_of(events: list[v1.GenerateResponse]) -> int:
    return events[-1].completed.usage.input_tokens


async def test_a_hit_is_a_stream_without_a_call(tmp_path: Path) -> None:
    """The same text, dense sequence numbers, HIT with its age, no cost; counted and shown as such."""
    async with (
        Upstream(openai_stream("Hello ", "world")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        first = await answered(sidecar)
        second = await answered(sidecar)
        whole = await sidecar.generation.Complete(v1.CompleteRequest(request=ask(sampling=COLD)))
        numbers = await stats(sidecar)
        assert await sidecar.counted('outrider_cache_requests_total{status="memory_hit"}') == 2
        assert await sidecar.counted('outrider_cache_requests_total{status="miss"}') == 1
        assert 0 < await sidecar.counted("outrider_cache_bytes") == numbers.memory_bytes
        assert len(upstream.requests) == 1
    assert [events[0].started.cache_status for events in (first, second)] == [MISS, HIT]
    assert text(first) == text(second) == whole.message.parts[0].text == "Hello world"
    assert [event.sequence for event in second] == [1, 2, 3]
    started, completed = second[0].started, second[-1].completed
    assert started.HasField("cache_age")
    assert (started.provider, started.model, started.attempt) == ("p", "m", 0)
    assert (usage_of(first), usage_of(second)) == (9, 0)
    assert (completed.finish_reason, len(completed.attempts)) == (v1.FINISH_REASON_STOP, 0)
    assert (completed.HasField("cost"), completed.cost.total_nano_usd) == (True, 0)
    assert completed.HasField("timings")
    assert (numbers.memory_hits, numbers.misses, numbers.stored, numbers.shared) == (2, 1, 1, False)


async def test_fifty_identical_requests_are_one_call(tmp_path: Path) -> None:
    """Streams and answers in one piece alike; the provider is paid once."""
    gate = asyncio.Event()
    async with (
        Upstream(gated(gate, openai_stream("Hello ", "world"))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        streams = [asyncio.create_task(answered(sidecar)) for _ in range(40)]
        request = v1.CompleteRequest(request=ask(sampling=COLD))
        await upstream.received(1)
        wholes = [asyncio.create_task(_complete(sidecar, request)) for _ in range(10)]
        await _reaches(sidecar, "outrider_requests_in_flight", 50)
        gate.set()
        everything = await asyncio.gather(*streams)
        answers = await asyncio.gather(*wholes)
        assert len(upstream.requests) == 1
        numbers = await stats(sidecar)
    assert {text(events) for events in everything} == {"Hello world"}
    assert {answer.message.parts[0].text for answer in answers} == {"Hello world"}
    paid = [usage_of(events) for events in everything]
    assert sorted(paid) == [0] * 39 + [9]
    assert all(answer.completed.usage.input_tokens == 0 for answer in answers)
    assert len({events[0].started.request_id for events in everything}) == 40
    assert (numbers.misses, numbers.joined) == (1, 49)


async def test_one_that_leaves_does_not_cancel_the_others(tmp_path: Path) -> None:
    """Row 1: the last one does, and the provider's socket is closed within 250 ms."""
    gate = asyncio.Event()

    async def begun(exchange: Exchange) -> None:
        pieces = openai_events("Hello ", "world")
        await stream_part(exchange, pieces[:1])
        await gate.wait()
        for piece in [*pieces[1:], b""]:
            await exchange.chunk(piece)

    async with (
        Upstream(begun) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        calls = [sidecar.generation.Generate(ask(sampling=COLD)) for _ in range(3)]
        streams = [aiter(call) for call in calls]
        for events in streams:
            assert (await _next(events)).HasField("started")
            assert (await _next(events)).text_delta.text == "Hello "
        calls[0].cancel()
        gate.set()
        for rest in streams[1:]:
            events = await collect(rest)
            assert (text(events), events[-1].completed.finish_reason) == ("world", v1.FINISH_REASON_STOP)
        assert len(upstream.requests) == 1
        await _reaches(sidecar, CANCELLED, 1)

        gate.clear()
        calls = [sidecar.generation.Generate(ask(text="other", sampling=COLD)) for _ in range(2)]
        for call in calls:
            await _next(aiter(call))
        calls[0].cancel()
        await _reaches(sidecar, CANCELLED, 2)
        assert not upstream.requests[1].connection.is_closed
        left_at = asyncio.get_running_loop().time()
        calls[1].cancel()
        assert await upstream.requests[1].connection.closed() - left_at < 0.25
        gate.set()


async def test_a_cancel_before_the_first_byte_closes_the_socket(tmp_path: Path) -> None:
    """Row 1: also of a request that others could join."""
    gate = asyncio.Event()
    async with (
        Upstream(gated(gate, openai_stream("x"))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        call = sidecar.generation.Generate(ask(sampling=COLD))
        reading = asyncio.create_task(collect(call))
        request = await upstream.received(1)
        left_at = asyncio.get_running_loop().time()
        call.cancel()
        assert await request.connection.closed() - left_at < 0.25
        with pytest.raises(asyncio.CancelledError):
            await reading
        gate.set()
        await _reaches(sidecar, CANCELLED, 1)


async def test_each_caller_has_its_own_deadline(tmp_path: Path) -> None:
    """One call's DEADLINE_EXCEEDED is not another's."""
    gate = asyncio.Event()
    async with (
        Upstream(gated(gate, openai_stream("Hello"))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        hurried = sidecar.generation.Generate(ask(sampling=COLD), timeout=0.2)
        reading = asyncio.create_task(collect(hurried))
        await upstream.received(1)
        patient = asyncio.create_task(answered(sidecar))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reading
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.set()
        events = await patient
        assert (text(events), usage_of(events), len(upstream.requests)) == ("Hello", 9, 1)


async def test_a_failure_is_told_to_everyone(tmp_path: Path) -> None:
    """With its status, and with the advice not to try again what the sidecar has tried."""
    gate = asyncio.Event()
    settings = provider("", attempts={"max_attempts": 1})
    async with (
        Upstream(gated(gate, DOWN)) as upstream,
        running(tmp_path, providers={"p": {**settings, "base_url": upstream.url}}) as sidecar,
    ):
        readers = [asyncio.create_task(answered(sidecar)) for _ in range(5)]
        await _reaches(sidecar, "outrider_requests_in_flight", 5)
        gate.set()
        errors = await asyncio.gather(*readers, return_exceptions=True)
        assert len(upstream.requests) == 1
    failures = [Failure.of(error) for error in errors if isinstance(error, grpc.aio.AioRpcError)]
    assert [(failure.code, failure.reason, failure.pushback) for failure in failures] == [
        (grpc.StatusCode.UNAVAILABLE, "PROVIDER_ERROR", "-1")
    ] * 5
    assert len({failure.info.metadata["request_id"] for failure in failures}) == 5


async def test_policies_of_requests_and_routes(tmp_path: Path) -> None:
    """ONLY, REFRESH, BYPASS and USE; and a route that is never cached, whatever is asked."""
    routes = {"judge": {"targets": ["p/m"], "cache": {"mode": "never"}}}
    replies = [openai_stream(word) for word in ("one", "two", "three", "four", "five", "six")]
    async with (
        Upstream(*replies) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, routes=routes) as sidecar,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answered(sidecar, cache_policy=v1.CACHE_POLICY_ONLY)
        failure = Failure.of(caught.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "CACHE_MISS")
        assert upstream.requests == []

        assert text(await answered(sidecar)) == "one"
        assert text(await answered(sidecar, cache_policy=v1.CACHE_POLICY_BYPASS)) == "two"
        assert text(await answered(sidecar, cache_policy=v1.CACHE_POLICY_ONLY)) == "one"
        assert text(await answered(sidecar, cache_policy=v1.CACHE_POLICY_REFRESH)) == "three"
        assert text(await answered(sidecar)) == "three"

        judged = await answered(sidecar, model="judge")
        assert (text(judged), judged[0].started.cache_status) == ("four", BYPASS)
        assert not judged[-1].completed.warnings
        judged = await answered(sidecar, model="judge", cache_policy=v1.CACHE_POLICY_USE)
        assert text(judged) == "five"
        assert [warning.field for warning in judged[-1].completed.warnings] == ["cache_policy"]

        assert text(await answered(sidecar, sampling=None)) == "six"


async def test_the_default_temperature_counts(tmp_path: Path) -> None:
    """Where the configuration makes requests deterministic, they are."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, defaults={"temperature": 0}) as sidecar,
    ):
        await answered(sidecar, sampling=None)
        assert (await answered(sidecar, sampling=None))[0].started.cache_status == HIT


async def test_tool_calls_are_given_again(tmp_path: Path) -> None:
    """Id, name and arguments, as one message."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    pieces = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]
    async with (
        Upstream(stream(pieces)) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        request = v1.CompleteRequest(request=ask(sampling=COLD, tools=[v1.Tool(name="f")]))
        first = await sidecar.generation.Complete(request)
        second = await sidecar.generation.Complete(request)
        assert len(upstream.requests) == 1
    assert first.message == second.message
    assert second.message.parts[0].tool_call.arguments_json == '{"a":1}'
    assert second.completed.finish_reason == v1.FINISH_REASON_TOOL_CALLS


async def test_in_an_outage_the_stale_answer_is_given(tmp_path: Path) -> None:
    """Where the configuration allows it, marked STALE."""
    settings = provider("", attempts={"max_attempts": 1})
    async with (
        Upstream(openai_completion("old"), DOWN) as upstream,
        running(
            tmp_path,
            providers={"p": {**settings, "base_url": upstream.url}},
            cache={"ttl": "0.001ms", "stale": "1h"},
        ) as sidecar,
    ):
        request = v1.CompleteRequest(request=ask(sampling=COLD))
        await sidecar.generation.Complete(request)
        answer = await sidecar.generation.Complete(request)
        assert len(upstream.requests) == 2
        numbers = await stats(sidecar)
    assert (answer.started.cache_status, answer.message.parts[0].text) == (STALE, "old")
    assert answer.started.HasField("cache_age")
    assert [attempt.reason for attempt in answer.completed.attempts] == ["PROVIDER_ERROR"]
    assert numbers.stale_hits == 1


async def test_the_key_of_an_answer_is_in_the_trailing_metadata(tmp_path: Path) -> None:
    """The same for the same request, and none where no cache was asked."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        keys = []
        for request in (ask(sampling=COLD), ask(sampling=COLD), ask()):
            call = sidecar.generation.Generate(request)
            await collect(call)
            keys.append(dict(await call.trailing_metadata()).get("x-outrider-cache-key"))
        whole = sidecar.generation.Complete(v1.CompleteRequest(request=ask(sampling=COLD)))
        await whole
        keys.append(dict(await whole.trailing_metadata()).get("x-outrider-cache-key"))
    assert keys[0] is not None
    assert keys == [keys[0], keys[0], None, keys[0]]


async def test_a_caller_that_reads_nothing_holds_up_nobody(tmp_path: Path) -> None:
    """Of two that share an answer of megabytes, the quick one has it before the other has begun to read."""
    pieces = openai_events(*["x" * 20_000] * 400)
    async with (
        Upstream(stream(pieces)) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        idle = aiter(sidecar.generation.Generate(ask(sampling=COLD)))
        await _next(idle)
        began = time.monotonic()
        events = await answered(sidecar)
        assert (len(text(events)), len(upstream.requests)) == (8_000_000, 1)
        assert time.monotonic() - began < 5.0
        assert len(text(await collect(idle))) == 8_000_000


async def stream_part(exchange: Exchange, pieces: list[bytes]) -> None:
    await exchange.head(200, {**SSE, "transfer-encoding": "chunked"})
    for piece in pieces:
        await exchange.chunk(piece)


async def _complete(sidecar: Running, request: v1.CompleteRequest) -> v1.CompleteResponse:
    return await sidecar.generation.Complete(request)


async def _next(events: AsyncIterator[v1.GenerateResponse]) -> v1.GenerateResponse:
    async with asyncio.timeout(PATIENCE):
        return await anext(events)


async def _reaches(sidecar: Running, series: str, value: float) -> None:
    async with asyncio.timeout(PATIENCE):
        while await sidecar.counted(series) != value:
            pass
