"""Answers of a provider on a real socket, recorded by one sidecar and replayed by another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from outrider import v1
from outrider.providers.recording import digest
from tests.support.answers import json_body, openai_stream
from tests.support.caller import calling
from tests.support.process import serving
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

TEMPERATURE = 0.5


async def test_what_one_sidecar_records_another_replays(tmp_path: Path) -> None:
    """A retried failure included: the same events, usage and number of tries, without the provider."""
    folder = tmp_path / "recordings"
    busy = json_body({"error": {"message": "busy"}}, 503, {"retry-after": "0"})
    config: dict[str, Any] = {"recorder": {"folder": str(folder)}, "defaults": {"temperature": TEMPERATURE}}
    async with (
        Upstream(busy, openai_stream("Hello ", "world")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, **config) as sidecar,
    ):
        recorded = await collect(sidecar.generation.Generate(ask()))
    outcomes = [json.loads(file.read_text())["outcome"] for file in sorted(folder.glob("*.json"))]
    assert outcomes == ["failed", "completed"]
    assert all("sk-test-key" not in file.read_text() for file in folder.glob("*.json"))
    replaying = {"replay": str(folder), "pace": 0, "first_token_delay": 0}
    quick = {"base_delay": 0.01}
    providers = {"s": {"format": "simulated", "simulated": replaying, "attempts": quick}}
    async with running(tmp_path, providers=providers, **config) as sidecar:
        replayed = await collect(sidecar.generation.Generate(ask("s/any")))
        assert text(replayed) == text(recorded) == "Hello world"
        was, now = recorded[-1].completed, replayed[-1].completed
        assert (now.usage, now.response_id) == (was.usage, was.response_id)
        assert [each.outcome for each in now.attempts] == [each.outcome for each in was.attempts]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(sidecar.generation.Generate(ask("s/any", "something else")))
        failure = Failure.of(caught.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_RECORDED")
        asked = ask(text="something else", sampling=v1.Sampling(temperature=TEMPERATURE))
        assert digest(asked) in failure.message
        complete = await sidecar.generation.Complete(v1.CompleteRequest(request=ask("s/any")))
        assert complete.message.parts[0].text == "Hello world"
    assert len(list(folder.glob("*.json"))) == 2


async def test_the_recorder_is_loud(tmp_path: Path) -> None:
    """A warning at the start where it is on; nothing, and no folder, where it is not."""
    simulated = {"s": {"format": "simulated", "simulated": {"pace": 0, "first_token_delay": 0}}}
    configs: list[dict[str, Any]] = [{}, {"recorder": {"folder": "recordings"}}]
    for config in configs:
        async with serving(tmp_path, providers=simulated, **config) as child, calling(child.port) as caller:
            assert [event async for event in caller.generation.Generate(ask("s/echo"))]
            warned = [line for line in child.lines if "RECORDING" in line and '"warning"' in line]
            assert len(warned) == len(config)
            assert config or not (tmp_path / "recordings").exists()
