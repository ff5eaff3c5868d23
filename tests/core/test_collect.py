from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.collect import Collector


def test_events_become_the_message_that_they_describe() -> None:
    """Row 32: parts in their order, with signatures, their makers, and redacted reasoning byte for byte."""
    collector = Collector()
    for event in (
        v1.GenerateResponse(started=v1.Started(provider="p")),
        v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(part=0, text="thi")),
        v1.GenerateResponse(
            reasoning_delta=v1.ReasoningDelta(part=0, text="nk", signature=b"\x00\xffsig", signed_by="a:b")
        ),
        v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(part=1, redacted=b"secret", signed_by="a:b")),
        v1.GenerateResponse(text_delta=v1.TextDelta(part=2, text="ans")),
        v1.GenerateResponse(text_delta=v1.TextDelta(part=2, text="wer")),
        v1.GenerateResponse(
            tool_call_delta=v1.ToolCallDelta(part=3, id="c", name="f", arguments_json='{"a"')
        ),
        v1.GenerateResponse(tool_call_delta=v1.ToolCallDelta(part=3, arguments_json=":1}", signature=b"s")),
        v1.GenerateResponse(
            opaque_delta=v1.OpaqueDelta(part=4, opaque=v1.OpaquePart(type="x", json="{}"), signed_by="a:b")
        ),
        v1.GenerateResponse(completed=v1.Completed(finish_reason=v1.FINISH_REASON_STOP)),
    ):
        collector.add(event)
    assert collector.response.started.provider == "p"
    assert collector.response.completed.finish_reason == v1.FINISH_REASON_STOP
    assert collector.response.message == v1.Message(
        role=v1.ROLE_ASSISTANT,
        parts=[
            v1.Part(reasoning=v1.Reasoning(text="think"), signature=b"\x00\xffsig", signed_by="a:b"),
            v1.Part(reasoning=v1.Reasoning(redacted=b"secret"), signed_by="a:b"),
            v1.Part(text="answer"),
            v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments_json='{"a":1}'), signature=b"s"),
            v1.Part(opaque=v1.OpaquePart(type="x", json="{}"), signed_by="a:b"),
        ],
    )


@given(st.lists(st.text(), min_size=1))
def test_however_text_is_cut_it_comes_out_whole(pieces: list[str]) -> None:
    """Collecting is joining."""
    collector = Collector()
    for piece in pieces:
        collector.add(v1.GenerateResponse(text_delta=v1.TextDelta(text=piece)))
    assert collector.response.message.parts[0].text == "".join(pieces)
