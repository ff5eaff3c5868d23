from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.collect import Collector
from outrider.policy.replay import replay

LONG = "x" * 70_000  # more than one event


def collected(events: list[v1.GenerateResponse]) -> v1.CompleteResponse:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.response


names = st.text(max_size=4)
texts = st.text(max_size=20) | st.just(LONG) | st.just(LONG + "y" * 61_073)
parts = st.one_of(
    st.builds(v1.Part, text=texts, signature=st.binary(max_size=8), signed_by=names),
    st.builds(
        v1.Part,
        reasoning=st.builds(v1.Reasoning, text=texts, redacted=st.binary(max_size=8)),
        signature=st.binary(max_size=8),
        signed_by=names,
    ),
    st.builds(
        v1.Part,
        tool_call=st.builds(v1.ToolCall, id=names, name=names, arguments_json=texts),
        signature=st.binary(max_size=8),
        signed_by=names,
    ),
    st.builds(
        v1.Part, opaque=st.builds(v1.OpaquePart, format=names, type=texts, json=texts), signed_by=names
    ),
)
answers = st.builds(
    lambda parts, finish, usage: v1.CompleteResponse(
        started=v1.Started(provider="p", model="m", attempt=2, cache_status=v1.CACHE_STATUS_MISS),
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=parts),
        completed=v1.Completed(
            finish_reason=finish,
            provider_finish_reason="end_turn",
            response_id="r",
            stop_sequence="s",
            usage=v1.Usage(input_tokens=usage, output_tokens=usage, source=v1.USAGE_SOURCE_PROVIDER),
            cost=v1.Cost(total_nano_usd=usage),
            warnings=[v1.Warning(field="sampling.top_k")],
        ),
    ),
    st.lists(parts, max_size=5),
    st.sampled_from([v1.FINISH_REASON_STOP, v1.FINISH_REASON_TOOL_CALLS]),
    st.integers(0, 10**9),
)


@given(answers)
def test_a_replay_collected_again_is_the_same_message(answer: v1.CompleteResponse) -> None:
    """Signatures, their makers, tool calls, reasoning, opaque parts: byte for byte, however long they are."""
    again = collected(replay(answer, "id", v1.CACHE_STATUS_HIT, 1.5))
    assert again.message == answer.message
    assert again.completed.finish_reason == answer.completed.finish_reason
    assert (again.completed.response_id, again.completed.stop_sequence) == ("r", "s")
    assert again.completed.warnings == answer.completed.warnings


@given(answers)
def test_a_replay_tells_of_this_request_and_costs_nothing(answer: v1.CompleteResponse) -> None:
    """Its own id, its age, no attempt, no tokens, no money; the stored answer stays as it is."""
    before = answer.SerializeToString(deterministic=True)
    events = replay(answer, "mine", v1.CACHE_STATUS_STALE, 2.5)
    started, completed = events[0].started, events[-1].completed
    assert (started.request_id, started.provider, started.model) == ("mine", "p", "m")
    assert (started.cache_status, started.cache_age.ToMilliseconds()) == (v1.CACHE_STATUS_STALE, 2500)
    assert started.attempt == 0
    assert completed.usage == v1.Usage(source=v1.USAGE_SOURCE_PROVIDER)
    assert not completed.HasField("cost")
    assert answer.SerializeToString(deterministic=True) == before


def test_long_texts_come_in_pieces() -> None:
    """A caller takes 4 MiB in one message by default: none is larger than a part of that."""
    text = "é" * 3_000_000
    answer = v1.CompleteResponse(message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)]))
    events = replay(answer, "id", v1.CACHE_STATUS_HIT, 0.0)
    assert max(event.ByteSize() for event in events) < 2**20
    assert collected(events).message.parts[0].text == text
