"""`outrider check`: a configuration held up to the light."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

KEY = "sk-live-0123456789abcdef"
CONFIG = f"""
server:
  unix_socket: /run/outrider/outrider.sock
callers:
  shop: {{token: "{KEY}-shop"}}
providers:
  openai: {{api_key: "${{MY_KEY}}"}}
  anthropic: {{api_key_file: key.txt}}
  groq: {{api_key_file: /nowhere/key}}
  local: {{base_url: "http://127.0.0.1:8000/v1", transport: sdk}}
  simulated: {{}}
routes:
  fast: [openai/gpt-mini, local/llama]
default_model: fast
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a key in each kind of place."""
    monkeypatch.setenv("MY_KEY", KEY)
    (tmp_path / "key.txt").write_text(f"{KEY}-file")
    file = tmp_path / "outrider.yaml"
    file.write_text(CONFIG)
    return file


def test_configuration_is_shown_as_it_will_be(run: Run, config: Path) -> None:
    """Listeners, callers, providers with the whereabouts of their keys, and models with their targets."""
    result = run("check")
    assert (result.code, result.err) == (0, "")
    unreadable = "it cannot be read: No such file or directory"
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    for line in (
        "gRPC 127.0.0.1:50051 this machine",
        "gRPC unix:///run/outrider/outrider.sock this machine, by file permission",
        "HTTP 127.0.0.1:9464 this machine",
        "Callers: shop",
        "openai openai direct https://api.openai.com/v1 found MY_KEY",
        "anthropic anthropic direct https://api.anthropic.com found file key.txt",
        f"groq openai direct https://api.groq.com/openai/v1 missing file /nowhere/key: {unreadable}",
        "local openai sdk http://127.0.0.1:8000/v1 not needed",
        "simulated simulated direct not needed",
        "fast (default) openai/gpt-mini, then local/llama",
        "simulated/echo",
        "The configuration is valid.",
    ):
        assert line in lines


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_key_is_ever_shown(run: Run, config: Path, options: tuple[str, ...]) -> None:
    """Row 28: neither keys nor tokens, nor a part of them."""
    result = run("check", *options)
    assert "0123456789" not in result.out + result.err
    config.write_text(CONFIG.replace("transport: sdk", "transport: odd").replace("fast:", "fast/er:"))
    result = run("check", *options)
    assert result.code == 2
    assert "0123456789" not in result.out + result.err


def test_every_problem_is_told_at_once(run: Run, tmp_path: Path) -> None:
    """Exit code 2, and on standard error a line for each problem with file, line, key and remedy."""
    file = tmp_path / "wrong.yaml"
    file.write_text("servr: {}\nserver:\n  listen: nowhere\n")
    result = run("check", "--config", str(file))
    assert (result.code, result.out) == (2, "")
    assert [line.split(": ")[:2] for line in result.err.splitlines()] == [
        [f"{file}:1", "servr"],
        [f"{file}:3", "server.listen"],
    ]
    assert "did you mean 'server'?" in result.err


def test_machine_gets_problems_as_json(run: Run, tmp_path: Path) -> None:
    """--json puts the same into one document on standard output."""
    (tmp_path / "outrider.yaml").write_text("servr: {}\n")
    result = run("check", "--json")
    assert (result.code, result.err) == (2, "")
    document = json.loads(result.out)
    assert document["valid"] is False
    (problem,) = document["problems"]
    assert (problem["source"], problem["line"], problem["key"]) == ("outrider.yaml", 1, "servr")


def test_machine_gets_the_configuration_as_json(run: Run, config: Path) -> None:
    """--json holds what the tables show."""
    document = json.loads(run("check", "--json").out)
    assert (document["valid"], document["callers"]) == (True, ["shop"])
    assert document["models"][0] == {
        "name": "fast",
        "targets": ["openai/gpt-mini", "local/llama"],
        "default": True,
    }
    assert document["providers"][0] == {
        "name": "openai",
        "format": "openai",
        "transport": "direct",
        "base_url": "https://api.openai.com/v1",
        "key": "found",
        "key_source": "MY_KEY",
    }
    assert "live" not in document


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({"OPENAI_API_KEY": KEY, "A_COPY": KEY}, "OPENAI_API_KEY"),
        ({"OUTRIDER_PROVIDERS__OPENAI__API_KEY": KEY}, "OUTRIDER_PROVIDERS__OPENAI__API_KEY"),
    ],
)
def test_environment_alone_is_a_configuration(
    run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], source: str
) -> None:
    """Without a file, the variable that brought the key is named."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    openai = json.loads(run("check", "--json").out)["providers"][0]
    assert (openai["name"], openai["key"], openai["key_source"]) == ("openai", "found", source)


def test_literal_key_is_in_the_configuration(run: Run, tmp_path: Path) -> None:
    """A key that no variable holds is said to stand in the configuration itself."""
    (tmp_path / "outrider.yaml").write_text(f"providers: {{openai: {{api_key: {KEY}}}}}\n")
    (openai,) = json.loads(run("check", "--json").out)["providers"]
    assert openai["key_source"] == "the configuration"


def test_missing_key_says_what_to_set(run: Run, tmp_path: Path) -> None:
    """The vendor's own variable where it has one, else the settings."""
    providers = {"groq": {}, "mine": {"format": "anthropic", "base_url": "http://127.0.0.1:1"}}
    (tmp_path / "outrider.yaml").write_text(json.dumps({"providers": providers}))
    groq, mine = json.loads(run("check", "--json").out)["providers"]
    assert (groq["key"], groq["key_source"]) == ("missing", "set GROQ_API_KEY")
    assert (mine["key"], mine["key_source"]) == ("missing", "set api_key or api_key_file")


@pytest.mark.parametrize(
    ("server", "reach"),
    [
        ({"listen": "0.0.0.0:50051", "insecure": True}, "other machines, plain"),
        ({"listen": "0.0.0.0:50051", "tls": {"cert_file": "c", "key_file": "k"}}, "TLS"),
        (
            {"listen": "[::]:50051", "tls": {"cert_file": "c", "key_file": "k", "client_ca_file": "a"}},
            "TLS, with client certificates",
        ),
    ],
)
def test_exposure_is_said_plainly(run: Run, tmp_path: Path, server: dict[str, object], reach: str) -> None:
    """Who can reach the port, and whether the traffic is encrypted."""
    (tmp_path / "outrider.yaml").write_text(
        json.dumps({"server": server, "admin": {"listen": "0.0.0.0:9464"}})
    )
    grpc, http = json.loads(run("check", "--json").out)["listeners"]
    assert (grpc["reach"], http["reach"]) == (reach, "other machines, plain")


def test_live_needs_a_sidecar(run: Run, config: Path) -> None:
    """--live without a running sidecar ends as every other command does without one."""
    result = run("check", "--live", "--address", "127.0.0.1:1")
    assert result.code == 5
    assert "start one with `outrider serve`" in result.err
