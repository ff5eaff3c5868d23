"""The results as Markdown: medians, spreads, ratios, and the targets they are held against."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import DIRECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Work

_FIGURES: Final = {
    "cpu_unary_ms": "CPU per unary call, ms",
    "cpu_burst_ms": "CPU per 100-token burst, ms",
    "cpu_paced_ms": "CPU per 100 tokens at 10 ms, ms",
    "unary_p50_ms": "added latency p50, ms",
    "unary_p99_ms": "added latency p99, ms",
    "first_token_p50_ms": "added time to first token p50, ms",
    "first_token_p99_ms": "added time to first token p99, ms",
    "requests_per_s": "requests/s on one core",
    "tokens_per_s": "tokens/s on one core",
    "gap_p99_ms": "p99 gap between chunks, ms",
    "rss_idle_mib": "RSS idle, MiB",
    "rss_load_mib": "RSS after the load, MiB",
    "rss_200_mib": "RSS with 200 streams, MiB",
    "rss_1000_mib": "RSS with 1,000 streams, MiB",
    "kb_per_stream": "KB per open stream",
    "start_s": "start to first answer, s",
}
_ADDED: Final = ("unary_p50_ms", "unary_p99_ms", "first_token_p50_ms", "first_token_p99_ms")
_TARGETS: Final = (  # figure, whom Outrider is held against (None: a number), at most
    ("cpu_unary_ms", "floor", 4),
    ("cpu_unary_ms", "litellm", 1 / 12),
    ("cpu_unary_ms", "tensorzero", 4),
    ("cpu_burst_ms", "floor", 0.8),
    ("cpu_burst_ms", "litellm", 1 / 30),
    ("cpu_burst_ms", "tensorzero", 1),
    ("cpu_paced_ms", "floor", 2),
    ("cpu_paced_ms", "litellm", 1 / 7),
    ("cpu_paced_ms", "tensorzero", 2),
    ("rss_idle_mib", "floor", 1.8),
    ("rss_idle_mib", "litellm", 1 / 4),
    ("rss_idle_mib", "tensorzero", 1.2),
    ("start_s", "litellm", 1 / 8),
    ("unary_p50_ms", None, 1.0),
    ("first_token_p50_ms", None, 1.5),
    ("kb_per_stream", None, 150),
)
_OUTRIDER: Final = "outrider"


def describe(work: Work) -> str:
    """A case's load in words."""
    kind = "stream" if work.streaming else "unary"
    return f"{work.calls} {kind} calls of model {work.model}, {work.concurrency} at a time"


def medians(results: dict[str, Any], figure: str) -> dict[str, tuple[float, float, float]]:
    """Median, lowest and highest of each subject. What is added is over the mock in the same round."""
    by_subject = dict(results["figures"].get(figure, {}))
    if figure in _ADDED:
        direct = by_subject.pop(DIRECT, [])
        for subject, values in by_subject.items():
            if subject != "floor" and len(direct) == len(values):  # the floor calls nobody
                by_subject[subject] = [value - own for value, own in zip(values, direct, strict=True)]
    return {
        subject: (statistics.median(values), min(values), max(values))
        for subject, values in by_subject.items()
        if values
    }


def table(results: dict[str, Any]) -> str:
    """The whole report."""
    return "\n".join(
        [
            *_main(results),
            "",
            *_targets(results),
            "",
            *_variants(results),
            *_busy(results),
            "",
            *_conditions(results),
            "",
        ]
    )


def _main(results: dict[str, Any]) -> Iterator[str]:
    names = [name for name in results["titles"] if name not in results["variants"]]
    yield _row(["", *(results["titles"][name] for name in names)])
    yield _row(["---", *["---:"] * len(names)])
    for figure, title in _FIGURES.items():
        found = medians(results, figure)
        own = found.get(_OUTRIDER)
        cells = [_cell(found.get(name), own if name != _OUTRIDER else None) for name in names]
        direct = (
            f" (the mock's own: {found[DIRECT][0]:.1f})" if figure == "gap_p99_ms" and DIRECT in found else ""
        )
        if any(cells):
            yield _row([title + direct, *cells])
    yield ""
    yield "Median (lowest to highest) of the rounds. x: Outrider's median divided by this one's."


def _cell(found: tuple[float, float, float] | None, own: tuple[float, float, float] | None) -> str:
    if found is None:
        return ""
    median, low, high = found
    spread = "" if low == high else f" ({_number(low)}-{_number(high)})"
    ratio = f" x{own[0] / median:.3g}" if own and median > 0 else ""
    return f"{_number(median)}{spread}{ratio}"


def _targets(results: dict[str, Any]) -> Iterator[str]:
    yield _row(["target", "at most", "measured", "reached"])
    yield _row(["---", "---:", "---:", "---"])
    for figure, other, limit in _TARGETS:
        found = medians(results, figure)
        if _OUTRIDER not in found or (other is not None and other not in found):
            continue
        reached = found[_OUTRIDER][0] / (found[other][0] if other else 1)
        against = f", ratio to {results['titles'][other]}" if other else ""
        verdict = "yes" if reached <= limit else f"**no**, by {reached / limit - 1:.1%}"
        yield _row([_FIGURES[figure] + against, f"{limit:.3g}", f"{reached:.3g}", verdict])


def _variants(results: dict[str, Any]) -> Iterator[str]:
    figures = ("cpu_unary_ms", "cpu_burst_ms")
    names = [name for name in results["variants"] if name in results["figures"].get(figures[0], {})]
    if not names:
        return
    yield _row(["Outrider with one thing changed", *(_FIGURES[figure] for figure in figures)])
    yield _row(["---", *["---:"] * len(figures)])
    for name in (_OUTRIDER, *names):
        cells = []
        for figure in figures:
            found = medians(results, figure)
            median, low, high = found[name]
            change = "" if name == _OUTRIDER else f" {median / found[_OUTRIDER][0] - 1:+.0%}"
            cells.append(f"{_number(median)} ({_number(low)}-{_number(high)}){change}")
        yield _row([results["titles"][name], *cells])
    yield ""


def _busy(results: dict[str, Any]) -> Iterator[str]:
    """Shares of a core: a subject below 1 was not the bottleneck."""
    cases = {name: by for name, by in results["busy"].items() if name in ("unary", "burst", "paced")}
    names = [name for name in results["titles"] if name not in results["variants"]]
    yield _row(["share of a core: subject + load and mock", *(results["titles"][name] for name in names)])
    yield _row(["---", *["---:"] * len(names)])
    for case, by_subject in cases.items():
        cells = []
        for name in names:
            shares = [statistics.median(share) for share in zip(*by_subject.get(name, []), strict=True)]
            cells.append(" + ".join(f"{share:.2f}" for share in shares))
        yield _row([case, *cells])


def _conditions(results: dict[str, Any]) -> Iterator[str]:
    for name, value in results["conditions"].items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        yield f"- {name.replace('_', ' ')}: {shown}"
    for what, why in results["failures"].items():
        yield f"- failed: {what}: {' '.join(why.split())[:200]}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
