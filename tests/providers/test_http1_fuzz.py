"""Our HTTP/1.1 on any bytes in any cuts: it ends, and gives out what is right or a GenerationError."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import WireRequest
from outrider.providers.credentials import LiteralKey
from outrider.providers.direct_transport import DirectTransport
from outrider.providers.http1_connection import Connection
from tests.support.answers import raw
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterable


class Wire(asyncio.Transport):
    """The transport below a connection, whose peer is the test. A read is what the test says it is."""

    def __init__(self, connection: Connection) -> None:
        self._socket, self._peer = socket.socketpair()
        super().__init__({"socket": self._socket})
        self._connection = connection
        self.written = b""
        self.ended = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        connection.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.ended
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert self.flowing.is_set()
        assert not self.ended
        self.flowing.clear()

    def resume_reading(self) -> None:
        assert not self.flowing.is_set()
        assert not self.ended
        self.flowing.set()

    def abort(self) -> None:
        if not self.ended:
            asyncio.get_running_loop().call_soon(self.end)

    def end(self, error: Exception | None = None) -> None:
        if not self.ended:
            self.ended = True
            self.flowing.set()
            self._connection.connection_lost(error)
            self._socket.close()
            self._peer.close()


class Result(NamedTuple):
    """What an exchange came to. Of a body that breaks off, what had come of it."""

    status: int
    body: bytes
    reason: Reason | None
    reusable: bool


async def exchange(pieces: Iterable[bytes], *, closes: bool = True, reader: bool = True) -> Result:
    """Play the pieces, one read each, as the answer; then a clean close, or none."""
    connection = Connection("host", lambda _: None)
    wire = Wire(connection)

    async def ask() -> Result:
        got, reason = b"", None
        try:
            await connection.ask(b"GET / HTTP/1.1\r\n\r\n", None)
            while True:
                got += await connection.read()
        except StopAsyncIteration:
            pass
        except GenerationError as error:
            reason = error.reason
        return Result(connection.status, got, reason, connection.reusable)

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    for piece in pieces:
        await wire.flowing.wait()
        if not wire.ended:
            connection.data_received(piece)
        if reader:
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        if closes:
            await wire.flowing.wait()
            connection.eof_received()
        result = await asking
    wire.end()
    return result


def play(pieces: Iterable[bytes], **options: bool) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(exchange(pieces, **options))


class Answer(NamedTuple):
    """A valid answer: its bytes, what it says, and whether its own bytes tell its end."""

    sent: bytes
    status: int
    body: bytes
    framed: bool


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
FRAMING = ("transfer-encoding", "content-length", "connection", "upgrade", "proxy-connection", "keep-alive")
HEADERS = st.lists(st.tuples(TOKEN, VALUE).filter(lambda pair: pair[0].lower() not in FRAMING), max_size=5)
PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    status = draw(st.sampled_from([200, 201, 400, 401, 429, 500, 529]))
    pieces, headers = draw(PIECES), draw(HEADERS)
    early = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nlink: a\r\n\r\n" * 2])
    )
    framing = draw(st.sampled_from(["chunked", "length", "close"]))
    body = b"".join(pieces)
    if framing == "chunked":
        extension = draw(st.sampled_from([b"", b";a=b", b';a="b"']))
        chunks = [b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces]
        trailer = draw(st.sampled_from([b"", b"x-sum: 1\r\n"]))
        headers.append(("Transfer-Encoding", "chunked"))
        payload = b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"
    else:
        payload = body
        if framing == "length":
            headers.append(("Content-Length", str(len(body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
    head = b"HTTP/1.1 %d Some Phrase\r\n%b\r\n" % (status, lines)
    return Answer(early + head + payload, status, body, framing != "close")


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if start < end]


@given(answer=answers(), places=st.lists(st.integers(0, 10_000), max_size=8), reader=st.booleans())
def test_valid_answer_in_any_cuts(answer: Answer, places: list[int], reader: bool) -> None:
    """Row 19: status and body are the same however the network cuts; what tells its end needs no close."""
    result = play(cut(answer.sent, places), closes=not answer.framed, reader=reader)
    assert result == Result(answer.status, answer.body, None, answer.framed)


@given(answer=answers())
@settings(max_examples=20)
def test_valid_answer_cut_at_every_place(answer: Answer) -> None:
    """In two reads that meet anywhere, and a byte at a time."""
    for place in range(len(answer.sent)):
        result = play(cut(answer.sent, [place]), closes=not answer.framed)
        assert result == Result(answer.status, answer.body, None, answer.framed)
    result = play(cut(answer.sent, range(len(answer.sent))), closes=not answer.framed)
    assert result == Result(answer.status, answer.body, None, answer.framed)


@given(answer=answers(), places=st.lists(st.integers(0, 10_000), max_size=3), share=st.floats(0, 1))
def test_answer_that_breaks_off(answer: Answer, places: list[int], share: float) -> None:
    """Row 3: what is cut before its end is an error, after a beginning of the body and nothing else."""
    part = answer.sent[: int(len(answer.sent) * share)]
    result = play(cut(part, places))
    assert answer.body.startswith(result.body)
    if answer.framed and part != answer.sent:
        assert result.reason in (Reason.PROVIDER_UNREACHABLE, Reason.STREAM_TRUNCATED)
        assert not result.reusable


@given(answer=answers(), surplus=st.binary(min_size=1, max_size=50), apart=st.booleans())
@example(answer=Answer(b"HTTP/1.1 204 x\r\n\r\n", 204, b"", True), surplus=b"HTTP/1.1 200", apart=False)
def test_surplus_bytes_are_no_answer(answer: Answer, surplus: bytes, apart: bool) -> None:
    """Row 22, for HTTP: what follows a whole answer changes nothing of it, and ends the connection."""
    if answer.framed:
        result = play([answer.sent, surplus] if apart else [answer.sent + surplus], closes=False)
        assert (result.status, result.body, result.reason) == (answer.status, answer.body, None)
        if not apart and surplus.strip(b"\r\n"):
            assert not result.reusable


@given(
    answer=answers(),
    place=st.integers(0, 10_000),
    noise=st.binary(min_size=1, max_size=20),
    cover=st.booleans(),
)
def test_garbage_within_an_answer(answer: Answer, place: int, noise: bytes, cover: bool) -> None:
    """Wherever garbage stands, in place of bytes or between them, the exchange ends."""
    place %= len(answer.sent)
    rest = answer.sent[place + (len(noise) if cover else 0) :]
    play([answer.sent[:place] + noise + rest])
    play([answer.sent[:place], noise, rest])


@given(pieces=st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_alone(pieces: list[bytes]) -> None:
    """Any bytes at all are an error, unless they happen to be an answer."""
    result = play(pieces)
    assert result.reason is not None or result.status


async def test_bytes_before_a_request() -> None:
    """Who speaks before being asked is not listened to: its answer is none."""
    connection = Connection("host", lambda _: None)
    wire = Wire(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    with pytest.raises(GenerationError) as caught:
        await connection.ask(b"GET / HTTP/1.1\r\n\r\n", None)
    assert caught.value.reason is Reason.PROVIDER_PROTOCOL_ERROR
    assert wire.written == b""
    wire.end()


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ODD: dict[str, bytes] = {
    "no phrase": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "empty phrase": b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.0, kept": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    "said to close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    "offers more": b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
    "blanks around a length": b"HTTP/1.1 200 OK\r\ncontent-length: \t 2 \t\r\n\r\nok",
    "blank after a colon missing": b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok",
    "empty header": b"HTTP/1.1 200 OK\r\nx:\r\ncontent-length: 2\r\n\r\nok",
    "header with high bytes": b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\ncontent-length: 2\r\n\r\nok",
    "nothing": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "no chunk": CHUNKED + b"0\r\n\r\n",
    "chunk size in capitals": CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n",
    "chunk size with zeros": CHUNKED + b"0000a\r\n0123456789\r\n000\r\n\r\n",
    "chunk with an extension": CHUNKED + b"2;name=value\r\nok\r\n0;last\r\n\r\n",
    "trailers": CHUNKED + b"2\r\nok\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
    "many small chunks": CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n",
    "chunked in capitals": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "100 and 103": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: a\r\n\r\n" + CHUNKED + b"0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "status out of the ordinary": b"HTTP/1.1 999 What\r\ncontent-length: 2\r\n\r\nok",
    "no length": b"HTTP/1.1 500 Error\r\ncontent-type: text/html\r\n\r\n<html>",
    "large": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1_000_000,
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
async def test_odd_servers_are_read_as_aiohttp_reads_them(sent: bytes) -> None:
    """Status and body of what is unusual but right are the same as in another client."""
    async with Upstream(raw(sent)) as upstream:
        async with aiohttp.ClientSession() as session, session.get(upstream.url) as theirs:
            expected = theirs.status, await theirs.read()
        transport = DirectTransport(upstream.url, LiteralKey(""))
        async with asyncio.timeout(5), transport.open(WireRequest("", None)) as ours:
            assert (ours.status, b"".join([piece async for piece in ours])) == expected
        await transport.aclose()
