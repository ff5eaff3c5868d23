"""The plot for the README: three panels of bars, as SVG that reads on light and on dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import medians

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PANELS: Final = (
    ("cpu_unary_ms", "CPU per unary call", "ms"),
    ("cpu_burst_ms", "CPU per 100-token burst stream", "ms"),
    ("cpu_paced_ms", "CPU per 100-token stream at 10 ms", "ms"),
    ("rss_idle_mib", "memory, idle", "MiB"),
)
_SHOWN: Final = ("floor", "outrider", "tensorzero", "portkey", "litellm")
_WIDTH, _LABEL, _VALUE, _BAR, _STEP, _TITLE, _GAP = 760, 215, 80, 14, 20, 26, 14
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.bar { fill: #8c959f; }
.own { fill: #1f6feb; }
.floor { fill: #c4cad1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .bar { fill: #6e7681; }
  .floor { fill: #424a53; }
}
"""


def plot(results: dict[str, Any]) -> str:
    """CPU and memory of every subject, each panel with a scale of its own from 0."""
    body: list[str] = []
    top = 0
    for figure, title, unit in _PANELS:
        found = medians(results, figure)
        bars = [(name, found[name][0]) for name in _SHOWN if name in found]
        if bars:
            body += _panel(bars, results["titles"], f"{title}, {unit}", top)
            top += _TITLE + _STEP * len(bars) + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img" '
        f'aria-label="CPU and memory of Outrider and its peers">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _panel(bars: Sequence[tuple[str, float]], titles: dict[str, str], title: str, top: int) -> Iterator[str]:
    longest = max(value for _, value in bars)
    yield f'<text class="title" x="0" y="{top + 16}">{escape(title)}</text>'
    for row, (name, value) in enumerate(bars):
        y = top + _TITLE + row * _STEP
        width = max(1.0, (_WIDTH - _LABEL - _VALUE) * value / longest)
        kind = {"outrider": "own", "floor": "floor"}.get(name, "bar")
        yield f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(titles[name])}</text>'
        yield f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        yield f'<text x="{_LABEL + width + 6:.1f}" y="{y + 12}">{value:.3g}</text>'
