"""The scaling results as Markdown and as a picture: what was measured beside what the model on paper says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Idle: TypeAlias = "dict[str, float]"

AT_REST: Final = "a second of a pod at rest"
WHOLE: Final = "everything"

_FULL: Final = 0.7  # of a core: the rest is for peaks
_OF_REQUESTS: Final = (
    "for each request, or second",
    "round trips",
    "commands sent",
    "with those in scripts",
    "KB",
    "Redis's CPU, µs",
    "of them a second on one core",
)
_OF_FLEETS: Final = (
    "pods",
    "requests/s each",
    "requests/s",
    "commands/s",
    "on paper",
    "Redis's core",
    "on paper",
    "round trips/s",
    "Mbit/s",
    "MiB",
    "wait p50, ms",
    "p99",
    "Redis lost",
    "the simulation's cores",
)
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 760, 220, 70, 34, 60
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.axis { stroke: #8c959f; fill: none; }
.model { stroke: #8c959f; fill: none; stroke-dasharray: 5 4; stroke-width: 1.5; }
.dot { fill: #1f6feb; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A feature, asked for as fast as Redis answers; what one request took of it, or a second of rest."""

    name: str
    cpu_us: float
    busy: float  # share of its core that Redis had meanwhile
    round_trips: float
    sent: float  # commands that a sidecar sends
    commands: float  # those within scripts too, as Redis counts them
    kilobytes: float

    def as_json(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """A fleet at work; what Redis did and what requests waited for it."""

    pods: int
    rate: float  # requests a second for each
    requests_per_s: float
    cpu: float  # share of its core
    scripts_per_s: float
    commands_per_s: float
    reads_per_s: float
    megabits_per_s: float
    memory_mib: float
    wait_p50_ms: float
    wait_p99_ms: float
    lost: int  # times that a sidecar found Redis gone
    drivers: float  # cores that the simulation itself took

    def as_json(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Model:
    """What a pod costs Redis: so much for being there, and so much for each request with everything on."""

    idle_cpu_us: float  # a second
    idle_commands: float
    request_cpu_us: float
    request_commands: float

    @classmethod
    def of(cls, results: dict[str, Any]) -> Model:
        """From what was recorded and replayed; nothing in it is of the simulation."""
        by_name = {each["name"]: each for each in results["ceilings"]}
        idle, request = by_name[AT_REST], by_name[WHOLE]
        return cls(idle["cpu_us"], idle["commands"], request["cpu_us"], request["commands"])

    def cpu(self, pods: float, rate: float) -> float:
        """Share of a core."""
        return pods * (self.idle_cpu_us + rate * self.request_cpu_us) / 1e6

    def commands(self, pods: float, rate: float) -> float:
        """A second."""
        return pods * (self.idle_commands + rate * self.request_commands)

    def most_pods(self, rate: float) -> float:
        """For which one Redis is enough, with room to spare."""
        return _FULL / self.cpu(1, rate)


def report(results: dict[str, Any]) -> str:
    """All of it."""
    ceilings = [Ceiling(**each) for each in results["ceilings"]]
    steps = [Step(**each) for each in results["steps"]]
    model = Model.of(results)
    return "\n".join(
        [
            *_ceilings(ceilings),
            "",
            *_steps(steps, model),
            "",
            *_sizes(model),
            "",
            *_idle(results["idle"], next(step for step in steps if not step.rate)),
            *(f"- {name.replace('_', ' ')}: {value}" for name, value in results["conditions"].items()),
            "",
        ]
    )


def _ceilings(ceilings: Sequence[Ceiling]) -> Iterator[str]:
    yield _row(_OF_REQUESTS)
    yield _row(["---", *["---:"] * (len(_OF_REQUESTS) - 1)])
    for each in ceilings:
        yield _row(
            [
                each.name,
                f"{each.round_trips:.1f}",
                f"{each.sent:.1f}",
                f"{each.commands:.0f}",
                f"{each.kilobytes:.1f}",
                f"{each.cpu_us:.0f}",
                f"{_rounded(1e6 / each.cpu_us):,}",
            ]
        )


def _steps(steps: Sequence[Step], model: Model) -> Iterator[str]:
    yield _row(_OF_FLEETS)
    yield _row(["---:"] * len(_OF_FLEETS))
    for step in steps:
        yield _row(
            [
                f"{step.pods:,.0f}",
                f"{step.rate:g}",
                f"{step.requests_per_s:,.0f}",
                f"{step.commands_per_s:,.0f}",
                f"{model.commands(step.pods, step.rate):,.0f}",
                f"{step.cpu:.1%}",
                f"{model.cpu(step.pods, step.rate):.1%}",
                f"{step.reads_per_s:,.0f}",
                f"{step.megabits_per_s:.0f}",
                f"{step.memory_mib:.0f}",
                f"{step.wait_p50_ms:.2f}",
                f"{step.wait_p99_ms:.1f}",
                f"{step.lost:.0f}",
                f"{step.drivers:.2f}",
            ]
        )


def _sizes(model: Model) -> Iterator[str]:
    rates = (0.1, 0.5, 1, 5, 20)
    yield _row(["requests/s of a pod", *(f"{rate:g}" for rate in rates)])
    yield _row(["---", *["---:"] * len(rates)])
    yield _row(
        [f"pods at {_FULL:.0%} of one core", *(f"{_rounded(model.most_pods(rate)):,}" for rate in rates)]
    )


def _rounded(number: float) -> int:
    """To two digits."""
    return int(round(number, 1 - int(math.log10(number)))) if number >= 1 else 0


def _idle(idle: Idle, simulated: Step) -> Iterator[str]:
    shares = (simulated.reads_per_s, simulated.scripts_per_s, simulated.commands_per_s)
    pairs = zip(("round trips", "scripts", "commands"), idle.values(), shares, strict=True)
    said = (f"{one:.2f} ({all_ / simulated.pods:.2f}) {name}" for name, one, all_ in pairs)
    yield f"- one real sidecar at rest (one of the simulation), a second: {', '.join(said)}"


def picture(results: dict[str, Any]) -> str:
    """Commands and CPU over the number of pods; dots were measured, lines are the model."""
    steps = [Step(**each) for each in results["steps"] if each["rate"] == results["rate"]]
    model, rate = Model.of(results), results["rate"]
    panels = [
        *_panel(
            f"commands a second, at {rate:g} requests a second for each pod and everything on",
            [(step.pods, step.commands_per_s) for step in steps],
            lambda pods: model.commands(pods, rate),
            0,
            "{:,.0f}",
        ),
        *_panel(
            "share of Redis's core",
            [(step.pods, step.cpu) for step in steps],
            lambda pods: model.cpu(pods, rate),
            _HEIGHT + _GAP,
            "{:.0%}",
        ),
    ]
    height = 2 * (_HEIGHT + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="What a fleet of sidecars asks of one Redis">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(
    title: str,
    dots: Sequence[tuple[float, float]],
    line: Callable[[float], float],
    top: int,
    form: str,
) -> Iterator[str]:
    most_pods = dots[-1][0]
    highest = 1.1 * max(line(most_pods), *(value for _, value in dots))
    base, right = top + _HEIGHT, _WIDTH - 70

    def place(pods: float, value: float) -> tuple[float, float]:
        x = _LEFT + (right - _LEFT) * pods / most_pods
        return x, base - (_HEIGHT - _TOP) * value / highest

    yield f'<text class="title" x="0" y="{top + 16}">{title}</text>'
    yield f'<path class="axis" d="M{_LEFT} {top + _TOP} V{base} H{right}"/>'
    (x1, y1), (x2, y2) = place(0, line(0)), place(most_pods, line(most_pods))
    yield f'<path class="model" d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}"/>'
    yield f'<text x="{x2 + 8:.1f}" y="{y2 + 4:.1f}">paper</text>'
    for pods, value in dots:
        x, y = place(pods, value)
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        yield f'<text x="{x - 8:.1f}" y="{y - 10:.1f}" text-anchor="end">{form.format(value)}</text>'
        yield f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{pods:,}</text>'
    yield f'<text x="{right + 28}" y="{base + 18}">pods</text>'


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
