"""`make bench`: Outrider beside the bare gRPC floor and the gateways that can be installed here, in one run.

Writes benchmarks/results/bench.json, bench.md and a plot. Loads loopback only, ends by itself, and ends only
processes that it started.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import peers, report
from benchmarks.conditions import conditions
from benchmarks.feature_subjects import REDIS
from benchmarks.load import load
from benchmarks.measure import CASES, OPEN_STREAMS, Bench
from benchmarks.peers import PeerError, peer
from benchmarks.plot import plot
from benchmarks.processes import LOAD_CORE, on_core
from benchmarks.progress import show
from benchmarks.subjects import BARE, DEFAULTS, FLOOR, mock_upstream, variants

if TYPE_CHECKING:
    from benchmarks.subjects import Subject

_OWN: Final = {subject.name: subject for subject in (FLOOR, DEFAULTS, BARE, REDIS)}
_RESULTS: Final = Path(__file__).with_name("results")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Outrider with the floor and its peers.")
    names = [*_OWN, *peers.PINS]
    parser.add_argument(
        "--subjects",
        default=",".join(names),
        help="which ones, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of every measurement (default: %(default)s)"
    )
    parser.add_argument("--no-variants", action="store_true", help="leave out the cost of each feature")
    parser.add_argument(
        "--peers",
        type=Path,
        default=peers.DEFAULT_FOLDER,
        metavar="DIR",
        help="where peers are installed (default: %(default)s)",
    )
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR", help="where results go")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="write the plot here too")
    arguments = parser.parse_args()
    if unknown := set(arguments.subjects.split(",")) - set(names):
        parser.error(f"unknown subjects: {', '.join(sorted(unknown))}")
    return arguments


def _subjects(names: list[str], folder: Path, failures: dict[str, str]) -> list[Subject]:
    found = []
    for name in names:
        if name in _OWN:
            found.append(_OWN[name])
            continue
        try:
            found.append(peer(name, folder))
        except PeerError as error:
            print(f"· without {name}: {error}", file=sys.stderr)
            failures[f"{name}: install"] = str(error)
    return found


def main() -> None:
    """Measure, report, write."""
    arguments = _arguments()
    failures: dict[str, str] = {}
    subjects = _subjects(arguments.subjects.split(","), arguments.peers, failures)
    changed = [] if arguments.no_variants else variants()
    started, before = time.monotonic(), conditions()
    with (
        tempfile.TemporaryDirectory() as folder,
        on_core(LOAD_CORE),
        mock_upstream(Path(folder)) as mock,
        load(mock.child) as loaded,
    ):
        bench = Bench(mock, loaded, Path(folder))
        bench.starts(subjects, arguments.rounds)
        bench.rounds(subjects, changed, CASES, arguments.rounds)
    results = {
        "conditions": {
            **before,
            "load_average_after": conditions()["load_average"],
            "rounds": arguments.rounds,
            "seconds": round(time.monotonic() - started),
            "open_streams": list(OPEN_STREAMS),
            "cases": {case.name: report.describe(case.work) for case in CASES},
        },
        "titles": {subject.name: subject.title for subject in [*subjects, *changed]},
        "variants": [subject.name for subject in changed],
        "failures": {**failures, **bench.results.failures},
        "figures": bench.results.figures,
        "busy": bench.results.busy,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    text, picture = report.table(results), plot(results)
    (arguments.results / "bench.json").write_text(json.dumps(results, indent=1))
    (arguments.results / "bench.md").write_text(text)
    for path in filter(None, [arguments.results / "bench.svg", arguments.plot]):
        path.write_text(picture)
    show("")
    print(text)
    print(f"{arguments.results}/bench.json, bench.md and bench.svg say it in full.")


if __name__ == "__main__":
    main()
