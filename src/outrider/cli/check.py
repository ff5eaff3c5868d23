"""`outrider check`: what a configuration amounts to, or all that is wrong with it."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING

from outrider.cli import units
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import model_cells, print_table
from outrider.cli.terminal import bold
from outrider.config import ConfigError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from outrider.cli.config_report import ConfigReport
    from outrider.cli.live_check import Finding


def run(arguments: argparse.Namespace) -> int:
    """Print what the configuration amounts to. USAGE where it is wrong, FAILED where a live check failed."""
    # What the parts would log stands in the tables.
    logging.getLogger("outrider").addHandler(logging.NullHandler())
    try:
        config = load(arguments.config, os.environ)
    except ConfigError as error:
        return _refuse(error, as_json=arguments.json)
    from outrider.cli.config_report import report
    from outrider.cli.live_check import check_live

    found = check_live(arguments, config.providers) if arguments.live else None
    (_print_json if arguments.json else _print_tables)(report(config, os.environ), found)
    return ExitCode.OK if all(finding.ok for finding in found or ()) else ExitCode.FAILED


def _refuse(error: ConfigError, *, as_json: bool) -> int:
    if as_json:
        problems = [asdict(problem) for problem in error.problems]
        print(json.dumps({"valid": False, "problems": problems}, indent=2))
    else:
        print(error, file=sys.stderr)
    return ExitCode.USAGE


def _print_json(report: ConfigReport, found: list[Finding] | None) -> None:
    live = {} if found is None else {"live": [asdict(finding) for finding in found]}
    print(json.dumps({"valid": True, **report.to_json(), **live}, indent=2))


def _print_tables(report: ConfigReport, found: list[Finding] | None) -> None:
    _print("Listeners", ("PROTOCOL", "ADDRESS", "REACHED FROM"), map(astuple, report.listeners))
    print(f"Callers: {', '.join(report.callers) or 'anyone; none has to show a token'}\n")
    columns = ("NAME", "FORMAT", "TRANSPORT", "ADDRESS", "KEY", "WHERE")
    _print("Providers", columns, map(astuple, report.providers))
    _print(
        "Models",
        ("NAME", "LEADS TO"),
        [model_cells(m.name, m.targets, default=m.default) for m in report.models],
    )
    if found is not None:
        live = [(f.provider, f.status, units.time(f.seconds), f.reason, f.message) for f in found]
        _print("Live", ("PROVIDER", "STATUS", "TIME", "REASON", "WHY"), live)
    print("The configuration is valid.")


def _print(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(bold(title, sys.stdout))
    print_table(columns, rows)
    print()
