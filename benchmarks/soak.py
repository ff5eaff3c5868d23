"""`make soak`: does anything grow? `outrider serve` under a mixed load with cancels, faults and slow readers.

Memory, descriptors, sockets, threads and tasks are sampled while it runs. At the end memory must have stopped
growing, and the rest must be back where it was. Exit code 1 where it is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from benchmarks.calls import Target
from benchmarks.load import load
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Child, free_port, on_core, python, running
from benchmarks.progress import show
from benchmarks.subjects import FLOOR, Mock, mock_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_INTERVAL: Final = 2.0  # seconds between samples
_WARM_UP: Final = 0.25  # share of the time that memory may take to find its level
_FIRST: Final = 1.0  # seconds of load before the baseline: what is made once, at the first call, is no leak
_KEEP_ALIVE: Final = 1.0  # seconds after which the provider closes a connection, as real ones do
_SETTLE: Final = 30.0  # seconds, most, until all is closed and every task has ended
_GROWTH: Final = 0.05  # of the memory after warming up: more than this over the rest of the run is a leak
_WITHOUT_PROVIDER: Final = "unary,burst,paced,cancel,slow_reader"
_COUNTS: Final = ("descriptors", "sockets", "tasks")  # threads are a pool's, and stay


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sidecar holds at one time."""

    seconds: float
    rss_mib: float
    descriptors: int
    sockets: int
    threads: int
    running: dict[str, int]  # how many tasks run each coroutine

    @property
    def tasks(self) -> int:
        """Tasks now."""
        return sum(self.running.values())


@dataclass(frozen=True, slots=True)
class _Watched:
    """A process under load; only a sidecar tells of its tasks."""

    child: Child
    started: float
    tells: bool

    def sample(self) -> Sample:
        tree, since = self.child.tree, time.monotonic() - self.started
        tasks = self.child.ask("tasks") if self.tells else {}
        return Sample(since, tree.rss_mib(), *tree.descriptors(), tree.threads(), tasks)


@contextmanager
def _sidecar(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
    port, url = free_port(), f"http://127.0.0.1:{mock.port}/v1"
    common = {"format": "openai", "api_key": "none", "limits": {"max_concurrency": 1024}}
    config = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "admin": {"listen": "127.0.0.1:0"},
        "providers": {
            "mock": {**common, "base_url": url},
            "faulty": {**common, "base_url": url},
            "absent": {**common, "base_url": f"http://127.0.0.1:{free_port()}/v1"},
        },
        "timeouts": {"first_event": "2s", "idle": "1s"},
        "attempts": {"max_attempts": 2, "base_delay": "50ms"},
        # An open one would spare the sidecar the faults.
        "breaker": {"failures": 100_000, "minimum": 100_000},
    }
    path = folder / "soak.yaml"
    path.write_text(yaml.safe_dump(config))
    command = python("benchmarks.watched_serve", "--config", str(path))
    with running(command, core=SUBJECT_CORE, keep_log=False) as child:
        yield child, Target("grpc", port, prefix="mock/")


def soak(seconds: float, only: str = "", *, floor: bool = False) -> tuple[list[Sample], dict[str, int]]:
    """Samples, before, during and after the load, and how the calls ended; of a sidecar, or of the floor."""
    with (
        tempfile.TemporaryDirectory() as folder,
        on_core(LOAD_CORE),
        mock_upstream(Path(folder), keep_alive=_KEEP_ALIVE) as mock,
        (FLOOR.start if floor else _sidecar)(mock, Path(folder)) as (child, target),
    ):
        with load(mock.child) as probe:
            probe.first_answer(target, child)
        with _callers(target, _FIRST, only) as callers:
            callers.hear()
        time.sleep(2 * _KEEP_ALIVE)
        watched = _Watched(child, time.monotonic(), tells=not floor)
        samples = [watched.sample()]
        with _callers(target, seconds, only) as callers:
            while time.monotonic() - watched.started < seconds:
                time.sleep(_INTERVAL)
                samples.append(watched.sample())
                show(_progress(samples[-1], seconds))
            counts: dict[str, int] = callers.hear()
        show("")
        samples.append(_settled(watched, samples[0]))
        return samples, counts


def _callers(target: Target, seconds: float, only: str = "") -> AbstractContextManager[Child]:
    return running(python("benchmarks.soak_load", str(target.port), str(seconds), only), core=LOAD_CORE)


def _settled(watched: _Watched, baseline: Sample) -> Sample:
    """It at the baseline, or when waiting for that has been long enough."""
    until = time.monotonic() + _SETTLE
    while True:
        sample = watched.sample()
        if time.monotonic() > until or not _above(baseline, sample):
            return sample
        time.sleep(_INTERVAL / 4)


def _above(baseline: Sample, sample: Sample) -> list[str]:
    return [name for name in _COUNTS if getattr(sample, name) > getattr(baseline, name)]


def growth(samples: list[Sample]) -> tuple[float, float]:
    """MiB per hour, and growth over the sampled time as a share: the line through memory after warming up."""
    last = samples[-1].seconds
    warm = [sample for sample in samples if sample.seconds >= last * _WARM_UP]
    slope, start = statistics.linear_regression(
        [sample.seconds for sample in warm], [sample.rss_mib for sample in warm]
    )
    first = warm[0].seconds
    return slope * 3600, slope * (last - first) / (start + slope * first)


def report(samples: list[Sample], counts: dict[str, int]) -> bool:
    """Print the table and the verdict; True where nothing leaks."""
    before, *during, after = samples
    middle = during[int(len(during) * _WARM_UP)]
    print(f"{'':<14}{'before':>10}{'warm':>10}{'peak':>10}{'end':>10}{'after':>10}")
    for name in ("rss_mib", *_COUNTS, "threads"):
        peak = max(getattr(sample, name) for sample in during)
        row = [getattr(sample, name) for sample in (before, middle)] + [peak]
        row += [getattr(sample, name) for sample in (during[-1], after)]
        print(f"{name:<14}" + "".join(f"{value:>10.4g}" for value in row))
    print("\ncalls: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    per_hour, share = growth(during)
    found = [f"{name} {getattr(before, name)} -> {getattr(after, name)}" for name in _above(before, after)]
    found += [
        f"{count} x {name}"
        for name, count in (Counter(after.running) - Counter(before.running)).items()
        if after.tasks > before.tasks
    ]
    if share > _GROWTH:
        found.append(f"memory grew by {share:.1%}")
    print(f"memory after warming up: {per_hour:+.1f} MiB/h, {share:+.2%} over {during[-1].seconds:.0f} s")
    print(f"verdict: {'LEAK: ' + ', '.join(found) if found else 'nothing grows'}")
    return not found


def _progress(sample: Sample, seconds: float) -> str:
    return f"{sample.seconds:.0f} of {seconds:.0f} s: {sample.rss_mib:.1f} MiB, {sample.tasks} tasks"


def main() -> None:
    """Soak and judge."""
    parser = argparse.ArgumentParser(description="Look for leaks in `outrider serve`.")
    parser.add_argument("--minutes", type=float, default=10, help="of load (default: %(default)s)")
    parser.add_argument(
        "--only", default="", metavar="KINDS", help="some kinds of calls, as cancel,unary: which one leaks?"
    )
    parser.add_argument(
        "--floor", action="store_true", help="load bare grpc.aio instead, with calls that need no provider"
    )
    parser.add_argument("--output", type=Path, metavar="JSON", help="write samples and counts here")
    arguments = parser.parse_args()
    only = arguments.only or (_WITHOUT_PROVIDER if arguments.floor else "")
    samples, counts = soak(arguments.minutes * 60, only, floor=arguments.floor)
    if arguments.output:
        found = {"samples": [asdict(sample) for sample in samples], "calls": counts}
        arguments.output.write_text(json.dumps(found, indent=1))
    sys.exit(0 if report(samples, counts) else 1)


if __name__ == "__main__":
    main()
