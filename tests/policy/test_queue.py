"""What becomes of requests that no provider can answer."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.policy.queue import queue
from tests.support.paused_clock import now, paused
from tests.support.scripted import DONE, ScriptedProvider, attempt_loop, context, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler
    from outrider.policy.queue import Leave

QUEUE = v1.UNAVAILABILITY_POLICY_QUEUE
TEXT = v1.GenerateResponse(text_delta=v1.TextDelta(text="x"))


def failing(reason: Reason, *, after_content: bool = False, retry_after: float | None = None) -> Handler:
    async def handle(call: RequestContext) -> AsyncGenerator[Batch, None]:
        call.request.model = "filled in"
        if after_content:
            yield [TEXT]
        error = GenerationError(reason, "down", retry_after=retry_after)
        error.committed = after_content
        error.failure = v1.GenerationFailure(request_id=call.id)
        raise error

    return handle


async def answering(call: RequestContext) -> AsyncGenerator[Batch, None]:
    yield [TEXT, v1.GenerateResponse(completed=v1.Completed())]


class Left:
    """Takes what is left."""

    def __init__(self, error: GenerationError | None = None) -> None:
        self.requests: list[v1.GenerateRequest] = []
        self._error = error

    async def __call__(self, call: RequestContext, request: v1.GenerateRequest) -> v1.Job:
        if self._error is not None:
            raise self._error
        self.requests.append(request)
        return v1.Job(job_id="job", expires_at=Timestamp(seconds=9))


def asking(
    policy: v1.UnavailabilityPolicy = QUEUE, *, streaming: bool = True, deadline: float = math.inf
) -> RequestContext:
    request = v1.GenerateRequest(model="m", unavailability_policy=policy)
    return context("p/m", request=request, streaming=streaming, deadline=deadline)


async def events(leave: Leave | None, inner: Handler, call: RequestContext) -> list[v1.GenerateResponse]:
    async with aclosing(queue(leave, now)(inner)(call)) as batches:
        return [event async for batch in batches for event in batch]


@paused
async def test_what_may_pass_is_queued() -> None:
    """One event with the job, why, and until when; the request is left as the caller sent it."""
    left = Left()
    (event,) = await events(left, failing(Reason.PROVIDER_UNREACHABLE), asking())
    assert (event.queued.job_id, event.queued.reason) == ("job", "PROVIDER_UNREACHABLE")
    assert event.queued.expires_at.seconds == 9
    assert [request.model for request in left.requests] == ["m"]


@paused
async def test_an_answer_in_one_piece_has_no_such_event() -> None:
    """It is an error that names the job, and forbids to submit it once more."""
    with pytest.raises(GenerationError) as caught:
        await events(Left(), failing(Reason.BREAKER_OPEN), asking(streaming=False))
    fact = caught.value.fact
    assert (fact.reason, fact.job_id, fact.retry_after) == (Reason.QUEUED, "job", math.inf)
    assert "BREAKER_OPEN" in fact.message
    assert caught.value.failure is not None


@pytest.mark.parametrize(
    ("inner", "policy", "reason"),
    [
        (failing(Reason.PROVIDER_ERROR), v1.UNAVAILABILITY_POLICY_FAIL, Reason.PROVIDER_ERROR),
        (failing(Reason.PROVIDER_ERROR, after_content=True), QUEUE, Reason.PROVIDER_ERROR),
        (failing(Reason.INVALID_REQUEST), QUEUE, Reason.INVALID_REQUEST),
        (failing(Reason.PROVIDER_CREDENTIALS_REFUSED), QUEUE, Reason.PROVIDER_CREDENTIALS_REFUSED),
        (failing(Reason.DEADLINE_EXCEEDED), QUEUE, Reason.DEADLINE_EXCEEDED),
        (failing(Reason.RATE_LIMITED, retry_after=math.inf), QUEUE, Reason.RATE_LIMITED),
    ],
)
def test_anything_else_fails(inner: Handler, policy: v1.UnavailabilityPolicy, reason: Reason) -> None:
    """Row 4: above all what has begun to answer; a second answer would repeat text."""

    @paused
    async def run() -> None:
        left = Left()
        with pytest.raises(GenerationError) as caught:
            await events(left, inner, asking(policy))
        assert (caught.value.reason, left.requests) == (reason, [])

    run()


@pytest.mark.parametrize(("deadline", "reserve"), [(5.0, 0.25), (0.5, 0.05)])
def test_a_silent_provider_is_not_waited_for_to_the_end(deadline: float, reserve: float) -> None:
    """A caller whose deadline comes before the first-event timeout has its job before that."""

    @paused
    async def run() -> None:
        left, silent, began = Left(), ScriptedProvider([60.0, "late", DONE]), now()
        (event,) = await events(left, attempt_loop(upstream(silent)), asking(deadline=deadline))
        assert (event.queued.job_id, event.queued.reason) == ("job", "DEADLINE_EXCEEDED")
        assert now() - began == pytest.approx(deadline - reserve)
        assert (len(left.requests), silent.closed) == (1, 1)

    run()


@paused
async def test_what_has_begun_when_the_deadline_comes_is_not_queued() -> None:
    """Its caller has a part of the answer already."""
    left, slow = Left(), ScriptedProvider(["x", 4.0, "y", 4.0, DONE])
    with pytest.raises(GenerationError) as caught:
        await events(left, attempt_loop(upstream(slow)), asking(deadline=5.0))
    assert (caught.value.reason, left.requests) == (Reason.DEADLINE_EXCEEDED, [])


@paused
async def test_a_full_queue_leaves_the_failure_as_it_was() -> None:
    """The caller learns of the provider, not of the queue."""
    full = Left(GenerationError(Reason.QUEUE_FULL, "full"))
    with pytest.raises(GenerationError) as caught:
        await events(full, failing(Reason.PROVIDER_OVERLOADED, retry_after=3.0), asking())
    assert (caught.value.reason, caught.value.fact.retry_after) == (Reason.PROVIDER_OVERLOADED, 3.0)
    assert caught.value.failure is not None


@paused
async def test_without_a_queue_who_asks_for_it_is_told() -> None:
    """A warning beside the answer; nobody else gets one."""
    asked = await events(None, answering, asking())
    other = await events(None, answering, asking(v1.UNAVAILABILITY_POLICY_FAIL))
    assert [each.field for each in asked[-1].completed.warnings] == ["unavailability_policy"]
    assert not other[-1].completed.warnings
