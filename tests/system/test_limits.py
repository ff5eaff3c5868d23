"""Limits as callers meet them: over real gRPC, with a provider on a real socket."""

import asyncio
import json
import time
from collections.abc import Awaitable
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from outrider import v1
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub
from tests.support.answers import openai_events, openai_stream, unending
from tests.support.caller import calling
from tests.support.sidecar import Failure, Running, ask, collect, provider, running, text
from tests.support.upstream import Upstream

TENANTS = {"scope": {"tenant": "*"}}


async def failed(call: Awaitable[object]) -> Failure:
    """How a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Failure.of(caught.value)


def of(tenant: str, **changes: object) -> v1.GenerateRequest:
    """A request of a tenant."""
    return ask(attribution=v1.Attribution(tenant=tenant), **changes)


async def answer(sidecar: Running, tenant: str = "") -> list[v1.GenerateResponse]:
    """All of an answer."""
    return await collect(sidecar.generation.Generate(of(tenant), timeout=5))


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, QuotaFailure and pushback; other tenants go on; empty is one too."""
    rules = [{**TENANTS, "requests_per_minute": 6, "burst": 2}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            limits={"rules": rules, "max_wait": 0},
        ) as sidecar,
    ):
        for tenant in ("acme", ""):
            await answer(sidecar, tenant)
            await answer(sidecar, tenant)
            failure = await failed(answer(sidecar, tenant))
            assert (failure.code, failure.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "CALLER_RATE_LIMITED",
            )
            assert failure.retry_delay is not None
            assert 9 < failure.retry_delay <= 10
            assert failure.pushback is not None
            assert 9_000 < int(failure.pushback) <= 10_000
            assert failure.quota is not None
            assert [each.subject for each in failure.quota.violations] == [f"tenant={tenant}"]
            assert failure.message == f"the limit of 6 requests a minute for tenant={tenant} is used up"
        assert text(await answer(sidecar, "other")) == "fine"
        assert len(upstream.requests) == 5


async def test_who_can_wait_is_let_in_when_it_is_time(tmp_path: Path) -> None:
    """In the order of coming, no faster than the rate, and what was waited is on record."""
    rules = [{**TENANTS, "requests_per_minute": 1_200, "burst": 1}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, limits={"rules": rules}) as sidecar,
    ):
        started = time.monotonic()
        answers = await asyncio.gather(*(answer(sidecar) for _ in range(9)))
        assert time.monotonic() - started >= 8 * 0.05 - 0.001
        moments = [request.at for request in upstream.requests]
        assert all(later - at > 0.03 for at, later in pairwise(moments))
    waited = sorted(events[-1].completed.timings.waited.ToNanoseconds() / 1e9 for events in answers)
    assert waited[0] < 0.05 < 0.35 < waited[-1]


async def test_a_channel_that_retries_does_so_when_told(tmp_path: Path) -> None:
    """The pushback of a refusal is the moment at which the same call succeeds."""
    retrying = {
        "methodConfig": [
            {
                "name": [{"service": "outrider.v1.GenerationService"}],
                "retryPolicy": {
                    "maxAttempts": 2,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
    rules = [{"requests_per_minute": 120, "burst": 1}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path, providers={"p": provider(upstream.url)}, limits={"rules": rules, "max_wait": 0}
        ) as sidecar,
        calling(sidecar.sidecar.port, options={"grpc.service_config": json.dumps(retrying)}) as caller,
    ):
        await answer(sidecar)
        started = time.monotonic()
        assert text(await collect(caller.generation.Generate(ask(), timeout=5))) == "fine"
        assert 0.3 < time.monotonic() - started < 2
        assert len(upstream.requests) == 2


async def test_so_many_at_the_same_time(tmp_path: Path) -> None:
    """The next one waits until a stream ends, and follows at once; beyond its patience it is refused."""
    rules = [{**TENANTS, "max_concurrency": 1}]
    async with (
        Upstream(unending(openai_events("a")[:1]), openai_stream("fine")) as upstream,
        running(
            tmp_path, providers={"p": provider(upstream.url)}, limits={"rules": rules, "max_wait": "300ms"}
        ) as sidecar,
    ):
        holding = sidecar.generation.Generate(of("acme"))
        await holding.read()
        failure = await failed(answer(sidecar, "acme"))
        assert failure.reason == "CALLER_RATE_LIMITED"
        assert failure.retry_delay
        assert failure.message == "the limit of 1 requests at the same time for tenant=acme is used up"
        next_one = asyncio.create_task(answer(sidecar, "acme"))
        assert text(await answer(sidecar, "other")) == "fine"
        assert not next_one.done()
        holding.cancel()
        assert text(await next_one) == "fine"


async def test_a_providers_limits_send_on_to_the_next_target(tmp_path: Path) -> None:
    """What it allows a minute and a day is kept, its retries included; the caller notices nothing."""
    limits = {"requests_per_minute": 6_000, "requests_per_day": 3, "max_wait": 0}
    async with (
        Upstream(openai_stream("first")) as first,
        Upstream(openai_stream("second")) as second,
        running(
            tmp_path,
            providers={"groq": provider(first.url, limits=limits), "other": provider(second.url)},
            routes={"safe": ["groq/m", "other/m"]},
            default_model="safe",
        ) as sidecar,
    ):
        assert [text(await answer(sidecar)) for _ in range(5)] == ["first"] * 3 + ["second"] * 2
        failure = await failed(collect(sidecar.generation.Generate(ask("groq/m"), timeout=5)))
        assert (failure.reason, failure.info.metadata["provider"]) == ("RATE_LIMITED", "groq")
        assert failure.quota is not None
        assert failure.quota.violations[0].subject == "provider=groq"
        assert failure.retry_delay is not None
        assert 0 < failure.retry_delay <= 86_400
        stub = LimitServiceStub(sidecar.channel)
        told = await stub.GetLimits(v1.GetLimitsRequest(model="groq/m"))
        assert [(limit.scope, limit.limit) for limit in told.limits] == [
            ("provider=groq", 6_000),
            ("provider=groq", 3),
        ]
        assert told.limits[1].remaining == 0
        assert len(first.requests) == 3


async def test_tokens_are_settled_to_the_truth(tmp_path: Path) -> None:
    """Reserved from an estimate, of a bucket that is then as full as the provider's count leaves it."""
    rules = [{**TENANTS, "tokens_per_minute": 60_000}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, limits={"rules": rules}) as sidecar,
    ):
        stub, scope = LimitServiceStub(sidecar.channel), v1.Attribution(tenant="acme")
        await answer(sidecar, "acme")  # 12 tokens, by the provider's count
        (limit,) = (await stub.GetLimits(v1.GetLimitsRequest(attribution=scope))).limits
        assert 10_000 - 12 <= limit.remaining <= 10_000
        failure = await failed(
            collect(sidecar.generation.Generate(of("acme", sampling=v1.Sampling(max_output_tokens=60_001))))
        )
        assert failure.reason == "CALLER_RATE_LIMITED"
        assert (failure.retry_delay, failure.pushback) == (None, "-1")  # it will never be enough


async def test_a_pinned_caller_cannot_spend_for_others(tmp_path: Path) -> None:
    """It counts for its own tenant, whatever its requests name."""
    rules = [{**TENANTS, "requests_per_minute": 1, "burst": 1}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url)},
            callers={"app": {"token": "secret", "tenant": "acme"}},
            limits={"rules": rules, "max_wait": 0},
        ) as sidecar,
    ):
        metadata = (("authorization", "Bearer secret"),)
        await collect(sidecar.generation.Generate(of("x"), metadata=metadata))
        failure = await failed(collect(sidecar.generation.Generate(of("y"), metadata=metadata)))
        assert failure.quota is not None
        assert failure.quota.violations[0].subject == "tenant=acme"


async def test_who_leaves_the_queue_makes_room(tmp_path: Path) -> None:
    """A caller that is cancelled while it waits gives its place in the rate back."""
    rules = [{"requests_per_minute": 60, "burst": 1}]
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, limits={"rules": rules}) as sidecar,
    ):
        await answer(sidecar)
        waiting = [sidecar.generation.Generate(ask()) for _ in range(8)]
        stub = LimitServiceStub(sidecar.channel)
        while (await stub.GetLimits(v1.GetLimitsRequest())).limits[0].resets_in.seconds < 8:
            assert not any(call.done() for call in waiting)
        for call in waiting:
            call.cancel()
        started = time.monotonic()
        assert text(await answer(sidecar)) == "fine"
        assert time.monotonic() - started < 2
        assert len(upstream.requests) == 2
