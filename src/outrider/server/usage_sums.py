"""Usage, summed by any dimensions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from outrider import v1
from outrider.core.errors import Violation
from outrider.server.usage_query import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from outrider.core.ledger import LedgerStore, UsageKey
    from outrider.server.usage_query import Selection

_Item = TypeVar("_Item")

# About 3 MB as a message: a client of gRPC takes 4 MiB unless it is told otherwise.
MOST_GROUPS = 20_000

_HOURS_AT_ONCE = 24
_ITEMS_AT_ONCE = 100

_COUNTS = ("requests", "cost_unknown", "cache_hits")
_TOKENS = tuple(field.name for field in v1.Usage.DESCRIPTOR.fields if field.name != "source")
_MONEY = tuple(field.name for field in v1.Cost.DESCRIPTOR.fields if field.name != "estimated")


async def read_sums(
    ledger: LedgerStore, hours: range, selection: Selection, dimensions: Sequence[int]
) -> Sums:
    """Sum what a ledger holds of these hours, and leave the loop room meanwhile.

    Raises StoreUnavailableError, and GenerationError INVALID_REQUEST where the groups become too many.
    """
    sums = Sums(dimensions)
    for first in range(hours.start, hours.stop, _HOURS_AT_ONCE):
        found = await ledger.sums(first, min(first + _HOURS_AT_ONCE, hours.stop))
        for some in slices(found):
            for key, totals in some:
                if selection.has_key(key):
                    sums.add(key, totals)
            await asyncio.sleep(0)
    return sums


def slices(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """The same items, as many at a time as take about a millisecond to add up."""
    rest = iter(items)
    while some := list(islice(rest, _ITEMS_AT_ONCE)):
        yield some


class Sums:
    """Adds up keys and totals by dimensions that `check_dimensions` has let through."""

    def __init__(self, dimensions: Iterable[int]) -> None:
        self._values = [_VALUES[dimension] for dimension in dimensions]
        self.groups: dict[tuple[str, ...], v1.UsageTotals] = {}

    def add(self, key: UsageKey, totals: v1.UsageTotals) -> None:
        """Count a key's totals. Raises GenerationError INVALID_REQUEST where the groups become too many."""
        values = tuple([value(key) for value in self._values])
        group = self.groups.get(values)
        if group is None:
            if len(self.groups) >= MOST_GROUPS:
                raise _too_many()
            group = self.groups[values] = v1.UsageTotals()
        add_totals(group, totals)

    async def total(self) -> v1.UsageTotals:
        """The sum of all groups."""
        total = v1.UsageTotals()
        for some in slices(self.groups.values()):
            for totals in some:
                add_totals(total, totals)
            await asyncio.sleep(0)
        return total


def add_totals(to: v1.UsageTotals, more: v1.UsageTotals) -> None:
    """Add in place. A part that is absent from both stays absent."""
    _add(to, more, _COUNTS)
    if more.HasField("usage"):
        _add(to.usage, more.usage, _TOKENS)
        if to.usage.source != v1.USAGE_SOURCE_ESTIMATED and more.usage.source:
            to.usage.source = more.usage.source
        to.usage.SetInParent()
    if more.HasField("cost"):
        _add(to.cost, more.cost, _MONEY)
        to.cost.estimated |= more.cost.estimated
        to.cost.SetInParent()


def check_dimensions(dimensions: Sequence[int], field: str) -> None:
    """Raise GenerationError INVALID_REQUEST for what nothing can be grouped by."""
    for number, dimension in enumerate(dimensions):
        if dimension not in _VALUES:
            raise invalid(Violation(f"{field}[{number}]", "is no dimension that this sidecar knows"))
        if dimension in dimensions[:number]:
            raise invalid(Violation(f"{field}[{number}]", "is there twice"))


def _add(to: object, more: object, names: tuple[str, ...]) -> None:
    for name in names:
        amount = getattr(more, name)
        if amount:
            setattr(to, name, getattr(to, name) + amount)


def _too_many() -> Exception:
    what = f"more than {MOST_GROUPS:,} groups; ask for a shorter time, restrict the filter, or group by less"
    return invalid(Violation("group_by", what))


@lru_cache(maxsize=1024)
def _time(hour: int, form: str) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime(form)


# In a form that sorts as time does.
_VALUES: dict[int, Callable[[UsageKey], str]] = {
    v1.USAGE_DIMENSION_HOUR: lambda key: _time(key.hour, "%Y-%m-%dT%H:00:00Z"),
    v1.USAGE_DIMENSION_DAY: lambda key: _time(key.hour, "%Y-%m-%d"),
    v1.USAGE_DIMENSION_MONTH: lambda key: _time(key.hour, "%Y-%m"),
    v1.USAGE_DIMENSION_TENANT: lambda key: key.tenant,
    v1.USAGE_DIMENSION_PROJECT: lambda key: key.project,
    v1.USAGE_DIMENSION_AGENT: lambda key: key.agent,
    v1.USAGE_DIMENSION_MODEL: lambda key: key.model,
    v1.USAGE_DIMENSION_PROVIDER: lambda key: key.provider,
    v1.USAGE_DIMENSION_OUTCOME: lambda key: key.outcome,
}
