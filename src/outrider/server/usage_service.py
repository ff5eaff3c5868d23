"""UsageService: what was used and what it cost, as the ledger has it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.core.store_errors import StoreUnavailableError
from outrider.policy.admit import check_caller
from outrider.server.bounded_write import bounded_write
from outrider.server.usage_query import check_filter, invalid, selection, span
from outrider.server.usage_sums import check_dimensions, read_sums, slices
from outrider.v1.usage_service_pb2_grpc import UsageServiceServicer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpc.aio import ServicerContext

    from outrider.core.ledger import LedgerStore
    from outrider.core.ports import Clock
    from outrider.server.callers import Callers
    from outrider.server.usage_feed import UsageFeed
    from outrider.server.usage_query import Selection
    from outrider.server.usage_sums import Sums


_RECORDS_AT_ONCE = 200


class UsageServicer(UsageServiceServicer):
    """GetUsage, GetCostBreakdown, ExportUsage and WatchUsage.

    `local` holds this sidecar's own usage, `shared` the fleet's, where there is a fleet. `kept_for`: seconds
    that sums are kept.
    """

    def __init__(
        self,
        *,
        callers: Callers,
        local: LedgerStore,
        shared: LedgerStore | None,
        feed: UsageFeed,
        wall_clock: Clock,
        kept_for: float,
    ) -> None:
        self._callers = callers
        self._local = local
        self._ledger = shared or local
        self._feed = feed
        self._wall_clock = wall_clock
        self._kept_for = kept_for

    async def GetUsage(
        self, request: v1.GetUsageRequest, context: ServicerContext[v1.GetUsageRequest, v1.GetUsageResponse]
    ) -> v1.GetUsageResponse:
        """Sums by any dimensions."""
        selected = self._select(request.filter, context)
        check_dimensions(request.group_by, "group_by")
        sums, local_only = await self._sum(request.filter, selected, request.group_by)
        response = v1.GetUsageResponse(local_only=local_only, total=await sums.total())
        if request.group_by:
            for some in slices(sorted(sums.groups)):
                response.groups.extend(
                    v1.UsageGroup(values=values, totals=sums.groups[values]) for values in some
                )
                await asyncio.sleep(0)
        return response

    async def GetCostBreakdown(
        self,
        request: v1.GetCostBreakdownRequest,
        context: ServicerContext[v1.GetCostBreakdownRequest, v1.GetCostBreakdownResponse],
    ) -> v1.GetCostBreakdownResponse:
        """What money was spent on."""
        selected = self._select(request.filter, context)
        by = request.by or v1.USAGE_DIMENSION_MODEL
        check_dimensions([by], "by")
        sums, local_only = await self._sum(request.filter, selected, [by])
        total = await sums.total()
        response = v1.GetCostBreakdownResponse(
            total=total.cost, cost_unknown=total.cost_unknown, local_only=local_only
        )
        for some in slices(_most_expensive_first(sums)):
            response.shares.extend(_share(value, totals, total) for value, totals in some)
            await asyncio.sleep(0)
        return response

    async def ExportUsage(  # type: ignore[override]  # a coroutine that writes, as in GenerationServicer
        self,
        request: v1.ExportUsageRequest,
        context: ServicerContext[v1.ExportUsageRequest, v1.ExportUsageResponse],
    ) -> None:
        """Stream records, no faster than they are read."""
        selected = self._select(request.filter, context)
        within = span(request.filter, self._wall_clock(), self._kept_for)
        records = self._ledger.records(within.start_ms, within.end_ms, request.cursor)
        began, read = False, 0
        try:
            async with aclosing(records):
                async for cursor, record in records:
                    read += 1
                    if read % _RECORDS_AT_ONCE == 0:
                        await asyncio.sleep(0)  # a ledger in memory waits for nothing
                    if selected.has_record(record):
                        await bounded_write(context, v1.ExportUsageResponse(record=record, cursor=cursor))
                        began = True
        except ValueError:
            if began:
                raise
            raise invalid(Violation("cursor", "was not given out by ExportUsage of this ledger")) from None
        except StoreUnavailableError:
            raise _away(began=began) from None

    async def WatchUsage(  # type: ignore[override]
        self,
        request: v1.WatchUsageRequest,
        context: ServicerContext[v1.WatchUsageRequest, v1.WatchUsageResponse],
    ) -> None:
        """Stream records as they are settled. Headers tell that the watch has begun."""
        selected = self._select(request.filter, context)
        async with self._feed.watch(selected.has_record) as watcher:
            await context.send_initial_metadata(())
            while True:
                await bounded_write(context, v1.WatchUsageResponse(record=await watcher.take()))

    def _select(self, usage: v1.UsageFilter, context: ServicerContext[Any, Any]) -> Selection:
        principal = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(principal)
        check_filter(usage)
        return selection(usage, principal)

    async def _sum(
        self, usage: v1.UsageFilter, selected: Selection, dimensions: Sequence[int]
    ) -> tuple[Sums, bool]:
        """Sums, and whether they are this sidecar's alone because the shared ledger is away."""
        hours = span(usage, self._wall_clock(), self._kept_for).hours
        try:
            return await read_sums(self._ledger, hours, selected, dimensions), False
        except StoreUnavailableError:
            return await read_sums(self._local, hours, selected, dimensions), True


def _away(*, began: bool) -> GenerationError:
    text = "the shared ledger is away" + ("; continue after the last cursor" if began else "")
    error = GenerationError(Reason.STORE_UNAVAILABLE, text)
    error.committed = began
    return error


def _most_expensive_first(sums: Sums) -> list[tuple[str, v1.UsageTotals]]:
    groups = [(values[0], totals) for values, totals in sums.groups.items()]
    return sorted(groups, key=lambda group: (-group[1].cost.total_nano_usd, group[0]))


def _share(value: str, totals: v1.UsageTotals, whole: v1.UsageTotals) -> v1.CostShare:
    share = v1.CostShare(value=value, requests=totals.requests)
    if totals.HasField("cost"):
        share.cost.CopyFrom(totals.cost)
    if whole.cost.total_nano_usd:
        share.share = totals.cost.total_nano_usd / whole.cost.total_nano_usd
    return share
