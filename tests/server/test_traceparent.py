"""The trace that a call belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from outrider import v1
from outrider.server.traceparent import traceparent_in
from tests.server.test_generation import Call, Pipeline, servicer
from tests.support.paused_clock import paused

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (TRACEPARENT, True),
        ("01" + TRACEPARENT[2:], True),
        ("ff" + TRACEPARENT[2:], False),
        (TRACEPARENT.upper(), False),
        (TRACEPARENT + "-x", False),
        (TRACEPARENT + "\n", False),
        (TRACEPARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        (TRACEPARENT.replace("b7ad6b7169203331", "0" * 16), False),
        ("", False),
        (TRACEPARENT.encode(), False),
    ],
)
def test_a_trace_context_is_taken_in_its_form_alone(sent: str | bytes, *, taken: bool) -> None:
    """As W3C Trace Context has it; what else a caller sends goes nowhere."""
    assert traceparent_in([("user-agent", "x"), ("traceparent", sent)]) == (sent if taken else "")
    assert traceparent_in(None) == ""


@paused
async def test_a_request_has_the_trace_of_its_call() -> None:
    """Its record says so, for events and whoever else tells of it."""

    class Traced(Call):
        def invocation_metadata(self) -> Any:
            return (("traceparent", TRACEPARENT),)

    call: Any = Traced()
    pipeline = Pipeline([v1.GenerateResponse(text_delta=v1.TextDelta(text="x"))])
    await servicer(pipeline).Generate(v1.GenerateRequest(), call)
    assert pipeline.seen[0].record.traceparent == TRACEPARENT
