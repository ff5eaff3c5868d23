"""What the mock provider sends: OpenAI's and Anthropic's answers as bytes, made once."""

from __future__ import annotations

import json
from dataclasses import dataclass

CHUNKS = 100  # in a stream whose model name does not say
TOKEN_TEXT = " token"

_END = b"0\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP answer with a JSON body."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Wire:
    """The answers of one wire format, HTTP's chunked encoding included."""

    unary: bytes
    first: bytes  # head, opening events and the first token: a stream of n tokens has n - 1 more
    token: bytes
    last: bytes

    def burst(self, chunks: int = CHUNKS) -> bytes:
        """A whole stream at once."""
        return self.first + self.token * (chunks - 1) + self.last


def _openai() -> Wire:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    usage = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 12}

    def event(data: object) -> bytes:
        return f"data: {json.dumps(data)}\n\n".encode()

    def delta(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        return event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})

    message = {"role": "assistant", "content": TOKEN_TEXT * 4}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {**chunk, "object": "chat.completion", "choices": [choice], "usage": usage}
    token = _chunked(delta({"content": TOKEN_TEXT}))
    closing = delta({}, "stop") + event({**chunk, "choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    return Wire(
        unary=answer(json.dumps(whole).encode()),
        first=_STREAM_HEAD + _chunked(delta({"role": "assistant", "content": ""})) + token,
        token=token,
        last=_chunked(closing) + _END,
    )


def _anthropic() -> Wire:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "mock", "stop_sequence": None}
    usage = {"input_tokens": 12, "output_tokens": CHUNKS}

    def event(**data: object) -> bytes:
        return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()

    text = {"type": "text", "text": TOKEN_TEXT * 4}
    whole = {**message, "content": [text], "stop_reason": "end_turn", "usage": usage}
    start: dict[str, object] = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    empty = {"type": "text", "text": ""}
    opening = event(type="message_start", message=start)
    opening += event(type="content_block_start", index=0, content_block=empty)
    delta = {"type": "text_delta", "text": TOKEN_TEXT}
    token = _chunked(event(type="content_block_delta", index=0, delta=delta))
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    closing = event(type="content_block_stop", index=0)
    closing += event(type="message_delta", delta=ending, usage={"output_tokens": CHUNKS})
    closing += event(type="message_stop")
    return Wire(
        unary=answer(json.dumps(whole).encode()),
        first=_STREAM_HEAD + _chunked(opening) + token,
        token=token,
        last=_chunked(closing) + _END,
    )


OPENAI, ANTHROPIC = _openai(), _anthropic()
