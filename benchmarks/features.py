"""`make bench-features`: what limits, budgets, cache and ledger cost a request, in memory and with Redis.

Each is switched on alone; all take turns in one run. Writes features.json and features.md to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.conditions import conditions
from benchmarks.feature_subjects import features
from benchmarks.load import Work, load
from benchmarks.measure import DIRECT, Bench, Case, cpu_ms
from benchmarks.processes import LOAD_CORE, on_core
from benchmarks.progress import show
from benchmarks.subjects import mock_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.load import Outcome
    from benchmarks.subjects import Subject

_OWN_READS: Final = 2  # of those who ask Redis for its figures
_RESULTS: Final = Path(__file__).with_name("results")


def _trips(outcome: Outcome) -> float:
    """Times that Redis read from the sidecar's connection: with one caller, round trips."""
    return max(0, outcome.redis.reads - _OWN_READS) / outcome.calls


CASES: Final = (
    Case(
        "unary",
        Work("unary", streaming=False, calls=1000, concurrency=64, tokens=4),
        {
            "cpu_unary_ms": cpu_ms,
            "redis_cpu_us": lambda outcome: outcome.redis.cpu * 1e6 / outcome.calls,
            "redis_scripts": lambda outcome: outcome.redis.scripts / outcome.calls,
            "redis_bytes": lambda outcome: (outcome.redis.bytes_in + outcome.redis.bytes_out) / outcome.calls,
        },
    ),
    Case(
        "burst",
        Work("burst", streaming=True, calls=320, concurrency=64, tokens=100),
        {"cpu_burst_ms": cpu_ms},
    ),
    Case(
        "latency",
        Work("unary", streaming=False, calls=200, concurrency=1, tokens=4),
        {"unary_p50_ms": lambda outcome: outcome.latency[0] * 1000, "trips": _trips},
        direct=True,
    ),
    Case(
        "first token",
        Work("paced-1000-60", streaming=True, calls=40, concurrency=1, opened=True),
        {"trips_before": _trips},
    ),
)


def main() -> None:
    """Measure, report, write."""
    parser = argparse.ArgumentParser(description="State the cost of each feature of Outrider per request.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement (default: 5)")
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR", help="where results go")
    arguments = parser.parse_args()
    subjects = {place: features(redis=place == "redis") for place in ("memory", "redis")}
    results = {"conditions": conditions(), "rounds": arguments.rounds, **measure(subjects, arguments.rounds)}
    text = table(results)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "features.json").write_text(json.dumps(results, indent=1))
    (arguments.results / "features.md").write_text(text)
    print(text)


def measure(subjects: dict[str, list[Subject]], rounds: int, cases: Sequence[Case] = CASES) -> dict[str, Any]:
    """Every figure of every subject."""
    everybody = [subject for some in subjects.values() for subject in some]
    with (
        tempfile.TemporaryDirectory() as folder,
        on_core(LOAD_CORE),
        mock_upstream(Path(folder)) as mock,
        load(mock.child) as loaded,
    ):
        bench = Bench(mock, loaded, Path(folder))
        bench.starts([some[0] for some in subjects.values()], min(rounds, 3), streams=())
        bench.rounds(everybody, [], cases, rounds)
    show("")
    return {
        "titles": {subject.name: subject.title for subject in everybody},
        "places": {place: [subject.name for subject in some] for place, some in subjects.items()},
        "figures": bench.results.figures,
        "failures": bench.results.failures,
    }


def table(results: dict[str, Any]) -> str:
    """A table for each place."""
    return (
        "\n".join([*_place(results, "memory"), "", *_place(results, "redis"), "", *_ending(results)]) + "\n"
    )


def _place(results: dict[str, Any], place: str) -> Iterator[str]:
    shared = place == "redis"
    columns = [
        "with Redis" if shared else "in memory",
        "CPU per unary call, µs",
        "CPU per burst, µs",
        "added p50, ms",
    ]
    if shared:
        columns += ["round trips before the first token", "in all", "scripts", "Redis's CPU, µs", "bytes"]
    yield _row(columns)
    yield _row(["---", *["---:"] * (len(columns) - 1)])
    names = [name for name in results["places"][place] if name in results["figures"]["cpu_unary_ms"]]
    for name in names:
        cells = [_over(results, figure, name, names[0]) for figure in ("cpu_unary_ms", "cpu_burst_ms")]
        cells.append(f"{_added(results, name):.2f}")
        if shared:
            trips = [_median(results, figure, name) for figure in ("trips_before", "trips", "redis_scripts")]
            cells += [f"{number:.1f}" for number in trips]
            cells += [f"{_median(results, figure, name):,.0f}" for figure in ("redis_cpu_us", "redis_bytes")]
        yield _row([results["titles"][name], *cells])


def _ending(results: dict[str, Any]) -> Iterator[str]:
    yield "Medians of the rounds. What a feature costs is over none of them, in the same round."
    for place, names in results["places"].items():
        if names[0] in results["figures"].get("rss_idle_mib", {}):
            yield f"- memory at rest, {place}: {_median(results, 'rss_idle_mib', names[0]):.1f} MiB"
    for name, value in results["conditions"].items():
        yield f"- {name.replace('_', ' ')}: {value}"
    for what, why in results["failures"].items():
        yield f"- failed: {what}: {' '.join(why.split())[:200]}"


def _over(results: dict[str, Any], figure: str, name: str, base: str) -> str:
    values, bases = results["figures"][figure][name], results["figures"][figure][base]
    if name == base:
        return f"{statistics.median(values) * 1000:.0f}"
    return f"{statistics.median(one - other for one, other in zip(values, bases, strict=True)) * 1000:+.0f}"


def _added(results: dict[str, Any], name: str) -> float:
    by_subject = results["figures"]["unary_p50_ms"]
    pairs = zip(by_subject[name], by_subject[DIRECT], strict=True)
    return float(statistics.median(one - direct for one, direct in pairs))


def _median(results: dict[str, Any], figure: str, name: str) -> float:
    return float(statistics.median(results["figures"][figure][name]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
