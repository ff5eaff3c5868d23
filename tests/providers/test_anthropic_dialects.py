"""Whole streams as Anthropic and those who speak its format word them: each with several oddities at once."""

from __future__ import annotations

import pytest

from outrider import v1
from tests.providers.anthropic_answers import decode

# What a tool of the provider's found, cache counts, and input tokens that grow with what the tool has read.
SEARCH = b"""\
event: message_start
data: {"type":"message_start","message":{"model":"claude-x","id":"msg_1","type":"message","role":"assistant",\
"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"cache_creation_input_tokens":0,\
"cache_read_input_tokens":5,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},\
"output_tokens":3,"service_tier":"standard","inference_geo":"global"}} }

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result",\
"tool_use_id":"srvtoolu_1","content":[{"encrypted_content":"%b"}]}      }

event: ping
data: {"type": "ping"}

event: content_block_stop
data: {"type":"content_block_stop","index":0 }

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"citations":[],"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":\
{"type":"web_search_result_location","cited_text":"x","url":"https://example.com","title":null}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"H\xc3\xa9"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"container":null},\
"usage":{"input_tokens":9000,"cache_creation_input_tokens":null,"cache_read_input_tokens":5,"output_tokens":70,\
"server_tool_use":{"web_search_requests":1}},"context_management":{"applied_edits":[]}}

event: message_stop
data: {"type":"message_stop"  }

""" % (b"E" * 47_000)

# No event names, no space behind the colon, counts only at the end, and OpenAI's end marker behind the own.
COMPATIBLE = b"""\
data:{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x",\
"content":[],"stop_reason":null,"usage":{"input_tokens":0,"output_tokens":0}}}

data:{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

data:{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}

data:{"type":"content_block_stop","index":0}

data:{"type":"content_block_start","index":1,"content_block":{"type":"text"}}

data:{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"H\xc3\xa9"}}

data:{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"output_tokens":7}}

data:{"type":"message_delta","delta":{"stop_reason":null},"usage":null}

data:{"type":"message_stop"}

data:[DONE]

"""

FOUND = v1.OpaquePart(
    format="anthropic",
    type="web_search_tool_result",
    json='{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"encrypted_content":"%s"}]}'
    % ("E" * 47_000),
)
SEARCHED = v1.Usage(
    input_tokens=9005, cached_input_tokens=5, output_tokens=70, source=v1.USAGE_SOURCE_PROVIDER
)
COUNTED = v1.Usage(input_tokens=9, output_tokens=7, source=v1.USAGE_SOURCE_PROVIDER)
STREAMS = {
    "a search, with a line of 47 kB": (SEARCH, [v1.Part(opaque=FOUND), v1.Part(text="Hé")], SEARCHED),
    "a compatible vendor": (
        COMPATIBLE,
        [v1.Part(reasoning=v1.Reasoning(text="Hm.")), v1.Part(text="Hé")],
        COUNTED,
    ),
}


@pytest.mark.parametrize(("body", "parts", "usage"), STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize("size", [1, 13, 100_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_streams(body: bytes, parts: list[v1.Part], usage: v1.Usage, size: int, line_end: bytes) -> None:
    """Rows 19, 20 and 21: content, ids and usage come out right, however the bytes are cut."""
    body = body.replace(b"\n", line_end)
    answer = decode([body[at : at + size] for at in range(0, len(body), size)])
    assert answer.parts == parts
    assert answer.completed.finish_reason == v1.FINISH_REASON_STOP
    assert answer.completed.usage == usage
    assert (answer.completed.response_id, answer.completed.response_model) == ("msg_1", "claude-x")
