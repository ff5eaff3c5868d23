"""`outrider health`, against a gRPC server in a sidecar's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.cli.stand_in import PATIENCE, StandIn, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, Start

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ([], 0, "SERVING"),
        (["--service", "readiness"], 1, "NOT_SERVING"),
        (["--service", "liveness"], 0, "SERVING"),
        (["--service", "newer"], 1, "77"),
    ],
)
def test_exit_code_tells_health(
    run: Run, stand_in: StandIn, arguments: list[str], code: int, word: str
) -> None:
    """0 for SERVING and 1 for all else, as container health checks want it; the word is printed."""
    stand_in.statuses = {"": SERVING, "readiness": NOT_SERVING, "liveness": SERVING, "newer": 77}
    result = run("health", *arguments)
    assert (result.code, result.out, result.err) == (code, f"{word}\n", "")


def test_unknown_service_is_unhealthy(run: Run, stand_in: StandIn) -> None:
    """A name that the sidecar does not know is said to be unknown, also to those who would wait."""
    for wait in ((), ("--wait", "5")):
        result = run("health", "--service", "provider/opnai", *wait)
        assert result.code == 1
        assert (
            result.err
            == "outrider: no service 'provider/opnai'; `outrider health --all` lists what there is\n"
        )


def test_absent_sidecar_is_unhealthy(run: Run) -> None:
    """Where nothing listens the exit code is 1 too, not that of other commands."""
    result = run("health", "--address", "127.0.0.1:1")
    assert (result.code, result.out) == (1, "")
    assert "no sidecar answers at 127.0.0.1:1" in result.err


def test_silent_sidecar_is_unhealthy(run: Run, stand_in: StandIn) -> None:
    """One that does not answer in time is not healthy."""
    stand_in.silent = True
    result = run("health", "--timeout", "0.2")
    assert result.code == 1
    assert "time was up" in result.err


def test_everything_is_listed(run: Run, stand_in: StandIn) -> None:
    """--all shows every name; the exit code is that of the whole."""
    stand_in.statuses = {"": NOT_SERVING, "provider/openai": SERVING}
    result = run("health", "--all")
    assert result.code == 1
    assert result.out.splitlines() == [
        "NAME             STATUS",
        "(overall)        NOT_SERVING",
        "provider/openai  SERVING",
    ]


def test_waiting_ends_when_it_serves(start: Start, stand_in: StandIn) -> None:
    """--wait asks again until the sidecar is ready."""
    stand_in.statuses = {"": NOT_SERVING}
    process = start("health", "--wait", "30")
    assert stand_in.asked.wait(PATIENCE)
    stand_in.statuses = {"": SERVING}
    assert process.communicate(timeout=PATIENCE) == ("SERVING\n", "")
    assert process.returncode == 0


def test_waiting_meets_a_sidecar_that_comes_later(start: Start, tmp_path: Path) -> None:
    """--wait may begin before there is anything to connect to."""
    process = start("health", "--wait", "30", "--address", f"unix://{tmp_path}/outrider.sock")
    with serving(StandIn(statuses={"": SERVING}), tmp_path):
        assert process.communicate(timeout=PATIENCE) == ("SERVING\n", "")


@pytest.mark.parametrize("there", [True, False])
def test_waiting_has_an_end(run: Run, stand_in: StandIn, *, there: bool) -> None:
    """When the time is over the status of that moment counts, or that there was no sidecar."""
    stand_in.statuses = {"": NOT_SERVING}
    address = stand_in.address if there else "127.0.0.1:1"
    result = run("health", "--wait", "0.3", "--address", address)
    assert result.code == 1
    if there:
        assert result.out == "NOT_SERVING\n"
    else:
        assert result.err == "outrider: no sidecar answered at 127.0.0.1:1 within 0.3 s\n"
