"""Routes as callers meet them: over real gRPC, with providers on real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.v1.event_service_pb2_grpc import EventServiceStub
from outrider.v1.route_service_pb2_grpc import RouteServiceStub
from tests.support.answers import json_body, openai_stream, unending
from tests.support.redis_server import redis_server
from tests.support.sidecar import Failure, Running, ask, collect, provider, running
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

FAILING = json_body({"error": {"message": "no", "type": "server_error"}}, 500)
ONCE = {"max_attempts": 1, "base_delay": 0.01}
IMAGE = v1.Part(image=v1.Media(data=b"png", mime_type="image/png"))


async def answered_by(sidecar: Running, request: v1.GenerateRequest) -> str:
    """Which target gave the answer."""
    events = await collect(sidecar.generation.Generate(request, timeout=5))
    return f"{events[0].started.provider}/{events[0].started.model}"


def routes_of(sidecar: Running) -> Any:
    return RouteServiceStub(sidecar.channel)


async def test_weights_spread_requests_and_keys_hold_them(tmp_path: Path) -> None:
    """In proportion; requests with a key always to the same target; all of it without a failure."""
    targets = [{"target": "a/m", "weight": 3}, {"target": "b/m", "weight": 1}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"a": provider(upstream.url), "b": provider(upstream.url)},
            routes={"split": {"strategy": "weighted", "targets": targets}},
        ) as sidecar,
    ):
        counts = Counter([await answered_by(sidecar, ask("split")) for _ in range(120)])
        assert 60 <= counts["a/m"] <= 114
        for key in ("k1", "k2", "k3"):
            found = {await answered_by(sidecar, ask("split", sticky_key=key)) for _ in range(8)}
            assert len(found) == 1


async def test_a_target_that_keeps_failing_goes_last(tmp_path: Path) -> None:
    """Once its breaker is open nothing is lost on it, and the plan says why."""
    async with (
        Upstream(FAILING) as bad,
        Upstream(openai_stream("fine")) as good,
        running(
            tmp_path,
            providers={"bad": provider(bad.url, attempts=ONCE), "good": provider(good.url)},
            routes={"r": ["bad/m", "good/m"]},
            breaker={"failures": 3, "open_for": "1h"},
        ) as sidecar,
    ):
        for _ in range(10):
            assert await answered_by(sidecar, ask("r")) == "good/m"
        assert len(bad.requests) == 3
        request = v1.ExplainRouteRequest(request=ask("r"))
        explained = await routes_of(sidecar).ExplainRoute(request)
        assert [each.target for each in explained.plan] == ["good/m", "bad/m"]
        assert "keeps failing" in explained.plan[1].why
        listed = (await routes_of(sidecar).ListRoutes(v1.ListRoutesRequest())).routes[0]
        assert [(each.available, each.success_rate) for each in listed.targets] == [(False, 0), (True, 1)]
        assert len(bad.requests) == 3


async def test_the_quickest_is_learnt(tmp_path: Path) -> None:
    """After each was asked once, the one that begins sooner is asked."""

    async def slow(exchange: Any) -> None:
        await asyncio.sleep(0.3)
        await openai_stream("slow")(exchange)

    async with (
        Upstream(slow) as behind,
        Upstream(openai_stream("quick")) as ahead,
        running(
            tmp_path,
            providers={"behind": provider(behind.url), "ahead": provider(ahead.url)},
            routes={"r": {"strategy": "least_latency", "targets": ["behind/m", "ahead/m"]}},
        ) as sidecar,
    ):
        chosen = [await answered_by(sidecar, ask("r")) for _ in range(8)]
        assert chosen[:2] == ["behind/m", "ahead/m"]
        assert set(chosen[2:]) == {"ahead/m"}
        listed = (await routes_of(sidecar).ListRoutes(v1.ListRoutesRequest())).routes[0]
        first, second = (each.time_to_first_token.ToMilliseconds() for each in listed.targets)
        assert first >= 300 > second


async def test_requests_go_where_they_fit(tmp_path: Path) -> None:
    """Images, tools and length decide, by what is configured of models; what fits nowhere is refused."""
    facts = {"m": {"context_tokens": 200, "vision": False}}
    tight = {"m": {"context_tokens": 5_000, "tools": False}}
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={
                "blind": provider(upstream.url, model_facts=facts),
                "handless": provider(upstream.url, model_facts=tight),
            },
            routes={"r": ["blind/m", "handless/m"]},
        ) as sidecar,
    ):
        seeing = ask("r")
        seeing.messages[0].parts.append(IMAGE)
        assert await answered_by(sidecar, ask("r")) == "blind/m"
        assert await answered_by(sidecar, seeing) == "handless/m"
        assert await answered_by(sidecar, ask("r", "word " * 500)) == "handless/m"
        seeing.tools.add(name="t", parameters_json_schema="{}")
        before = len(upstream.requests)
        for request, reason in ((seeing, "INVALID_REQUEST"), (ask("r", "word " * 9_000), "CONTEXT_TOO_LONG")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await collect(sidecar.generation.Generate(request, timeout=5))
            failure = Failure.of(caught.value)
            assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
            assert "blind/m " in failure.message
            assert "handless/m " in failure.message
        assert len(upstream.requests) == before


async def test_a_route_has_parameters_timeouts_and_limits_of_its_own(tmp_path: Path) -> None:
    """Row 35: a slow target makes way in the route's time; what a request says stays; limits count it."""
    slow = {
        "targets": ["stuck/m", "fine/m"],
        "timeouts": {"first_event": "200ms"},
        "parameters": {"temperature": 0.5, "max_output_tokens": 7},
        "limits": {"requests_per_minute": 6, "burst": 2},
    }
    async with (
        Upstream(unending([])) as stuck,
        Upstream(openai_stream("fine")) as fine,
        running(
            tmp_path,
            providers={"stuck": provider(stuck.url, attempts=ONCE), "fine": provider(fine.url)},
            routes={"r": slow},
            limits={"max_wait": 0},
            default_model="r",
        ) as sidecar,
    ):
        began = time.monotonic()
        request = ask("r", sampling=v1.Sampling(max_output_tokens=3))
        assert await answered_by(sidecar, request) == "fine/m"
        assert 0.2 <= time.monotonic() - began < 3
        sent = fine.requests[0].json()
        assert (sent["temperature"], 3 in sent.values(), 7 in sent.values()) == (0.5, True, False)
        assert await answered_by(sidecar, ask("")) == "fine/m"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answered_by(sidecar, ask("r"))
        failure = Failure.of(caught.value)
        assert failure.reason == "CALLER_RATE_LIMITED"
        assert failure.quota is not None
        assert failure.quota.violations[0].subject == "route=r"
        assert await answered_by(sidecar, ask("fine/m")) == "fine/m"


async def test_stored_answers_outlive_the_target(tmp_path: Path) -> None:
    """While the first target is unwell its stored answers are still given; a fallback's are not its own."""
    async with (
        Upstream(openai_stream("first"), FAILING) as bad,
        Upstream(openai_stream("second")) as good,
        running(
            tmp_path,
            providers={"bad": provider(bad.url, attempts=ONCE), "good": provider(good.url)},
            routes={"r": ["bad/m", "good/m"]},
            breaker={"failures": 2, "open_for": "1h"},
        ) as sidecar,
    ):
        cold = v1.Sampling(temperature=0)

        async def said(text: str) -> tuple[str, v1.CacheStatus]:
            events = await collect(sidecar.generation.Generate(ask("r", text, sampling=cold), timeout=5))
            return events[0].started.provider, events[0].started.cache_status

        assert await said("one") == ("bad", v1.CACHE_STATUS_MISS)
        for text in ("two", "three", "four"):
            assert await said(text) == ("good", v1.CACHE_STATUS_MISS)
        assert len(bad.requests) == 3
        assert await said("one") == ("bad", v1.CACHE_STATUS_HIT)
        assert await said("four") == ("good", v1.CACHE_STATUS_MISS)


async def test_a_change_is_an_event(tmp_path: Path) -> None:
    """Whoever watches is told of it, once; a change that changes nothing is none."""
    async with running(
        tmp_path, providers={"simulated": {}}, routes={"r": ["simulated/echo", "simulated/slow"]}
    ) as sidecar:
        watch = EventServiceStub(sidecar.channel).WatchEvents(
            v1.WatchEventsRequest(types=["dev.outrider.route"]), timeout=5
        )
        await watch.initial_metadata()
        for target in ("simulated/slow", "simulated/slow", ""):
            request = v1.ActivateTargetRequest(route="r", target=target)
            await routes_of(sidecar).ActivateTarget(request)
        events = [await watch.read() for _ in range(2)]
        watch.cancel()
    told = [json.loads(response.event.data_json) for response in events]
    assert [(each.event.subject, fact["as_configured"]) for each, fact in zip(events, told, strict=True)] == [
        ("r", False),
        ("r", True),
    ]
    assert told[0]["active"] == "simulated/slow"


async def test_a_fleet_switches_together(tmp_path: Path) -> None:
    """A change at one sidecar holds at another within seconds, and for one that starts later."""
    quick = {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}}
    settings: dict[str, Any] = {
        "providers": {"one": quick, "two": quick},
        "routes": {"r": ["one/echo", "two/echo"]},
    }
    async with redis_server() as server, AsyncExitStack() as stack:
        settings["redis"] = {"url": server.url}

        async def start(name: str) -> Running:
            folder = tmp_path / name
            folder.mkdir()
            return await stack.enter_async_context(running(folder, **settings))

        mine, theirs = await start("mine"), await start("theirs")
        assert await answered_by(theirs, ask("r")) == "one/echo"
        await routes_of(mine).ActivateTarget(v1.ActivateTargetRequest(route="r", target="two/echo"))
        assert await answered_by(mine, ask("r")) == "two/echo"
        async with asyncio.timeout(5):
            while await answered_by(theirs, ask("r")) != "two/echo":
                pass
        late = await start("late")
        assert await answered_by(late, ask("r")) == "two/echo"
        await routes_of(late).ActivateTarget(v1.ActivateTargetRequest(route="r"))
        assert await answered_by(late, ask("r")) == "one/echo"
