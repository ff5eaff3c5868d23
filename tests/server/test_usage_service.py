"""UsageService: sums, shares and exports of a ledger, over a real connection."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Principal
from outrider.core.ledger import UsageKey
from outrider.server.usage_query import check_filter, selection, span
from outrider.server.usage_sums import MOST_GROUPS, Sums, add_totals
from tests.server.usage_caller import KEPT_FOR, PATIENCE, at, served, token, two_callers
from tests.support.ledger import NOW, FickleLedger, record
from tests.support.sidecar import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from outrider.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

HOUR = 3600.0
TENANT, MODEL = v1.USAGE_DIMENSION_TENANT, v1.USAGE_DIMENSION_MODEL

THREE = (
    record(1, tenant="zeta", model="big", nano_usd=5_000),
    record(2, tenant="acme", model="small", nano_usd=None, source=v1.USAGE_SOURCE_ESTIMATED),
    record(3, tenant="acme", model="big", nano_usd=3_000, cached=True, outcome="cancelled"),
)


def rows(response: v1.GetUsageResponse) -> dict[tuple[str, ...], int]:
    """Requests of each group."""
    return {tuple(group.values): group.totals.requests for group in response.groups}


async def get(usage: UsageServiceAsyncStub, *by: v1.UsageDimension, **wanted: Any) -> v1.GetUsageResponse:
    """Ask for sums."""
    request = v1.GetUsageRequest(filter=v1.UsageFilter(**wanted), group_by=by)
    return await usage.GetUsage(request, timeout=PATIENCE)


async def export(usage: UsageServiceAsyncStub, cursor: str = "", **wanted: Any) -> list[tuple[str, str]]:
    """Ask for records; ids and cursors."""
    request = v1.ExportUsageRequest(filter=v1.UsageFilter(**wanted), cursor=cursor)
    call: AsyncIterator[v1.ExportUsageResponse] = usage.ExportUsage(request, timeout=PATIENCE)
    return [(response.record.request_id, response.cursor) async for response in call]


async def test_usage_is_summed_in_all() -> None:
    """Without dimensions there is one sum: what is unknown is counted apart, what is estimated is marked."""
    async with served(FickleLedger(*THREE)) as sidecar:
        response = await get(sidecar.usage)
    assert not response.groups
    assert not response.local_only
    assert response.total == v1.UsageTotals(
        requests=3,
        usage=v1.Usage(input_tokens=30, output_tokens=15, source=v1.USAGE_SOURCE_ESTIMATED),
        cost=v1.Cost(total_nano_usd=8_000, output_nano_usd=8_000),
        cost_unknown=1,
        cache_hits=1,
    )


async def test_usage_is_grouped_in_the_order_of_its_values() -> None:
    """By as many dimensions as are asked for, in that order; the total is that of the groups."""
    async with served(FickleLedger(*THREE)) as sidecar:
        response = await get(sidecar.usage, TENANT, MODEL)
    assert list(rows(response).items()) == [
        (("acme", "big"), 1),
        (("acme", "small"), 1),
        (("zeta", "big"), 1),
    ]
    assert response.total.requests == 3
    assert not response.groups[1].totals.HasField("cost")  # unknown is not zero


async def test_times_are_groups_in_utc() -> None:
    """Hours, days and months as ISO 8601, oldest first."""
    ledger = FickleLedger(record(1), record(2, ended_at=NOW - HOUR), record(3, ended_at=NOW - 24 * 40 * HOUR))
    async with served(ledger) as sidecar:
        hours = await get(sidecar.usage, v1.USAGE_DIMENSION_HOUR)
        days = await get(sidecar.usage, v1.USAGE_DIMENSION_DAY)
        months = await get(sidecar.usage, v1.USAGE_DIMENSION_MONTH)
    assert list(rows(hours)) == [
        ("2026-10-12T14:00:00Z",),
        ("2026-11-21T13:00:00Z",),
        ("2026-11-21T14:00:00Z",),
    ]
    assert rows(days) == {("2026-10-12",): 1, ("2026-11-21",): 2}
    assert rows(months) == {("2026-10",): 1, ("2026-11",): 2}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"tenants": ["acme"]}, {2, 3}),
        ({"tenants": ["acme", "zeta"], "models": ["big"]}, {1, 3}),
        ({"outcomes": ["cancelled"]}, {3}),
        ({"projects": ["none"]}, set()),
        ({"start": at("2026-11-21T14:59:59+00:00")}, set()),  # for records: to the millisecond
        ({"end": at("2026-11-21T14:30:00+00:00")}, set()),
        ({"end": at("2026-11-21T14:30:00.001+00:00")}, {1, 2, 3}),
    ],
)
async def test_filters_restrict_records(wanted: dict[str, Any], expected: set[int]) -> None:
    """Any of a list, all of the lists; the end is exclusive."""
    async with served(FickleLedger(*THREE)) as sidecar:
        found = await export(sidecar.usage, **wanted)
    assert {name for name, _ in found} == {f"request-{number}" for number in expected}


async def test_sums_take_whole_hours() -> None:
    """The hour in which a time begins or ends is counted in full."""
    ledger = FickleLedger(record(1), record(2, ended_at=NOW - HOUR), record(3, ended_at=NOW - 2 * HOUR))
    start, end = at("2026-11-21T13:59:59+00:00"), at("2026-11-21T14:00:01+00:00")
    async with served(ledger) as sidecar:
        assert (await get(sidecar.usage, start=start, end=end)).total.requests == 2
        assert (await get(sidecar.usage, end=at("2026-11-21T14:00:00+00:00"))).total.requests == 2


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v1.GetUsageRequest(group_by=[TENANT, v1.USAGE_DIMENSION_UNSPECIFIED]), "group_by[1]"),
        (v1.GetUsageRequest(group_by=[TENANT, TENANT]), "group_by[1]"),
        (v1.GetUsageRequest(filter=v1.UsageFilter(outcomes=["lost"])), "filter.outcomes[0]"),
        (v1.GetUsageRequest(filter=v1.UsageFilter(end=Timestamp(nanos=-1))), "filter.end"),
        (v1.GetUsageRequest(filter=v1.UsageFilter(start=Timestamp(seconds=2**62))), "filter.start"),
        (
            v1.GetUsageRequest(filter=v1.UsageFilter(start=Timestamp(seconds=9), end=Timestamp(seconds=9))),
            "filter.end",
        ),
    ],
)
async def test_what_is_wrong_is_named(request_: v1.GetUsageRequest, field: str) -> None:
    """INVALID_ARGUMENT names the field."""
    async with served(FickleLedger()) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.usage.GetUsage(request_, timeout=PATIENCE)
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert failure.bad_request is not None
    assert [violation.field for violation in failure.bad_request.field_violations] == [field]


async def test_a_shared_ledger_that_is_away_leaves_this_sidecars_own() -> None:
    """Row 23: sums still come, marked as this sidecar's alone; and unmarked once the ledger is back."""
    local, shared = FickleLedger(THREE[0]), FickleLedger(*THREE)
    async with served(local, shared) as sidecar:
        shared.away = True
        response = await get(sidecar.usage)
        shares = await sidecar.usage.GetCostBreakdown(v1.GetCostBreakdownRequest(), timeout=PATIENCE)
        assert (response.local_only, response.total.requests) == (True, 1)
        assert (shares.local_only, shares.total.total_nano_usd) == (True, 5_000)
        shared.away = False
        response = await get(sidecar.usage)
        assert (response.local_only, response.total.requests) == (False, 3)


async def test_cost_is_broken_down_most_expensive_first() -> None:
    """By model where nothing is said; an unknown price is no cost of zero; shares are of what is known."""
    async with served(FickleLedger(*THREE)) as sidecar:
        by_model = await sidecar.usage.GetCostBreakdown(v1.GetCostBreakdownRequest(), timeout=PATIENCE)
        by_tenant = await sidecar.usage.GetCostBreakdown(
            v1.GetCostBreakdownRequest(by=TENANT), timeout=PATIENCE
        )
    assert [(share.value, share.share, share.requests) for share in by_model.shares] == [
        ("big", 1.0, 2),
        ("small", 0.0, 1),
    ]
    assert not by_model.shares[1].HasField("cost")
    assert [(share.value, share.share) for share in by_tenant.shares] == [("zeta", 0.625), ("acme", 0.375)]
    assert (by_tenant.total.total_nano_usd, by_tenant.cost_unknown) == (8_000, 1)


async def test_cost_of_nothing_is_nothing() -> None:
    """An empty ledger has no shares, and a total of zero."""
    async with served(FickleLedger()) as sidecar:
        response = await sidecar.usage.GetCostBreakdown(v1.GetCostBreakdownRequest(), timeout=PATIENCE)
    assert response == v1.GetCostBreakdownResponse(total=v1.Cost())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({}, ["acme", "acme"]), ({"tenants": ["zeta"]}, []), ({"tenants": ["acme"]}, None)],
)
async def test_a_caller_of_a_tenant_sees_only_its_own(
    wanted: dict[str, Any], expected: list[str] | None
) -> None:
    """Whatever its filter says; another caller sees everything."""
    usage_filter = v1.UsageFilter(**wanted)
    async with served(FickleLedger(*THREE), callers=two_callers()) as sidecar:
        call = sidecar.usage.ExportUsage(v1.ExportUsageRequest(filter=usage_filter), **token("acme-token"))
        found = [response.record.attribution.tenant async for response in call]
        request = v1.GetUsageRequest(filter=usage_filter, group_by=[TENANT])
        sums = await sidecar.usage.GetUsage(request, timeout=PATIENCE, **token("acme-token"))
        shares = await sidecar.usage.GetCostBreakdown(
            v1.GetCostBreakdownRequest(filter=usage_filter), timeout=PATIENCE, **token("acme-token")
        )
        everything = await sidecar.usage.GetUsage(
            v1.GetUsageRequest(), timeout=PATIENCE, **token("operator-token")
        )
    expected = ["acme", "acme"] if expected is None else expected
    assert found == expected
    assert sums.total.requests == len(expected)
    assert {group.values[0] for group in sums.groups} == set(expected)
    assert shares.total.total_nano_usd == (3_000 if expected else 0)
    assert everything.total.requests == 3


@pytest.mark.parametrize("method", ["GetUsage", "GetCostBreakdown", "ExportUsage", "WatchUsage"])
async def test_nobody_sees_anything(method: str) -> None:
    """A caller without a token is refused by every method."""
    async with served(FickleLedger(*THREE), callers=two_callers()) as sidecar:
        call = getattr(sidecar.usage, method)(getattr(v1, f"{method}Request")(), timeout=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if hasattr(call, "read") else call)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_too_many_groups_are_refused_with_what_to_do() -> None:
    """Memory stays bounded, and the caller knows how to ask."""
    many = [record(number, agent=f"agent-{number}") for number in range(MOST_GROUPS + 1)]
    ledger = FickleLedger()
    for hour in range(3):  # an hour keeps 10,000 names apart
        part = many[hour * 9_000 : (hour + 1) * 9_000]
        for entry in part:
            entry.ended_at.seconds -= hour * 3600
        ledger.count(*part)
    async with served(ledger) as sidecar:
        assert (await get(sidecar.usage)).total.requests == MOST_GROUPS + 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(sidecar.usage, v1.USAGE_DIMENSION_AGENT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ask for a shorter time" in (caught.value.details() or "")


async def test_summing_leaves_the_loop_room() -> None:
    """Meanwhile others have their turn: 100,000 keys are added up in slices, never at one go."""
    totals = v1.UsageTotals(requests=1, usage=v1.Usage(input_tokens=1), cost=v1.Cost(total_nano_usd=1))
    keys = [
        (UsageKey(int(NOW) // 3600, f"t{n % 50}", f"p{n}", "", "m", "p", "succeeded"), totals)
        for n in range(100_000)
    ]

    class Large(FickleLedger):
        async def sums(self, first_hour: int, end_hour: int) -> Sequence[tuple[UsageKey, v1.UsageTotals]]:
            return keys if first_hour <= keys[0][0].hour < end_hour else []

    turns, longest = 0, 0.0

    async def others() -> None:
        nonlocal turns, longest
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            turns, longest, before = turns + 1, max(longest, now - before), now

    async with served(Large()) as sidecar:
        watching = asyncio.create_task(others())
        response = await get(sidecar.usage, TENANT)
        watching.cancel()
    assert response.total.requests == 100_000
    assert len(response.groups) == 50
    assert turns > 500
    assert longest < 0.5  # far above what a slice takes, for busy machines; far below what all take


async def test_an_export_goes_on_where_it_broke_off() -> None:
    """Whatever cursor is given back, the rest follows it, once and in order."""
    ledger = FickleLedger(*(record(number) for number in range(20)))
    async with served(ledger) as sidecar:
        everything = await export(sidecar.usage)
        assert [name for name, _ in everything] == [f"request-{number}" for number in range(20)]
        for position, (_, cursor) in enumerate(everything, 1):
            assert await export(sidecar.usage, cursor) == everything[position:]


async def test_a_cursor_that_is_none_is_refused() -> None:
    """INVALID_ARGUMENT names the field; nothing is told of the inside."""
    async with served(FickleLedger(*THREE)) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(sidecar.usage, cursor="garbage \u2028 🙂")
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert failure.bad_request is not None
    assert [violation.field for violation in failure.bad_request.field_violations] == ["cursor"]


async def test_an_export_that_breaks_off_can_be_continued() -> None:
    """Row 23: the ledger goes away in the middle: ABORTED, and the last cursor is good for the rest."""
    shared = FickleLedger(*THREE)
    shared.fails_after = 2
    async with served(FickleLedger(), shared) as sidecar:
        call = sidecar.usage.ExportUsage(v1.ExportUsageRequest(), timeout=PATIENCE)
        seen = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for response in call:
                seen.append(response)  # noqa: PERF401 - kept, though it breaks off
        failure = Failure.of(caught.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "STORE_UNAVAILABLE")
        shared.fails_after = None
        assert [name for name, _ in await export(sidecar.usage, seen[-1].cursor)] == ["request-3"]


async def test_an_export_of_a_ledger_that_is_away_is_refused() -> None:
    """Row 23: this sidecar's own records would look like all; UNAVAILABLE says when to come back."""
    shared = FickleLedger(*THREE)
    shared.away = True
    async with served(FickleLedger(*THREE), shared) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(sidecar.usage)
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert failure.retry_delay == 1.0


async def test_an_export_is_read_no_faster_than_its_caller_reads() -> None:
    """A caller that stops reading stops the reading of the ledger; when it leaves, the ledger is let go."""
    ledger = FickleLedger(*(record(number, agent="a" * 200, project="p" * 200) for number in range(40_000)))
    async with served(ledger) as sidecar:
        call = sidecar.usage.ExportUsage(v1.ExportUsageRequest(), timeout=PATIENCE)
        await call.read()
        before = -1
        async with asyncio.timeout(PATIENCE):
            while ledger.read != before:  # until it stands still
                before = ledger.read
                await asyncio.sleep(0.2)
            assert ledger.read < 40_000
        call.cancel()
        await sidecar.in_flight.ended(within=PATIENCE)
        assert not ledger.readers


NAMES = st.sampled_from(["", "a", "b"])
RECORDS = st.lists(
    st.builds(
        record,
        st.just(1),
        ended_at=st.sampled_from([NOW - hours * HOUR for hours in (0, 1, 30, 2000)]),
        nano_usd=st.none() | st.integers(0, 10**12),
        outcome=st.sampled_from(["succeeded", "failed"]),
        tenant=NAMES,
        project=NAMES,
        model=NAMES,
    ),
    max_size=30,
)
DIMENSIONS = st.lists(st.sampled_from(v1.UsageDimension.values()[1:]), unique=True)


@given(RECORDS, DIMENSIONS)
def test_nothing_is_lost_or_counted_twice_by_grouping(
    records: list[v1.UsageRecord], dimensions: list[int]
) -> None:
    """Whatever is grouped by, the groups' sum is that of all keys."""
    keys = asyncio.run(FickleLedger(*records).sums(0, 2**31))
    sums, total = Sums(dimensions), v1.UsageTotals()
    for key, totals in keys:
        sums.add(key, totals)
        add_totals(total, totals)
    assert asyncio.run(sums.total()) == total
    assert total.requests == len(records)


@given(
    st.builds(v1.UsageFilter, start=st.none() | st.builds(Timestamp, seconds=st.integers(-(10**10), 10**10))),
    st.sampled_from(["", "acme"]),
)
def test_a_time_is_within_what_is_kept(usage: v1.UsageFilter, tenant: str) -> None:
    """However far a filter reaches, no more hours are read than are kept, and a tenant stays pinned."""
    check_filter(usage)
    hours = span(usage, NOW, KEPT_FOR).hours
    assert len(hours) <= KEPT_FOR / HOUR + 2
    pinned = selection(usage, Principal("p", tenant=tenant))
    assert pinned.has_record(record(tenant="acme"))
    assert pinned.has_record(record(tenant="other")) == (tenant == "")
