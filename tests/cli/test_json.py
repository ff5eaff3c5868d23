"""`outrider generate --json`: what a machine reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from google.protobuf.json_format import Parse

from outrider import v1
from tests.cli.answers import STARTED, answer, failure, reasoning, text

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn


def test_each_event_is_a_line(run: Run, stand_in: StandIn) -> None:
    """Every line is a GenerateResponse in the API's field names, and standard error stays empty."""
    stand_in.script = [STARTED, reasoning("Hm"), *answer("Hel\nlo \x1b[2J 🙂")[1:]]
    result = run("generate", "hi", "--json")
    assert (result.code, result.err) == (0, "")
    events = [Parse(line, v1.GenerateResponse()) for line in result.out.splitlines()]
    assert events == stand_in.script
    assert '"request_id": "0192f00d"' in result.out


def test_lines_are_harmless_on_a_terminal(run: Run, stand_in: StandIn) -> None:
    """JSON escapes every control character and everything beyond ASCII."""
    stand_in.script = answer("a\x1b]0;x\x07\x9b\x85\u2028🙂")
    out = run("generate", "hi", "--json").out
    assert all(" " <= character <= "~" or character == "\n" for character in out)


def test_whole_answer_is_one_line(run: Run, stand_in: StandIn) -> None:
    """With --no-stream the only line is the CompleteResponse."""
    stand_in.script = answer("Hel", "lo")
    (line,) = run("generate", "hi", "--json", "--no-stream").out.splitlines()
    response = Parse(line, v1.CompleteResponse())
    assert [part.text for part in response.message.parts] == ["Hello"]
    assert response.completed == stand_in.script[-1].completed


def test_error_follows_the_events(run: Run, stand_in: StandIn) -> None:
    """A machine that reads to the last line knows whether the answer is whole."""
    stand_in.script = [STARTED, text("Hel"), failure(committed=True)]
    result = run("generate", "hi", "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [*map(list, lines)] == [["sequence", "started"], ["sequence", "text_delta"], ["error"]]
    assert lines[-1]["error"] == {
        "code": "ABORTED",
        "reason": "PROVIDER_OVERLOADED",
        "message": "anthropic is overloaded",
        "retry_after": None,
        "request_id": "",
        "attempts": [],
    }
    assert result.code == 7


def test_absent_sidecar_is_json_too(run: Run) -> None:
    """There is a line even where there was no one to ask."""
    result = run("generate", "hi", "--json", "--address", "127.0.0.1:1")
    assert (result.code, result.err) == (5, "")
    assert json.loads(result.out)["error"]["code"] == "UNAVAILABLE"
