"""What is measured of the subjects, and how: in turns, one at a time, round after round."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from benchmarks.load import LoadError, Outcome, Work
from benchmarks.progress import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.calls import Target
    from benchmarks.load import Load
    from benchmarks.processes import Child
    from benchmarks.subjects import Mock, Subject

DIRECT: Final = "direct"  # the mock provider, called without anything between
OPEN_STREAMS: Final = (200, 1000)

_SLOW_HOLDS: Final = 2  # rounds in which a slow subject's open streams are measured
_SETTLE: Final = 1.0  # seconds after the first answer before idle memory is read
_HELD: Final = "paced-1000-60"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load, and the figures that are taken of it."""

    name: str
    work: Work
    figures: Mapping[str, Callable[[Outcome], float]]
    direct: bool = False  # the mock provider is measured too
    variants: bool = False  # variants of Outrider are measured too


def cpu_ms(outcome: Outcome) -> float:
    """CPU of the subject for each call, in ms."""
    return outcome.subject_cpu * 1000 / outcome.calls


def _per_second(outcome: Outcome) -> float:
    return outcome.calls / outcome.wall


CASES: Final = (
    Case(
        "unary",
        Work("unary", streaming=False, calls=1500, concurrency=64, tokens=4),
        {"cpu_unary_ms": cpu_ms, "requests_per_s": _per_second},
        variants=True,
    ),
    Case(
        "burst",
        Work("burst", streaming=True, calls=400, concurrency=64, tokens=100),
        {"cpu_burst_ms": cpu_ms, "tokens_per_s": lambda outcome: _per_second(outcome) * 100},
        variants=True,
    ),
    Case(
        "paced",
        Work("paced-10", streaming=True, calls=400, concurrency=200, tokens=100),
        {"cpu_paced_ms": cpu_ms, "gap_p99_ms": lambda outcome: outcome.gap[1] * 1000},
        direct=True,
    ),
    Case(
        "latency",
        Work("unary", streaming=False, calls=400, concurrency=1, tokens=4),
        {
            "unary_p50_ms": lambda outcome: outcome.latency[0] * 1000,
            "unary_p99_ms": lambda outcome: outcome.latency[1] * 1000,
        },
        direct=True,
    ),
    Case(
        "first token",
        Work("paced-10-3", streaming=True, calls=60, concurrency=1, tokens=3),
        {
            "first_token_p50_ms": lambda outcome: outcome.first_token[0] * 1000,
            "first_token_p99_ms": lambda outcome: outcome.first_token[1] * 1000,
        },
        direct=True,
    ),
)


@dataclass
class Results:
    """Every figure of every subject, a value for each round; what failed, and why."""

    figures: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    # Shares of a core by case and subject: the subject's, and that of load and mock.
    busy: dict[str, dict[str, list[tuple[float, float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, figure: str, subject: str, value: float) -> None:
        """One more round's value."""
        self.figures[figure][subject].append(value)


@dataclass(frozen=True, slots=True)
class _Running:
    subject: Subject | None  # None: the mock provider itself
    child: Child | None
    target: Target


class Bench:
    """Measures subjects with one load and one mock provider."""

    def __init__(self, mock: Mock, load: Load, folder: Path) -> None:
        self._mock = mock
        self._load = load
        self._folder = folder
        self.results = Results()

    def starts(self, subjects: Sequence[Subject], rounds: int, streams: Sequence[int] = OPEN_STREAMS) -> None:
        """Time to the first answer, and memory: idle, then with streams open. A new process each time."""
        for round_ in range(rounds):
            for subject in subjects:
                show(f"start and memory, {round_ + 1} of {rounds}: {subject.name}")
                if f"{subject.name}: start" not in self.results.failures:
                    try:
                        # To open a thousand streams takes a slow one most of a minute.
                        self._start(subject, () if subject.slow and round_ >= _SLOW_HOLDS else streams)
                    except (LoadError, RuntimeError, OSError) as error:
                        self.results.failures[f"{subject.name}: start"] = str(error)[:500]

    def _start(self, subject: Subject, streams: Sequence[int]) -> None:
        add, name = self.results.add, subject.name
        started = time.monotonic()
        with subject.start(self._mock, self._folder) as (child, target):
            add("start_s", name, self._load.first_answer(target, child) - started)
            time.sleep(_SETTLE)
            idle = child.tree.rss_mib()
            add("rss_idle_mib", name, idle)
            if streams:
                memory = self._load.hold(target, child, _HELD, streams)
                for count, mib in zip(streams, memory, strict=True):
                    add(f"rss_{count}_mib", name, mib)
                add("kb_per_stream", name, (memory[-1] - idle) * 1024 / streams[-1])

    def rounds(
        self,
        subjects: Sequence[Subject],
        variants: Sequence[Subject],
        cases: Sequence[Case],
        rounds: int,
    ) -> None:
        """Every case on every subject, taking turns. All run all the time; one has calls."""
        with ExitStack() as stack:
            running: dict[str, _Running] = {DIRECT: _Running(None, None, self._mock.target)}
            for subject in [*subjects, *variants]:
                show(f"starting {subject.name}")
                try:
                    child, target = stack.enter_context(subject.start(self._mock, self._folder))
                    self._load.first_answer(target, child)
                    running[subject.name] = _Running(subject, child, target)
                except (LoadError, RuntimeError, OSError) as error:
                    self.results.failures[subject.name] = str(error)[:500]
            for round_ in range(rounds + 1):  # the first one warms up
                for case in cases:
                    for name, one in running.items():
                        if one.subject is None and not case.direct:
                            continue
                        if one.subject in variants and not case.variants:
                            continue
                        show(f"{case.name}, {round_} of {rounds}: {name}")
                        self._run(case, name, one, warm=bool(round_))
            for name, one in running.items():
                if one.child is not None:
                    self.results.add("rss_load_mib", name, one.child.tree.rss_mib())

    def _run(self, case: Case, name: str, one: _Running, *, warm: bool) -> None:
        work, label = case.work, f"{name}: {case.name}"
        if label in self.results.failures:
            return
        calls = work.calls // 4 if one.subject is not None and one.subject.slow else work.calls
        if not warm:
            calls = work.concurrency
        try:
            outcome = self._load.run(one.target, one.child, replace(work, calls=max(calls, work.concurrency)))
        except LoadError as error:
            self.results.failures[label] = str(error)[:500]
            return
        if warm:
            for figure, of in case.figures.items():
                self.results.add(figure, name, of(outcome))
            self.results.busy[case.name][name].append(
                (outcome.subject_cpu / outcome.wall, (outcome.load_cpu + outcome.mock_cpu) / outcome.wall)
            )
