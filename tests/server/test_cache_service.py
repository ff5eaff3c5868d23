from pathlib import Path

import grpc
import pytest

from outrider import v1
from outrider.v1.cache_service_pb2_grpc import CacheServiceStub
from tests.support.answers import openai_stream
from tests.support.sidecar import Failure, Running, ask, collect, provider, running
from tests.support.upstream import Upstream

COLD = v1.Sampling(temperature=0)


async def forget(sidecar: Running, token: str = "", **selector: object) -> int:
    """How many answers were removed."""
    stub = CacheServiceStub(sidecar.channel)
    metadata = (("authorization", f"Bearer {token}"),) if token else None
    answer = await stub.InvalidateCache(v1.InvalidateCacheRequest(**selector), metadata=metadata)  # type: ignore[arg-type]
    return answer.removed


async def fill(sidecar: Running, *, token: str = "", tenant: str = "", text: str = "hello") -> str:
    """Ask once; the name of the answer."""
    metadata = (("authorization", f"Bearer {token}"),) if token else None
    attribution = v1.Attribution(tenant=tenant, labels={"batch": text})
    call = sidecar.generation.Generate(
        ask(text=text, sampling=COLD, attribution=attribution), metadata=metadata
    )
    await collect(call)
    return str(dict(await call.trailing_metadata())["x-outrider-cache-key"])


async def test_answers_are_forgotten_by_key_model_tenant_and_label(tmp_path: Path) -> None:
    """Those that fit everything that is set, and no others."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        key = await fill(sidecar, text="one")
        assert await fill(sidecar, text="one") == key
        await fill(sidecar, text="two")
        await fill(sidecar, text="two", tenant="acme")
        await fill(sidecar, text="three", tenant="acme")
        assert len(upstream.requests) == 4
        assert await forget(sidecar, key="0" * 64) == 0
        assert await forget(sidecar, key=key) == 1
        assert await forget(sidecar, model="p/other") == 0
        assert await forget(sidecar, tenant="acme", labels={"batch": "two"}) == 1
        assert await forget(sidecar, model="p/m", tenant="acme") == 1
        assert await forget(sidecar, all=True) == 1
        stats = await CacheServiceStub(sidecar.channel).GetCacheStats(v1.GetCacheStatsRequest())
        assert (stats.memory_entries, stats.memory_bytes, stats.stored) == (0, 0, 4)


async def test_forgetting_nothing_in_particular_is_refused(tmp_path: Path) -> None:
    """An empty selector is a mistake, not everything."""
    async with running(tmp_path) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await forget(sidecar)
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert failure.bad_request is not None
    assert failure.bad_request.field_violations[0].field == "all"


async def test_a_caller_forgets_answers_of_its_own_tenant_alone(tmp_path: Path) -> None:
    """Whatever it selects; and nobody else learns or forgets anything."""
    callers = {
        "one": {"token": "token-one", "tenant": "acme"},
        "two": {"token": "token-two", "tenant": "other"},
        "free": {"token": "token-free"},
    }
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, callers=callers, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        for token in ("token-one", "token-two", "token-free"):
            await fill(sidecar, token=token)
        assert len(upstream.requests) == 3
        assert await forget(sidecar, "token-one", all=True) == 1
        assert await forget(sidecar, "token-one", model="p/m") == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await forget(sidecar, "token-one", tenant="other")
        assert Failure.of(caught.value).reason == "INVALID_REQUEST"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await forget(sidecar, all=True)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await CacheServiceStub(sidecar.channel).GetCacheStats(v1.GetCacheStatsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await forget(sidecar, "token-free", all=True) == 2
