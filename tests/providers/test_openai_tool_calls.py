"""Tool calls of Chat Completions, in all the pieces that vendors cut them into."""

from __future__ import annotations

from typing import Any

import pytest

from outrider import v1
from tests.providers.openai_answers import (
    calls,
    chunk,
    completion,
    decode_chunks,
    decode_completion,
    piece,
    text,
    tool_call,
)

ONE_CALL = tool_call("a", "look", '{"x":1}')
TWO_CALLS = [tool_call("a", "look", "{}"), tool_call("b", "see", "{}")]

TOOL_CALLS: dict[str, tuple[list[dict[str, Any]], list[v1.Part]]] = {
    "in pieces": (
        [
            calls(piece("", index=0, id="a", type="function", name="look")),
            calls(piece('{"x"', index=0)),
            calls(piece(":1}", index=0)),
        ],
        [ONE_CALL],
    ),
    "id in every piece": (
        [calls(piece('{"x"', index=0, id="a", name="look")), calls(piece(":1}", index=0, id="a"))],
        [ONE_CALL],
    ),
    "in one piece": ([calls(piece('{"x":1}', index=0, id="a", name="look"))], [ONE_CALL]),
    "no index": ([calls(piece('{"x"', id="a", name="look")), calls(piece(":1}"))], [ONE_CALL]),
    "no index, several": (
        [calls(piece("{}", id="a", name="look"), piece("{}", id="b", name="see"))],
        TWO_CALLS,
    ),
    "no index, told apart by id": (
        [
            calls(piece("{", id="a", name="look"), piece("{", id="b", name="see")),
            calls(piece("}", id="a"), piece("}", id="b")),
        ],
        TWO_CALLS,
    ),
    "a shared index": (
        [calls(piece("{}", index=0, id="a", name="look")), calls(piece("{}", index=0, id="b", name="see"))],
        TWO_CALLS,
    ),
    "a shared index, in pieces": (
        [
            calls(piece("{", index=0, id="a", name="look"), piece("{", index=0, id="b", name="see")),
            calls(piece("}", index=0, id="a"), piece("}", index=0, id="b")),
        ],
        TWO_CALLS,
    ),
    "an id that changes on the way": (
        [calls(piece('{"x"', index=0, id="a", name="look")), calls(piece(":1}", index=0, id="z"))],
        [ONE_CALL],
    ),
    "no arguments": ([calls(piece(index=0, id="a", name="look"))], [tool_call("a", "look", "{}")]),
    "empty arguments": ([calls(piece("", index=0, id="a", name="look"))], [tool_call("a", "look", "{}")]),
    "arguments as an object": ([calls(piece({"x": 1}, id="a", name="look"))], [ONE_CALL]),
    "a name that comes later": (
        [calls({"index": 0, "id": "a"}), calls(piece('{"x":1}', index=0, name="look"))],
        [ONE_CALL],
    ),
    "an id that is a number": ([calls(piece("{}", id=7, name="look"))], [tool_call("7", "look", "{}")]),
    "arguments that are no JSON": (
        [calls(piece('{"x', index=0, id="a", name="look"))],
        [tool_call("a", "look", '{"x')],
    ),
    "a thought signature": (
        [
            calls(
                piece(
                    "{}", index=0, id="a", name="look", extra_content={"google": {"thought_signature": "S=="}}
                )
            )
        ],
        [tool_call("a", "look", "{}", b"S==")],
    ),
}


@pytest.mark.parametrize(("chunks", "expected"), TOOL_CALLS.values(), ids=TOOL_CALLS.keys())
@pytest.mark.parametrize("finish_reason", ["tool_calls", "stop"])
def test_tool_calls(chunks: list[dict[str, Any]], expected: list[v1.Part], finish_reason: str) -> None:
    """Calls are put together however a vendor sends them, and end the turn whatever the vendor calls it."""
    answer = decode_chunks(*chunks, chunk(finish_reason))
    assert answer.parts == expected
    assert answer.completed.finish_reason == v1.FINISH_REASON_TOOL_CALLS
    assert answer.completed.provider_finish_reason == finish_reason


@pytest.mark.parametrize(
    "chunks",
    [
        [calls(piece("{", index=0, name="look")), calls(piece("}", index=0))],
        [chunk(function_call={"name": "look", "arguments": "{"}), chunk(function_call={"arguments": "}"})],
    ],
    ids=["tool call", "legacy function call"],
)
def test_calls_without_an_id(chunks: list[dict[str, Any]]) -> None:
    """A call without an id is given one, so that its result can be tied to it."""
    first, second = (decode_chunks(*chunks, chunk("stop")).parts[0].tool_call for _ in range(2))
    assert (first.name, first.arguments_json) == ("look", "{}")
    assert first.id
    assert first.id != second.id


def test_calls_without_ids_or_indexes() -> None:
    """Calls that only their names tell apart are as many as there are names."""
    answer = decode_completion(completion("stop", tool_calls=[piece(name="look"), piece(name="look")]))
    assert [part.tool_call.name for part in answer.parts] == ["look", "look"]
    assert len({part.tool_call.id for part in answer.parts}) == 2


def test_calls_in_one_piece() -> None:
    """A whole answer's calls are read as a stream's are."""
    body = completion("tool_calls", content="Let me see.", tool_calls=[piece("{}", id="a", name="look")])
    assert decode_completion(body).parts == [text("Let me see."), tool_call("a", "look", "{}")]
