"""`outrider limits`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse

from outrider import v1
from tests.cli.stand_in import Status
from tests.cli.test_terminal import Terminal

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn

LIMITS = v1.GetLimitsResponse(
    limits=[
        v1.Limit(
            scope="tenant=acme",
            unit=v1.LIMIT_UNIT_REQUESTS,
            period=v1.LIMIT_PERIOD_MINUTE,
            limit=1_200,
            burst=200,
            remaining=150,
            resets_in=Duration(seconds=10),
            hard=True,
            tier="gold",
        ),
        v1.Limit(
            scope="tenant=acme",
            unit=v1.LIMIT_UNIT_NANO_USD,
            period=v1.LIMIT_PERIOD_MONTH,
            limit=500_000_000_000,
            remaining=12_345_600_000,
            reserved=1_500_000_000,
            resets_in=Duration(seconds=9 * 86_400 + 2 * 3_600),
        ),
        v1.Limit(
            scope="provider=groq",
            unit=v1.LIMIT_UNIT_CONCURRENT_REQUESTS,
            limit=8,
            remaining=0,
            hard=True,
        ),
    ]
)


def test_limits_are_a_table(run: Run, stand_in: StandIn) -> None:
    """What is left, as number and share, what is reserved, and when all of it is back."""
    stand_in.limits = LIMITS
    result = run("limits", "--tenant", "acme", "--model", "fast")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "SCOPE          WHAT               LIMIT    LEFT  SHARE  BACK IN  NOTE",
        "tenant=acme    requests/minute    1,200     150    75%  10 s     tier gold, 200 at once",
        "tenant=acme    USD/month        $500.00  $12.35     2%  9 d 2 h  $1.50 reserved, warns only",
        "provider=groq  at once                8       0     0%",
    ]
    assert stand_in.requests == [v1.GetLimitsRequest(attribution=v1.Attribution(tenant="acme"), model="fast")]


def test_no_limits_are_told(run: Run, stand_in: StandIn) -> None:
    """In words; and nothing is said of the caller that it did not say."""
    result = run("limits")
    assert (result.code, result.out) == (0, "Nothing limits these requests.\n")
    assert stand_in.requests == [v1.GetLimitsRequest()]


def test_shares_of_a_fleet_are_marked(run: Run, stand_in: StandIn) -> None:
    """Row 23: with the shared store away the numbers are this sidecar's, and say so."""
    stand_in.limits = v1.GetLimitsResponse(limits=LIMITS.limits[:1], local_share=True)
    assert run("limits").err == "The shared store is out of reach: these are this sidecar's own shares.\n"


def test_limits_as_json(run: Run, stand_in: StandIn) -> None:
    """--json prints the response; an error is JSON too."""
    stand_in.limits = LIMITS
    assert Parse(run("limits", "--json").out, v1.GetLimitsResponse()) == LIMITS
    stand_in.refusal = Status(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    result = run("limits", "--json")
    assert (result.code, json.loads(result.out)["error"]["code"]) == (3, "UNAUTHENTICATED")


def test_bars_show_what_is_left(stand_in: StandIn) -> None:
    """On a terminal: green where much is left, yellow and red where little is, plain without colour."""
    stand_in.limits = LIMITS
    with Terminal("limits", COLUMNS="140") as terminal:
        assert terminal.finish() == 0
        assert "\x1b[32m████████░░\x1b[0m" in terminal.shown
        assert "\x1b[31m█░░░░░░░░░\x1b[0m" in terminal.shown
        assert "\x1b[31m░░░░░░░░░░\x1b[0m" in terminal.shown
    with Terminal("limits", COLUMNS="140", NO_COLOR="1", PYTHONIOENCODING="ascii") as terminal:
        assert terminal.finish() == 0
        assert "########.." in terminal.shown
        assert "\x1b" not in terminal.shown


def test_nothing_is_lost_on_a_narrow_terminal(stand_in: StandIn) -> None:
    """A long scope takes more lines; it is never cut."""
    scope = "tenant=a-customer-with-a-long-name,agent=an-agent-with-a-longer-one"
    stand_in.limits = v1.GetLimitsResponse(limits=[v1.Limit(scope=scope, limit=10, remaining=5, hard=True)])
    with Terminal("limits", COLUMNS="80", NO_COLOR="1") as terminal:
        assert terminal.finish() == 0
        _, rule, *rows = terminal.shown.splitlines()
        assert "".join(row.split("  ")[0].strip() for row in rows) == scope
        assert len(rule) <= 80


def test_what_a_newer_sidecar_says_is_shown(run: Run, stand_in: StandIn) -> None:
    """Units and periods that are not known here are no error, nor is a limit of nothing."""
    strange = v1.Limit(scope="s")
    strange.MergeFromString(b"\x10\x63\x18\x63")  # unit 99, period 99
    stand_in.limits = v1.GetLimitsResponse(limits=[strange])
    result = run("limits")
    assert result.code == 0
    assert result.out.splitlines()[1].split() == ["s", "99", "0", "0", "0%", "warns", "only"]
