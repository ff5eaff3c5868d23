"""Both transports, and every official client of the second, keep the same promises on a real socket."""

from __future__ import annotations

import asyncio
import gzip
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Transport, WireRequest
from outrider.providers.credentials import LiteralKey
from outrider.providers.direct_transport import DirectTransport
from outrider.providers.sdk_transport import SdkTransport
from tests.support.answers import JSON, SSE, body, broken, html, raw, silence, stream, unending
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from tests.support.upstream import Answer, Exchange, Fault

    Connect: TypeAlias = Callable[..., Awaitable[Transport]]

KEY = "sk-test-0123456789abcdef"
POST = WireRequest("chat/completions", b'{"stream":true}', {"Content-Type": "application/json"})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine stands in the way."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["direct", "openai", "anthropic", "groq"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes transports of one kind, and closes them after the test."""
    kind: str = request.param
    async with AsyncExitStack() as stack:

        async def make(base_url: str, key: str = KEY, headers: dict[str, str] | None = None) -> Transport:
            transport: Transport
            if kind == "direct":
                transport = DirectTransport(base_url, LiteralKey(key), headers=headers)
            else:
                transport = await SdkTransport.load(kind, base_url, LiteralKey(key), headers)
            stack.push_async_callback(transport.aclose)
            return transport

        yield make


@asynccontextmanager
async def serving(connect: Connect, *answers: Answer) -> AsyncGenerator[tuple[Upstream, Transport], None]:
    """An upstream and a transport to it."""
    async with Upstream(*answers) as upstream:
        yield upstream, await connect(f"{upstream.url}/v1")


async def read(transport: Transport, request: WireRequest = POST) -> tuple[int, bytes]:
    """Status and whole body."""
    async with asyncio.timeout(10), transport.open(request) as response:
        return response.status, b"".join([piece async for piece in response])


async def failure(transport: Transport, request: WireRequest = POST) -> tuple[GenerationError, bytes]:
    """The error, and what had come before it."""
    got = b""
    with pytest.raises(GenerationError) as caught:
        async with asyncio.timeout(10), transport.open(request) as response:
            async for piece in response:
                got += piece
    return caught.value, got


async def settled(measure: Callable[[], int]) -> int:
    """A number, once it has stopped changing."""
    last, value = -1, measure()
    while value != last:
        await asyncio.sleep(0.05)
        last, value = value, measure()
    return value


async def test_request_arrives_as_encoded(connect: Connect) -> None:
    """Method, path, query, body and headers reach the provider unchanged, with the key added."""
    async with serving(connect, body(b"{}")) as (upstream, transport):
        await read(transport)
        await read(transport, WireRequest("models?limit=1", None))
    post, get = upstream.requests
    assert (post.method, post.target, post.body) == ("POST", "/v1/chat/completions", b'{"stream":true}')
    assert post.headers["content-type"] == "application/json"
    assert KEY in (post.headers.get("x-api-key", "") + post.headers.get("authorization", ""))
    assert (get.method, get.target, get.body) == ("GET", "/v1/models?limit=1", b"")


async def test_key_is_left_out_where_there_is_none(connect: Connect) -> None:
    """A server that needs no key is sent none, not an invented one."""
    async with Upstream(body(b"{}")) as upstream:
        transport = await connect(f"{upstream.url}/v1", key="")
        await read(transport)
        await transport.aclose()
    assert not upstream.requests[0].headers.keys() & {"authorization", "x-api-key"}


async def test_configured_headers_are_sent(connect: Connect) -> None:
    """Headers of the configuration go with every request, also one that stands in for the key."""
    headers = {"X-Team": "search", "Authorization": "Custom abc"}
    async with Upstream(body(b"{}")) as upstream:
        transport = await connect(f"{upstream.url}/v1", key="", headers=headers)
        await read(transport)
        await transport.aclose()
    assert upstream.requests[0].headers["x-team"] == "search"
    assert upstream.requests[0].headers["authorization"] == "Custom abc"


async def test_answer_is_handed_over_raw(connect: Connect) -> None:
    """Status, headers in any case, and the body byte for byte, whatever it holds."""
    sent = b'data: {"a":"\xf0\x9f'
    rest = b'\x98\x80"}\r\n\r\n\xff: [DONE'
    async with serving(connect, stream([sent, rest])) as (_, transport), transport.open(POST) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert b"".join([piece async for piece in response]) == sent + rest


async def test_bytes_come_as_they_arrive(connect: Connect) -> None:
    """A piece is given out while the provider is still silent about the next."""
    gate = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {**SSE, "transfer-encoding": "chunked"})
        await exchange.chunk(b"data: 1\n\n")
        await gate.wait()
        await exchange.chunk(b"data: 2\n\n")
        await exchange.chunk(b"")

    async with serving(connect, answer) as (_, transport), transport.open(POST) as response:
        pieces = aiter(response)
        assert await anext(pieces) == b"data: 1\n\n"
        gate.set()
        assert await anext(pieces) == b"data: 2\n\n"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500, 503, 529])
async def test_other_status_is_an_answer(connect: Connect, status: int) -> None:
    """A status that is not 200 is no exception: status, headers and body are there to be classified.

    Row 7: the provider is asked once, and a redirect is not followed.
    """
    headers = {**JSON, "retry-after": "7", "location": "http://127.0.0.1:1/elsewhere"}
    async with serving(connect, body(b'{"error":"no"}', status, headers)) as (upstream, transport):
        async with transport.open(POST) as response:
            assert response.status == status
            assert response.headers["retry-after"] == "7"
            assert b"".join([piece async for piece in response]) == b'{"error":"no"}'
        assert len(upstream.requests) == 1


async def test_large_rejection_can_be_left(connect: Connect) -> None:
    """The body of an error is not read whole when nobody wants it whole."""
    answer = unending([b"x" * 65_536] * 800)

    async def rejected(exchange: Exchange) -> None:
        await exchange.head(500, {**SSE, "content-length": str(2**40)})
        await answer(exchange)

    async with serving(connect, rejected) as (upstream, transport):
        async with asyncio.timeout(5):
            async with transport.open(POST) as response:
                first = await anext(aiter(response))
        assert response.status == 500
        assert first
        await upstream.connections[0].closed()


async def test_compressed_answer_is_unpacked(connect: Connect) -> None:
    """A provider that compresses although nobody asked is understood."""
    packed = gzip.compress(b'{"text":"hello"}')
    answer = body(packed, headers={**JSON, "content-encoding": "gzip"})
    async with serving(connect, answer) as (_, transport):
        assert await read(transport) == (200, b'{"text":"hello"}')


async def test_body_that_does_not_decompress_is_a_protocol_error(connect: Connect) -> None:
    """A body that is not what its content encoding says ends in PROVIDER_PROTOCOL_ERROR."""
    async with serving(connect, body(b"not gzip", headers={**JSON, "content-encoding": "gzip"})) as (
        _,
        transport,
    ):
        error, _ = await failure(transport)
    assert error.reason is Reason.PROVIDER_PROTOCOL_ERROR


@pytest.mark.parametrize("size", [100, 5 * 2**20])
async def test_prompt_of_any_size_is_sent(connect: Connect, size: int) -> None:
    """Row 17: a prompt of 5 MiB arrives whole, as does a small one."""
    prompt = b"x" * size
    async with serving(connect, body(b"{}")) as (upstream, transport):
        await read(transport, WireRequest("chat/completions", prompt))
    assert upstream.requests[0].body == prompt


async def test_connection_is_reused_after_a_whole_answer(connect: Connect) -> None:
    """Ten requests in a row share one connection."""
    async with serving(connect, stream([b"data: 1\n\n"])) as (upstream, transport):
        for _ in range(10):
            await read(transport)
    assert len(upstream.connections) == 1


async def test_cancel_before_the_first_byte_closes_the_socket(connect: Connect) -> None:
    """Row 1: the upstream sees the socket close within 250 ms while it has not answered at all."""
    async with serving(connect, silence) as (upstream, transport):
        task = asyncio.create_task(read(transport))
        await upstream.received()
        at = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await upstream.connections[0].closed() - at < 0.25


async def test_cancel_in_mid_stream_closes_the_socket(connect: Connect) -> None:
    """Row 1: the upstream sees the socket close within 250 ms while the caller waits for more."""
    async with serving(connect, unending([b"data: 1\n\n"])) as (upstream, transport):
        begun = asyncio.Event()

        async def consume() -> None:
            async with transport.open(POST) as response:
                async for _ in response:
                    begun.set()

        task = asyncio.create_task(consume())
        await begun.wait()
        at = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await upstream.connections[0].closed() - at < 0.25


async def test_cancel_in_mid_upload_closes_the_socket(connect: Connect) -> None:
    """Row 1: a peer that does not read a large prompt cannot hold the socket of a caller who has left."""

    def open_files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        transport = await connect(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        task = asyncio.create_task(read(transport, WireRequest("chat/completions", b"x" * 50_000_000)))
        loop = asyncio.get_running_loop()
        peer, _ = await loop.sock_accept(listener)
        with peer:
            await loop.sock_recv(peer, 1)
            await settled(lambda: len(peer.recv(2**24, socket.MSG_PEEK)))
            before = open_files()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await settled(open_files) < before


async def test_leaving_early_closes_the_socket(connect: Connect) -> None:
    """Row 1: a caller that stops reading and leaves is as good as one that cancels."""
    async with serving(connect, unending([b"data: 1\n\n"] * 3)) as (upstream, transport):
        async with transport.open(POST) as response:
            await anext(aiter(response))
        at = asyncio.get_running_loop().time()
        assert await upstream.connections[0].closed() - at < 0.25


async def test_abandoned_streams_do_not_use_up_the_pool(connect: Connect) -> None:
    """Row 2: after abandoned streams, the next request works and no connection of theirs is left open."""
    endless = unending([b"data: 1\n\n"])
    async with serving(connect, endless, endless, endless, body(b"{}")) as (upstream, transport):
        for _ in range(3):
            async with transport.open(POST) as response:
                await anext(aiter(response))
        assert await read(transport) == (200, b"{}")
        assert len(upstream.open_connections) == 1


async def test_many_streams_at_once(connect: Connect) -> None:
    """The transport sets no limit of its own: 150 open streams do not keep the next one waiting."""
    async with serving(connect, unending([b"data: 1\n\n"])) as (upstream, transport):
        async with AsyncExitStack() as stack, asyncio.timeout(20):
            for _ in range(150):
                response = await stack.enter_async_context(transport.open(POST))
                assert await anext(aiter(response)) == b"data: 1\n\n"
        assert len(upstream.connections) == 150


async def test_refused_connection(connect: Connect) -> None:
    """Nobody listens: PROVIDER_UNREACHABLE, without the path or the key in its words."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        transport = await connect(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        error, _ = await failure(transport)
    assert error.reason is Reason.PROVIDER_UNREACHABLE
    assert "127.0.0.1" in error.fact.message
    assert KEY not in repr(error)
    assert "completions" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


async def test_unknown_host(connect: Connect) -> None:
    """A name that does not resolve: PROVIDER_UNREACHABLE."""
    error, _ = await failure(await connect("http://nowhere.invalid/v1"))
    assert error.reason is Reason.PROVIDER_UNREACHABLE


async def test_connect_timeout(connect: Connect) -> None:
    """A peer that accepts no connection: CONNECT_TIMEOUT after the request's own limit."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # the backlog is full: the kernel drops further attempts
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        transport = await connect(f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        began = asyncio.get_running_loop().time()
        error, _ = await failure(transport, WireRequest("chat/completions", b"{}", {}, connect_timeout=0.2))
        assert 0.15 < asyncio.get_running_loop().time() - began < 2
    assert error.reason is Reason.CONNECT_TIMEOUT


async def test_peer_without_tls(connect: Connect) -> None:
    """TLS spoken to a peer that has none: PROVIDER_UNREACHABLE."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error, _ = await failure(await connect(f"https://127.0.0.1:{port}/v1"))
    assert error.reason is Reason.PROVIDER_UNREACHABLE


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_connection_that_ends_before_the_answer(connect: Connect, fault: Fault) -> None:
    """Closed or reset before a status line: PROVIDER_UNREACHABLE, and no second try."""
    async with serving(connect, raw(b"", fault)) as (upstream, transport):
        error, _ = await failure(transport)
        assert error.reason is Reason.PROVIDER_UNREACHABLE
        assert len(upstream.requests) == 1


async def test_stale_connection_is_not_retried_here(connect: Connect) -> None:
    """Row 7: a kept connection that breaks under a request is an error, and no hidden second request."""
    async with serving(connect, body(b"{}"), raw(b"", "reset"), body(b"{}")) as (upstream, transport):
        await read(transport)
        error, _ = await failure(transport)
        assert error.reason is Reason.PROVIDER_UNREACHABLE
        assert len(upstream.requests) == 2
        assert await read(transport) == (200, b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["not HTTP", "bad status", "bad header", "huge header"],
)
async def test_answer_that_is_not_http(connect: Connect, answer: bytes) -> None:
    """Bytes that are not HTTP, or boundless headers: PROVIDER_PROTOCOL_ERROR that does not repeat them."""
    async with serving(connect, raw(answer)) as (_, transport):
        error, _ = await failure(transport)
    assert error.reason is Reason.PROVIDER_PROTOCOL_ERROR
    assert "SSH" not in str(error)


@pytest.mark.parametrize("fault", ["close", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_body_that_breaks_off(connect: Connect, fault: Fault, framing: str) -> None:
    """Row 3: a body cut short ends in STREAM_TRUNCATED, after everything that had come."""
    pieces = [b"data: 1\n\n", b"data: 2\n\n"]
    whole = stream(pieces) if framing == "chunked" else body(b"".join(pieces) + b"never sent", headers=SSE)
    async with Upstream(whole) as measured:
        transport = await connect(measured.url)
        await read(transport)
        size = measured.connections[0].bytes_sent
        await transport.aclose()
    ending = len(b"0\r\n\r\n") if framing == "chunked" else len(b"never sent")
    async with serving(connect, broken(whole, size - ending, fault)) as (_, transport):
        error, got = await failure(transport)
    assert error.reason is Reason.STREAM_TRUNCATED
    assert got == b"".join(pieces)


async def test_slow_reader_gets_all_that_came_before_a_cut(connect: Connect) -> None:
    """Bytes that had arrived are given out although the connection has broken since."""
    pieces = [b"data: %d\n\n" % number for number in range(100)]
    async with serving(connect, unending(pieces, "close"), body(b"{}")) as (upstream, transport):
        got = b""
        with pytest.raises(GenerationError) as caught:
            async with transport.open(POST) as response:
                await upstream.connections[0].closed()
                await read(transport)  # by then, the end of the first connection has come here as well
                async for piece in response:
                    got += piece
    assert caught.value.reason is Reason.STREAM_TRUNCATED
    assert got == b"".join(pieces)


async def test_bad_chunk_in_mid_stream(connect: Connect) -> None:
    """Chunked encoding that goes wrong is an error, after what was good of it."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {**SSE, "transfer-encoding": "chunked"})
        await exchange.chunk(b"data: 1\n\n")
        await gate.wait()
        await exchange.send(b"ZZ\r\nnonsense")
        await exchange.fail("stall")

    gate = asyncio.Event()
    async with serving(connect, answer) as (_, transport):
        got = b""
        with pytest.raises(GenerationError) as caught:
            async with transport.open(POST) as response, asyncio.timeout(5):
                async for piece in response:
                    got += piece
                    gate.set()
    assert caught.value.reason in (Reason.STREAM_TRUNCATED, Reason.PROVIDER_PROTOCOL_ERROR)
    assert got == b"data: 1\n\n"


async def test_slow_reader_slows_the_provider(connect: Connect) -> None:
    """While nobody reads, the provider's socket fills up and it cannot send; nothing is lost."""
    piece = b"x" * 65_536
    count = 800  # 50 MiB, several times what the kernel holds for one connection
    async with serving(connect, stream([piece] * count)) as (upstream, transport):
        async with transport.open(POST) as response:
            pieces = aiter(response)
            got = len(await anext(pieces))
            assert await settled(lambda: upstream.connections[0].bytes_sent) < 30 * 2**20
            async for more in pieces:
                got += len(more)
        assert got == count * len(piece)


async def test_proxy_of_the_environment_is_used(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is honoured, so that both transports work behind a company's proxy."""
    async with Upstream(body(b"{}")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        transport = await connect("http://provider.invalid/v1")
        assert await read(transport) == (200, b"{}")
        await transport.aclose()
    assert proxy.requests[0].target == "http://provider.invalid/v1/chat/completions"


async def test_tls(
    connect: Connect, certificate: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 1 over TLS: a trusted peer answers, and leaving early closes the socket as fast as without TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Upstream(body(b"{}"), unending([b"data: 1\n\n"]), tls=server_tls) as upstream:
        transport = await connect(f"{upstream.url}/v1")
        assert await read(transport) == (200, b"{}")
        async with transport.open(POST) as response:
            await anext(aiter(response))
        at = asyncio.get_running_loop().time()
        assert await upstream.connections[0].closed() - at < 0.25
        await transport.aclose()


async def test_untrusted_certificate(connect: Connect, server_tls: ssl.SSLContext) -> None:
    """A certificate that nobody vouches for: PROVIDER_UNREACHABLE, and no request leaves."""
    async with Upstream(body(b"{}"), tls=server_tls) as upstream:
        transport = await connect(f"{upstream.url}/v1")
        error, _ = await failure(transport)
        await transport.aclose()
    assert error.reason is Reason.PROVIDER_UNREACHABLE
    assert upstream.requests == []


async def test_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the transport says at the start what to install."""
    monkeypatch.setitem(sys.modules, "groq", None)
    with pytest.raises(GenerationError, match=r"groq: pip install 'outrider\[sdk\]'") as caught:
        await SdkTransport.load("groq", "http://127.0.0.1:1", LiteralKey(KEY))
    assert caught.value.reason is Reason.PROVIDER_NOT_CONFIGURED


async def test_direct_never_takes_surplus_bytes_for_the_next_answer() -> None:
    """Bytes after the end of an answer are not read as the answer to a later request."""
    once = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
    async with Upstream(raw(once + b"one" + once + b"two", "stall"), body(b"three")) as upstream:
        transport = DirectTransport(upstream.url, LiteralKey(KEY), auth_header="X", auth_prefix="")
        assert await read(transport) == (200, b"one")
        assert await read(transport) == (200, b"three")
        await transport.aclose()


async def test_direct_asks_for_an_uncompressed_answer() -> None:
    """Compression would hold tokens back until a block is full."""
    async with Upstream(html()) as upstream:
        transport = DirectTransport(upstream.url, LiteralKey(KEY), auth_header="X", auth_prefix="")
        await read(transport)
        await transport.aclose()
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert upstream.requests[0].headers["user-agent"].startswith("outrider/")
