"""`outrider serve` as a child process, its log read line by line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from signal import Signals

PATIENCE = 30.0  # seconds until a test is given up; processes start slowly on machines that are busy
COMMAND = Path(sys.executable).with_name("outrider")

_numbers = count(1)


class Child:
    """The process. What it logs is in `lines`, as it was written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Condition()
        self._silent = False  # it will write no more
        self._reading = asyncio.create_task(self._read())
        self.lines: list[str] = []
        self.port = 0  # of the gRPC listener on TCP
        self.admin_port = 0

    async def logged(self, event: str) -> dict[str, Any]:
        """The first line of this event; waits for it."""
        async with asyncio.timeout(PATIENCE), self._news:
            while not (found := self.events(event)):
                assert not self._silent, f"ended without {event!r}:\n{self.log}"
                await self._news.wait()
        return found[0]

    def events(self, event: str) -> list[dict[str, Any]]:
        """Every line of this event so far."""
        parsed = (json.loads(line) for line in self.lines if line.startswith("{"))
        return [line for line in parsed if line["event"] == event]

    @property
    def log(self) -> str:
        """All that was written to standard error."""
        return "".join(self.lines)

    def signal(self, number: Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self, within: float = PATIENCE) -> int:
        """The exit code, once the process has ended and its log is read."""
        async with asyncio.timeout(within):
            await self._process.wait()
            await self._reading
        return self._process.returncode or 0

    async def kill(self) -> None:
        """End it at once, where it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def _read(self) -> None:
        stream = self._process.stderr
        while stream is not None and (line := await stream.readline()):
            async with self._news:
                self.lines.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._silent = True
            self._news.notify_all()


async def launch(
    tmp_path: Path,
    /,
    *,
    env: Mapping[str, str] | None = None,
    stderr: int = asyncio.subprocess.PIPE,
    **config: Any,
) -> Child:
    """Start a sidecar with this configuration, and nothing of the developer's environment."""
    settings: dict[str, Any] = {"admin": {"listen": "127.0.0.1:0"}, **config}
    settings["server"] = {"listen": "127.0.0.1:0", **settings.get("server", {})}
    file = tmp_path / f"serve-{next(_numbers)}.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "serve",
        "--config",
        file,
        env={"PATH": os.environ["PATH"], **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        cwd=tmp_path,
    )
    return Child(process)


@asynccontextmanager
async def serving(
    tmp_path: Path, /, *, env: Mapping[str, str] | None = None, **config: Any
) -> AsyncIterator[Child]:
    """A sidecar that serves; killed in the end where it still does."""
    child = await launch(tmp_path, env=env, **config)
    try:
        where = await child.logged("serving")
        tcp = [address for address in where["grpc"] if not address.startswith("unix:")]
        child.port = int(tcp[0].rpartition(":")[2]) if tcp else 0
        child.admin_port = where["admin_port"]
        yield child
    finally:
        await child.kill()
