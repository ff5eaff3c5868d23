"""The command and what it talks to."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from outrider.cli import main
from tests.cli.stand_in import StandIn, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("outrider")


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs a command in this process."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result: ...


class Start(Protocol):
    """Starts the installed command with pipes for its output."""

    def __call__(self, *arguments: str) -> subprocess.Popen[str]: ...


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own settings reaches a test."""
    for name in os.environ:
        if name.startswith(("OUTRIDER_", "LLM_", "GROQ_")) or name.endswith("_API_KEY") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")  # as the command itself does, but not beyond the test
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    """A server in a sidecar's place, to be told what to answer. Commands find it by OUTRIDER_ADDRESS."""
    with pytest.MonkeyPatch.context() as patch, serving(StandIn(), tmp_path) as server:
        patch.setenv("OUTRIDER_ADDRESS", server.address)
        yield server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; its standard input is a pipe with these bytes."""

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Result(int(code), *capsys.readouterr())

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the installed command; whatever still runs in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()
