"""Turns of a conversation, as a caller handles them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.collect import Collector
from tests.support.sidecar import ask, collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def collected(call: AsyncIterator[v1.GenerateResponse]) -> v1.CompleteResponse:
    """The answer that a whole stream makes; fails the test where its events are out of order."""
    events = await collect(call)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].HasField("started")
    assert [event.HasField("completed") for event in events] == [False] * (len(events) - 1) + [True]
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.response


def next_turn(model: str, *answers: v1.Message) -> v1.CompleteRequest:
    """A conversation with these answers, and behind each the results of its calls, or another word."""
    said = [turn for answer in answers for turn in (answer, _reply(answer))]
    return v1.CompleteRequest(request=ask(model, messages=[*ask().messages, *said]))


def _reply(answer: v1.Message) -> v1.Message:
    results = [
        v1.Part(tool_result=v1.ToolResult(tool_call_id=part.tool_call.id, parts=[v1.Part(text="done")]))
        for part in answer.parts
        if part.HasField("tool_call")
    ]
    if results:
        return v1.Message(role=v1.ROLE_TOOL, parts=results)
    return v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="go on")])
