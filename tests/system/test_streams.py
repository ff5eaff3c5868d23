"""What a provider may do to a stream, and what the caller sees of it."""

from pathlib import Path

import grpc
import pytest

from outrider import v1
from tests.support.answers import (
    anthropic_error,
    anthropic_events,
    anthropic_stream,
    body,
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
from tests.support.sidecar import Failure, Running, ask, collect, provider, running, text
from tests.support.upstream import Answer, Upstream

FORMATS = {"openai": openai_stream("Hel", "lo"), "anthropic": anthropic_stream("Hel", "lo")}
QUICK = {"timeouts": {"first_event": 0.3, "idle": 0.3, "total": 5}}


async def fails(sidecar: Running, model: str) -> tuple[Failure, list[v1.GenerateResponse]]:
    """The failure of a stream, and the events before it."""
    events: list[v1.GenerateResponse] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for event in sidecar.generation.Generate(ask(model), timeout=10):
            events.append(event)  # noqa: PERF401 - what came before the error counts
    return Failure.of(caught.value), events


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("format_", FORMATS)
async def test_an_answer_arrives_whole(tmp_path: Path, format_: str, transport: str) -> None:
    """Started, the text, Completed with usage and one attempt; sequence without a gap."""
    async with Upstream(FORMATS[format_]) as upstream:
        url = f"{upstream.url}/v1" if format_ == "openai" else upstream.url
        # The name chooses the vendor's official client.
        async with running(
            tmp_path, providers={format_: provider(url, format_, transport=transport)}
        ) as sidecar:
            events = await collect(sidecar.generation.Generate(ask(f"{format_}/m")))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].started.provider == format_
    assert text(events) == "Hello"
    completed = events[-1].completed
    assert completed.finish_reason == v1.FINISH_REASON_STOP
    assert completed.usage.source == v1.USAGE_SOURCE_PROVIDER
    assert [attempt.upstream_status for attempt in completed.attempts] == [200]


@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_complete_asks_for_one_piece(tmp_path: Path, transport: str) -> None:
    """Complete sends no stream upstream, and gives the message back."""
    async with Upstream(openai_completion("Hello")) as upstream:
        async with running(
            tmp_path, providers={"openai": provider(upstream.url, transport=transport)}
        ) as sidecar:
            answer = await sidecar.generation.Complete(v1.CompleteRequest(request=ask()))
        assert not upstream.requests[0].json().get("stream")
    assert answer.message.parts[0].text == "Hello"
    assert answer.completed.finish_reason == v1.FINISH_REASON_STOP


@pytest.mark.parametrize("format_", FORMATS)
async def test_a_clean_end_without_the_end_marker_is_an_error(tmp_path: Path, format_: str) -> None:
    """Row 3: two deltas and EOF: ABORTED, never an invented `stop`."""
    pieces = {"openai": openai_events("a", "b")[:2], "anthropic": anthropic_events("a", "b")[:4]}
    async with (
        Upstream(stream(pieces[format_])) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, format_)}) as sidecar,
    ):
        failure, events = await fails(sidecar, "p/m")
        assert len(upstream.requests) == 1
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "STREAM_TRUNCATED")
    assert text(events) == "ab"
    assert not any(event.HasField("completed") for event in events)
    assert failure.failure is not None
    assert failure.failure.last_sequence == events[-1].sequence
    assert failure.failure.partial_usage.output_tokens > 0


async def test_servers_without_an_end_marker(tmp_path: Path) -> None:
    """Row 3: where the configuration says so, a finish reason and the body's end do; neither does alone."""
    unmarked = openai_events("a", "b", done=False)
    answers = (
        stream(unmarked),
        openai_stream("a", "b"),
        stream(unmarked[:2]),
        unending(unmarked, "close"),
        stream(unmarked),
    )
    async with (
        Upstream(*answers) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, done_marker=False), "usual": provider(upstream.url)},
        ) as sidecar,
    ):
        for _ in answers[:2]:
            events = await collect(sidecar.generation.Generate(ask("p/m")))
            assert text(events) == "ab"
            assert events[-1].completed.finish_reason == v1.FINISH_REASON_STOP
            assert events[-1].completed.usage.output_tokens == 3
        for model in ("p/m", "p/m", "usual/m"):
            failure, events = await fails(sidecar, model)
            assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "STREAM_TRUNCATED")
            assert text(events) == "ab"


async def test_an_error_event_after_a_delta_aborts(tmp_path: Path) -> None:
    """Row 4: `overloaded_error` under HTTP 200, with the reason kept; the delta before it arrives."""
    pieces = [*anthropic_events("a")[:3], *sse(anthropic_error("busy"), names=["error"])]
    for cut in (pieces, [b"".join(pieces)]):
        async with (
            Upstream(stream(cut)) as upstream,
            running(tmp_path, providers={"p": provider(upstream.url, "anthropic")}) as sidecar,
        ):
            failure, events = await fails(sidecar, "p/m")
            assert len(upstream.requests) == 1
        assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "PROVIDER_OVERLOADED")
        assert text(events) == "a"


BAD_STARTS: dict[str, Answer] = {
    "error event": stream([*openai_events("")[:1], *sse({"error": {"message": "busy", "code": 503}})]),
    "error body": json_body({"error": {"message": "no", "type": "server_error"}}),
    "html": html(),
    "empty": body(b"", headers={"content-type": "text/event-stream"}),
    "empty json": body(b""),
    "not json": body(b"hello", headers={"content-type": "application/json"}),
    "not an answer": json_body([1, 2, 3]),
    "only comments": stream([b": hello\n\n"] * 3),
    "only the end": stream(sse("[DONE]")),
    "server error": json_body({"error": {"message": "no"}}, 500),
    "key refused": json_body(openai_error("bad key", "invalid_api_key"), 401),
    "quota spent": json_body(openai_error("pay", "insufficient_quota"), 429),
    "redirect": body(b"", 302, {"location": "http://127.0.0.1:9/"}),
}


@pytest.mark.parametrize("bad", BAD_STARTS)
async def test_a_start_that_is_not_an_answer_goes_to_the_fallback(tmp_path: Path, bad: str) -> None:
    """Rows 4 and 5: an error, HTML or nothing under any status is a failure, and the next target answers."""
    async with (
        Upstream(BAD_STARTS[bad]) as broken,
        Upstream(openai_stream("fine")) as fine,
        running(
            tmp_path,
            providers={"broken": provider(broken.url), "fine": provider(fine.url)},
            routes={"safe": ["broken/m", "fine/m"]},
        ) as sidecar,
    ):
        events = await collect(sidecar.generation.Generate(ask("safe")))
        assert text(events) == "fine"
        outcomes = [attempt.outcome for attempt in events[-1].completed.attempts]
        assert outcomes[-1] == v1.Attempt.OUTCOME_SUCCEEDED
        assert set(outcomes[:-1]) == {v1.Attempt.OUTCOME_FAILED}
        failed = 'outrider_attempts_total{model="m",outcome="failed",provider="broken"'
        assert failed in await sidecar.metrics()


async def test_failures_of_any_kind_open_the_breaker(tmp_path: Path) -> None:
    """Row 5: HTML under 200 counts as a failure; the next request does not go there."""
    async with (
        Upstream(html()) as broken,
        running(
            tmp_path,
            providers={"p": provider(broken.url)},
            breaker={"failures": 3, "open_for": 60},
        ) as sidecar,
    ):
        await fails(sidecar, "p/m")
        failure, _ = await fails(sidecar, "p/m")
        assert len(broken.requests) == 3
        assert await sidecar.counted('outrider_breaker_state{model="m",provider="p"}') == 2
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "BREAKER_OPEN")
    assert failure.retry_delay is not None
    assert 0 < failure.retry_delay <= 60


@pytest.mark.parametrize("deltas", [1, 3])
async def test_a_failure_after_deltas_means_one_upstream_call(tmp_path: Path, deltas: int) -> None:
    """Row 6: nothing is repeated or spliced."""
    pieces = openai_events(*["x"] * deltas)[:deltas]
    async with (
        Upstream(unending(pieces, "reset")) as upstream,
        Upstream(openai_stream("other")) as other,
        running(
            tmp_path,
            providers={"p": provider(upstream.url), "other": provider(other.url)},
            routes={"safe": ["p/m", "other/m"]},
        ) as sidecar,
    ):
        failure, events = await fails(sidecar, "safe")
        assert (len(upstream.requests), len(other.requests)) == (1, 0)
    assert failure.code == grpc.StatusCode.ABORTED
    assert text(events) == "x" * deltas


async def test_a_stall_after_the_first_token_is_named(tmp_path: Path) -> None:
    """Row 9: DEADLINE_EXCEEDED naming the idle timeout, and the provider's socket is closed."""
    async with (
        Upstream(unending(openai_events("a")[:1])) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, **QUICK) as sidecar,
    ):
        failure, events = await fails(sidecar, "p/m")
        await upstream.connections[0].closed(within=1)
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "IDLE_TIMEOUT")
    assert "idle" in failure.message
    assert text(events) == "a"


@pytest.mark.parametrize("quiet", ["silence", "comments", "pings"])
async def test_a_silent_start_goes_to_the_fallback(tmp_path: Path, quiet: str) -> None:
    """Rows 35 and 36: nothing, comments every 50 ms or pings: the first content event is what counts."""
    answers: dict[str, Answer] = {
        "silence": silence,
        "comments": keep_alive_comments(0.05),
        "pings": keep_alive_comments(0.05, b'event: ping\ndata: {"type": "ping"}\n\n'),
    }
    async with (
        Upstream(answers[quiet]) as slow,
        Upstream(openai_stream("fine")) as fine,
        running(
            tmp_path,
            providers={
                "slow": provider(slow.url, "anthropic", attempts={"max_attempts": 1}),
                "fine": provider(fine.url),
            },
            routes={"safe": ["slow/m", "fine/m"]},
            **QUICK,
        ) as sidecar,
    ):
        events = await collect(sidecar.generation.Generate(ask("safe")))
        await slow.connections[0].closed(within=1)
    assert text(events) == "fine"
    attempt = events[-1].completed.attempts[0]
    assert attempt.reason == "FIRST_EVENT_TIMEOUT"
    assert 0.25 < attempt.duration.ToMilliseconds() / 1000 < 2


async def test_text_survives_any_cut(tmp_path: Path) -> None:
    """Rows 19 and 20: one byte at a time, through emoji, a byte that is no UTF-8, and a lone surrogate."""
    pieces = openai_events("🙂é", "\u2028", "BAD", "SURROGATE")
    data = b"\xef\xbb\xbf: hello\r\n\r\n" + b"".join(pieces).replace(b"\n", b"\r\n")
    data = data.replace(b"BAD", b"\xff").replace(b"SURROGATE", rb"\ud83d")
    for cut in ([data], [data[i : i + 1] for i in range(len(data))]):
        async with (
            Upstream(stream(cut)) as upstream,
            running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
        ):
            events = await collect(sidecar.generation.Generate(ask("p/m")))
        assert text(events) == "🙂é\u2028\ufffd\ufffd"


async def test_missing_usage_is_estimated(tmp_path: Path) -> None:
    """Row 21: flagged ESTIMATED, never 0, in the answer and in the metrics."""
    async with (
        Upstream(stream(openai_events("some words", usage=None))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        events = await collect(sidecar.generation.Generate(ask("p/m")))
    usage = events[-1].completed.usage
    assert usage.source == v1.USAGE_SOURCE_ESTIMATED
    assert usage.input_tokens > 0 < usage.output_tokens


async def test_an_answer_over_the_size_limit_is_cut(tmp_path: Path) -> None:
    """LLM_MAX_RESPONSE_SIZE holds for streams too."""
    async with (
        Upstream(stream(openai_events(*["x" * 1000] * 50))) as upstream,
        running(
            tmp_path, providers={"p": provider(upstream.url)}, limits={"max_response_bytes": 20_000}
        ) as sidecar,
    ):
        failure, _ = await fails(sidecar, "p/m")
        assert len(upstream.requests) == 1
    assert failure.reason == "RESPONSE_TOO_LARGE"


async def test_a_filtered_answer_is_an_answer(tmp_path: Path) -> None:
    """OK, with a finish reason: in a stream and for a prompt that is refused."""
    refused = json_body(openai_error("filtered", "content_filter"), 400)
    for answer in (openai_stream("so far", finish="content_filter"), refused):
        async with (
            Upstream(answer) as upstream,
            running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
        ):
            events = await collect(sidecar.generation.Generate(ask("p/m")))
        assert events[-1].completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
