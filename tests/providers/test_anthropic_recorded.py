"""Recorded answers of Anthropic, held against what the official SDK makes of the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from tests.providers.anthropic_answers import EVENT_STREAM, JSON, decode
from tests.support.anthropic_sdk import said_by, said_by_sdk
from tests.support.recorded import cut, load, named

if TYPE_CHECKING:
    from tests.providers.anthropic_answers import Answer
    from tests.support.recorded import Recording

RECORDINGS = load("anthropic")
WHOLE = [recording for recording in RECORDINGS if recording.whole]
STREAMS = [recording for recording in RECORDINGS if recording.stream]


def decoded(recording: Recording, size: int | None = None) -> Answer:
    content_type = EVENT_STREAM if recording.stream else JSON
    pieces = cut(recording.body, size or len(recording.body))
    return decode(pieces, content_type, streaming=recording.stream)


@named(WHOLE)
async def test_same_as_the_sdk(recording: Recording) -> None:
    """Text, reasoning, tool calls, opaque blocks, stop reason, ids and usage are what the SDK finds too."""
    answer = decoded(recording)
    message = v1.Message(parts=answer.parts)
    assert said_by(message, answer.completed) == await said_by_sdk(recording)
    assert answer.completed.finish_reason not in (v1.FINISH_REASON_UNSPECIFIED, v1.FINISH_REASON_OTHER)


@named(WHOLE)
@pytest.mark.parametrize("size", [1, 7, 61, 1024])
def test_cuts_make_no_difference(recording: Recording, size: int) -> None:
    """Row 19: whatever pieces the bytes come in, the answer is the same."""
    whole, pieces = decoded(recording), decoded(recording, size)
    assert pieces.parts == whole.parts
    assert pieces.completed == whole.completed
    assert pieces.progress == whole.progress


@named(STREAMS)
def test_truncated_anywhere_is_an_error(recording: Recording) -> None:
    """Row 3: cut after any event before `message_stop`, and also inside of one, the stream is truncated."""
    for end in (*recording.ends, *(end - 3 for end in recording.ends)):
        with pytest.raises(GenerationError) as raised:
            decode([recording.body[:end]])
        assert raised.value.reason == Reason.STREAM_TRUNCATED
