"""The options of the commands that ask what was used and what is left."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from outrider.cli.when import parse_when

DIMENSIONS = ("hour", "day", "month", "tenant", "project", "agent", "model", "provider", "outcome")
FILTERS = ("tenant", "project", "agent", "model", "provider", "outcome")

USAGE_EXAMPLES = """examples:
  outrider usage --from 7d --by tenant,model
  outrider usage --from 2026-11-01 --to 2026-12-01 --by day --format csv > november.csv
  outrider usage --cost --by agent
  outrider usage --export --from 24h | jq .record.cost
  outrider usage --watch --outcome failed
"""


def add_usage(parser: argparse.ArgumentParser) -> None:
    """What was used: when, by whom, as what."""
    which = parser.add_argument_group("which usage")
    which.add_argument(
        "--from",
        dest="start",
        type=_when,
        metavar="TIME",
        help="24h, 7d or 2026-11-01; default: all there is",
    )
    which.add_argument("--to", dest="end", type=_when, metavar="TIME", help="the same; default: until now")
    for name in FILTERS:
        which.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"only this {name}; may be repeated",
        )
    parser.add_argument(
        "--by",
        type=_dimensions,
        default=["model"],
        metavar="NAMES",
        help=f"group by any of {', '.join(DIMENSIONS)}, with commas between; default: model",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cost", action="store_true", help="what money was spent on, most expensive first")
    what.add_argument("--export", action="store_true", help="every record, oldest first, as lines of JSON")
    what.add_argument("--watch", action="store_true", help="records as they are settled, until Ctrl-C")
    parser.add_argument(
        "--cursor", default="", metavar="TEXT", help="with --export: continue after the record that had this"
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json", "jsonl"),
        help="table, csv, json or jsonl; default: table",
    )
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="the same as --format json"
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """On whose behalf a request would be made."""
    whose = parser.add_argument_group("whose limits")
    for name in ("tenant", "project", "agent", "user"):
        whose.add_argument(f"--{name}", default="", metavar="NAME", help=f"of requests of this {name}")
    whose.add_argument(
        "--model", default="", metavar="NAME", help="that name this model; default: the default"
    )
    parser.add_argument("--json", action="store_true", help="the GetLimitsResponse as JSON")


def add_cache(parser: argparse.ArgumentParser) -> None:
    """What to forget."""
    parser.add_argument(
        "--clear",
        action="store_true",
        help="forget the answers that fit all of what follows, or every answer",
    )
    parser.add_argument("--model", metavar="NAME", help="answers of this provider/model")
    parser.add_argument("--tenant", metavar="NAME", help="answers of this tenant")
    parser.add_argument(
        "--label",
        type=_label,
        action="append",
        default=[],
        metavar="PAIR",
        help="answers of requests with this label, as KEY=VALUE; may be repeated",
    )
    parser.add_argument(
        "--key", metavar="KEY", help="the answer with this x-outrider-cache-key in its trailers"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before every answer is forgotten")
    parser.add_argument("--json", action="store_true", help="the response as JSON")


def _when(text: str) -> datetime:
    try:
        return parse_when(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _dimensions(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in DIMENSIONS:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(DIMENSIONS)}")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"'{text}' has a name twice")
    return names


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key and equals:
        return key, value
    raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
