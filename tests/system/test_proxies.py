"""What proxies in front of a provider do to an answer: pack it, cut it, relabel it."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.answers import SSE, anthropic_events, body, openai_events, raw, stream
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from outrider import v1
    from tests.support.upstream import Answer

OPENAI = b"".join(openai_events("Hé", "llo"))
ANTHROPIC = b"".join(anthropic_events("Hé", "llo"))


def pieces(data: bytes, size: int = 5) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def flushed(data: bytes) -> list[bytes]:
    """Compressed event by event, as a proxy does that does not hold events back."""
    packer = zlib.compressobj(wbits=31)
    packed = [
        packer.compress(event + b"\n\n") + packer.flush(zlib.Z_SYNC_FLUSH) for event in data.split(b"\n\n")
    ]
    return [*packed, packer.flush()]


def ways(data: bytes) -> dict[str, Answer]:
    return {
        "gzip, in one block": stream(pieces(gzip.compress(data)), {**SSE, "content-encoding": "gzip"}),
        "gzip, flushed": stream(flushed(data), {**SSE, "content-encoding": "gzip"}),
        "deflate": stream(pieces(zlib.compress(data)), {**SSE, "content-encoding": "deflate"}),
        "of known length": body(data, headers=SSE),
        "until the connection closes": raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + data
        ),
        "as JSON": stream(pieces(data), {"content-type": "application/json"}),
        "as bytes": stream(pieces(data), {"content-type": "application/octet-stream"}),
        "as nothing": stream(pieces(data), {"x-served-by": "a proxy"}),
        "with Retry-After": stream(pieces(data), {**SSE, "retry-after": "60", "retry-after-ms": "60000"}),
    }


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("format_", ["openai", "anthropic"])
async def test_an_answer_comes_through(tmp_path: Path, format_: str, transport: str) -> None:
    """Rows 5 and 19: compressed, recut or mislabelled, a whole answer is the same answer, at once."""
    answers = ways(OPENAI if format_ == "openai" else ANTHROPIC)
    async with (
        Upstream(*answers.values()) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, format_, transport=transport)}) as sidecar,
    ):
        texts = {way: text(await collect(sidecar.generation.Generate(ask("p/m")))) for way in answers}
        assert texts == dict.fromkeys(answers, "Héllo")
        assert len(upstream.requests) == len(answers)


def broken_ways(data: bytes) -> dict[str, Answer]:
    whole = gzip.compress(data)
    short = gzip.compress(data[: len(data) // 2])
    return {
        "half of what was packed": stream(pieces(short), {**SSE, "content-encoding": "gzip"}),
        "half of the package": stream(pieces(whole[: len(whole) // 2]), {**SSE, "content-encoding": "gzip"}),
        "half of the length": raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(data)
            + data[: len(data) // 2]
        ),
        "half, then closed": raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + data[: len(data) // 2]
        ),
        "not what it says": stream(pieces(data), {**SSE, "content-encoding": "gzip"}),
        "packed in an unknown way": stream(pieces(data[::-1]), {**SSE, "content-encoding": "x-unknown"}),
    }


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("format_", ["openai", "anthropic"])
async def test_half_an_answer_is_an_error(tmp_path: Path, format_: str, transport: str) -> None:
    """Row 3: whatever carries it, an answer that is cut is an error, and none has `completed`."""
    answers = broken_ways(OPENAI if format_ == "openai" else ANTHROPIC)
    settings = {"transport": transport, "attempts": {"max_attempts": 1}}
    async with (
        Upstream(*answers.values()) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, format_, **settings)}) as sidecar,
    ):
        for way in answers:
            events: list[v1.GenerateResponse] = []
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for event in sidecar.generation.Generate(ask("p/m"), timeout=5):
                    events.append(event)  # noqa: PERF401 - what came before the error counts
            reason = Failure.of(caught.value).reason
            assert reason in ("STREAM_TRUNCATED", "PROVIDER_PROTOCOL_ERROR"), way
            assert not any(event.HasField("completed") for event in events), way
