"""`outrider jobs`, against a sidecar in a process of its own."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import COMMAND
from tests.cli.stand_in import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run

CONFIG = """
server: {listen: "", unix_socket: SOCKET}
admin: {listen: ""}
providers:
  simulated: {simulated: {pace: 1ms, first_token_delay: 1ms}}
  slow: {format: simulated, simulated: {first_token_delay: 0s, pace: 1h}}
  refused: {format: simulated, simulated: {failure: context_too_long}}
default_model: simulated/echo
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sidecar for all tests of this file."""
    folder = tmp_path_factory.mktemp("sidecar")
    file, socket = folder / "outrider.yaml", folder / "outrider.sock"
    file.write_text(CONFIG.replace("SOCKET", str(socket)))
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        patch.setenv("OUTRIDER_ADDRESS", f"unix://{socket}")
        process = subprocess.Popen([COMMAND, "serve", "--config", file], stderr=log)
        try:
            subprocess.run([COMMAND, "health", "--wait", "20"], check=True, stdout=subprocess.DEVNULL)
            yield socket
        finally:
            process.kill()
            process.wait(PATIENCE)


@pytest.fixture(autouse=True)
def caller(environment: None, sidecar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command finds the sidecar."""
    monkeypatch.setenv("OUTRIDER_ADDRESS", f"unix://{sidecar}")


def test_a_job_and_its_answer(run: Run) -> None:
    """The id alone on standard output, then its answer by that id, watched and as a result."""
    submitted = run("jobs", "submit", "Good morning", "--priority", "high", "--ttl", "30m")
    job = submitted.out.strip()
    assert (submitted.code, len(job)) == (0, 32)
    watched, result = run("jobs", "watch", job), run("jobs", "result", job)
    assert (watched.code, watched.out) == (result.code, result.out) == (0, "Good morning")
    told = run("jobs", "get", job).out
    for line in (f"job       {job}", "state     completed", "tries     1", "tokens    "):
        assert f"{line}" in told
    as_json = json.loads(run("jobs", "get", job, "--json").out)["job"]
    assert (as_json["state"], as_json["priority"]) == ("JOB_STATE_COMPLETED", "JOB_PRIORITY_HIGH")


def test_waiting_for_the_answer(run: Run) -> None:
    """It is streamed like that of `generate`; used again, the key gives the same job."""
    first = run("jobs", "submit", "--wait", "--key", "k", "Good morning")
    again = run("jobs", "submit", "--json", "--key", "k", "Good morning")
    assert (first.code, first.out) == (0, "Good morning")
    assert json.loads(again.out)["existing"]
    assert json.loads(again.out)["job"]["job_id"] in first.err


def test_a_job_without_an_answer(run: Run) -> None:
    """Watching ends with 1 and says why; the result ends as `generate` would have."""
    job = run("jobs", "submit", "x", "--model", "refused/echo").out.strip()
    watched, result = run("jobs", "watch", job), run("jobs", "result", job)
    assert (watched.code, watched.out) == (1, "")
    assert "is failed" in watched.err
    assert "CONTEXT_TOO_LONG" in watched.err
    assert result.code == 3
    assert "CONTEXT_TOO_LONG" in result.err
    for said in (watched.err, result.err, run("jobs", "get", job).out):
        assert "refused/echo failed after" in said


def test_cancelling_and_listing(run: Run) -> None:
    """A job that hangs is cancelled; the list can be narrowed to such."""
    job = run("jobs", "submit", "a long answer", "--model", "slow/echo").out.strip()
    early = run("jobs", "result", job)
    assert "JOB_NOT_ENDED" in early.err
    assert "state     cancelled" in run("jobs", "cancel", job).out
    listed = run("jobs", "list", "--state", "cancelled")
    assert listed.out.splitlines()[0].split() == [
        *("JOB", "STATE", "SUBMITTED", "(UTC)", "MODEL", "TRIES", "COST", "NOTE")
    ]
    assert job in listed.out
    assert run("jobs", "list", "--tenant", "nobody").out == "There are no such jobs.\n"


def test_a_batch(run: Run, tmp_path: Path) -> None:
    """A line in, a line out for each, in whatever order; requests as JSON and plain prompts alike."""
    file = tmp_path / "requests.jsonl"
    request = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "one"}]}]}
    file.write_text(f'{json.dumps(request)}\n\n"two"\n')
    result = run("jobs", "batch", str(file), "--watch", "--model", "simulated/echo")
    lines = sorted(
        (json.loads(line) for line in result.out.splitlines()), key=lambda each: each.get("index", 0)
    )
    assert result.code == 0
    assert [line["response"]["message"]["parts"][0]["text"] for line in lines] == ["one", "two"]
    assert "2 of 2 ended" in result.err


def test_the_groups_of_a_batch(run: Run, tmp_path: Path) -> None:
    """A line for each provider and model, with a bar; as JSON with all that the sidecar tells of them."""
    file = tmp_path / "requests.jsonl"
    request = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "x"}]}], "model": "refused/echo"}
    file.write_text(f'"one"\n{json.dumps(request)}\n"two"\n')
    batch = ("jobs", "batch", str(file), "--watch", "--model", "simulated/echo")
    told, as_json = run(*batch), run(*batch, "--json")
    assert (told.code, as_json.code) == (1, 1)
    assert len(told.out.splitlines()) == 3
    bars = [line.split() for line in told.err.splitlines() if line.startswith("  ")][-2:]
    assert [(each[0], len(each[1]), " ".join(each[2:5])) for each in bars] == [
        ("refused/echo", 10, "1 of 1"),
        ("simulated/echo", 10, "2 of 2"),
    ]
    lines = [json.loads(line) for line in as_json.out.splitlines()]
    last = [each["progress"] for each in lines if "progress" in each][-1]
    assert sorted(each["result"].get("index", 0) for each in lines if "result" in each) == [0, 1, 2]
    assert [(each["provider"], each["model"], each["total"]) for each in last["groups"]] == [
        ("refused", "echo", 1),
        ("simulated", "echo", 2),
    ]
    assert (last["groups"][0]["failed"], last["groups"][1]["completed"]) == (1, 2)


@pytest.mark.parametrize("line", ["{", "[1]", "1", '{"unheard_of": 1}', ""])
def test_a_batch_that_is_none(run: Run, line: str) -> None:
    """The line that is wrong is named, and nothing is submitted."""
    result = run("jobs", "batch", "-", stdin=line.encode())
    assert (result.code, result.out) == (2, "")
    assert "line 1 is no request" in result.err or "has no requests" in result.err


def test_a_job_that_nobody_knows(run: Run) -> None:
    """Ends with 3, and the reason."""
    result = run("jobs", "get", "0" * 32)
    assert result.code == 3
    assert "JOB_UNKNOWN" in result.err
