"""Sums and shares of usage, as tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.bar import bar
from outrider.cli.table import Styled, print_table
from outrider.cli.terminal import dim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.cli.table import Cell

_UNKNOWN = "-"
_NOTHING = "No usage is recorded for this. A request is, as soon as it has ended."


def print_sums(by: Sequence[str], response: v1.GetUsageResponse) -> None:
    """A row for each group, and one for all. Columns that would hold nothing but zeros are left out."""
    total = response.total
    if not total.requests:
        print(_NOTHING)
        return
    columns = _columns(total)
    rows: list[Sequence[Cell]] = [
        (*(value or _UNKNOWN for value in group.values), *(cell(group.totals) for cell in columns.values()))
        for group in response.groups
    ]
    labels = ["TOTAL", *[""] * (len(by) - 1)] if by else []
    rows.append([Styled(text, "bold") for text in (*labels, *(cell(total) for cell in columns.values()))])
    print_table([*(name.upper() for name in by), *columns], rows, numbers=list(columns))
    _print_notes(total.cost_unknown, estimated=total.usage.source == v1.USAGE_SOURCE_ESTIMATED)


def print_costs(by: str, response: v1.GetCostBreakdownResponse) -> None:
    """A row for each part with its share, and one for all."""
    if not response.shares:
        print(_NOTHING)
        return
    total = response.total.total_nano_usd
    decimals = units.decimals(total)

    def row(share: v1.CostShare) -> tuple[Cell, ...]:
        known = share.HasField("cost")
        return (
            share.value or _UNKNOWN,
            units.rounded_usd(share.cost.total_nano_usd, decimals) if known else _UNKNOWN,
            bar(share.share),
            f"{share.share:.1%}",
            f"{share.requests:,}",
        )

    requests = sum(share.requests for share in response.shares)
    last = ("TOTAL", units.rounded_usd(total, decimals), "", "", f"{requests:,}")
    print_table(
        (by.upper(), "COST", "", "SHARE", "REQUESTS"),
        [*map(row, response.shares), [Styled(cell, "bold") for cell in last]],
        numbers=("COST", "SHARE", "REQUESTS"),
    )
    _print_notes(response.cost_unknown, estimated=response.total.estimated)


def _columns(total: v1.UsageTotals) -> dict[str, Callable[[v1.UsageTotals], str]]:
    decimals = units.decimals(total.cost.total_nano_usd)

    def cost(totals: v1.UsageTotals) -> str:
        if not totals.HasField("cost"):
            return _UNKNOWN
        return units.rounded_usd(totals.cost.total_nano_usd, decimals)

    columns: dict[str, Callable[[v1.UsageTotals], str]] = {"REQUESTS": lambda t: f"{t.requests:,}"}
    if total.cache_hits:
        columns["CACHE HITS"] = lambda t: f"{t.cache_hits:,}"
    columns["TOKENS IN"] = lambda t: f"{t.usage.input_tokens:,}"
    if total.usage.cached_input_tokens:
        columns["OF IT CACHED"] = lambda t: f"{t.usage.cached_input_tokens:,}"
    columns["TOKENS OUT"] = lambda t: f"{t.usage.output_tokens:,}"
    columns["COST"] = cost
    if total.cost_unknown:
        columns["NO PRICE"] = lambda t: f"{t.cost_unknown:,}"
    return columns


def _print_notes(cost_unknown: int, *, estimated: bool) -> None:
    notes = []
    if cost_unknown:
        requests = "request" if cost_unknown == 1 else "requests"
        notes.append(f"Not in the cost: {cost_unknown:,} {requests} of unknown price.")
    if estimated:
        notes.append("Some tokens are estimated.")
    for note in notes:
        print(dim(note, sys.stderr), file=sys.stderr)
