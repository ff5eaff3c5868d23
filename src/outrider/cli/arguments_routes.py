"""The options of `outrider routes`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROUTES_EXAMPLES = """examples:
  outrider routes
  outrider routes explain smart --prompt "Why is the sky blue?"
  outrider routes weights split openai/gpt-5-mini=9 anthropic/claude-haiku-4-5=1
  outrider routes activate smart anthropic/claude-haiku-4-5
  outrider routes activate smart
"""


def add_routes(
    parser: argparse.ArgumentParser, add_common: Callable[[argparse.ArgumentParser, bool], None]
) -> None:
    """What to do with routes; nothing: list them.

    `add_common` adds what every action has, and is told whether a parser around it has that already.
    """
    add_common(parser, False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")

    def action(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=description, allow_abbrev=False)

    explain = action(
        "explain",
        "tell which targets a request would try, and why",
        "Tell which targets a request would try, in which order, and why. Runs nothing.",
    )
    explain.add_argument("model", metavar="MODEL", help="a route, provider/model or model")
    explain.add_argument("--prompt", default="", metavar="TEXT", help="its length and price count")
    explain.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="an image; may be repeated"
    )
    explain.add_argument("--schema", type=Path, metavar="FILE", help="JSON that follows this JSON Schema")
    explain.add_argument(
        "--sticky-key", default="", metavar="KEY", help="requests with the same key go to the same target"
    )

    weights = action(
        "weights",
        "set the weights of a route's targets",
        "Set weights of a route's targets, for all sidecars that share a Redis. Others keep theirs.",
    )
    weights.add_argument("route", metavar="ROUTE")
    weights.add_argument(
        "weights", nargs="+", type=_weight, metavar="TARGET=WEIGHT", help="such as openai/gpt-5-mini=3"
    )

    activate = action(
        "activate",
        "put another target first",
        "Put a target of a route first, for all sidecars that share a Redis, with the others behind it.",
    )
    activate.add_argument("route", metavar="ROUTE")
    activate.add_argument(
        "target", nargs="?", default="", metavar="TARGET", help="left out: the route as configured again"
    )
    for each in (explain, weights, activate):
        add_common(each, True)


def _weight(text: str) -> tuple[str, float]:
    target, equals, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (target and equals and math.isfinite(weight) and weight >= 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not provider/model=weight")
    return target, weight
