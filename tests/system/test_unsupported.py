"""What the API offers and this sidecar cannot do yet is refused or told of, never dropped silently."""

from pathlib import Path

import grpc
import pytest

from outrider import v1
from tests.support.answers import openai_stream
from tests.support.sidecar import Failure, ask, collect, provider, running
from tests.support.upstream import Upstream


async def test_only_a_stored_answer_means_no_call(tmp_path: Path) -> None:
    """CACHE_POLICY_ONLY ends with NOT_FOUND, and no provider is asked."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(sidecar.generation.Generate(ask(cache_policy=v1.CACHE_POLICY_ONLY)))
        assert upstream.requests == []
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "CACHE_MISS")


async def test_what_cannot_be_honoured_is_warned_of(tmp_path: Path) -> None:
    """Each setting by its field, beside the answer."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        request = ask(
            cache_policy=v1.CACHE_POLICY_REFRESH,
            unavailability_policy=v1.UNAVAILABILITY_POLICY_QUEUE,
            idempotency_key="k",
        )
        events = await collect(sidecar.generation.Generate(request))
        plain = await collect(sidecar.generation.Generate(ask()))
    warnings = {warning.field: warning.code for warning in events[-1].completed.warnings}
    assert warnings == dict.fromkeys(
        ("cache_policy", "unavailability_policy", "idempotency_key"), "SETTING_NOT_SUPPORTED"
    )
    assert not plain[-1].completed.warnings
