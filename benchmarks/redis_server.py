"""A real redis-server of the benchmark's own, and what it says of itself."""

from __future__ import annotations

import shutil
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.processes import LOAD_CORE, Child, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE: Final = 10.0  # seconds until it answers
_TICK: Final = 0.01
_SETTINGS: Final = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server. It keeps nothing on disk: what that costs depends on the disk."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        """For a configuration."""
        return f"redis://127.0.0.1:{self.port}/0"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server has done since it was started; the difference of two says what happened between."""

    cpu: float = 0.0  # seconds, user and system
    scripts: int = 0  # calls of scripts
    commands: int = 0  # those within scripts too
    reads: int = 0  # from sockets: a batch of commands that arrived together is one
    bytes_in: int = 0
    bytes_out: int = 0

    def __sub__(self, before: Figures) -> Figures:
        values = (getattr(self, name) - getattr(before, name) for name in self.__slots__)
        return Figures(*values)


@contextmanager
def redis_server(core: int = LOAD_CORE) -> Iterator[Redis]:
    """A server on a core, until the block ends. Raises RuntimeError where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed: scripts/redis.sh says how")
    port = free_port()
    with running([program, "--port", str(port), *_SETTINGS], core=core, speaks=False) as child:
        end = time.monotonic() + _PATIENCE
        while not _answers(port):
            if not child.alive() or time.monotonic() > end:
                raise RuntimeError(f"redis-server does not answer: {child.said()}")
            time.sleep(_TICK)
        yield Redis(child, port)


def ask(port: int, *command: str) -> bytes:
    """The answer to one command, as it comes: for INFO and the like."""
    words = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in command)
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
        connection.sendall(b"*%d\r\n%s" % (len(command), words))
        with connection.makefile("rb") as answer:
            line = answer.readline()
            return answer.read(int(line[1:])) if line.startswith(b"$") else line


def info(port: int) -> dict[str, str]:
    """INFO, with what each command has cost."""
    lines = ask(port, "INFO", "everything").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def figures(port: int) -> Figures:
    """What it has done so far."""
    found = info(port)
    scripts = sum(_calls(found.get(f"cmdstat_{name}", "")) for name in ("evalsha", "eval"))
    return Figures(
        cpu=float(found["used_cpu_user"]) + float(found["used_cpu_sys"]),
        scripts=scripts,
        commands=int(found["total_commands_processed"]),
        reads=int(found["total_reads_processed"]),
        bytes_in=int(found["total_net_input_bytes"]),
        bytes_out=int(found["total_net_output_bytes"]),
    )


def _calls(statistics: str) -> int:
    return int(dict(pair.split("=") for pair in statistics.split(",")).get("calls", 0)) if statistics else 0


def _answers(port: int) -> bool:
    try:
        return ask(port, "PING") == b"+PONG\r\n"
    except OSError:
        return False
