"""How a batch gets on, as lines: one for all of it, and one for each group of its jobs."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from outrider.cli import units
from outrider.cli.bar import bar
from outrider.cli.terminal import dim, is_styled, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider import v1

_MOST_GROUPS = 12  # a terminal has room for
_WIDEST = 40  # name of a group


class BatchProgressLines:
    """Writes them to standard error. On a terminal they stay at its end: what follows takes their place."""

    def __init__(self) -> None:
        self._stays = is_styled(sys.stderr)
        self._shown = 0  # lines that are to be replaced

    def show(self, progress: v1.BatchProgress) -> None:
        """How it stands now."""
        self.clear()
        lines = list(_lines(progress))
        # A line that is broken in two would not be replaced.
        width = shutil.get_terminal_size().columns - 1 if self._stays else None
        for line in lines:
            print(dim(line[:width], sys.stderr), file=sys.stderr)
        self._shown = len(lines) if self._stays else 0

    def clear(self) -> None:
        """Make room for what is not progress."""
        if self._shown:
            print(f"\x1b[{self._shown}F\x1b[J", end="", file=sys.stderr, flush=True)
            self._shown = 0


def _lines(progress: v1.BatchProgress) -> Iterator[str]:
    yield _standing(progress)
    groups = progress.groups[:_MOST_GROUPS] if len(progress.groups) > 1 else []
    names = [_name(group) for group in groups]
    width = max(map(len, names), default=0)
    for name, group in zip(names, groups, strict=True):
        share = (group.completed + group.failed) / (group.total or 1)
        yield f"  {name:<{width}}  {bar(share, sys.stderr)}  {_standing(group)}"
    if len(progress.groups) > _MOST_GROUPS:
        yield f"  and {len(progress.groups) - _MOST_GROUPS:,} more groups"


def _name(group: v1.BatchGroup) -> str:
    name = one_line(f"{group.provider}/{group.model}") if group.provider else "fits nowhere"
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 3]}..."


def _standing(progress: v1.BatchProgress | v1.BatchGroup) -> str:
    ended = progress.completed + progress.failed
    parts = [f"{ended:,} of {progress.total:,} ended"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.rate and ended < progress.total:
        parts.append(f"{progress.rate:.1f}/s")
    if progress.HasField("time_left") and ended < progress.total:
        parts.append(f"{units.span(units.seconds_of(progress.time_left))} left")
    return " · ".join(parts)
