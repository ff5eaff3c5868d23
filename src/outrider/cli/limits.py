"""`outrider limits`: what is left of limits and budgets, and when it comes back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.bar import bar
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import Styled, print_json, print_table
from outrider.cli.terminal import dim
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from outrider.cli.table import Cell

_COLUMNS = ("SCOPE", "WHAT", "LIMIT", "LEFT", "", "SHARE", "BACK IN", "NOTE")
_NUMBERS = ("LIMIT", "LEFT", "SHARE")
_WHAT = {
    v1.LIMIT_UNIT_REQUESTS: "requests",
    v1.LIMIT_UNIT_TOKENS: "tokens",
    v1.LIMIT_UNIT_NANO_USD: "USD",
    v1.LIMIT_UNIT_CONCURRENT_REQUESTS: "at once",
}
_PERIODS = {
    v1.LIMIT_PERIOD_UNSPECIFIED: "",
    v1.LIMIT_PERIOD_MINUTE: "/minute",
    v1.LIMIT_PERIOD_DAY: "/day",
    v1.LIMIT_PERIOD_WEEK: "/week",
    v1.LIMIT_PERIOD_MONTH: "/month",
    v1.LIMIT_PERIOD_TOTAL: " in total",
}
_LOW, _LITTLE = 0.1, 0.3  # shares that are left


def run(arguments: argparse.Namespace) -> int:
    """Print the limits. Raises CommandError."""
    names = {name: getattr(arguments, name) for name in ("tenant", "project", "agent", "user")}
    request = v1.GetLimitsRequest(
        model=arguments.model, attribution=v1.Attribution(**names) if any(names.values()) else None
    )
    with connect(arguments) as sidecar:
        response = LimitServiceStub(sidecar.channel).GetLimits(request, **sidecar.call)
    if arguments.json:
        print_json(response)
    elif response.limits:
        print_table(_COLUMNS, [_row(limit) for limit in response.limits], numbers=_NUMBERS)
    else:
        print("Nothing limits these requests.")
    if response.local_share:
        text = "The shared store is out of reach: these are this sidecar's own shares."
        print(dim(text, sys.stderr), file=sys.stderr)
    return ExitCode.OK


def _row(limit: v1.Limit) -> tuple[Cell, ...]:
    # A rate comes back all the time: what there is at once is all that there ever is.
    full = limit.burst or limit.limit
    share = min(limit.remaining / full, 1.0) if full else 0.0
    return (
        limit.scope,
        _WHAT.get(limit.unit, str(limit.unit)) + _PERIODS.get(limit.period, ""),
        _amount(limit, limit.limit),
        _amount(limit, limit.remaining),
        Styled(bar(share), _colour(share)),
        f"{share:.0%}",
        units.span(units.seconds_of(limit.resets_in)) if limit.HasField("resets_in") else "",
        ", ".join(_notes(limit)),
    )


def _notes(limit: v1.Limit) -> Iterator[str]:
    if limit.tier:
        yield f"tier {limit.tier}"
    if limit.burst:
        yield f"{limit.burst:,} at once"
    if limit.reserved:
        yield f"{_amount(limit, limit.reserved)} reserved"
    if not limit.hard:
        yield "warns only"


def _amount(limit: v1.Limit, amount: int) -> str:
    if limit.unit == v1.LIMIT_UNIT_NANO_USD:
        return units.rounded_usd(amount, units.decimals(limit.limit))
    return f"{amount:,}"


def _colour(share: float) -> str:
    if share < _LOW:
        return "red"
    return "yellow" if share < _LITTLE else "green"
