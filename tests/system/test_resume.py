"""Callers whose connection breaks, and who come back for the rest, on real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub
from tests.support.answers import CHUNKED, SSE, json_body, openai_events, openai_stream, unending
from tests.support.caller import Caller, calling
from tests.support.faulty_link import FaultyLink, faulty_link
from tests.support.process import serving
from tests.support.redis_server import redis_server
from tests.support.sidecar import PATIENCE, Failure, Running, ask, collect, provider, running, text
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.upstream import Answer, Exchange

WORDS = [f"word{number} " for number in range(8)]
WHOLE = "".join(WORDS)
LAST = len(WORDS) + 2


class Pace:
    """An answer that sends its next piece, and then comes to its end, when a test says so."""

    def __init__(self, pieces: list[bytes], end: bool = True) -> None:
        self._pieces = pieces
        self._end = end
        self._steps = asyncio.Semaphore(0)

    def step(self, count: int = 1) -> None:
        """Send so many more."""
        for _ in range(count):
            self._steps.release()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head(200, {**SSE, **CHUNKED})
        for piece in self._pieces:
            await self._steps.acquire()
            await exchange.chunk(piece)
        await self._steps.acquire()
        await (exchange.chunk(b"") if self._end else exchange.fail("reset"))


class Fleet:
    """Sidecars of one configuration, with a stretch of network in front of each."""

    def __init__(self, sidecars: list[Running], networks: list[FaultyLink], callers: list[Caller]) -> None:
        self.sidecars = sidecars
        self.networks = networks
        self.callers = callers


@asynccontextmanager
async def fleet(folder: Path, answer: Answer, count: int = 1, **config: Any) -> AsyncIterator[Any]:
    """So many sidecars, and the provider behind all of them."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(answer))
        sidecars, networks, callers = [], [], []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            providers = {"p": provider(upstream.url)}
            sidecars.append(await stack.enter_async_context(running(own, providers=providers, **config)))
            networks.append(await stack.enter_async_context(faulty_link(sidecars[-1].sidecar.port)))
            callers.append(await stack.enter_async_context(calling(networks[-1].port)))
        yield upstream, Fleet(sidecars, networks, callers)


def begin(caller: Caller | Running) -> Any:
    """A call that can be resumed."""
    return caller.generation.Generate(ask(resumable=True))


def resume(caller: Caller | Running, request_id: str, after: int = 0) -> Any:
    """A call for the rest."""
    request = v1.ResumeGenerateRequest(request_id=request_id, after_sequence=after)
    return caller.generation.ResumeGenerate(request, wait_for_ready=True)


async def take(call: Any, count: int) -> list[v1.GenerateResponse]:
    """So many events."""
    async with asyncio.timeout(PATIENCE):
        events = [await anext(aiter(call)) for _ in range(count)]
    return [event.event if isinstance(event, v1.ResumeGenerateResponse) else event for event in events]


async def first_words(pace: Pace, call: Any, count: int) -> list[v1.GenerateResponse]:
    """The beginning of a stream, each word an event of its own."""
    pace.step()
    events = await take(call, 2)
    return events + await words(pace, call, count - 1)


async def words(pace: Pace, call: Any, count: int) -> list[v1.GenerateResponse]:
    """So many more words, each an event of its own."""
    events = []
    for _ in range(count):
        pace.step()
        events += await take(call, 1)
    return events


async def rest(call: Any) -> list[v1.GenerateResponse]:
    """All that follows."""
    async with asyncio.timeout(PATIENCE):
        return [answer.event async for answer in call]


async def failure(call: Any) -> Failure:
    """How a call fails, whatever comes before."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(call)
    return Failure.of(caught.value)


async def cut(network: FaultyLink, call: Any) -> None:
    """Break a caller's connection; it knows when this returns."""
    network.cut()
    assert (await failure(call)).code is grpc.StatusCode.UNAVAILABLE


async def records(sidecar: Running) -> list[v1.UsageRecord]:
    """The ledger's entries, once there is one."""
    stub = UsageServiceStub(sidecar.channel)
    found: list[v1.ExportUsageResponse] = []
    async with asyncio.timeout(PATIENCE):
        while not found:
            await asyncio.sleep(0.02)
            found = [each async for each in stub.ExportUsage(v1.ExportUsageRequest())]
    return [each.record for each in found]


def numbers(events: list[v1.GenerateResponse]) -> list[int]:
    return [event.sequence for event in events]


async def test_a_broken_connection_costs_nothing(tmp_path: Path) -> None:
    """Row 30: the provider's one stream goes on; what was sent twice or never: nothing. One record."""
    pace = Pace(openai_events(*WORDS))
    async with fleet(tmp_path, pace) as (upstream, pods):
        (caller,), (network,) = pods.callers, pods.networks
        call = begin(caller)
        events = await first_words(pace, call, 3)
        await cut(network, call)
        call = resume(caller, events[0].started.request_id, events[-1].sequence)
        events += await words(pace, call, len(WORDS) - 3)
        pace.step(100)
        events += await rest(call)
        assert numbers(events) == list(range(1, LAST + 1))
        assert text(events) == WHOLE
        assert events[-1].completed.usage.output_tokens == 3
        assert len(upstream.requests) == 1
        (record,) = await records(pods.sidecars[0])
        assert (record.outcome, record.usage.input_tokens, record.attempts) == ("succeeded", 9, 1)
        assert record.request_id == events[0].started.request_id


async def test_any_sidecar_gives_the_rest(tmp_path: Path) -> None:
    """Cut after every word, and resumed at another sidecar each time: the pieces are the stream."""
    pace = Pace(openai_events(*WORDS))
    async with (
        redis_server() as redis,
        fleet(tmp_path, pace, 2, redis={"url": redis.url}) as (upstream, pods),
    ):
        call = begin(pods.callers[0])
        events = await first_words(pace, call, 1)
        request_id = events[0].started.request_id
        for turn in range(1, len(WORDS)):
            await cut(pods.networks[(turn - 1) % 2], call)
            call = resume(pods.callers[turn % 2], request_id, events[-1].sequence)
            events += await words(pace, call, 1)
        pace.step(100)
        events += await rest(call)
        assert numbers(events) == list(range(1, LAST + 1))
        assert (text(events), len(upstream.requests)) == (WHOLE, 1)
        whole = await rest(resume(pods.callers[1], request_id))
        assert whole == events


async def test_two_processes(tmp_path: Path) -> None:
    """The same between sidecars that share nothing but Redis."""
    pace = Pace(openai_events(*WORDS))
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(pace))
        redis = await stack.enter_async_context(redis_server())
        config: dict[str, Any] = {"providers": {"p": provider(upstream.url)}, "redis": {"url": redis.url}}
        one = await stack.enter_async_context(serving(tmp_path, **config))
        other = await stack.enter_async_context(serving(tmp_path, **config))
        network = await stack.enter_async_context(faulty_link(one.port))
        call = begin(await stack.enter_async_context(calling(network.port)))
        events = await first_words(pace, call, 3)
        await cut(network, call)
        caller = await stack.enter_async_context(calling(other.port))
        call = resume(caller, events[0].started.request_id, events[-1].sequence)
        events += await words(pace, call, len(WORDS) - 3)
        pace.step(100)
        events += await rest(call)
        assert numbers(events) == list(range(1, LAST + 1))
        assert (text(events), len(upstream.requests)) == (WHOLE, 1)
        request = await one.logged("request")
        assert (request["outcome"], request["request_id"]) == ("succeeded", events[0].started.request_id)
        assert other.events("request") == []


async def test_redis_away(tmp_path: Path) -> None:
    """Row 23: where the stream is made it is resumed; another sidecar says that it cannot know."""
    pace = Pace(openai_events(*WORDS))
    async with (
        redis_server() as redis,
        fleet(tmp_path, pace, 2, redis={"url": redis.url}) as (_, pods),
    ):
        one, other = pods.callers
        call = begin(one)
        events = await first_words(pace, call, 2)
        await redis.kill()
        await cut(pods.networks[0], call)
        call = resume(one, events[0].started.request_id, 3)
        events += await words(pace, call, 3)
        failed = await failure(resume(other, events[0].started.request_id, 3))
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        events += await words(pace, call, 3)
        pace.step(100)
        events += await rest(call)
        assert numbers(events) == list(range(1, LAST + 1))


async def test_the_sidecar_dies(tmp_path: Path) -> None:
    """A reader elsewhere has what there was, and is told once the lease of the dead one is gone."""
    pace = Pace(openai_events(*WORDS))
    async with (
        redis_server() as redis,
        fleet(tmp_path, pace, redis={"url": redis.url}) as (upstream, pods),
        serving(tmp_path, providers={"p": provider(upstream.url)}, redis={"url": redis.url}) as child,
        calling(child.port) as caller,
    ):
        call = begin(caller)
        events = await first_words(pace, call, 3)
        request_id = events[0].started.request_id
        elsewhere = resume(pods.callers[0], request_id, 1)
        assert numbers(await take(elsewhere, 3)) == [2, 3, 4]
        child.signal(SIGKILL)
        await child.ended()
        # What Redis does by itself ten seconds after the last sign of life.
        assert await redis.cli("del", f"outrider:stream:1:{{{request_id}}}:anyone:lease") == "1"
        failed = await failure(elsewhere)
        assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "SIDECAR_LOST")


async def test_nobody_comes_back(tmp_path: Path) -> None:
    """Row 1: the provider's socket is closed after the grace, and that is on record, once."""
    answer = unending(openai_events("a")[:1])
    async with fleet(tmp_path, answer, resume={"grace": "300ms"}) as (upstream, pods):
        call = begin(pods.callers[0])
        await take(call, 2)
        began = asyncio.get_running_loop().time()
        pods.networks[0].cut()
        closed_at = await upstream.connections[0].closed(within=3)
        assert 0.25 < closed_at - began < 1.0
        (record,) = await records(pods.sidecars[0])
        assert (record.outcome, record.reason) == ("cancelled", "CANCELLED")
        assert record.usage.output_tokens > 0


async def test_leaving_before_the_first_event(tmp_path: Path) -> None:
    """Row 1: nobody can come back, so the provider's socket is closed within 250 ms."""
    async with fleet(tmp_path, Pace([])) as (upstream, pods):
        call = begin(pods.callers[0])
        await upstream.received()
        left_at = asyncio.get_running_loop().time()
        call.cancel()
        assert await upstream.connections[0].closed(within=2) - left_at < 0.25


async def test_a_failure_is_told_to_who_comes_back(tmp_path: Path) -> None:
    """The same status, with the same account of what had happened; on any sidecar."""
    pace = Pace(openai_events(*WORDS)[:2], end=False)
    async with (
        redis_server() as redis,
        fleet(tmp_path, pace, 2, redis={"url": redis.url}) as (_, pods),
    ):
        call = begin(pods.callers[0])
        events = await first_words(pace, call, 2)
        pace.step()
        first = await failure(call)
        for caller in pods.callers:
            again = resume(caller, events[0].started.request_id, 2)
            assert numbers(await take(again, 1)) == [3]
            second = await failure(again)
            assert (second.code, second.reason) == (grpc.StatusCode.ABORTED, "STREAM_TRUNCATED")
            assert (second.message, second.failure) == (first.message, first.failure)
            assert second.failure is not None
            assert second.failure.last_sequence == 3
            assert second.failure.partial_usage.output_tokens > 0


async def test_the_sidecar_stops(tmp_path: Path) -> None:
    """Row 15: readers get DRAINING with what was used; streams that nobody reads hold nothing up."""
    answer = unending(openai_events("a")[:1])
    async with fleet(tmp_path, answer) as (upstream, pods):
        alone, call = begin(pods.sidecars[0]), begin(pods.sidecars[0])
        await asyncio.gather(take(alone, 2), take(call, 2))
        alone.cancel()
        stopping = asyncio.create_task(pods.sidecars[0].sidecar.stop(0.1))
        failed = await failure(call)
        async with asyncio.timeout(5):
            await stopping
        assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "DRAINING")
        assert failed.failure is not None
        assert (failed.failure.last_sequence, failed.failure.partial_usage.output_tokens > 0) == (2, True)
        for connection in upstream.connections:
            await connection.closed(within=1)


async def test_streams_are_their_callers(tmp_path: Path) -> None:
    """Another caller's id is as unknown as one that never was; who is nobody learns nothing."""
    callers = {"one": {"token": "one-one-one"}, "two": {"token": "two-two-two"}}
    async with fleet(tmp_path, openai_stream(*WORDS), callers=callers) as (_, pods):
        stub = pods.callers[0].generation
        one, two = ((("authorization", f"Bearer {each['token']}"),) for each in callers.values())
        events = await collect(stub.Generate(ask(resumable=True), metadata=one))
        request_id = events[0].started.request_id
        own = v1.ResumeGenerateRequest(request_id=request_id, after_sequence=3)
        assert (await rest(stub.ResumeGenerate(own, metadata=one))) == events[3:]
        strange = v1.ResumeGenerateRequest(request_id="0" * 32)
        for request, metadata in ((own, two), (strange, one), (v1.ResumeGenerateRequest(), one)):
            failed = await failure(stub.ResumeGenerate(request, metadata=metadata))
            assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_UNKNOWN")
        nobody = await failure(stub.ResumeGenerate(own))
        assert nobody.code is grpc.StatusCode.UNAUTHENTICATED


async def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    """Who asks in vain is warned: where it is switched off, and by Complete; who does not ask is not kept."""
    async with fleet(tmp_path, openai_stream("hi"), resume={"enabled": False}) as (_, pods):
        events = await collect(begin(pods.sidecars[0]))
        assert [warning.field for warning in events[-1].completed.warnings] == ["resumable"]
        failed = await failure(resume(pods.sidecars[0], events[0].started.request_id))
        assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_UNKNOWN")
    (tmp_path / "0").rename(tmp_path / "off")
    async with fleet(tmp_path, openai_stream("hi")) as (_, pods):
        stub = pods.sidecars[0].generation
        plain = await collect(stub.Generate(ask()))
        failed = await failure(resume(pods.sidecars[0], plain[0].started.request_id))
        assert failed.reason == "REQUEST_UNKNOWN"
        assert not (await collect(begin(pods.sidecars[0])))[-1].completed.warnings
    async with running(tmp_path, providers={"s": {"format": "simulated"}}) as sidecar:
        request = v1.CompleteRequest(request=ask("s/echo", resumable=True))
        response = await sidecar.generation.Complete(request)
        assert [warning.field for warning in response.completed.warnings] == ["resumable"]


async def test_a_failure_before_any_event_is_as_ever(tmp_path: Path) -> None:
    """The status of an ordinary call."""
    refused = json_body({"error": {"message": "no"}}, 400)
    async with fleet(tmp_path, refused) as (_, pods):
        failed = await failure(begin(pods.sidecars[0]))
        plain = await failure(pods.sidecars[0].generation.Generate(ask()))
        assert (failed.code, failed.reason, failed.message) == (plain.code, plain.reason, plain.message)
