"""Child processes that print where they listen and end with their standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 30


class Child:
    """A running process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port
        # Linux's clock of another process's CPU time, all its threads, in nanoseconds.
        self._clock = (~process.pid << 3) | 2

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        return time.clock_gettime(self._clock)

    def rss_mib(self) -> float:
        """Resident memory now."""
        with open(f"/proc/{self._process.pid}/statm") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def python(*arguments: str, core: int, env: dict[str, str] | None = None) -> Iterator[Child]:
    """Run `python arguments` on one core until the block ends."""
    # A file takes the logs, as it would in a pod: a pipe that nobody reads would stall them.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
        try:
            pin(process.pid, core)
            yield Child(process, _port(process, errors))
        finally:
            process.terminate()
            process.communicate(timeout=_START_SECONDS)


def pin(pid: int, core: int) -> None:
    """Keep a process on one of the machine's cores, where it has several."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(pid, {cores[core % len(cores)]})


def _port(process: subprocess.Popen[str], errors: IO[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=_START_SECONDS)
        errors.seek(0)
        raise RuntimeError(f"the process did not start: {errors.read()[-2000:]}")
    return int(json.loads(line))
