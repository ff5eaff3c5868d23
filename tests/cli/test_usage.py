"""`outrider usage`."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.cli import units
from outrider.cli.arguments_usage import DIMENSIONS
from outrider.cli.bar import bar
from outrider.cli.when import parse_when
from outrider.core.errors import GenerationError, Reason
from tests.cli.stand_in import PATIENCE, Hold, Status, Wait
from tests.cli.test_terminal import Terminal
from tests.server.usage_caller import served
from tests.support.ledger import FickleLedger, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.core.ledger import LedgerStore
    from tests.cli.conftest import Run, Start
    from tests.cli.stand_in import StandIn

NANO = 1_000_000_000


def totals(requests: int, nano_usd: int | None, **more: int) -> v1.UsageTotals:
    """Sums of requests with 1,000 tokens in and 100 out each."""
    usage = v1.Usage(input_tokens=1_000 * requests, output_tokens=100 * requests)
    cost = None if nano_usd is None else v1.Cost(total_nano_usd=nano_usd)
    return v1.UsageTotals(requests=requests, usage=usage, cost=cost, **more)


USAGE = v1.GetUsageResponse(
    groups=[
        v1.UsageGroup(values=["acme", "gpt"], totals=totals(1_200, 1_234_567_890)),
        v1.UsageGroup(values=["", "evil\x1b[2J"], totals=totals(1, None, cost_unknown=1)),
    ],
    total=totals(1_201, 1_234_567_890, cost_unknown=1),
)
COSTS = v1.GetCostBreakdownResponse(
    shares=[
        v1.CostShare(value="gpt", cost=v1.Cost(total_nano_usd=750 * NANO), share=0.75, requests=9_000),
        v1.CostShare(value="llama", cost=v1.Cost(total_nano_usd=250 * NANO), share=0.25, requests=1),
    ],
    total=v1.Cost(total_nano_usd=1_000 * NANO),
)


@contextmanager
def real_service(local: LedgerStore, shared: LedgerStore | None = None) -> Iterator[str]:
    """The real UsageService over these ledgers, on a loop of its own; where it is."""
    loops: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = SimpleQueue()

    async def serve() -> None:
        over = asyncio.Event()
        async with served(local, shared) as sidecar:
            loops.put((asyncio.get_running_loop(), over, sidecar.port))
            await over.wait()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, over, port = loops.get(timeout=PATIENCE)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_usage_is_a_table_with_totals(run: Run, stand_in: StandIn) -> None:
    """Numbers are aligned, money has the decimals it is worth, what is unknown is a dash and told of."""
    stand_in.usage = USAGE
    result = run("usage", "--by", "tenant,model")
    assert (result.code, result.err) == (0, "Not in the cost: 1 request of unknown price.\n")
    assert result.out.splitlines() == [
        "TENANT  MODEL     REQUESTS  TOKENS IN  TOKENS OUT     COST  NO PRICE",
        "acme    gpt          1,200  1,200,000     120,000  $1.2346         0",
        "-       evil\ufffd[2J         1      1,000         100        -         1",
        "TOTAL                1,201  1,201,000     120,100  $1.2346         1",
    ]


def test_columns_that_matter_are_there(run: Run, stand_in: StandIn) -> None:
    """Cache hits and cached tokens are shown where there are any; without a dimension there is one row."""
    total = totals(2, 0, cache_hits=1)
    total.usage.cached_input_tokens = 500
    total.usage.source = v1.USAGE_SOURCE_ESTIMATED
    stand_in.usage = v1.GetUsageResponse(total=total, local_only=True)
    result = run("usage", "--by", "")
    assert result.out.splitlines() == [
        "REQUESTS  CACHE HITS  TOKENS IN  OF IT CACHED  TOKENS OUT       COST",
        "       2           1      2,000           500         200  $0.000000",
    ]
    assert result.err.splitlines() == [
        "Some tokens are estimated.",
        "The shared ledger is out of reach: this is the usage of this sidecar alone.",
    ]


def test_an_empty_ledger_says_so(run: Run, stand_in: StandIn) -> None:
    """In words for a person, as nothing for a machine."""
    for options in ((), ("--cost",)):
        result = run("usage", *options)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("No usage is recorded")
        assert json.loads(run("usage", *options, "--json").out)
        assert len(run("usage", *options, "--format", "csv").out.splitlines()) == 1


def test_what_is_asked_for_is_sent(run: Run, stand_in: StandIn) -> None:
    """Times, names and dimensions reach the sidecar as they are meant; what is not given is not sent."""
    run(
        *("usage", "--from", "2026-11-01", "--to", "2026-11-02T12:30+02:00", "--by", "day, agent"),
        *("--tenant", "a", "--tenant", "b", "--outcome", "failed"),
    )
    start, end = Timestamp(), Timestamp()
    start.FromJsonString("2026-11-01T00:00:00Z")
    end.FromJsonString("2026-11-02T10:30:00Z")
    wanted = v1.UsageFilter(start=start, end=end, tenants=["a", "b"], outcomes=["failed"])
    by = [v1.USAGE_DIMENSION_DAY, v1.USAGE_DIMENSION_AGENT]
    assert stand_in.requests == [v1.GetUsageRequest(filter=wanted, group_by=by)]
    run("usage")
    plain = v1.GetUsageRequest(filter=v1.UsageFilter(), group_by=[v1.USAGE_DIMENSION_MODEL])
    assert stand_in.requests[1] == plain


def test_every_dimension_can_be_named() -> None:
    """The names of the command are those of the API."""
    names = [name.removeprefix("USAGE_DIMENSION_").lower() for name in v1.UsageDimension.keys()]  # noqa: SIM118
    assert names[1:] == list(DIMENSIONS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "yesterday"), "neither a time ago such as 24h or 7d, nor a date"),
        (("--from", "999999w"), "neither a time ago"),
        (("--by", "tenant,colour"), "'colour' is none of hour, day"),
        (("--by", "day,day"), "has a name twice"),
        (("--from", "1h", "--to", "2h"), "--to must be after --from"),
        (("--cursor", "7"), "--cursor is for --export alone"),
        (("--watch", "--from", "1h"), "--watch shows what comes"),
        (("--watch", "--export"), "not allowed with argument"),
        (("--cost", "--by", "day,model"), "--cost is broken down by one thing"),
    ],
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """Before anything is called."""
    result = run("usage", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_costs_are_shares(run: Run, stand_in: StandIn) -> None:
    """With cents where they are worth it, and a total."""
    stand_in.costs = COSTS
    assert run("usage", "--cost").out.splitlines() == [
        "MODEL       COST  SHARE  REQUESTS",
        "gpt      $750.00  75.0%     9,000",
        "llama    $250.00  25.0%         1",
        "TOTAL  $1,000.00            9,001",
    ]
    assert run("usage", "--cost", "--by", "day", "--format", "csv").out.splitlines() == [
        "day,cost_usd,share,requests",
        "gpt,750,0.750000,9000",
        "llama,250,0.250000,1",
    ]
    assert stand_in.requests[-1].by == v1.USAGE_DIMENSION_DAY


def test_csv_is_exact(run: Run, stand_in: StandIn) -> None:
    """Money in dollars to the last digit; empty where no price is known; no total to be summed again."""
    stand_in.usage = USAGE
    result = run("usage", "--by", "tenant,model", "--format", "csv")
    found = list(csv.DictReader(StringIO(result.out)))
    assert [row["cost_usd"] for row in found] == ["1.23456789", ""]
    assert [row["tenant"] for row in found] == ["acme", ""]
    assert found[1]["model"] == "evil\x1b[2J"  # a pipe gets what there is
    assert found[0]["input_tokens"] == "1200000"
    stand_in.usage = v1.GetUsageResponse(total=totals(1, 5))
    assert "1,1000,0,0,100,0,0.000000005,0,0,false" in run("usage", "--by", "", "--format", "csv").out


def test_json_is_the_answer_of_the_api(run: Run, stand_in: StandIn) -> None:
    """--json prints the response, --json and --format json alike; an error is JSON too."""
    stand_in.usage, stand_in.costs = USAGE, COSTS
    assert Parse(run("usage", "--json").out, v1.GetUsageResponse()) == USAGE
    assert Parse(run("usage", "--cost", "--format", "json").out, v1.GetCostBreakdownResponse()) == COSTS
    stand_in.refusal = Status(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert run("usage").code == 3
    result = run("usage", "--json")
    assert (result.code, json.loads(result.out)["error"]["code"]) == (3, "UNAUTHENTICATED")


def test_an_export_is_lines_of_json(run: Run, stand_in: StandIn) -> None:
    """Each line is an ExportUsageResponse, with the cursor that continues after it."""
    stand_in.records = [record(1, tenant="acme"), record(2)]
    result = run("usage", "--export", "--cursor", "abc", "--tenant", "acme")
    lines = [Parse(line, v1.ExportUsageResponse()) for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    assert [line.record for line in lines] == stand_in.records
    assert [line.cursor for line in lines] == ["1", "2"]
    wanted = v1.UsageFilter(tenants=["acme"])
    assert stand_in.requests == [v1.ExportUsageRequest(filter=wanted, cursor="abc")]


def test_an_export_as_csv(run: Run, stand_in: StandIn) -> None:
    """A heading and a line for each record; what is not known is empty."""
    known = record(1, tenant="a,b", user="u", cached=True)
    known.duration.CopyFrom(Duration(seconds=1, nanos=500_000_000))
    stand_in.records = [known, v1.UsageRecord(ended_at=Timestamp(nanos=-1))]
    result = run("usage", "--export", "--format", "csv")
    first, second = csv.DictReader(StringIO(result.out))
    assert first["ended_at"] == "2026-11-21T14:30:00Z"
    assert (first["tenant"], first["user"], first["cache_status"]) == ("a,b", "u", "hit")
    assert (first["seconds"], first["cost_usd"], first["input_tokens"]) == ("1.500000", "0.000001", "10")
    assert (second["ended_at"], second["cost_usd"], second["input_tokens"]) == ("", "", "")
    assert (first["cursor"], second["cursor"]) == ("1", "2")


def test_an_export_that_breaks_off_says_how_to_go_on(run: Run, stand_in: StandIn) -> None:
    """What came is printed, the exit code is 7, and the last cursor is named."""
    away = GenerationError(Reason.STORE_UNAVAILABLE, "the shared ledger is away")
    away.committed = True
    stand_in.records = [record(1), away]
    result = run("usage", "--export", "--format", "csv")
    assert result.code == 7
    assert len(result.out.splitlines()) == 2
    expected = "outrider: the shared ledger is away; --cursor 1 continues [STORE_UNAVAILABLE]\n"
    assert result.err == expected
    stand_in.records = [record(1), Status(grpc.StatusCode.UNAVAILABLE, "Socket closed")]
    result = run("usage", "--export")
    assert result.code == 7
    assert "has gone; --cursor 1 continues" in json.loads(result.out.splitlines()[-1])["error"]["message"]


def test_watched_records_come_at_once(start: Start, stand_in: StandIn) -> None:
    """A pipe gets each when it is settled; SIGINT ends the call at the sidecar."""
    stand_in.records = [record(1, tenant="acme", project="shop"), Hold()]
    process = start("usage", "--watch")
    assert process.stdout is not None
    assert process.stdout.readline().split()[:2] == ["TIME", "(UTC)"]
    line = process.stdout.readline()
    assert line.split() == [
        *("2026-11-21", "14:30:00", "succeeded", "10", "5", "$0.000001", "0", "ms", "openai/gpt", "acme/shop")
    ]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == ("", "outrider: interrupted\n")
    assert process.returncode == 130
    assert stand_in.left.wait(PATIENCE)


def test_a_watch_nobody_reads_ends(start: Start, stand_in: StandIn) -> None:
    """Once the reader has left, as after `| head -1`, the call is cancelled and nothing is said."""
    stand_in.records = [record(1), Wait(), record(2), record(3), Hold()]
    process = start("usage", "--watch", "--format", "jsonl")
    assert process.stdout is not None
    assert Parse(process.stdout.readline(), v1.WatchUsageResponse()).record == record(1)
    process.stdout.close()
    stand_in.go_on.set()
    assert process.wait(PATIENCE) == 141
    assert stand_in.left.wait(PATIENCE)


def test_a_terminal_shows_bars_and_no_control_characters(stand_in: StandIn) -> None:
    """Shares are drawn; names that callers invent cannot command the terminal, in any format."""
    evil = "a\x1b]0;title\x07b"
    stand_in.costs = COSTS
    stand_in.usage = v1.GetUsageResponse(
        groups=[v1.UsageGroup(values=[evil], totals=totals(1, 1))], total=totals(1, 1)
    )
    stand_in.records = [record(1, tenant=evil, model=evil)]
    with Terminal("usage", "--cost") as terminal:
        assert terminal.finish() == 0
        assert "████████░░" in terminal.shown
        assert "\x1b[1mTOTAL" in terminal.shown
    for options in (["--format", "table"], ["--format", "csv"], ["--export", "--format", "csv"], ["--watch"]):
        with Terminal("usage", *options, NO_COLOR="1") as terminal:
            assert terminal.finish() == 0
            assert "a\ufffd]0;title\ufffdb" in terminal.shown
            assert not set("\x1b\x07") & set(terminal.shown)


def test_the_real_service_is_understood(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums, shares and a whole export, continued in its middle, from a real UsageService."""
    ledger = FickleLedger(*(record(n, tenant=f"t{n % 2}", nano_usd=NANO) for n in range(10)))
    with real_service(ledger) as address:
        monkeypatch.setenv("OUTRIDER_ADDRESS", address)
        assert run("usage", "--by", "day,tenant").out.splitlines() == [
            "DAY         TENANT  REQUESTS  TOKENS IN  TOKENS OUT      COST",
            "2026-11-21  t0             5         50          25   $5.0000",
            "2026-11-21  t1             5         50          25   $5.0000",
            "TOTAL                     10        100          50  $10.0000",
        ]
        assert "t0       $5.0000  50.0%" in run("usage", "--cost", "--by", "tenant").out
        lines = run("usage", "--export").out.splitlines()
        cursor = json.loads(lines[3])["cursor"]
        assert run("usage", "--export", "--cursor", cursor).out.splitlines() == lines[4:]
        result = run("usage", "--export", "--cursor", "garbage", "--format", "csv")
        assert result.code == 3
        assert "cursor: was not given out" in result.err


def test_usage_of_this_sidecar_alone_is_marked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 23: with the shared ledger away the numbers still come, and say whose they are."""
    shared = FickleLedger(*(record(n) for n in range(5)))
    shared.away = True
    with real_service(FickleLedger(record(1)), shared) as address:
        monkeypatch.setenv("OUTRIDER_ADDRESS", address)
        result = run("usage")
        assert result.out.splitlines()[-1].split()[:2] == ["TOTAL", "1"]
        assert "this sidecar alone" in result.err
        assert run("usage", "--export", "--format", "csv").code == 5


NOW = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00-05:00", datetime(2026, 11, 1, 17, tzinfo=UTC)),
    ],
)
def test_times_are_ago_or_dates(text: str, expected: datetime) -> None:
    """What has no zone is UTC."""
    assert parse_when(text, NOW) == expected


@given(st.text())
def test_any_other_time_is_refused(text: str) -> None:
    """With ValueError and nothing else."""
    with suppress(ValueError):
        assert parse_when(text, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    ("nano", "decimals", "expected"),
    [
        (0, 2, "$0.00"),
        (1_234_567_890_123, 2, "$1,234.57"),
        (999_999_999, 2, "$1.00"),
        (1, 6, "<$0.000001"),
        (123_456, 6, "$0.000123"),
        (-1_500_000_000, 4, "-$1.5000"),
    ],
)
def test_money_is_rounded_never_to_nothing(nano: int, decimals: int, expected: str) -> None:
    """Half up; what would look like nothing says that it is less."""
    assert units.rounded_usd(nano, decimals) == expected


@given(st.integers(-(10**15), 10**15))
def test_exact_money_is_exact(nano: int) -> None:
    """The dollars of CSV are those of the ledger, to the last digit."""
    from decimal import Decimal

    assert Decimal(units.dollars(nano)) * NANO == nano


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.2, "1 s"), (59.9, "1 min"), (61, "2 min"), (12_000, "3 h 20 min"), (86_400, "1 d")],
)
def test_spans_are_told_in_two_units(seconds: float, expected: str) -> None:
    """Rounded up: what comes back in a span is back then."""
    assert units.span(seconds) == expected


@pytest.mark.parametrize(("octets", "expected"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB")])
def test_sizes_are_told_in_their_unit(octets: int, expected: str) -> None:
    """Powers of 1,024, named as such."""
    assert units.size(octets) == expected


@given(st.floats(allow_nan=False))
def test_bars_have_one_width(share: float) -> None:
    """Whatever the share; only nothing is empty, and only all is full."""
    drawn = bar(share)
    assert len(drawn) == 10
    assert (drawn.count(drawn[0]) == 10) == (share <= 0 or share >= 1)
