"""The usual answers of a provider, right and wrong, for `tests/support/upstream.py`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.upstream import Answer, Exchange, Fault

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
CHUNKED = {"transfer-encoding": "chunked"}


def body(data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A body of known length; the connection stays open."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(status, {"content-length": str(len(data)), **(headers or JSON)})
        await exchange.send(data)

    return answer


def json_body(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A JSON body of known length."""
    return body(json.dumps(value).encode(), status, {**JSON, **(headers or {})})


def html(text: str = "<html><body>Bad gateway</body></html>", status: int = 200) -> Answer:
    """What a gateway or a captive portal sends in a provider's place."""
    return body(text.encode(), status, {"content-type": "text/html"})


def raw(data: bytes, fault: Fault = "close") -> Answer:
    """Bytes that need not be HTTP at all, then a fault."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.fail(fault)

    return answer


async def silence(exchange: Exchange) -> None:
    """Not one byte, until the client leaves."""
    await exchange.fail("stall")


def stream(pieces: Iterable[bytes], headers: dict[str, str] | None = None) -> Answer:
    """A chunked body, one piece at a time, properly ended; the connection stays open."""
    pieces = list(pieces)

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {**(headers or SSE), **CHUNKED})
        for piece in pieces:
            await exchange.chunk(piece)
        await exchange.chunk(b"")

    return answer


def unending(pieces: Iterable[bytes], fault: Fault = "stall") -> Answer:
    """The pieces of a chunked body, then a fault where its end should be."""
    pieces = list(pieces)

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {**SSE, **CHUNKED})
        for piece in pieces:
            await exchange.chunk(piece)
        await exchange.fail(fault)

    return answer


def keep_alive_comments(every: float = 0.1, comment: bytes = b": keep-alive\n\n") -> Answer:
    """SSE comments and nothing else, until the client leaves."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {**SSE, **CHUNKED})
        while not exchange.connection.is_closed:
            await exchange.chunk(comment)
            await asyncio.sleep(every)

    return answer


def broken(answer: Answer, after: int, fault: Fault = "close") -> Answer:
    """The same answer, cut after so many bytes, head included."""

    async def cut(exchange: Exchange) -> None:
        exchange.break_after(after, fault)
        await answer(exchange)

    return cut


def gated(gate: asyncio.Event, answer: Answer) -> Answer:
    """The same answer, once the test opens the gate."""

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        await answer(exchange)

    return wait


def echo_key(status: int = 401) -> Answer:
    """An error of OpenAI's form that repeats the key it was sent, as some gateways do."""

    async def answer(exchange: Exchange) -> None:
        headers = exchange.request.headers
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        message = f"Incorrect API key provided: {key}. Yours begins with {key[:10]} and ends in {key[-10:]}."
        await json_body(openai_error(message, code="invalid_api_key"), status)(exchange)

    return answer


def sse(*events: Any, names: Iterable[str] = ()) -> list[bytes]:
    """Each event as one piece of SSE; strings go out as they are, everything else as JSON."""
    prefixes = [f"event: {name}\n" for name in names] or [""] * len(events)
    return [
        f"{prefix}data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
        for prefix, event in zip(prefixes, events, strict=True)
    ]


def openai_error(
    message: str, code: str | None = None, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    """The body of an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def openai_events(
    *texts: str, finish: str | None = "stop", usage: tuple[int, int] | None = (9, 3), done: bool = True
) -> list[bytes]:
    """A Chat Completions stream: one event for each text, then finish reason, usage and end marker."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "model-1"}
    chunks: list[Any] = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]} for text in texts
    ]
    if finish:
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        prompt, completion = usage
        counts = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        chunks.append({**head, "choices": [], "usage": counts})
    return sse(*chunks, *(["[DONE]"] if done else []))


def openai_stream(*texts: str, finish: str | None = "stop", done: bool = True) -> Answer:
    """A whole Chat Completions stream."""
    return stream(openai_events(*texts, finish=finish, done=done))


def openai_completion(text: str, finish: str = "stop") -> Answer:
    """A Chat Completions answer in one piece."""
    return json_body(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "model-1",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
        }
    )


def anthropic_error(message: str, kind: str = "overloaded_error") -> dict[str, Any]:
    """The body of an error in Anthropic's form."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def anthropic_events(*texts: str, stop_reason: str = "end_turn") -> list[bytes]:
    """A Messages stream with one text block: one event for each text, and those around them."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "model-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ]
    return sse(*events, names=[event["type"] for event in events])


def anthropic_stream(*texts: str, stop_reason: str = "end_turn") -> Answer:
    """A whole Messages stream."""
    return stream(anthropic_events(*texts, stop_reason=stop_reason))


def anthropic_message(text: str, stop_reason: str = "end_turn") -> Answer:
    """A Messages answer in one piece."""
    return json_body(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "model-1",
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 3},
        }
    )
