"""From the configuration of events to the channels that they leave by."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from outrider.assembly_events import MissingPackageError, event_bus, event_secrets, outlets
from outrider.config import Config, load
from tests.events.events import event
from tests.events.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def loaded(tmp_path: Path, **events: object) -> Config:
    file = tmp_path / "outrider.yaml"
    file.write_text(json.dumps({"events": events}))
    return load(file, {})


def test_nothing_is_imported_that_is_not_used() -> None:
    """Without channels there is a bus, and neither Kafka's client nor Redis's nor TLS is loaded for it."""
    script = (
        "import sys; from outrider.assembly_events import *; from outrider.config import Config;"
        "assert not list(outlets(Config(), event_bus(Config()), None).counts());"
        "heavy = {'aiokafka', 'redis', 'outrider.events.webhook_channel'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


async def test_a_missing_package_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka without its extra ends the start with what to install."""
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    monkeypatch.delitem(sys.modules, "outrider.events.kafka_channel", raising=False)
    config = loaded(tmp_path, kafka={"brokers": ["127.0.0.1:1"]})
    with pytest.raises(MissingPackageError, match=r"events.kafka needs .* aiokafka: .*'outrider\[kafka\]'"):
        outlets(config, event_bus(config), None)


async def test_what_is_configured_delivers(tmp_path: Path) -> None:
    """A webhook by its own types, under the name of the sidecar, with its secret from a file."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    async with receiving() as receiver:
        hook = {"url": receiver.url, "secret_file": str(tmp_path / "secret"), "types": ["dev.outrider.job"]}
        config = loaded(tmp_path, webhooks=[hook])
        assert list(event_secrets(config)()) == [SECRET]
        bus = event_bus(config)
        channels = outlets(config, bus, None)
        bus.emit(event(1))
        channels.start()
        await channels.aclose()
        (sent,) = receiver.events
    assert sent["source"] == f"/outrider/{socket.gethostname()}"
    assert [count.channel for count in channels.counts()] == ["webhook 127.0.0.1"]


async def test_the_source_can_be_named(tmp_path: Path) -> None:
    """For where host names do not tell sidecars apart."""
    from_ = event_bus(loaded(tmp_path, source="urn:pod:7"))
    with from_.subscribe(capacity=1) as reader:
        from_.emit(event(1))
        ((taken,), _) = await reader.take(1)
    assert taken.source == "urn:pod:7"
