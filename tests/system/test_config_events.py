"""Changes of the configuration, told as events: what was loaded, and secrets that change in their files."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from outrider import __version__, v1
from outrider.v1.event_service_pb2_grpc import EventServiceStub
from tests.events.receiver import Receiver, receiving
from tests.support.answers import openai_stream
from tests.support.sidecar import ask, collect, provider, running
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
KEY = "sk-test-key-0123456789"
TOKEN = "token-0123456789"


async def told_at_start(tmp_path: Path, hook: Receiver, name: str = "a", **settings: Any) -> dict[str, Any]:
    """The facts of the event that a sidecar with a provider and a webhook starts with."""
    events = {"source": f"/{name}", "webhooks": [{"url": hook.url, "secret": SECRET}]}
    known: dict[str, Any] = {"one": provider("http://127.0.0.1:1", headers={"x-team": "hush"})}
    hook.requests.clear()
    async with running(tmp_path, **({"providers": known, "events": events} | settings)):
        await hook.until(1)
    (event,) = hook.events
    assert (event["type"], event["source"]) == ("dev.outrider.config.loaded", f"/{name}")
    assert event["subject"] == "configuration"
    for secret in (SECRET, KEY, TOKEN, "t0p", "hush"):
        assert secret not in json.dumps(event)
    facts: dict[str, Any] = event["data"]
    return facts


async def test_a_roll_out_shows(tmp_path: Path) -> None:
    """One event at the start: version, names, and a digest that is the same wherever the same is set."""
    async with receiving() as hook:
        first = await told_at_start(tmp_path, hook)
        again = await told_at_start(tmp_path, hook, "b")
        other = await told_at_start(
            tmp_path,
            hook,
            routes={"fast": ["one/m"], "safe": ["one/n"]},
            callers={"web": {"token": TOKEN}},
        )
    digest = first.pop("digest")
    assert first == {"version": __version__, "providers": "one"}
    assert (len(digest), again["digest"]) == (64, digest)
    assert other.pop("digest") != digest
    assert other == {
        "version": __version__,
        "providers": "one",
        "routes": "fast, safe",
        "callers": "web",
    }


def put(path: Path, secret: str, age: float) -> None:
    """A secret in a file that has rested for long."""
    path.write_text(secret)
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("setting", ["providers.one.api_key_file", "callers.web.token_file"])
async def test_a_secret_that_changes_is_told_of(tmp_path: Path, setting: str) -> None:
    """A new one that is used, a file that is lost, and one that is back; never what is in it."""
    key, token = tmp_path / "key", tmp_path / "token"
    put(key, KEY, age=60)
    put(token, TOKEN, age=60)
    file = key if setting.startswith("providers") else token
    async with (
        Upstream(openai_stream("hi")) as upstream,
        running(
            tmp_path,
            providers={"one": provider(upstream.url, api_key=None, api_key_file=str(key))},
            callers={"web": {"token_file": str(token)}, "watcher": {"token": "watcher-0123456789"}},
        ) as sidecar,
    ):
        watch = EventServiceStub(sidecar.channel).WatchEvents(
            v1.WatchEventsRequest(types=["dev.outrider.config"]),
            metadata=[("authorization", "Bearer watcher-0123456789")],
            timeout=PATIENCE,
        )
        await watch.initial_metadata()

        async def told() -> dict[str, Any]:
            """What the next event tells, while somebody calls."""
            event = asyncio.ensure_future(watch.read())
            while not event.done():
                await collect(
                    sidecar.generation.Generate(
                        ask("one/m"), metadata=[("authorization", "Bearer watcher-0123456789")]
                    )
                )
            made = (await event).event
            assert (made.type, made.subject) == ("dev.outrider.config.secret.changed", setting)
            assert "sk-" not in str(made)
            assert "token-" not in str(made)
            facts: dict[str, Any] = json.loads(made.data_json)
            return facts

        put(file, f"{file.read_text()}-new", age=50)
        assert await told() == {"taken": True}
        kept = file.read_text()
        file.unlink()
        assert await told() == {"taken": False, "problem": "it cannot be read: No such file or directory"}
        put(file, kept, age=40)
        assert await told() == {"taken": False}
