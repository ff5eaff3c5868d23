from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.telemetry.log_event import event_of
from outrider.telemetry.log_render import ConsoleLayout, Layout, Renderer, json_layout

KEY = "correct-horse-battery-staple"

texts = st.text() | st.tuples(st.text(), st.text()).map(KEY.join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), values, max_size=4)


@pytest.mark.parametrize("layout", [json_layout, ConsoleLayout(colors=False)])
@given(event=texts, fields=fields)
def test_no_line_holds_a_secret(layout: Layout, event: str, fields: dict[str, object]) -> None:
    """Row 28: wherever a secret stands in an event, and whatever stands around it, the line is without it."""
    line = Renderer(layout, lambda: [KEY])(event_of("info", event, fields))
    assert KEY.encode() not in line


def test_drops_are_told() -> None:
    """Missing lines are told of by a warning that says how many."""
    line = json.loads(Renderer(json_layout, tuple).drops(17))
    assert (line["level"], line["event"], line["count"]) == ("warning", "log lines dropped", 17)


@given(event=st.text(), fields=fields)
def test_json_layout_gives_one_object_on_one_line(event: str, fields: dict[str, object]) -> None:
    """Every event makes exactly one line, and the line is one JSON object with the same event in it."""
    line = Renderer(json_layout, tuple)(event_of("info", event, fields))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["level"] == "info"
