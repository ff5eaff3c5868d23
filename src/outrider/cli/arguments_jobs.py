"""The options of `outrider jobs`."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STATES = ("queued", "processing", "completed", "failed", "expired", "cancelled")
PRIORITIES = ("low", "normal", "high")

_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

JOBS_EXAMPLES = """examples:
  outrider jobs submit --priority low --wait "Sum up this file." < report.txt
  outrider jobs watch 01a1fed1543ddb9f7ba30b713a62cd69
  outrider jobs list --state failed
  outrider jobs batch --watch requests.jsonl > answers.jsonl
"""


def add_jobs(
    parser: argparse.ArgumentParser,
    add_common: Callable[[argparse.ArgumentParser, bool], None],
    add_request: Callable[[argparse.ArgumentParser], None],
) -> None:
    """What to do with jobs. `add_common` as in `add_routes`; `add_request` adds what a request is made of."""
    add_common(parser, False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        add_common(made, True)
        return made

    submit = action("submit", "leave a request with the sidecar, and print the job's id")
    add_request(submit)
    submit.add_argument(
        "--key", default="", metavar="KEY", help="used again, it gives the same job and not another one"
    )
    submit.add_argument("--wait", action="store_true", help="show the answer as it is made")
    _add_options(submit)
    for name, summary in (
        ("get", "tell how a job stands"),
        ("watch", "show a job's answer as it is made, until it has ended"),
        ("result", "print the answer of a job that has completed"),
        ("cancel", "cancel a job"),
    ):
        action(name, summary).add_argument("job_id", metavar="JOB")
    _add_list(action("list", "list jobs, newest first"))
    batch = action("batch", "leave many requests with the sidecar, and print the batch's id")
    batch.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help='a line for each: a GenerateRequest as JSON, or a prompt as a JSON string; "-": standard input',
    )
    batch.add_argument("--model", default="", metavar="NAME", help="of requests that name none")
    batch.add_argument(
        "--watch", action="store_true", help="print each result as a line of JSON, as it comes"
    )
    _add_options(batch)
    follow = action("follow", "follow a batch: print each result as a line of JSON, as it comes")
    follow.add_argument("batch_id", metavar="BATCH")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--priority", choices=PRIORITIES, help="low, normal or high; default: normal")
    parser.add_argument(
        "--ttl", type=_span, metavar="TIME", help="how long it may take, such as 30m; default: the sidecar's"
    )
    parser.add_argument("--max-retries", type=_count, metavar="N", help="tries after the first that fails")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", action="append", choices=STATES, default=[], help="only in this state; may be repeated"
    )
    parser.add_argument("--batch", default="", metavar="BATCH", help="only of this batch")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only of this tenant")
    parser.add_argument("--limit", type=_count, default=100, metavar="N", help="default: 100; 0: all")


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 90s, 30m or 4h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError("must be at least 0")
    return number
