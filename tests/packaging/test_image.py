"""What the Dockerfile promises, so far as that shows unbuilt; scripts/image_check.sh builds and runs it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# One instruction a line, comments and continuations taken out.
LINES = re.sub(r"\\\n\s*|^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line]
STAGES = [n for n, (keyword, _) in enumerate(INSTRUCTIONS) if keyword == "FROM"]
FINAL = dict(INSTRUCTIONS[STAGES[-1] :])


def test_image_runs_as_nobody_in_particular() -> None:
    """The user is a number above zero, so that Kubernetes can tell that it is not root."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", FINAL["USER"])


def test_signals_reach_the_process() -> None:
    """No shell stands between the runtime and Outrider."""
    assert json.loads(FINAL["ENTRYPOINT"]) == ["outrider"]
    assert json.loads(FINAL["CMD"]) == ["serve"]
    assert json.loads(FINAL["HEALTHCHECK"].partition("CMD ")[2]) == ["outrider", "health"]
    assert FINAL["STOPSIGNAL"] == "SIGTERM"


def test_image_is_made_in_stages() -> None:
    """Both stages have one base, with a version; the last runs nothing and takes what was installed."""
    assert [INSTRUCTIONS[n][1] for n in STAGES] == ["${BASE} AS build", "${BASE}"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", INSTRUCTIONS[0][1])
    assert "RUN" not in FINAL
    assert FINAL["COPY"].startswith("--from=build ")


def test_what_is_installed_is_locked() -> None:
    """pip either holds a file against its hash, or has no network."""
    commands = [part for keyword, rest in INSTRUCTIONS if keyword == "RUN" for part in rest.split("&&")]
    pips = [command for command in commands if command.strip().startswith("pip ")]
    assert pips
    assert all("--require-hashes" in command or "--no-index" in command for command in pips)


def test_context_is_what_the_wheel_needs() -> None:
    """What is copied exists, passes .dockerignore, and holds every file that the metadata names."""
    sources = [
        name
        for keyword, rest in INSTRUCTIONS
        if keyword == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    passed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all((ROOT / source).exists() for source in sources)
    assert sorted(sources) == sorted(passed)
    assert {project["readme"], *project["license-files"], "pyproject.toml", "src"} <= set(sources)
