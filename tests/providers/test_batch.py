"""Batches: what one network read holds, in as few messages as order allows."""

from __future__ import annotations

from outrider import v1
from outrider.core.context import Progress
from outrider.providers.batch import BatchBuilder


def test_neighbours_are_merged() -> None:
    """Deltas of one kind and part that follow each other are one message; anything between parts them."""
    batch = BatchBuilder(Progress())
    batch.reasoning(0, "Hm")
    batch.reasoning(0, "m.", b"signed")
    batch.text(1, "a")
    batch.text(1, "b")
    batch.text(2, "c")
    batch.tool_call(3, "id", "name", "{")
    batch.tool_call(3, arguments="}")
    batch.tool_call(4, "id2", "name2", "{}")
    batch.reasoning(5, "", redacted=b"hidden")
    batch.text(1, "d")
    assert batch.take() == [
        v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(text="Hmm.", part=0, signature=b"signed")),
        v1.GenerateResponse(text_delta=v1.TextDelta(text="ab", part=1)),
        v1.GenerateResponse(text_delta=v1.TextDelta(text="c", part=2)),
        v1.GenerateResponse(
            tool_call_delta=v1.ToolCallDelta(part=3, id="id", name="name", arguments_json="{}")
        ),
        v1.GenerateResponse(
            tool_call_delta=v1.ToolCallDelta(part=4, id="id2", name="name2", arguments_json="{}")
        ),
        v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(part=5, redacted=b"hidden")),
        v1.GenerateResponse(text_delta=v1.TextDelta(text="d", part=1)),
    ]


def test_taken_is_gone() -> None:
    """Every batch begins empty, and a delta of the same part begins a new message in it."""
    batch = BatchBuilder(Progress())
    batch.tool_call(0, "id", "name", "{")
    batch.take()
    batch.tool_call(0, arguments="}")
    assert batch.take() == [v1.GenerateResponse(tool_call_delta=v1.ToolCallDelta(arguments_json="}"))]
    assert batch.take() == []


def test_order_around_whole_events() -> None:
    """Opaque parts and the end stand behind the deltas that came before them."""
    batch = BatchBuilder(Progress())
    opaque = v1.OpaquePart(format="f", type="t", json="{}")
    batch.text(0, "a")
    batch.opaque(1, opaque)
    batch.text(2, "b")
    batch.completed(v1.Completed(finish_reason=v1.FINISH_REASON_STOP))
    kinds = [event.WhichOneof("event") for event in batch.take()]
    assert kinds == ["text_delta", "opaque_delta", "text_delta", "completed"]


def test_characters_are_counted() -> None:
    """Row 30: text, reasoning and arguments count as output, so that a cut answer can be estimated."""
    progress = Progress()
    batch = BatchBuilder(progress)
    batch.text(0, "🐎a")
    batch.reasoning(1, "bcd", b"signature")
    batch.tool_call(2, "id", "name", "{}")
    batch.take()
    assert progress.output_chars == 7
