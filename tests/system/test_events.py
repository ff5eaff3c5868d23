"""Events of a whole sidecar: watched, sent to a webhook, and to the Redis of the fleet."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.v1.event_service_pb2_grpc import EventServiceStub
from tests.events.receiver import HANG, receiving
from tests.support.caller import calling
from tests.support.process import serving
from tests.support.redis_server import redis_server
from tests.support.sidecar import Failure, ask, collect, running

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
TRACE = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
SIMULATED = {"simulated": {"simulated": {"script": "a secret answer", "pace": 0, "first_token_delay": 0}}}


async def test_a_request_is_told_of_everywhere(tmp_path: Path) -> None:
    """Who watches and every channel are told of an answer and of a failure; nothing of what was said."""
    async with redis_server() as redis, receiving() as hook:
        events = {"redis": {}, "webhooks": [{"url": hook.url, "secret": SECRET}]}
        config: dict[str, Any] = {"providers": SIMULATED, "redis": {"url": redis.url}, "events": events}
        async with running(tmp_path, **config) as sidecar:
            watch = EventServiceStub(sidecar.channel).WatchEvents(v1.WatchEventsRequest(), timeout=PATIENCE)
            await watch.initial_metadata()
            said = v1.Attribution(tenant="acme")
            request = ask("simulated", "a secret question", attribution=said)
            answer = await sidecar.generation.Complete(
                v1.CompleteRequest(request=request), metadata=[TRACE], timeout=PATIENCE
            )
            with pytest.raises(grpc.aio.AioRpcError):
                await sidecar.generation.Complete(v1.CompleteRequest(request=ask("nobody/knows")))
            completed, failed = (await watch.read()).event, (await watch.read()).event
            await hook.until(3)
            assert await sidecar.counted('outrider_events_delivered_total{channel="webhook 127.0.0.1"}') >= 1
        stored = await redis.cli("XRANGE", "outrider:events", "-", "+")
    assert (completed.type, failed.type) == ("dev.outrider.request.completed", "dev.outrider.request.failed")
    assert (completed.subject, completed.traceparent) == (answer.started.request_id, TRACE[1])
    facts = json.loads(completed.data_json)
    assert (facts["tenant"], facts["provider"], facts["outcome"]) == ("acme", "simulated", "succeeded")
    assert json.loads(failed.data_json)["reason"] == "MODEL_UNKNOWN"
    assert [each["type"] for each in hook.events[:1]] == ["dev.outrider.config.loaded"]
    assert [each["id"] for each in hook.events[1:]] == [completed.id, failed.id]
    assert stored.index(completed.id) < stored.index(failed.id)
    assert "a secret" not in f"{completed} {failed} {hook.requests} {stored}"


async def test_a_drain_tells_what_it_ends(tmp_path: Path) -> None:
    """Row 15: watches end with DRAINING at once; what happens until the end is delivered before it."""
    async with receiving() as hook:
        events = {"webhooks": [{"url": hook.url, "secret": SECRET, "types": ["dev.outrider.request"]}]}
        slow = {"simulated": {"simulated": {"script": "one two ", "first_token_delay": 0, "pace": 1.0}}}
        async with serving(tmp_path, providers=slow, events=events) as child, calling(child.port) as caller:
            watch = EventServiceStub(caller.channel).WatchEvents(v1.WatchEventsRequest(), timeout=PATIENCE)
            await watch.initial_metadata()
            answering = caller.generation.Generate(ask("simulated"))
            started = await anext(aiter(answering))
            child.signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch.read()
            assert Failure.of(caught.value).reason == "DRAINING"
            await collect(answering)
            assert await child.ended() == 0
    assert [each["subject"] for each in hook.events] == [started.started.request_id]


async def test_a_webhook_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Row 15: a drain waits 2 s for channels and tells what they did not take; no secret is logged."""
    async with receiving(*[HANG] * 10) as hook:
        events = {"webhooks": [{"url": hook.url, "secret": SECRET, "types": ["dev.outrider.request"]}]}
        async with serving(tmp_path, providers=SIMULATED, events=events) as child:
            async with calling(child.port) as caller:
                await caller.generation.Complete(v1.CompleteRequest(request=ask("simulated")))
                await hook.until(1)
            child.signal(signal.SIGTERM)
            assert await child.ended(within=10) == 0
            assert child.events("events were not delivered")[0]["count"] == 1
            assert SECRET not in child.log
            assert "t0p" not in child.log
