from collections.abc import AsyncGenerator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import RequestContext
from outrider.core.ports import Batch
from outrider.policy.keyed import KeyedRequests
from outrider.policy.resume import ResumeRules
from outrider.policy.route_table import RouteTable
from outrider.server.callers import Callers
from outrider.server.generation import GenerationServicer, new_id
from tests.support.paused_clock import now, paused


class Call:
    """A caller's end of one call."""

    def __init__(self, remaining: float | None = None) -> None:
        self.written: list[v1.GenerateResponse] = []
        self._remaining = remaining

    def invocation_metadata(self) -> None:
        return None

    def time_remaining(self) -> float | None:
        return self._remaining

    async def write(self, event: v1.GenerateResponse) -> None:
        copy = v1.GenerateResponse()
        copy.CopyFrom(event)
        self.written.append(copy)


class Pipeline:
    """Gives out what it is told to."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = batches
        self.seen: list[RequestContext] = []

    async def __call__(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        self.seen.append(context)
        for batch in self._batches:
            yield batch


def servicer(pipeline: Pipeline) -> GenerationServicer:
    nothing: Any = None
    return GenerationServicer(
        pipeline=pipeline,
        keyed=KeyedRequests(pipeline, ResumeRules()),
        callers=Callers({}),
        routes=RouteTable(providers={}),
        providers={},
        counter=nothing,
        clock=now,
    )


@given(st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=20))
def test_sequence_is_dense_and_text_keeps_its_order(batches: list[list[str]]) -> None:
    """However events are batched, they are numbered 1, 2, 3, … and none is lost, added or moved."""

    @paused
    async def run() -> None:
        events = [
            [v1.GenerateResponse(text_delta=v1.TextDelta(text=piece)) for piece in each] for each in batches
        ]
        call: Any = Call()
        pipeline = Pipeline(*events)
        await servicer(pipeline).Generate(v1.GenerateRequest(), call)
        assert [event.sequence for event in call.written] == list(range(1, len(call.written) + 1))
        assert [event.text_delta.text for event in call.written] == [
            text for each in batches for text in each
        ]
        assert pipeline.seen[0].record.last_sequence == len(call.written)

    run()


@paused
async def test_the_callers_deadline_is_kept_as_a_moment() -> None:
    """None is no deadline; seconds are counted from the call's arrival."""
    pipeline = Pipeline()
    for remaining in (None, 5.0):
        call: Any = Call(remaining)
        await servicer(pipeline).Generate(v1.GenerateRequest(), call)
    assert pipeline.seen[0].deadline == float("inf")
    assert pipeline.seen[1].deadline == now() + 5


def test_request_ids_differ_and_sort_by_time() -> None:
    """So that logs of many sidecars can be merged."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [each[:12] for each in ids] == sorted(each[:12] for each in ids)
