"""`scripts/demo.sh`, which `make demo` runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND

DEMO = Path(__file__).parents[2] / "scripts" / "demo.sh"
PATIENCE = 60  # seconds


@pytest.fixture
def demo(tmp_path: Path) -> subprocess.Popen[str]:
    """The demonstration, with a temporary directory of its own and nobody at its keyboard."""
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
    }
    return subprocess.Popen(
        [DEMO],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def test_demo_shows_an_answer_and_its_record(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """Without a key: the provider is named, the answer and its summary shown, then the sidecar's own record;
    nothing is left behind."""
    out, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, out
    lines = out.splitlines()
    assert "answer is from: simulated" in out
    assert [line for line in lines if line.startswith("An outrider rides ahead")]
    for label in ("model     simulated/echo", "tokens    ", "cost      ", "time      ", "attempts  1"):
        assert [line for line in lines if line.startswith(label)], label
    assert json.loads(lines[-1])["outcome"] == "succeeded"
    assert list(tmp_path.iterdir()) == []


def test_interrupted_demo_leaves_nothing_behind(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """Ctrl-C in mid-answer ends the sidecar and removes its files."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("· outrider generate"):
            break
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
