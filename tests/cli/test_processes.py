"""The installed command as a process: signals, pipes and what it imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.answers import STARTED, answer, text
from tests.cli.conftest import COMMAND
from tests.cli.stand_in import PATIENCE, Hold, Wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Start
    from tests.cli.stand_in import StandIn


def test_text_comes_out_while_the_answer_is_made(start: Start, stand_in: StandIn) -> None:
    """A pipe gets each piece when it comes, not at the end."""
    stand_in.script = [STARTED, text("Hel"), Hold()]
    process = start("generate", "hi")
    assert process.stdout is not None
    assert process.stdout.read(3) == "Hel"
    assert process.poll() is None


@pytest.mark.parametrize("options", [(), ("--no-stream",), ("--json",)])
def test_interrupt_cancels_the_call(start: Start, stand_in: StandIn, options: tuple[str, ...]) -> None:
    """Row 1: SIGINT before the first event ends the call at the sidecar, and the command with 130."""
    stand_in.script = [Hold()]
    process = start("generate", "hi", *options)
    assert stand_in.asked.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert stand_in.left.wait(PATIENCE)
    if "--json" in options:
        assert json.loads(out)["error"]["code"] == "CANCELLED"
    else:
        assert err == "outrider: interrupted\n"


def test_interrupt_in_mid_answer_keeps_what_came(start: Start, stand_in: StandIn) -> None:
    """Row 1: SIGINT between two events cancels too, and what had come stays."""
    stand_in.script = [STARTED, text("Hel"), Hold()]
    process = start("generate", "hi")
    assert process.stdout is not None
    assert process.stdout.read(3) == "Hel"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == ("", "\noutrider: interrupted\n")
    assert process.returncode == 130
    assert stand_in.left.wait(PATIENCE)


def test_killed_command_ends_the_call(start: Start, stand_in: StandIn) -> None:
    """Even where the command cannot say goodbye, the sidecar learns that its caller has left."""
    stand_in.script = [Hold()]
    process = start("generate", "hi")
    assert stand_in.asked.wait(PATIENCE)
    process.kill()
    assert stand_in.left.wait(PATIENCE)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_closed_pipe_cancels_the_call_in_silence(
    start: Start, stand_in: StandIn, options: tuple[str, ...]
) -> None:
    """Once nobody reads, as after `| head -1`, the call is cancelled and nothing is said."""
    stand_in.script = [STARTED, text("Hel"), Wait(), text("lo"), Hold()]
    process = start("generate", "hi", *options)
    assert process.stdout is not None
    assert process.stdout.read(3)
    process.stdout.close()
    stand_in.go_on.set()
    assert process.wait(PATIENCE) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert stand_in.left.wait(PATIENCE)


def test_full_disk_is_said_in_one_line(stand_in: StandIn) -> None:
    """Output that cannot be written is an error, not a traceback."""
    stand_in.script = answer("Hello")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [COMMAND, "generate", "hi"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "outrider: [Errno 28] No space left on device\n")


def test_encoding_of_few_characters_is_no_obstacle(stand_in: StandIn) -> None:
    """What the encoding of standard output cannot say is replaced."""
    stand_in.script = answer("1 € 🙂")
    result = subprocess.run(
        [COMMAND, "generate", "hi"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "iso-8859-15"},
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "1 € ?".encode("iso-8859-15"))


def test_grpc_logs_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What gRPC has to say of a failed handshake does not stand between the command's lines."""
    monkeypatch.delenv("GRPC_VERBOSITY")
    (tmp_path / "ca.pem").write_text("not a certificate")
    result = subprocess.run(
        [COMMAND, "health", "--address", "127.0.0.1:1", "--tls-ca", "ca.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(result.stderr.splitlines()) == 1


def test_health_imports_little(stand_in: StandIn) -> None:
    """A health check that a container runs every few seconds does not load what serves or draws."""
    stand_in.statuses = {"": 1}
    script = (
        "import sys; from outrider.cli import main; code = main(['health']);"
        "heavy = {'pydantic', 'rich', 'httptools', 'structlog', 'yaml', 'uvloop', 'outrider.v1'};"
        "sys.exit(code or ' '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "SERVING\n", "")
