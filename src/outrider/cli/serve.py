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

_STANDARD_ERROR = 2


def run(arguments: argparse.Namespace) -> int:
    """Serve. 0: drained. 1: cut short, or an address is taken. 2: the configuration is wrong."""
    _open_closed_streams()
    try:
        config = load(arguments.config, os.environ)
    except ConfigError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.USAGE
    # structlog imports rich where it is installed, for tracebacks that are never drawn here: 4.5 MiB, 40 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from outrider.assembly_events import MissingPackageError
    from outrider.lifecycle import serve_until_told
    from outrider.server.app import ListenError

    try:
        drained = uvloop.run(serve_until_told(config))
    except MissingPackageError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.USAGE
    except ListenError as error:
        print(f"outrider: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK if drained else ExitCode.FAILED


def _open_closed_streams() -> None:
    """Where a standard stream was closed, the next socket would take its number, and what libraries print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STANDARD_ERROR, "w", closefd=False)
