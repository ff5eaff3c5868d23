"""TLS below our HTTP/1.1, and proxies on the way: real handshakes, a real proxy."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import WireRequest
from outrider.providers.credentials import LiteralKey
from outrider.providers.direct_transport import DirectTransport
from tests.support.answers import body, raw, stream, unending
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from tests.support.upstream import Answer

KEY = "sk-test-0123456789abcdef"
PASSWORD = "p@ss:word"
POST = WireRequest("chat/completions", b"{}", connect_timeout=2.0)
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's certificate is trusted, and no proxy of the machine stands in the way."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def to(url: str) -> AsyncGenerator[DirectTransport, None]:
    transport = DirectTransport(url, LiteralKey(KEY))
    yield transport
    await transport.aclose()


@asynccontextmanager
async def serving(
    tls: ssl.SSLContext, *answers: Answer
) -> AsyncGenerator[tuple[Upstream, DirectTransport], None]:
    async with Upstream(*answers, tls=tls) as upstream, to(f"{upstream.url}/v1") as transport:
        yield upstream, transport


async def read(transport: DirectTransport, request: WireRequest = POST) -> tuple[int, bytes]:
    async with asyncio.timeout(10), transport.open(request) as response:
        return response.status, b"".join([piece async for piece in response])


async def failure(transport: DirectTransport) -> GenerationError:
    with pytest.raises(GenerationError) as caught:
        await read(transport)
    for secret in (KEY, PASSWORD):
        assert secret not in repr(caught.value)
    return caught.value


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


class Proxy:
    """Passes bytes on to a port of this machine, whatever name it is asked for, or refuses with a status."""

    def __init__(self, port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self._port = port
        self._answer = answer
        self.heads: list[bytes] = []

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str, None]:
        async with asyncio.TaskGroup() as tasks:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                served.append(tasks.create_task(self._serve(reader, writer)))

            served: list[asyncio.Task[None]] = []
            server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            server.close()
            for task in served:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._answer)
        await writer.drain()
        if b" 200 " in self._answer:
            out_reader, out_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(pump(reader, out_writer), pump(out_reader, writer))
        writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()


async def test_connections_are_kept_and_paced(server_tls: ssl.SSLContext) -> None:
    """Over TLS as without: one connection for whole answers, and large bodies both ways."""
    large = WireRequest("x", b"x" * 3_000_000)
    async with serving(server_tls, body(b"{}"), stream([b"y" * 100_000] * 30)) as (upstream, transport):
        assert await read(transport) == (200, b"{}")
        assert await read(transport, large) == (200, b"y" * 3_000_000)
        assert len(upstream.connections) == 1
        assert upstream.requests[1].body == large.body


@pytest.mark.parametrize("framing", [b"content-length: 1000000", b"x: y"], ids=["length", "until closed"])
async def test_body_and_end_in_one(server_tls: ssl.SSLContext, framing: bytes) -> None:
    """A server that closes at once after a large answer loses nothing of it."""
    answer = raw(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing + b"x" * 1_000_000)
    async with serving(server_tls, answer) as (_, transport):
        assert await read(transport) == (200, b"x" * 1_000_000)


async def test_reset_is_a_cut(server_tls: ssl.SSLContext) -> None:
    """Row 3: a connection that breaks below TLS ends no body."""
    async with serving(server_tls, unending([b"data: 1\n\n"], "reset")) as (_, transport):
        assert (await failure(transport)).reason is Reason.STREAM_TRUNCATED


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_cancel_at_any_moment(server_tls: ssl.SSLContext, secure: bool) -> None:
    """Row 11: a cancel in any turn of the loop, from connecting on, leaves no socket, task or complaint."""
    loop, complaints = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    answer = stream([b"data: 1\n\n"] * 3)
    async with Upstream(answer, tls=server_tls if secure else None) as upstream:
        files, tasks = open_files(), len(asyncio.all_tasks())
        finished = 0
        for turns in range(60):
            async with to(f"{upstream.url}/v1") as transport:
                for _ in range(3):
                    asking = asyncio.create_task(read(transport))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    asking.cancel()
                    finished += (await asyncio.gather(asking, return_exceptions=True))[0] == (
                        200,
                        b"data: 1\n\n" * 3,
                    )
        async with asyncio.timeout(5):
            for connection in upstream.connections:
                await connection.closed()
        for connection in upstream.connections:
            await connection.stop()
        await asyncio.sleep(0)
        assert (open_files(), len(asyncio.all_tasks())) == (files, tasks)
    assert complaints == []
    assert finished


async def test_wrong_name(server_tls: ssl.SSLContext) -> None:
    """A certificate for another name is refused before the key leaves."""
    async with (
        Upstream(body(b"{}"), tls=server_tls) as upstream,
        to(f"https://localhost:{upstream.port}") as to_it,
    ):
        assert (await failure(to_it)).reason is Reason.PROVIDER_UNREACHABLE
        assert upstream.requests == []


@pytest.mark.parametrize("secure", [False, True], ids=["http proxy", "https proxy"])
async def test_tunnel(server_tls: ssl.SSLContext, secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 28: TLS goes through the proxy to the provider; the proxy sees a name and its own login, no key."""
    async with Upstream(body(b"{}"), tls=server_tls) as upstream:
        proxy = Proxy(upstream.port)
        async with proxy.running(server_tls if secure else None) as where:
            scheme = "https" if secure else "http"
            monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:p%40ss%3Aword@{where}")
            async with to("https://provider.test/v1") as transport:
                for _ in range(3):
                    assert await read(transport) == (200, b"{}")
        assert len(upstream.connections) == 1
        assert upstream.requests[0].headers["host"] == "provider.test"
        assert "proxy-authorization" not in upstream.requests[0].headers
    (head,) = proxy.heads
    lines = head.decode().split("\r\n")
    assert lines[:2] == ["CONNECT provider.test:443 HTTP/1.1", "Host: provider.test:443"]
    assert b64decode(lines[2].removeprefix("Proxy-Authorization: Basic ")).decode() == f"user:{PASSWORD}"
    assert KEY.encode() not in head


async def test_proxy_of_plain_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS the proxy is sent the request itself, with its login; it may be given without a scheme."""
    async with Upstream(body(b"{}")) as proxy:
        monkeypatch.setenv("http_proxy", f"user:p%40ss%3Aword@127.0.0.1:{proxy.port}")
        async with to("http://provider.invalid:81/v1") as transport:
            assert await read(transport) == (200, b"{}")
        request = proxy.requests[0]
    assert request.target == "http://provider.invalid:81/v1/chat/completions"
    assert request.headers["host"] == "provider.invalid:81"
    assert (
        b64decode(request.headers["proxy-authorization"].removeprefix("Basic ")).decode()
        == f"user:{PASSWORD}"
    )


async def test_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY keeps its hosts from the proxy."""
    async with Upstream(body(b"{}")) as upstream:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        async with to(upstream.url) as transport:
            assert await read(transport) == (200, b"{}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answers CONNECT with 407"),
        (b"HTTP/1.1 503 no\r\n\r\n", "answers CONNECT with 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "answers CONNECT with nothing"),
        (b"", "answers CONNECT with nothing"),
        (b"x" * 100_000, "answers CONNECT with nothing"),
    ],
)
async def test_proxy_that_refuses(answer: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 28: whatever the proxy says instead is PROVIDER_UNREACHABLE, with its status and no login."""
    async with Proxy(9, answer).running() as where:
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss%3Aword@{where}")
        async with to("https://provider.test/v1") as transport:
            error = await failure(transport)
    assert error.reason is Reason.PROVIDER_UNREACHABLE
    assert words in error.fact.message


async def test_proxy_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 11: a proxy that never answers costs the time to connect, and no socket afterwards."""
    async with Upstream(unending([])) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with to("https://provider.test/v1") as transport:
            with pytest.raises(GenerationError) as caught:
                await read(transport, WireRequest("x", None, connect_timeout=0.1))
        assert caught.value.reason is Reason.CONNECT_TIMEOUT
        await proxy.connections[0].closed(within=1)


async def test_proxy_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not an HTTP proxy is told at the start, without its login."""
    monkeypatch.setenv("https_proxy", f"socks5://user:{PASSWORD}@127.0.0.1:9")
    with pytest.raises(GenerationError, match="HTTPS_PROXY is not an HTTP proxy") as caught:
        DirectTransport("https://provider.test/v1", LiteralKey(KEY))
    assert caught.value.reason is Reason.PROVIDER_NOT_CONFIGURED
    assert PASSWORD not in repr(caught.value)
