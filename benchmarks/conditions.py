"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("outrider", "grpcio", "uvloop", "httptools", "msgspec", "protobuf")


def conditions() -> dict[str, object]:
    """Machine, versions, revision, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": sorted(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
        "node": _said("node", "--version"),
        "revision": _said("git", "describe", "--always", "--dirty"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def _said(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=10)
    return done.stdout.strip() or None
