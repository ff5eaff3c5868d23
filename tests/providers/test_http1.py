"""Our HTTP/1.1 on real sockets: what servers do that the tests of all transports do not."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import WireRequest
from outrider.providers.credentials import LiteralKey
from outrider.providers.direct_transport import DirectTransport
from outrider.providers.http1_dial import Dialer, alternate, first_to_connect
from outrider.providers.http1_pool import Pool
from tests.support.answers import JSON, SSE, body, raw, stream, unending
from tests.support.paused_clock import now, paused
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.providers.http1_dial import Address
    from tests.support.upstream import Answer, Exchange, Fault

KEY = "sk-test-0123456789abcdef"
POST = WireRequest("chat/completions", b'{"stream":true}', {"Content-Type": "application/json"})
LARGE = WireRequest("chat/completions", b"x" * 20_000_000)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def to(url: str) -> AsyncGenerator[DirectTransport, None]:
    transport = DirectTransport(url, LiteralKey(KEY))
    yield transport
    await transport.aclose()


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncGenerator[tuple[Upstream, DirectTransport], None]:
    async with Upstream(*answers) as upstream, to(f"{upstream.url}/v1") as transport:
        yield upstream, transport


@asynccontextmanager
async def listening() -> AsyncGenerator[tuple[socket.socket, DirectTransport], None]:
    """A socket whose every move is the test's own, and a transport to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with to(f"http://127.0.0.1:{listener.getsockname()[1]}") as transport:
            yield listener, transport


async def accept(listener: socket.socket) -> socket.socket:
    async with asyncio.timeout(5):
        peer, _ = await asyncio.get_running_loop().sock_accept(listener)
    return peer


async def request_on(peer: socket.socket) -> bytes:
    """A whole small request."""
    loop, got = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while not got.endswith(b"\r\n\r\n" + (POST.body or b"")):
            got += await loop.sock_recv(peer, 65_536)
    return got


async def read(transport: DirectTransport, request: WireRequest = POST) -> tuple[int, bytes]:
    async with asyncio.timeout(10), transport.open(request) as response:
        return response.status, b"".join([piece async for piece in response])


async def failure(transport: DirectTransport, request: WireRequest = POST) -> tuple[GenerationError, bytes]:
    got = b""
    with pytest.raises(GenerationError) as caught:
        async with asyncio.timeout(10), transport.open(request) as response:
            async for piece in response:
                got += piece
    assert KEY not in repr(caught.value)
    return caught.value, got


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("apart", [True, False])
async def test_answers_before_the_answer_are_skipped(apart: bool) -> None:
    """100 and 103, in one read with the answer or before it, are not the answer."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-type: a/b\r\n\r\n"

    async def answer(exchange: Exchange) -> None:
        await exchange.send(early if apart else early + OK)
        if apart:
            await gate.wait()
            await exchange.send(OK)

    gate = asyncio.Event()
    async with serving(answer) as (upstream, transport):
        asking = asyncio.create_task(read(transport))
        await upstream.received()
        gate.set()
        assert await asking == (200, b"ok")
        async with transport.open(POST) as response:
            assert dict(response.headers) == {"content-length": "2"}
        assert len(upstream.connections) == 1


NOT_HTTP: dict[str, bytes] = {
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + OK,
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "endless length": b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 40 + b"\r\n\r\n",
    "folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "zero bytes": bytes(1000),
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 4,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_not_http(answer: bytes) -> None:
    """Wrong or ambiguous framing is an error at once, not a guess and not a wait."""
    async with serving(raw(answer, "stall")) as (upstream, transport):
        error, _ = await failure(transport)
        assert error.reason is Reason.PROVIDER_PROTOCOL_ERROR
        await upstream.connections[0].closed(within=0.25)


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-name: value\r\n" * 100),
    "one header": (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 1000),
    "status line": (b"HTTP/1.1 200 ", b"a" * 1000),
    "answers before the answer": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40),
    "chunk extension": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;", b"a" * 1000),
    "chunk size": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0" * 1000),
    "trailers": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 200),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
async def test_what_has_no_end_is_ended(start: bytes, more: bytes) -> None:
    """A server that sends for ever and no body is left after a bounded number of bytes."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(more)

    async with serving(answer) as (upstream, transport):
        error, _ = await failure(transport)
        assert error.reason is Reason.PROVIDER_PROTOCOL_ERROR
        await upstream.connections[0].closed(within=0.25)


async def test_huge_chunk_that_is_not_sent() -> None:
    """A chunk that claims terabytes costs nothing: what came is given out, and its cut is an error."""
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffff\r\nhello"
    async with serving(raw(start)) as (_, transport):
        error, got = await failure(transport)
    assert (error.reason, got) == (Reason.STREAM_TRUNCATED, b"hello")


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_body_until_the_connection_closes(fault: Fault) -> None:
    """Row 3: where only the close ends a body, a reset is a cut."""
    async with serving(raw(b"HTTP/1.1 200 OK\r\n\r\nhello", fault)) as (_, transport):
        if fault == "close":
            assert await read(transport) == (200, b"hello")
        else:
            error, got = await failure(transport)
            assert (error.reason, got) == (Reason.STREAM_TRUNCATED, b"hello")


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_without_a_body(status: int) -> None:
    """A status that has no body ends with its headers, whatever they say."""
    head = b"HTTP/1.1 %d Status\r\ncontent-length: 5\r\n\r\n" % status
    async with serving(raw(head, "stall")) as (_, transport):
        assert await read(transport) == (status, b"")


async def test_of_headers_with_one_name_the_first_counts() -> None:
    """Names are looked up in lower case; a trailer is no header."""
    answer = (
        b"HTTP/1.1 200 OK\r\nX-Name: one\r\nx-name: two\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nx-late: three\r\n\r\n"
    )
    async with serving(raw(answer, "stall")) as (_, transport), transport.open(POST) as response:
        assert [piece async for piece in response] == [b"ok"]
        assert dict(response.headers) == {"x-name": "one", "transfer-encoding": "chunked"}


async def test_reads_that_wait_are_given_out_as_one() -> None:
    """What came in many reads while nobody looked is one piece: the stages above cost per piece."""
    pieces = [b"data: %d\n\n" % number for number in range(100)]
    answers = (unending(pieces, "close"), body(b"{}"))
    async with serving(*answers) as (upstream, transport), transport.open(POST) as response:
        await upstream.connections[0].closed()
        await read(transport)  # by then, the end of the first connection has come here as well
        assert await anext(aiter(response)) == b"".join(pieces)


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 2", OK, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"]
)
@pytest.mark.parametrize("late", [True, False])
async def test_surplus_bytes_are_never_an_answer(surplus: bytes, late: bool) -> None:
    """Row 22, for HTTP: bytes after an answer, with it or later, end the connection and nothing else."""

    async def answer(exchange: Exchange) -> None:
        if len(upstream.requests) > 1:
            await body(b"second")(exchange)
            return
        await exchange.send(OK if late else OK + surplus)
        if late:
            await gate.wait()
            await exchange.send(surplus)
        await exchange.fail("stall")

    gate = asyncio.Event()
    async with serving(answer) as (upstream, transport):
        assert await read(transport) == (200, b"ok")
        gate.set()
        await upstream.connections[0].closed(within=1)
        assert await read(transport) == (200, b"second")


async def test_connection_that_closes_after_its_answer() -> None:
    """A server that keeps no connection costs a new one for each request, and no failure."""
    async with serving(raw(OK)) as (upstream, transport):
        for _ in range(20):
            assert await read(transport) == (200, b"ok")
        assert len(upstream.requests) == len(upstream.connections) == 20


async def test_end_that_the_loop_has_not_seen() -> None:
    """A kept connection that closes at the last moment is not used."""
    async with listening() as (listener, transport):
        for _ in range(5):
            # From the second round on, this begins before the loop looks at its sockets again.
            asking = asyncio.create_task(read(transport))
            with await accept(listener) as peer:
                await request_on(peer)
                peer.sendall(OK)
                assert await asking == (200, b"ok")


async def test_request_that_was_never_whole_is_sent_again() -> None:
    """Row 7: a kept connection that closes under a request that cannot have been read gets a second try."""
    async with listening() as (listener, transport):
        asking = asyncio.create_task(read(transport))
        first = await accept(listener)
        await request_on(first)
        first.sendall(OK)
        await asking
        asking = asyncio.create_task(read(transport, LARGE))
        loop = asyncio.get_running_loop()
        await loop.sock_recv(first, 1)  # the request has begun to come
        first.shutdown(socket.SHUT_WR)
        with await accept(listener) as second:
            size = 0
            while size < len(LARGE.body or b""):
                size += len(await loop.sock_recv(second, 2**20))
            second.sendall(OK)
            assert await asking == (200, b"ok")
        first.close()


@pytest.mark.parametrize("fault", ["close", "reset"])
async def test_request_that_was_whole_is_not_sent_again(fault: Fault) -> None:
    """Row 7: what a provider may have read is its one request, though it closes without an answer."""
    async with serving(body(b"{}"), raw(b"", fault), body(b"{}")) as (upstream, transport):
        await read(transport)
        error, _ = await failure(transport)
        assert error.reason is Reason.PROVIDER_UNREACHABLE
        assert len(upstream.requests) == 2


async def test_new_connection_that_closes_is_not_tried_again() -> None:
    """Row 7: only a connection that was kept can have been closed before the request."""
    async with listening() as (listener, transport):
        asking = asyncio.create_task(failure(transport, LARGE))
        with await accept(listener) as peer:
            await asyncio.get_running_loop().sock_recv(peer, 1)
            peer.shutdown(socket.SHUT_WR)
            error, _ = await asking
        assert error.reason is Reason.PROVIDER_UNREACHABLE
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("status", [200, 413])
async def test_answer_before_the_request_is_read(status: int) -> None:
    """A refusal ends the upload; an acceptance does not. Either way the answer is there at once."""
    async with listening() as (listener, transport):
        async with AsyncExitStack() as stack:
            opening = asyncio.create_task(stack.enter_async_context(transport.open(LARGE)))
            peer = stack.enter_context(await accept(listener))
            loop = asyncio.get_running_loop()
            size = len(await loop.sock_recv(peer, 65_536))
            peer.sendall(b"HTTP/1.1 %d Status\r\ncontent-length: 2\r\n\r\n" % status)
            async with asyncio.timeout(5):
                response = await opening
                assert response.status == status
                if status == 200:
                    while size < len(LARGE.body or b""):
                        size += len(await loop.sock_recv(peer, 2**20))
                peer.sendall(b"ok")
                assert [piece async for piece in response] == [b"ok"]
        asking = asyncio.create_task(read(transport))
        with await accept(listener) as other:  # the first connection is not used again while it is half sent
            await request_on(other)
            other.sendall(OK)
            assert await asking == (200, b"ok")


async def test_answer_left_unread_does_not_stop_the_next() -> None:
    """A whole answer that nobody reads, larger than what is held, is followed by one that is read."""
    async with serving(body(b"x" * 10_000_000), body(b"second")) as (upstream, transport):
        async with transport.open(POST) as response:
            await upstream.received()
            assert response.status == 200
        assert await read(transport) == (200, b"second")


async def test_late_reader_of_a_whole_answer() -> None:
    """Bytes that wait when the connection closes are all given out, however many there are."""
    async with serving(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000)) as (_, transport):
        assert await read(transport) == (200, b"x" * 5_000_000)


async def test_a_body_is_not_read_after_its_exchange() -> None:
    """Row 22, for HTTP: who holds on to an answer that is over cannot read that of the next request."""
    async with serving(body(b"first"), body(b"second")) as (_, transport):
        async with transport.open(POST) as old:
            assert [piece async for piece in old] == [b"first"]
        async with transport.open(POST) as new:
            with pytest.raises(AttributeError):
                await anext(aiter(old))
            assert [piece async for piece in new] == [b"second"]


async def test_last_used_connection_is_used_first() -> None:
    """Of those that are kept, the one used last is the least likely to have been closed."""
    async with serving(body(b"{}")) as (upstream, transport):
        async with transport.open(POST) as one, transport.open(POST) as other:
            assert [piece async for piece in one] == [piece async for piece in other] == [b"{}"]
        await read(transport)
        await read(transport)
        used = [request.connection for request in upstream.requests]
        assert used[2] is used[3] is used[0]  # the first was given back last
        assert len(upstream.connections) == 2


async def test_closing_ends_what_is_under_way() -> None:
    """After `aclose` no connection is open, and who waits for an answer has an error."""
    async with serving(body(b"{}"), unending([b"data: 1\n\n"])) as (upstream, transport):
        async with transport.open(POST):
            begun = asyncio.create_task(failure(transport))
            await upstream.received(2)
        await transport.aclose()
        assert (await begun)[0].reason is Reason.STREAM_TRUNCATED
        for connection in upstream.connections:
            await connection.closed()


class Kept:
    """A connection, as the pool sees it."""

    reusable = True
    closed_at = 0.0

    def rest(self) -> None:
        self.idle_since = now()

    def has_woken(self) -> bool:
        return False

    def close(self) -> None:
        self.closed_at = now()


@paused
async def test_unused_connections_are_closed_after_a_minute() -> None:
    """Each lives for 60 s after its last use; where none is left, no timer is either."""
    pool, began = Pool(Dialer("127.0.0.1", 1, None, None)), now()
    first, second = Kept(), Kept()
    pool._open.update((first, second))  # type: ignore[arg-type]
    pool.give_back(first)  # type: ignore[arg-type]
    await asyncio.sleep(45)
    pool.give_back(second)  # type: ignore[arg-type]
    await asyncio.sleep(100)
    assert (first.closed_at - began, second.closed_at - began) == (60, 105)
    assert pool.take() is None
    assert pool._sweep is None


V4, V6 = socket.AF_INET, socket.AF_INET6


def test_families_alternate() -> None:
    """The resolver's order stands within a family, and its first family goes first."""
    found = [(V6, ("a",)), (V6, ("b",)), (V6, ("c",)), (V4, ("d",)), (V4, ("e",))]
    assert [address for _, (address,) in alternate(found)] == ["a", "d", "b", "e", "c"]
    assert alternate([]) == []


@asynccontextmanager
async def addresses() -> AsyncGenerator[tuple[Address, Address, Address], None]:
    """One that answers, one that refuses, one that does neither."""
    with ExitStack() as stack:
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        bad, deaf, *fillers = (stack.enter_context(socket.socket()) for _ in range(4))
        bad.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in fillers:  # the backlog is full: the kernel drops further attempts
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield (V4, good.getsockname()), (V4, bad.getsockname()), (V4, deaf.getsockname())


async def test_every_address_is_tried() -> None:
    """A refusal leads to the next address at once, silence after a moment; a late answer is closed."""
    async with addresses() as (good, bad, deaf), asyncio.timeout(5):
        for order, at_least, at_most in (
            ([good, deaf], 0.0, 0.2),
            ([bad, good], 0.0, 0.2),
            ([deaf, good], 0.2, 1.0),
            ([deaf, bad, good], 0.2, 1.0),
            ([good, good, good], 0.0, 0.2),
        ):
            before, began = open_files(), asyncio.get_running_loop().time()
            (await first_to_connect(order)).close()
            assert at_least <= asyncio.get_running_loop().time() - began < at_most
            assert open_files() == before


async def test_no_address_answers() -> None:
    """The last refusal is told; nothing stays open, neither then nor after a cancel."""
    async with addresses() as (_, bad, deaf), asyncio.timeout(5):
        before = open_files()
        with pytest.raises(OSError, match="Connection refused"):
            await first_to_connect([bad, bad])
        with pytest.raises(OSError, match="no address"):
            await first_to_connect([])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await first_to_connect([deaf, deaf, deaf])
        assert open_files() == before


async def test_name_with_several_addresses() -> None:
    """A name is looked up; that a server listens on one of its addresses alone does no harm."""
    async with Upstream(body(b"{}")) as upstream, to(f"http://localhost:{upstream.port}/v1") as transport:
        assert await read(transport) == (200, b"{}")
        assert upstream.requests[0].headers["host"] == f"localhost:{upstream.port}"


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "nowhere.invalid"])
async def test_name_that_cannot_be(name: str) -> None:
    """Whatever the resolver says of a name is PROVIDER_UNREACHABLE."""
    async with to(f"http://{name}/v1") as transport:
        assert (await failure(transport))[0].reason is Reason.PROVIDER_UNREACHABLE


async def test_cancel_while_connecting() -> None:
    """Rows 1 and 11: whoever leaves while a TLS handshake gets no answer leaves no socket behind."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with to(f"https://127.0.0.1:{listener.getsockname()[1]}") as transport:
            asking = asyncio.create_task(read(transport))
            with await accept(listener) as peer:
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(peer, 65_536)  # the client's greeting
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                async with asyncio.timeout(1):
                    assert await loop.sock_recv(peer, 65_536) == b""
                quick = WireRequest("x", None, connect_timeout=0.1)
                assert (await failure(transport, quick))[0].reason is Reason.CONNECT_TIMEOUT


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


TEXT = b"a line of text\n" * 100
PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "in capitals": (" GZIP ", gzip.compress(TEXT)),
    "several parts": ("x-gzip", gzip.compress(TEXT[:700]) + gzip.compress(b"") + gzip.compress(TEXT[700:])),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "deflate without a header": ("deflate", raw_deflate(TEXT)),
    "not at all": ("identity", TEXT),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("coding", "packed"), PACKED.values(), ids=PACKED)
async def test_packed_body(coding: str, packed: bytes, size: int) -> None:
    """What is packed though nobody asked is unpacked, however it is cut."""
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    async with serving(stream(pieces, {**SSE, "content-encoding": coding})) as (_, transport):
        assert await read(transport) == (200, TEXT)


async def test_bomb_comes_in_pieces() -> None:
    """A few packed bytes that stand for very many are given out bit by bit, so that limits above can act."""
    bomb = gzip.compress(bytes(20_000_000))
    answer = body(bomb, headers={**JSON, "content-encoding": "gzip"})
    async with serving(answer) as (_, transport), transport.open(POST) as response:
        sizes = [len(piece) async for piece in response]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 262_144


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
async def test_packed_in_an_unknown_way(coding: str) -> None:
    """The status of such an answer still counts; its body is an error."""
    answer = body(b"\x8b\x02", 429, {**JSON, "content-encoding": coding})
    async with serving(answer) as (_, transport), transport.open(POST) as response:
        assert response.status == 429
        with pytest.raises(GenerationError) as caught:
            await anext(aiter(response))
    assert caught.value.reason is Reason.PROVIDER_PROTOCOL_ERROR


async def test_of_headers_of_a_request_the_last_stands() -> None:
    """The format's headers go over those of the configuration, these over ours; the key goes over all."""
    headers = {"User-Agent": "mine", "content-type": "text/plain", "authorization": "no", "X-Team": "é"}
    async with Upstream(body(b"{}")) as upstream:
        transport = DirectTransport(upstream.url, LiteralKey(KEY), headers=headers)
        await read(transport)
        await read(transport, WireRequest("x", None))
        await transport.aclose()
    first, second = (request.headers for request in upstream.requests)
    assert (first["user-agent"], first["content-type"]) == ("mine", "application/json")
    assert first["authorization"] == second["authorization"] == f"Bearer {KEY}"
    assert second["content-type"] == "text/plain"
    assert "content-length" not in second
