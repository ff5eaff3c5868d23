"""`make bench-quick`: CPU of `outrider serve` as ratios to a bare grpc.aio server, in one run of under 90 s.

They take turns on one core; the load, the mock provider and Redis share the other. Every figure is the median
of the rounds; the spread is from the lowest to the highest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.feature_subjects import REDIS
from benchmarks.load import load
from benchmarks.measure import CASES, Bench
from benchmarks.processes import LOAD_CORE, on_core
from benchmarks.progress import show
from benchmarks.subjects import DEFAULTS, FLOOR, mock_upstream

_STARTS: Final = 3  # most; each takes about two seconds
_FIGURES: Final = {
    "cpu_unary_ms": "CPU per unary call, 64 callers, ms",
    "cpu_burst_ms": "CPU per 100-chunk burst, 64 callers, ms",
    "cpu_paced_ms": "CPU per 100 chunks at 10 ms, 200 streams, ms",
    "rss_idle_mib": "memory, idle, MiB",
    "start_s": "start to first answer, s",
}


def main() -> None:
    """Measure and report. With --json, as JSON."""
    parser = argparse.ArgumentParser(description="Compare `outrider serve` with a bare grpc.aio server.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement (default: 5)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        on_core(LOAD_CORE),
        mock_upstream(Path(folder)) as mock,
        load(mock.child) as loaded,
    ):
        bench = Bench(mock, loaded, Path(folder))
        bench.starts([FLOOR, DEFAULTS], min(arguments.rounds, _STARTS), streams=())
        cases = [replace(case, direct=False) for case in CASES if case.name in ("unary", "burst", "paced")]
        shared = [REDIS] if shutil.which("redis-server") else []
        bench.rounds([FLOOR, DEFAULTS], shared, cases, arguments.rounds)
    show("")
    results = bench.results
    if results.failures:
        raise SystemExit(f"failed: {results.failures}")
    figures = {}
    print(f"{'':<46}{'floor':>22}{'outrider':>22}{'ratio':>8}")
    for figure, title in _FIGURES.items():
        values = [results.figures[figure][subject.name] for subject in (FLOOR, DEFAULTS)]
        floor, own = map(statistics.median, values)
        cells = [f"{statistics.median(one):.3f} ({min(one):.2f}-{max(one):.2f})" for one in values]
        print(f"{title:<46}{cells[0]:>22}{cells[1]:>22}{own / floor:>8.2f}")
        figures[figure] = {
            "floor": round(floor, 4),
            "outrider": round(own, 4),
            "ratio": round(own / floor, 3),
        }
        if with_redis := results.figures[figure].get(REDIS.name):
            ratio = figures[figure]["with_redis"] = round(statistics.median(with_redis) / own, 3)
            print(
                f"{'  with Redis: cache, limit, budget, ledger':<46}{'':>22}{f'{ratio:.2f} times that':>22}"
            )
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
