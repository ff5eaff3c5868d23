"""Whole streams as vendors word them: each has oddities of several kinds at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from tests.providers.openai_answers import COUNTED, JSON, decode, reasoning, text, tool_call

if TYPE_CHECKING:
    from outrider.v1 import FinishReason

AZURE = b"""
data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},\
"finish_reason":null,"index":0,"logprobs":null}],"created":1,"id":"c1","model":"gpt-x","usage":null}

data: {"choices":[{"content_filter_offsets":{"check_offset":1},"content_filter_results":{},\
"finish_reason":null,"index":0,"logprobs":null}],"created":0,"id":"","model":"","object":""}

data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null,"index":0}],"id":"c1","model":"gpt-x"}

data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}],"id":"c1","model":"gpt-x","usage":null}

data: {"choices":[],"id":"c1","model":"gpt-x",\
"usage":{"completion_tokens":3,"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":12}}

data: {"choices":[],"id":"","model":"","moderation":{"flagged":false},"usage":null}

data: [DONE]

"""

ROLE_IN_EVERY_DELTA = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"H"}}]}

data: {"id":"c1","model":"gpt-x","choices":[],"moderation":{"flagged":false}}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""},\
"finish_reason":""}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"i"},\
"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":"stop"}],\
"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}

data: [DONE]

"""

PERPLEXITY = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"finish_reason":null,\
"message":{"role":"assistant","content":"H"},"delta":{"role":"assistant","content":"H"}}],\
"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"finish_reason":"stop",\
"message":{"role":"assistant","content":"Hi"},"delta":{"role":"assistant","content":"i"}}],\
"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}

data: [DONE]

"""

GROQ = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":null},\
"finish_reason":null}],"x_groq":{"id":"req_1","seed":1}}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"reasoning":"Hm.","channel":"analysis"}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":"Hi"}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],\
"x_groq":{"id":"req_1","usage":{"queue_time":0.1,"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}}

data: [DONE]

"""

MOONSHOT = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"reasoning_content":"Hm."}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":"Hi"}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{},"finish_reason":"stop",\
"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}]}

data: [DONE]

"""

MISTRAL = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":[{"type":"thinking",\
"thinking":[{"type":"text","text":"H"}]}]}}],"p":"abc"}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":[{"type":"thinking",\
"thinking":[{"type":"text","text":"m."}],"closed":true}]}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}],\
"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3}}

data: [DONE]

"""

GEMINI = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\r
\r
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[\
{"function":{"name":"look","arguments":"{\\"x\\":1}"},"id":"a","type":"function",\
"extra_content":{"google":{"thought_signature":"T+/="}}},\
{"function":{"name":"look","arguments":"{\\"x\\":2}"},"id":"b","type":"function"}]}}]}\r
\r
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":"stop"}],\
"usage":{"completion_tokens":3,"prompt_tokens":9,"total_tokens":12}}\r
\r
data: [DONE]\r
\r
"""

SIGNED_TEXT = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant",\
"extra_content":{"google":{"thought_signature":"T+/="}}},"finish_reason":"stop"}],\
"usage":{"completion_tokens":3,"prompt_tokens":9,"total_tokens":12}}

data: [DONE]

"""

CALLS_THAT_SHARE_AN_INDEX = b"""\
data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":null,\
"function_call":{"name":"","arguments":""},"tool_calls":[]}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"a","type":"function","function":{"name":"look","arguments":"{\\"x\\":1}"}}]}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"b","type":"function","function":{"name":"look","arguments":"{\\"x\\":"}}]}}]}

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"","type":"","function":{"name":"","arguments":"2}"}}]},"finish_reason":"tool_calls"}]}

data: {"id":"c1","model":"gpt-x","choices":[],\
"usage":{"completion_tokens":3,"prompt_tokens":9,"total_tokens":12}}

data: [DONE]

"""

LONG_TEXT = "é🙂" * 8_000
LONG_LINE = b"""\
: keep-alive

data: {"id":"c1","model":"gpt-x","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"length",\
"logprobs":{"content":[%b]}}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}

data: [DONE]
""" % (LONG_TEXT.encode(), b",".join([b'{"token":"a","logprob":-0.1}'] * 500))


@dataclass
class Expected:
    parts: list[v1.Part]
    finish_reason: FinishReason = v1.FINISH_REASON_STOP
    usage: v1.Usage = field(default_factory=lambda: COUNTED)


SIGNED_CALLS = [tool_call("a", "look", '{"x":1}', b"T+/="), tool_call("b", "look", '{"x":2}')]
TWO_CALLS = [tool_call("a", "look", '{"x":1}'), tool_call("b", "look", '{"x":2}')]

STREAMS: dict[str, tuple[bytes, Expected]] = {
    "filter results and moderation before, between and behind the text": (AZURE, Expected([text("Hi")])),
    "role in every delta, finish reason and usage twice": (ROLE_IN_EVERY_DELTA, Expected([text("Hi")])),
    "the message so far beside every delta": (PERPLEXITY, Expected([text("Hi")])),
    "usage in a field of the vendor's": (GROQ, Expected([reasoning("Hm."), text("Hi")])),
    "usage inside of the choice": (MOONSHOT, Expected([reasoning("Hm."), text("Hi")])),
    "content that becomes a list": (MISTRAL, Expected([reasoning("Hm."), text("Hi")])),
    "whole calls without an index, CRLF": (
        GEMINI,
        Expected([text("Hi"), *SIGNED_CALLS], v1.FINISH_REASON_TOOL_CALLS),
    ),
    "a signature behind the text": (SIGNED_TEXT, Expected([v1.Part(text="Hi", signature=b"T+/=")])),
    "calls that share an index, empty calls": (
        CALLS_THAT_SHARE_AN_INDEX,
        Expected(TWO_CALLS, v1.FINISH_REASON_TOOL_CALLS),
    ),
    "a line of 80 kB": (LONG_LINE, Expected([text(LONG_TEXT)], v1.FINISH_REASON_MAX_TOKENS)),
}


@pytest.mark.parametrize(("body", "expected"), STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize("size", [1, 13, 100_000])
def test_streams(body: bytes, expected: Expected, size: int) -> None:
    """Rows 19, 20 and 21: content, finish reason, ids and usage come out right, however the bytes are cut."""
    answer = decode([body[at : at + size] for at in range(0, len(body), size)])
    assert answer.parts == expected.parts
    assert answer.completed.finish_reason == expected.finish_reason
    assert answer.completed.usage == expected.usage
    assert (answer.completed.response_id, answer.completed.response_model) == ("c1", "gpt-x")


CALLS_WITHOUT_IDS = {
    "an index for all": b"""\
data: {"choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"","function":{"name":"look","arguments":"{\\"x\\":{}}"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"","function":{"name":"look","arguments":"{\\"x\\":"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[\
{"index":0,"id":"","function":{"name":"look","arguments":"{}}"}}]},"finish_reason":"stop"}]}

data: [DONE]

""",
    "an index for each": b"""\
data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"look","arguments":"{\\"x\\":{}}"}},\
{"index":1,"function":{"name":"look","arguments":"{\\"x\\":"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}}"}}]},\
"finish_reason":"stop"}]}

data: [DONE]

""",
}


@pytest.mark.parametrize("body", CALLS_WITHOUT_IDS.values(), ids=CALLS_WITHOUT_IDS.keys())
def test_calls_without_ids(body: bytes) -> None:
    """Two calls of one tool stay two, each with arguments that are JSON and an id of our own."""
    calls = [part.tool_call for part in decode([body]).parts]
    assert [(call.name, call.arguments_json) for call in calls] == [("look", '{"x":{}}')] * 2
    assert len({call.id for call in calls} - {""}) == 2


ERRORS: dict[str, tuple[bytes, str, Reason]] = {
    "behind the finish reason, with usage": (
        b"""\
data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}

data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3},"error":{"code":502,"message":"gone"}}

data: [DONE]

""",
        "gone",
        Reason.PROVIDER_ERROR,
    ),
    "inside of the choice": (
        b"""\
data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error",\
"error":{"code":429,"message":"slow down","metadata":{}}}]}

data: [DONE]

""",
        "slow down",
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "an event without an end marker": (
        b"""\
data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}

event: error
data: {"error":{"message":"Failed to call a function","type":"invalid_request_error",\
"code":"tool_use_failed","status_code":400}}

""",
        "Failed to call a function",
        Reason.PROVIDER_ERROR,
    ),
    "a string": (
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: {"error":"model overloaded"}\n\n',
        "model overloaded",
        Reason.PROVIDER_ERROR,
    ),
}


@pytest.mark.parametrize(("body", "message", "reason"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(body: bytes, message: str, reason: Reason) -> None:
    """Row 4: an error ends the answer wherever the vendor puts it, and says what the vendor said."""
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        with pytest.raises(GenerationError) as raised:
            decode(pieces)
        assert (raised.value.reason, raised.value.fact.message) == (reason, message)


def test_an_error_inside_of_the_choice_of_a_whole_answer() -> None:
    """Row 5: a 200 whose only choice is an error is that error."""
    body = (
        b'{"id":"c1","choices":[{"index":0,"finish_reason":null,"message":{"role":"assistant","content":""},'
        b'"error":{"code":503,"message":"no capacity"}}]}'
    )
    with pytest.raises(GenerationError) as raised:
        decode([body], JSON, streaming=False)
    assert raised.value.fact.message == "no capacity"
