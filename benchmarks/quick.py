"""`make bench-quick`: CPU of Outrider as ratios to a bare grpc.aio server, in one run of under 90 s.

The two servers take turns on one core; the load and the mock provider share the other. Every figure is the
median of the rounds; the spread is from the lowest to the highest.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks.load import Client, Cost, measure
from benchmarks.processes import Child, pin, python

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROUNDS = 5
_SUBJECT_CORE, _LOAD_CORE = 0, 1

_CONFIG = """
server: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:0"}}
providers:
  mock:
    format: openai
    base_url: "http://127.0.0.1:{port}"
    api_key: none
    limits: {{max_concurrency: 1000}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call."""

    name: str
    model: str
    streaming: bool
    calls: int
    concurrency: int


CASES = (
    Case("unary, 64 callers", "unary", streaming=False, calls=1500, concurrency=64),
    Case("100-chunk burst, 64 callers", "burst", streaming=True, calls=400, concurrency=64),
    Case("100 chunks at 10 ms, 100 streams", "paced-10", streaming=True, calls=100, concurrency=100),
)


async def run(subjects: Mapping[str, tuple[Child, str]]) -> dict[str, dict[str, list[Cost]]]:
    """Every case on every subject, taking turns."""
    clients = {name: Client(child.port) for name, (child, _) in subjects.items()}
    costs: dict[str, dict[str, list[Cost]]] = {case.name: {name: [] for name in subjects} for case in CASES}
    for round_ in range(_ROUNDS + 1):
        for case in CASES:
            for name, (child, prefix) in subjects.items():
                client = clients[name]
                make = client.stream if case.streaming else client.unary
                cost = await measure(
                    child,
                    lambda make=make, model=prefix + case.model: make(model),  # type: ignore[misc]
                    calls=case.calls if round_ else case.concurrency,
                    concurrency=case.concurrency,
                )
                if round_:  # the first one warms up
                    costs[case.name][name].append(cost)
        if sys.stderr.isatty():
            print(f"\r· round {round_} of {_ROUNDS}", end="\r", file=sys.stderr, flush=True)
    for client in clients.values():
        await client.aclose()
    return costs


def report(costs: dict[str, dict[str, list[Cost]]], rss: dict[str, float]) -> dict[str, object]:
    """Print the table; returns the figures."""
    print(f"{'CPU of the server, ms per call':<36}{'floor':>16}{'outrider':>20}{'ratio':>8}")
    figures: dict[str, object] = {}
    for case, by_subject in costs.items():
        cells, medians = [], {}
        for name, runs in by_subject.items():
            values = [cost.cpu_ms for cost in runs]
            medians[name] = statistics.median(values)
            cells.append(f"{medians[name]:.3f} ({min(values):.2f}-{max(values):.2f})")
        ratio = medians["outrider"] / medians["floor"]
        print(f"{case:<36}{cells[0]:>16}{cells[1]:>20}{ratio:>8.2f}")
        figures[case] = {
            **{name: round(value, 4) for name, value in medians.items()},
            "ratio": round(ratio, 3),
        }
    ratio = rss["outrider"] / rss["floor"]
    print(f"{'memory before the load, MiB':<36}{rss['floor']:>16.1f}{rss['outrider']:>20.1f}{ratio:>8.2f}")
    figures["rss_mib"] = {**{name: round(value, 1) for name, value in rss.items()}, "ratio": round(ratio, 3)}
    return figures


def main() -> None:
    """Start the processes, measure, report. With --json, figures as JSON."""
    pin(0, _LOAD_CORE)
    with (
        tempfile.TemporaryDirectory() as folder,
        python("-m", "benchmarks.mock_upstream", core=_LOAD_CORE) as upstream,
        python("-m", "benchmarks.floor", core=_SUBJECT_CORE) as floor,
    ):
        config = Path(folder, "outrider.yaml")
        config.write_text(_CONFIG.format(port=upstream.port))
        env = {"OUTRIDER_CONFIG": str(config)}
        with python("-m", "benchmarks.sidecar", core=_SUBJECT_CORE, env=env) as sidecar:
            rss = {"floor": floor.rss_mib(), "outrider": sidecar.rss_mib()}
            costs = uvloop.run(run({"floor": (floor, ""), "outrider": (sidecar, "mock/")}))
    figures = report(costs, rss)
    if "--json" in sys.argv:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
