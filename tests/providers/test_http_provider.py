"""A provider over HTTP: a real wire format on a real socket, and everything that can go wrong in between."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.context import Progress
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Call
from outrider.providers.anthropic_format import AnthropicFormat
from outrider.providers.credentials import KeyFile, LiteralKey
from outrider.providers.direct_transport import DirectTransport
from outrider.providers.http_provider import HttpProvider
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.sdk_transport import SdkTransport
from tests.support.answers import (
    SSE,
    anthropic_stream,
    body,
    broken,
    echo_key,
    html,
    json_body,
    keep_alive_comments,
    openai_completion,
    openai_error,
    openai_events,
    openai_stream,
    silence,
    sse,
    stream,
    unending,
)
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from outrider.core.ports import Batch, Decoder, Transport, WireFormat
    from outrider.providers.credentials import Credential
    from tests.support.upstream import Answer, Exchange, Fault

KEY = "sk-test-0123456789abcdefghij"


def call(*, streaming: bool = True) -> Call:
    """An attempt with one short message."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])
    return Call(v1.GenerateRequest(messages=[message]), "model-1", streaming, 5.0, Progress(), [])


@asynccontextmanager
async def serving(
    *answers: Answer,
    wire_format: WireFormat | None = None,
    credential: Credential | None = None,
    sdk: str = "",
    max_response_bytes: int = 10_000_000,
) -> AsyncIterator[tuple[Upstream, HttpProvider]]:
    """An upstream and a provider that talks to it."""
    credential = credential or LiteralKey(KEY)
    async with Upstream(*answers) as upstream:
        transport: Transport
        if sdk:
            transport = await SdkTransport.load(sdk, upstream.url, credential)
        else:
            transport = DirectTransport(upstream.url, credential)
        provider = HttpProvider(
            "p",
            wire_format or OpenAIFormat(),
            transport,
            credential,
            needs_key=True,
            max_response_bytes=max_response_bytes,
        )
        async with aclosing(provider):
            yield upstream, provider


async def generate(provider: HttpProvider, attempt: Call) -> list[Batch]:
    """Every batch of an answer."""
    async with asyncio.timeout(10), aclosing(provider.generate(attempt)) as batches:
        return [batch async for batch in batches]


async def failure(provider: HttpProvider) -> GenerationError:
    """The error that an answer ends in."""
    with pytest.raises(GenerationError) as caught:
        await generate(provider, call())
    return caught.value


def text(batches: list[Batch]) -> str:
    """All text of an answer."""
    return "".join(event.text_delta.text for batch in batches for event in batch)


@pytest.fixture(params=["", "openai"], ids=["direct", "sdk"])
def sdk(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return str(request.param)


async def test_stream_becomes_events(sdk: str) -> None:
    """Text, finish reason and usage come through, `Completed` last, with the status noted."""
    attempt = call()
    async with serving(openai_stream("Hel", "lo"), sdk=sdk) as (_, provider):
        batches = await generate(provider, attempt)
    assert text(batches) == "Hello"
    completed = batches[-1][-1].completed
    assert completed.finish_reason == v1.FINISH_REASON_STOP
    assert (completed.usage.input_tokens, completed.usage.output_tokens) == (9, 3)
    assert attempt.progress.upstream_status == 200
    assert all(batches)


async def test_unary_answer_becomes_events(sdk: str) -> None:
    """An answer in one piece gives the same events."""
    async with serving(openai_completion("Hello"), sdk=sdk) as (_, provider):
        batches = await generate(provider, call(streaming=False))
    assert text(batches) == "Hello"
    assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_STOP


async def test_anthropic_speaks_through_either_transport() -> None:
    """The wire format does not notice which transport is below it."""
    for sdk in ("", "anthropic"):
        answer = anthropic_stream("Hel", "lo")
        async with serving(answer, wire_format=AnthropicFormat(), sdk=sdk) as (upstream, provider):
            assert text(await generate(provider, call())) == "Hello"
            assert upstream.requests[0].target == "/v1/messages"


async def test_connection_is_kept_for_the_next_request(sdk: str) -> None:
    """Streams one after the other share a connection, although each is done before its body's end."""
    async with serving(openai_stream("Hello"), sdk=sdk) as (upstream, provider):
        for _ in range(5):
            await generate(provider, call())
        assert len(upstream.requests) == 5
        assert len(upstream.connections) == 1


async def test_body_that_does_not_end_after_the_answer_is_left(sdk: str) -> None:
    """A provider that keeps the stream open after its end marker costs a moment, not a timeout."""
    async with serving(unending(openai_events("Hello")), sdk=sdk) as (upstream, provider):
        assert text(await generate(provider, call())) == "Hello"
        await upstream.connections[0].closed(within=0.25)


async def test_connection_that_breaks_after_the_answer_does_no_harm(sdk: str) -> None:
    """What the provider has declared whole stays whole."""
    async with serving(unending(openai_events("Hello"), "reset"), sdk=sdk) as (_, provider):
        batches = await generate(provider, call())
    assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_STOP


async def test_cancel_closes_the_socket(sdk: str) -> None:
    """Row 1: before the first byte and in mid-stream, the upstream sees the socket close within 250 ms."""
    answers = (silence, unending(openai_events("Hello", finish=None, usage=None, done=False)))
    async with serving(*answers, sdk=sdk) as (upstream, provider):
        for number in (1, 2):
            task = asyncio.create_task(generate(provider, call()))
            connection = (await upstream.received(number)).connection
            at = asyncio.get_running_loop().time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await connection.closed() - at < 0.25


async def test_caller_that_leaves_closes_the_socket(sdk: str) -> None:
    """Row 1: closing the generator after the first event is as good as a cancel."""
    async with serving(unending(openai_events("Hello", finish=None, done=False)), sdk=sdk) as (
        upstream,
        provider,
    ):
        async with aclosing(provider.generate(call())) as batches:
            await anext(batches)
        await upstream.connections[0].closed(within=0.25)


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_cut_stream_is_an_error(sdk: str, fault: Fault) -> None:
    """Row 3: a stream cut before its end marker is STREAM_TRUNCATED, after what had come."""
    cut = unending(openai_events("Hel", "lo", finish=None, usage=None, done=False), fault)
    got = ""
    async with serving(cut, sdk=sdk) as (_, provider):
        with pytest.raises(GenerationError) as caught:
            async with aclosing(provider.generate(call())) as batches:
                async for batch in batches:
                    got += text([batch])
    assert caught.value.reason is Reason.STREAM_TRUNCATED
    assert got == "Hello"


async def test_clean_end_without_a_finish_is_an_error(sdk: str) -> None:
    """Row 3: a clean end of the body is not an end of the answer."""
    async with serving(openai_stream("Hel", "lo", finish=None, done=False), sdk=sdk) as (_, provider):
        assert (await failure(provider)).reason is Reason.STREAM_TRUNCATED


@pytest.mark.parametrize(
    "answer",
    [html(), body(b""), json_body(openai_error("no")), stream([]), body(b"null"), body(b"\xff\xfe")],
    ids=["html", "nothing", "error body", "empty stream", "null", "noise"],
)
async def test_200_that_is_no_answer_is_an_error(sdk: str, answer: Answer) -> None:
    """Row 5: status 200 alone does not make a success; the breaker counts what came instead."""
    async with serving(answer, sdk=sdk) as (_, provider):
        error = await failure(provider)
    assert error.traits.trips_breaker or error.reason is Reason.INVALID_REQUEST


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.INVALID_REQUEST),
        (401, Reason.PROVIDER_CREDENTIALS_REFUSED),
        (429, Reason.PROVIDER_RATE_LIMITED),
        (500, Reason.PROVIDER_ERROR),
        (529, Reason.PROVIDER_OVERLOADED),
    ],
)
async def test_rejection_is_classified(sdk: str, status: int, reason: Reason) -> None:
    """Another status than 200 becomes its reason, with status and Retry-After. Row 7: after one request."""
    rejection = json_body({"error": {"message": "no"}}, status, {"retry-after": "7"})
    attempt = call()
    async with serving(rejection, sdk=sdk) as (upstream, provider):
        with pytest.raises(GenerationError) as caught:
            await generate(provider, attempt)
        assert len(upstream.requests) == 1
    assert caught.value.reason is reason
    assert caught.value.fact.upstream_status == attempt.progress.upstream_status == status
    if status in (429, 529):
        assert caught.value.fact.retry_after == 7


async def test_redirect_is_not_followed(sdk: str) -> None:
    """Row 28: a redirect would carry the key to another host; it is an error instead."""
    async with Upstream(openai_stream("caught")) as elsewhere:
        redirect = body(b"", 307, {"location": f"{elsewhere.url}/v1", "content-type": "text/plain"})
        async with serving(redirect, sdk=sdk) as (_, provider):
            error = await failure(provider)
        assert elsewhere.requests == []
    assert error.fact.upstream_status == 307


FILTERED = openai_error("filtered", code="content_filter")


@pytest.mark.parametrize(
    ("answer", "so_far"),
    [
        (json_body(FILTERED, 400), ""),
        (json_body(FILTERED), ""),
        (stream([*openai_events("so far")[:1], *sse(FILTERED)]), "so far"),
    ],
    ids=["a rejection", "an error under 200", "an error in mid-stream"],
)
async def test_a_filter_that_steps_in_is_a_normal_end(sdk: str, answer: Answer, so_far: str) -> None:
    """What the provider's filter stops is an answer with a finish reason, however the provider says so."""
    async with serving(answer, sdk=sdk) as (_, provider):
        batches = await generate(provider, call())
    assert text(batches) == so_far
    assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER


@pytest.mark.parametrize("fault", ["close", "reset", "stall"])
async def test_rejection_without_its_body_is_classified_by_its_status(fault: Fault) -> None:
    """An error whose body breaks off or never comes is still known by its status."""
    rejection = broken(json_body({"error": {"message": "x" * 1000}}, 429), 500, fault)
    async with serving(rejection) as (_, provider):
        assert (await failure(provider)).reason is Reason.PROVIDER_RATE_LIMITED


async def test_huge_rejection_is_not_read_whole(sdk: str) -> None:
    """Row 18: an error body without end costs neither memory nor time."""

    async def rejection(exchange: Exchange) -> None:
        await exchange.head(500, {"content-type": "text/plain", "content-length": str(2**40)})
        while True:
            await exchange.send(b"x" * 65_536)

    async with serving(rejection, sdk=sdk) as (upstream, provider):
        assert (await failure(provider)).reason is Reason.PROVIDER_ERROR
        await upstream.connections[0].closed(within=0.25)
        assert upstream.connections[0].bytes_sent < 20 * 2**20


async def test_answer_over_the_limit_is_ended(sdk: str) -> None:
    """An answer larger than allowed ends in RESPONSE_TOO_LARGE, also when it has no end of line."""
    endless = unending([b"data: " + b"x" * 60_000] * 5)
    for answer in (endless, openai_stream(*["x" * 10_000] * 20)):
        async with serving(answer, sdk=sdk, max_response_bytes=100_000) as (upstream, provider):
            assert (await failure(provider)).reason is Reason.RESPONSE_TOO_LARGE
            await upstream.connections[0].closed(within=0.25)


async def test_comments_are_no_events(sdk: str) -> None:
    """Row 36: keep-alive comments yield no batch, so that timeouts above see silence."""
    async with serving(keep_alive_comments(every=0.01), sdk=sdk) as (_, provider):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), aclosing(provider.generate(call())) as batches:
                await anext(batches)


async def test_missing_key_is_told_before_anything_is_sent() -> None:
    """A provider without its key says so, and sends nothing."""
    async with serving(openai_stream("Hello"), credential=LiteralKey("")) as (upstream, provider):
        error = await failure(provider)
        with pytest.raises(GenerationError):
            await provider.check()
        assert upstream.requests == []
    assert error.reason is Reason.PROVIDER_NOT_CONFIGURED
    assert "there is no key" in error.fact.message


async def test_rotated_key_is_used_for_the_next_request(tmp_path: Path, sdk: str) -> None:
    """A key file that changes takes effect without a restart."""
    now = 0.0
    path = tmp_path / "key"
    path.write_text("sk-first-0123456789")
    key = KeyFile(path, lambda: now)
    async with serving(openai_stream("Hello"), credential=key, sdk=sdk) as (upstream, provider):
        await generate(provider, call())
        path.write_text("sk-second-0123456789")
        os.utime(path, (0, 0))
        now += 1
        await generate(provider, call())
    sent = [request.headers["authorization"] for request in upstream.requests]
    assert sent == ["Bearer sk-first-0123456789", "Bearer sk-second-0123456789"]


ECHOES: dict[str, Answer] = {
    "rejection": echo_key(401),
    "server error": echo_key(500),
    "200 with an error": json_body(openai_error(f"bad key {KEY}")),
    "error event": stream(sse(openai_error(f"bad key {KEY}"))),
    "error event after text": stream(
        [*openai_events("Hi", finish=None, done=False), *sse(openai_error(KEY))]
    ),
    "html": html(f"<p>no access with {KEY}</p>"),
    "plain text": body(f"unknown key {KEY[:14]}".encode(), 403, {"content-type": "text/plain"}),
    "bad json": stream(sse(f'{{"choices": [{{"delta": "{KEY}"')),
    "wrong type": stream(sse({"choices": KEY})),
    "bad finish": body(f'{{"choices": [], "{KEY}": 1}}'.encode()),
    "header": body(b"{}", 401, {**SSE, "www-authenticate": KEY}),
    "not HTTP": broken(body(b"", 200, {KEY: KEY, "bad": "\x00"}), 10_000),
    "cut": broken(openai_stream(KEY), 400, "reset"),
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
async def test_no_fault_shows_the_key(sdk: str, answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """Row 28: whatever the provider does with the key it was sent, it is in no error, chain or log line."""
    with caplog.at_level(logging.INFO):
        async with serving(answer, sdk=sdk) as (_, provider):
            error = await failure(provider)
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.fact) + caplog.text
    for piece in (KEY, KEY[:12], KEY[-12:]):
        assert piece not in shown


class BrokenFormat(OpenAIFormat):
    """A wire format with a bug."""

    def decoder(self, call: Call, content_type: str) -> Decoder:
        """Fail as only a bug does."""
        raise ZeroDivisionError(KEY)


async def test_bug_becomes_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours ends one attempt with INTERNAL and a trace in the log, and its words reach no caller."""
    async with serving(unending(openai_events("Hello")), wire_format=BrokenFormat()) as (upstream, provider):
        error = await failure(provider)
        await upstream.connections[0].closed(within=0.25)
    assert error.reason is Reason.INTERNAL
    assert KEY not in str(error)
    assert "ZeroDivisionError" in caplog.text


async def test_tokens_are_counted_where_the_provider_can(sdk: str) -> None:
    """Anthropic has a counting call; Chat Completions has none, and nothing is sent for it."""
    async with serving(json_body({"input_tokens": 42}), wire_format=AnthropicFormat()) as (
        upstream,
        provider,
    ):
        assert await provider.count_tokens(call().request, "model-1") == 42
        assert upstream.requests[0].target == "/v1/messages/count_tokens"
    async with serving(html(), sdk=sdk) as (upstream, provider):
        assert await provider.count_tokens(call().request, "model-1") is None
        assert upstream.requests == []


async def test_count_that_fails_is_an_error() -> None:
    """A rejected count is classified like any other request."""
    async with serving(echo_key(401), wire_format=AnthropicFormat()) as (_, provider):
        with pytest.raises(GenerationError) as caught:
            await provider.count_tokens(call().request, "model-1")
    assert caught.value.reason is Reason.PROVIDER_CREDENTIALS_REFUSED
    assert KEY not in repr(caught.value)


async def test_check_tells_whether_the_key_is_accepted(sdk: str) -> None:
    """The check passes on any 200, however long the list of models, and fails as a request would."""
    models = body(b'{"data": [' + b'{"id": "m"},' * 50_000 + b"{}]}")
    async with serving(models, echo_key(401), sdk=sdk) as (_, provider):
        await provider.check()
        with pytest.raises(GenerationError) as caught:
            await provider.check()
    assert caught.value.reason is Reason.PROVIDER_CREDENTIALS_REFUSED
    assert KEY not in repr(caught.value)
