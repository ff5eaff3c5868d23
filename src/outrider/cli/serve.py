"""`outrider serve`: run the sidecar until told to stop."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import uvloop

from outrider.cli.exit_codes import ExitCode
from outrider.config import ConfigError, load

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Serve. 0: drained. 1: cut short, or an address is taken. 2: the configuration is wrong."""
    try:
        config = load(arguments.config, os.environ)
    except ConfigError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.USAGE
    # structlog imports rich where it is installed, for tracebacks that are never drawn here: 4.5 MiB, 40 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from outrider.lifecycle import serve_until_told
    from outrider.server.app import ListenError

    try:
        drained = uvloop.run(serve_until_told(config))
    except ListenError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK if drained else ExitCode.FAILED
