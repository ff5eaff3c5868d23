"""`outrider serve`: run the sidecar until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop

from outrider.bootstrap import Sidecar
from outrider.cli.exit_codes import ExitCode
from outrider.config import ConfigError, load
from outrider.server.app import ListenError

if TYPE_CHECKING:
    import argparse

    from outrider.config import Config

def run(arguments: argparse.Namespace) -> int:
    """Serve. 0: drained. 1: cut short, or an address is taken. 2: the configuration is wrong."""
    try:
        config = load(arguments.config, os.environ)
    except ConfigError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.USAGE
    try:
        return uvloop.run(_serve(config))
    except ListenError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return 1


async def _serve(config: Config) -> int:
    """The first SIGTERM or SIGINT drains, the second stops at once."""
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
        return 0 if draining.done() else 1
    finally:
        if draining is not None:
            draining.cancel()
            with suppress(asyncio.CancelledError):
                await draining
        await sidecar.stop()
