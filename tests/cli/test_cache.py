"""`outrider cache`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.json_format import Parse

from outrider import v1
from tests.cli.stand_in import Status
from tests.cli.test_terminal import Terminal

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn

STATS = v1.GetCacheStatsResponse(
    memory_hits=1_000,
    shared_hits=200,
    stale_hits=0,
    joined=30,
    misses=3_770,
    stored=3_500,
    evicted=12,
    memory_entries=1_024,
    memory_bytes=16 << 20,
    memory_limit_bytes=64 << 20,
    shared=True,
    saved_nano_usd=12_345_600_000,
    saved_seconds=4_800,
)


def test_the_numbers_are_told(run: Run, stand_in: StandIn) -> None:
    """Hits and where they came from, what is stored, what was saved."""
    stand_in.cache = STATS
    result = run("cache")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "hits    1,230 of 5,000 requests (24.6%): 1,000 from memory, 200 shared, 30 joined",
        "stored  3,500 answers · 12 had to leave memory",
        "memory  1,024 answers · 16.0 MiB of 64.0 MiB (25%)",
        "shared  with other sidecars",
        "saved   $12.3456 · 1 h 20 min of waiting",
    ]


def test_a_cache_that_did_nothing_yet(run: Run, stand_in: StandIn) -> None:
    """Nothing is divided by nothing."""
    assert run("cache").out.splitlines() == [
        "hits    0 of 0 requests",
        "stored  0 answers · 0 had to leave memory",
        "memory  0 answers · 0 B of 0 B",
        "shared  no, in this sidecar alone",
        "saved   $0.000000 · 0 s of waiting",
    ]


def test_what_fits_is_forgotten(run: Run, stand_in: StandIn) -> None:
    """Everything that is given must fit; nothing is asked."""
    stand_in.removed = 1_234
    result = run(
        *("cache", "--clear", "--model", "openai/gpt", "--tenant", "acme"),
        *("--label", "team=search", "--label", "run=a=b", "--key", "abc"),
    )
    assert (result.code, result.out, result.err) == (0, "1,234 answers forgotten.\n", "")
    labels = {"team": "search", "run": "a=b"}
    expected = v1.InvalidateCacheRequest(key="abc", model="openai/gpt", tenant="acme", labels=labels)
    assert stand_in.requests == [expected]
    stand_in.removed = 1
    assert run("cache", "--clear", "--tenant", "acme").out == "1 answer forgotten.\n"


def test_everything_is_forgotten_only_where_it_is_meant(run: Run, stand_in: StandIn) -> None:
    """Where nobody can be asked, --yes has to say so."""
    result = run("cache", "--clear")
    assert (result.code, result.out) == (2, "")
    assert "--yes" in result.err
    assert not stand_in.requests
    assert run("cache", "--clear", "--yes").code == 0
    assert stand_in.requests == [v1.InvalidateCacheRequest(all=True)]


@pytest.mark.parametrize(
    ("answer", "forgotten"), [("y\n", True), ("Yes\n", True), ("\n", False), ("\x04", False)]
)
def test_a_person_is_asked(stand_in: StandIn, answer: str, forgotten: bool) -> None:
    """On a terminal; anything but yes forgets nothing."""
    with Terminal("cache", "--clear") as terminal:
        terminal.read_until("[y/N] ")
        terminal.press(answer)
        assert terminal.finish() == (0 if forgotten else 1)
        assert ("Nothing was forgotten." in terminal.shown) is not forgotten
    assert [request.all for request in stand_in.requests] == [True] * forgotten


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "acme"), "what is to be forgotten is told with --clear"),
        (("--clear", "--label", "team"), "'team' is not KEY=VALUE"),
        (("--clear", "--yes", "--tenant", ""), "--tenant is empty"),
    ],
)
def test_wrong_usage_is_told(run: Run, stand_in: StandIn, arguments: tuple[str, ...], said: str) -> None:
    """Before anything is called: an empty variable of a script is not everything."""
    result = run("cache", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not stand_in.requests


def test_cache_as_json(run: Run, stand_in: StandIn) -> None:
    """--json prints the response; an error is JSON too."""
    stand_in.cache, stand_in.removed = STATS, 5
    assert Parse(run("cache", "--json").out, v1.GetCacheStatsResponse()) == STATS
    assert json.loads(run("cache", "--clear", "--tenant", "a", "--json").out) == {"removed": "5"}
    stand_in.refusal = Status(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    result = run("cache", "--json")
    assert (result.code, json.loads(result.out)["error"]["code"]) == (3, "UNAUTHENTICATED")
