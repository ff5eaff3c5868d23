"""Recorded answers of many vendors, held against what OpenAI's SDK makes of the same bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from openai import APIError

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_format import OpenAIFormat
from tests.providers.openai_answers import EVENT_STREAM, JSON, decode
from tests.support.openai_sdk import said_by, said_by_sdk
from tests.support.recorded import cut, load, named

if TYPE_CHECKING:
    from tests.providers.openai_answers import Answer
    from tests.support.recorded import Recording

RECORDINGS = load("openai_chat")
WHOLE = [recording for recording in RECORDINGS if recording.whole]
REFUSED = [recording for recording in RECORDINGS if recording.status != 200]
FAILED = [recording for recording in RECORDINGS if recording.status == 200 and not recording.whole]
STREAMS = [recording for recording in RECORDINGS if recording.stream]


def decoded(recording: Recording, pieces: list[bytes]) -> Answer:
    content_type = EVENT_STREAM if recording.stream else JSON
    return decode(pieces, content_type, streaming=recording.stream)


@named(WHOLE)
async def test_same_as_the_sdk(recording: Recording) -> None:
    """Text, reasoning, signatures, tool calls, finish reason, ids and usage are what the SDK finds too."""
    answer = decoded(recording, [recording.body])
    assert said_by(v1.Message(parts=answer.parts), answer.completed) == await said_by_sdk(recording)
    assert answer.completed.finish_reason not in (v1.FINISH_REASON_UNSPECIFIED, v1.FINISH_REASON_OTHER)


@named(WHOLE)
@pytest.mark.parametrize("size", [1, 7, 61, 1024])
def test_cuts_make_no_difference(recording: Recording, size: int) -> None:
    """Row 19: whatever pieces the bytes come in, and whatever the line ends are, the answer is the same."""
    body = recording.body
    whole = decoded(recording, [body])
    bodies = [body, body.replace(b"\n", b"\r\n"), body.replace(b"\n", b"\r")]
    for same in bodies if recording.stream else bodies[:1]:
        pieces = decoded(recording, cut(same, size))
        assert pieces.parts == whole.parts
        assert pieces.completed == whole.completed
        assert pieces.progress == whole.progress


@named(STREAMS)
def test_truncated_anywhere_is_an_error(recording: Recording) -> None:
    """Row 3: cut after any event before the end marker, and also inside of one, the stream is truncated."""
    for end in (*recording.ends, *(end - 3 for end in recording.ends)):
        with pytest.raises(GenerationError) as raised:
            decode([recording.body[:end]])
        assert raised.value.reason is Reason.STREAM_TRUNCATED


@named(FAILED)
async def test_failures_in_mid_stream(recording: Recording) -> None:
    """Row 4: where the SDK raises in mid-stream, so do we, with what the provider said."""
    with pytest.raises(APIError) as expected:
        await said_by_sdk(recording)
    with pytest.raises(GenerationError) as raised:
        decoded(recording, [recording.body])
    assert raised.value.fact.message == expected.value.message
    assert raised.value.reason is Reason.PROVIDER_ERROR


@named(REFUSED)
def test_refusals(recording: Recording) -> None:
    """An answer with another status is told apart, with what the provider said."""
    error = OpenAIFormat().classify(recording.status, recording.headers, recording.body)
    assert error.reason is Reason.INVALID_REQUEST
    assert error.fact.message == json.loads(recording.body)["error"]["message"]
