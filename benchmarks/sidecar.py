"""Outrider itself as a benchmark subject. Run as a process: prints its port, and ends with SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import uvloop

from outrider.bootstrap import Sidecar
from outrider.config import load


async def serve() -> None:
    """Serve until told to stop."""
    sidecar = Sidecar(load(Path(os.environ["OUTRIDER_CONFIG"]), os.environ))
    await sidecar.start()
    print(sidecar.port, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await sidecar.stop()


if __name__ == "__main__":
    uvloop.run(serve())
