"""The sidecar as a process: from start to drain, told by signals."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider.bootstrap import Sidecar

if TYPE_CHECKING:
    from outrider.config import Config


async def serve_until_told(config: Config) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once. Whether it drained.

    Raises ListenError where an address cannot be had.
    """
    told, told_again = asyncio.Event(), asyncio.Event()

    def tell() -> None:
        (told_again if told.is_set() else told).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    sidecar = Sidecar(config)
    await sidecar.start()
    draining: asyncio.Task[None] | None = None
    try:
        await told.wait()
        draining = asyncio.create_task(sidecar.drain())
        impatient = asyncio.create_task(told_again.wait())
        await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
        impatient.cancel()
        return draining.done()
    finally:
        if draining is not None:
            draining.cancel()
            with suppress(asyncio.CancelledError):
                await draining
        await sidecar.stop()
