"""The `outrider` command. Each command is a module of its name, imported when it is asked for."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from outrider.cli.arguments import parse
from outrider.cli.command_error import CommandError
from outrider.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. Raises SystemExit for --help and for wrong options."""
    arguments = parse(argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what a terminal's encoding lacks
    try:
        try:
            return _run(arguments)
        except CommandError as error:
            _report(error, as_json=getattr(arguments, "json", False))
            return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return ExitCode.PIPE_CLOSED


def _run(arguments: argparse.Namespace) -> int:
    if "address" in arguments:
        # A caller's errors are told in our own words. gRPC reads this when it is imported.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        code: int = import_module(f"outrider.cli.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise CommandError("interrupted", ExitCode.INTERRUPTED, "CANCELLED") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_unwritable_output()
        raise CommandError(str(error), ExitCode.FAILED) from None
    return code


def _report(error: CommandError, *, as_json: bool) -> None:
    """On standard output where a machine reads it, else on standard error."""
    if as_json and error.exit_code != ExitCode.USAGE:
        print(json.dumps(error.to_json()), flush=True)
        return
    if sys.stderr.isatty():
        print(end="\r", file=sys.stderr)  # over the ^C that a terminal shows
    for line in error.lines():
        print(line, file=sys.stderr)


def _discard_unwritable_output() -> None:
    """A full disk would be met again at exit, and told in Python's words."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    """Nobody reads any more: keep the interpreter from failing when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
