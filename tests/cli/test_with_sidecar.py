"""The commands against the real thing: `outrider serve` in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import COMMAND
from tests.cli.stand_in import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run, Start

TOKEN = "shop-token-0123456789"
CONFIG = f"""
server: {{listen: "", unix_socket: SOCKET}}
admin: {{listen: ""}}
callers:
  shop: {{token: {TOKEN}, models: [echo, broken, "away/*", "slow/*", "simulated/*"]}}
providers:
  simulated: {{simulated: {{pace: 1ms, first_token_delay: 1ms}}}}
  broken:
    format: simulated
    attempts: {{max_attempts: 2, base_delay: 1ms}}
    simulated: {{failure: overloaded}}
  slow: {{format: simulated, simulated: {{first_token_delay: 0s, pace: 1h}}}}
  away: {{base_url: "http://127.0.0.1:1/v1", default_model: m}}
  openai: {{}}
routes:
  echo: [simulated/echo]
  broken: [broken/echo]
default_model: echo
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sidecar for all tests of this file, ended as a pod ends it; the file is its configuration."""
    folder = tmp_path_factory.mktemp("sidecar")
    file, socket = folder / "outrider.yaml", folder / "outrider.sock"
    file.write_text(CONFIG.replace("SOCKET", str(socket)))
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        patch.setenv("OUTRIDER_ADDRESS", f"unix://{socket}")
        process = subprocess.Popen([COMMAND, "serve", "--config", file], stderr=log)
        try:
            subprocess.run([COMMAND, "health", "--wait", "20"], check=True, stdout=subprocess.DEVNULL)
            yield file
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0


@pytest.fixture(autouse=True)
def caller(environment: None, sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command finds the sidecar and has a token for it."""
    monkeypatch.setenv("OUTRIDER_ADDRESS", f"unix://{sidecar.parent}/outrider.sock")
    monkeypatch.setenv("OUTRIDER_TOKEN", TOKEN)


@pytest.mark.parametrize("options", [(), ("--no-stream",)])
def test_answer_and_summary(run: Run, options: tuple[str, ...]) -> None:
    """The simulated provider's echo comes back, and the summary tells what it took."""
    result = run("generate", "Good morning", *options)
    assert (result.code, result.out) == (0, "Good morning")
    for label in (
        "model     simulated/echo",
        "finish    stop",
        "cost      $",
        "attempts  1",
        "time      first",
    ):
        assert f"\n{label}" in result.err


def test_failure_names_every_attempt(run: Run) -> None:
    """Reason, tries and request id of the sidecar's own status are what the command shows."""
    result = run("generate", "hi", "--model", "broken")
    assert result.code == 5
    assert "[PROVIDER_OVERLOADED]; try again in " in result.err
    assert result.err.count("broken/echo failed") == 2
    assert "; request " in result.err


def test_unreachable_provider_is_not_an_absent_sidecar(run: Run) -> None:
    """Both are UNAVAILABLE; the words tell which it was."""
    result = run("generate", "hi", "--model", "away")
    assert result.code == 5
    assert "[PROVIDER_UNREACHABLE]" in result.err
    assert "outrider serve" not in result.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--temperature", "3"], "INVALID_REQUEST"),
        (["--model", "openai/gpt"], "MODEL_NOT_ALLOWED"),
        (["--model", "nonsense"], "MODEL_UNKNOWN"),
        (["--token", "wrong"], "CALLER_UNKNOWN"),
    ],
)
def test_refused_requests_end_with_3(run: Run, options: list[str], reason: str) -> None:
    """What the caller did wrong has one exit code, and the reason tells them apart."""
    result = run("generate", "hi", *options)
    assert result.code == 3
    assert f"[{reason}]" in result.err


def test_interrupt_cancels_the_work(start: Start, sidecar: Path) -> None:
    """Row 1: after Ctrl-C the sidecar's record of the request says that it was cancelled."""
    process = start("generate", "Good morning", "--model", "slow")
    assert process.stdout is not None
    assert process.stdout.read(4) == "Good"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert _outcome(sidecar.parent / "log", "slow") == "cancelled"


def _outcome(log: Path, provider: str) -> str:
    """Of the request that a provider was asked; its record is written soon after its end."""
    for _ in range(int(PATIENCE * 100)):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if record["event"] == "request" and record["provider"] == provider:
                return str(record["outcome"])
        time.sleep(0.01)
    return "no record"


def test_models_are_those_of_the_caller(run: Run) -> None:
    """The table holds what this token may name, with the price of the simulated model."""
    result = run("models")
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.out.splitlines()}
    assert "(default)" in rows["echo"]
    assert "$" in rows["simulated/echo"]
    assert not [name for name in rows if name.startswith("openai/")]


def test_providers_and_their_health(run: Run) -> None:
    """Each is listed in the configuration's order, and one without a key says so."""
    providers, _, targets = run("providers").out.partition("\n\n")
    heading, *lines = providers.splitlines()
    assert [line.split()[0] for line in lines] == ["simulated", "broken", "slow", "away", "openai"]
    assert "simulated/echo" in targets
    assert " ".join(lines[0].split()) == "simulated serving simulated direct echo"
    assert "no key" in lines[-1][heading.index("WHY") :]


def test_health_of_everything(run: Run) -> None:
    """Every name that the sidecar offers is listed, with its status."""
    result = run("health", "--all")
    rows = dict(line.rsplit(maxsplit=1) for line in result.out.splitlines())
    assert result.code == 0
    assert rows["(overall)"] == rows["liveness"] == rows["provider/simulated"] == "SERVING"
    assert rows["provider/openai"] == "NOT_SERVING"


def test_live_check_asks_every_provider(run: Run, sidecar: Path) -> None:
    """One that cannot be reached fails the check; one without a key does not."""
    result = run("check", "--live", "--json", "--config", str(sidecar))
    findings = {finding["provider"]: finding for finding in json.loads(result.out)["live"]}
    assert result.code == 1
    assert (findings["simulated"]["ok"], findings["simulated"]["status"]) == (True, "serving")
    assert (findings["away"]["ok"], findings["away"]["reason"]) == (False, "PROVIDER_UNREACHABLE")
    assert (findings["openai"]["ok"], findings["openai"]["reason"]) == (True, "PROVIDER_NOT_CONFIGURED")


def test_live_check_notices_another_configuration(run: Run, tmp_path: Path) -> None:
    """A provider that the running sidecar does not have is named."""
    (tmp_path / "outrider.yaml").write_text("providers: {simulated: {}, other: {format: simulated}}\n")
    result = run("check", "--live")
    assert result.code == 1
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert "other unknown 0 ms the running sidecar has another configuration" in lines
