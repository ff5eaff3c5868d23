"""Processes under measurement: started on a core of their own, and what they and their children use."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUBJECT_CORE: Final = 0
LOAD_CORE: Final = 1

_PATIENCE: Final = 30  # seconds to start, and to end
_CORES: Final = sorted(os.sched_getaffinity(0))
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessTree:
    """A process and its descendants, as Linux counts them."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """All that live now, the root first."""
        found = [self.pid]
        for pid in found:  # grows while it is read
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, _read(children).split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, of descendants that have ended too."""
        return sum(_own_cpu(pid) + _ended_children_cpu(pid) for pid in self.pids())

    def rss_mib(self) -> float:
        """Resident memory now."""
        pages = [_read(f"/proc/{pid}/statm").split() for pid in self.pids()]
        return sum(int(fields[1]) for fields in pages if fields) * _PAGE / 2**20

    def descriptors(self) -> tuple[int, int]:
        """Open file descriptors, and those of them that are sockets."""
        targets = [_link(entry) for pid in self.pids() for entry in _entries(f"/proc/{pid}/fd")]
        return len(targets), sum(target.startswith("socket:") for target in targets)

    def threads(self) -> int:
        """Threads now."""
        return sum(len(_entries(f"/proc/{pid}/task")) for pid in self.pids())


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""


def _entries(folder: str) -> list[Path]:
    try:
        return [entry for entry in Path(folder).iterdir() if entry.is_symlink() or entry.is_dir()]
    except FileNotFoundError:
        return []


def _own_cpu(pid: int) -> float:
    try:
        # Linux's clock of another process's CPU time, all its threads: finer than /proc/<pid>/stat.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _ended_children_cpu(pid: int) -> float:
    # Fields 16 and 17 of proc(5), counted after the name, which may hold blanks.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS if fields else 0.0


class Child:
    """A running process that was started here."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._command = " ".join(map(str, process.args))  # type: ignore[arg-type]
        self._errors = errors
        self.tree = ProcessTree(process.pid)

    def ask(self, request: object) -> Any:
        """Write a line of JSON to its standard input, and read one from its standard output."""
        self.tell(request)
        return self.hear()

    def tell(self, request: object) -> None:
        """Write a line of JSON to its standard input; `hear` gives the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """The next line of its standard output, as JSON. Raises RuntimeError where it ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"`{self._command}` ended: {self.said()}")
        return json.loads(line)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-2000:]


@contextmanager
def running(
    command: Sequence[str],
    *,
    core: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    speaks: bool = True,
    keep_log: bool = True,
) -> Iterator[Child]:
    """Run a command on one core until the block ends. One that speaks answers in JSON on standard output."""
    # A file takes the logs, as it would in a pod: a pipe that nobody reads would stall them.
    with tempfile.TemporaryFile("w+") as errors:
        with on_core(core):
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if speaks else errors,
                stderr=errors if keep_log else subprocess.DEVNULL,
                text=True,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )
        try:
            yield Child(process, errors)
        finally:
            _end(process)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and what it starts, on one of the machine's cores, where there are several."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CORES[core % len(_CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
