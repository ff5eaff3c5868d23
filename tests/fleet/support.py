"""Fleets of real sidecar processes, each with a clock of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.caller import calling
from tests.support.process import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.support.caller import Caller
    from tests.support.process import Child

_LIBRARY = "faketime/libfaketimeMT.so.1"
_FOLDERS = ("lib", "lib/*", "lib64", "local/lib")  # of /usr


@dataclass(frozen=True)
class Member:
    """One sidecar of a fleet, and a caller of it."""

    number: int
    child: Child
    caller: Caller
    folder: Path
    skew: float  # seconds that its clock is ahead


@asynccontextmanager
async def fleet(
    folder: Path, count: int, *, skews: Sequence[float] = (0.0,), journals: bool = False, **config: Any
) -> AsyncIterator[list[Member]]:
    """So many sidecars with this configuration, whose clocks are off by `skews` in turn."""
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            starting = [
                group.create_task(
                    stack.enter_async_context(
                        member(folder, number, skew=skews[number % len(skews)], journal=journals, **config)
                    )
                )
                for number in range(count)
            ]
        yield [task.result() for task in starting]


@asynccontextmanager
async def member(
    folder: Path, number: int, *, skew: float = 0.0, journal: bool = False, **config: Any
) -> AsyncIterator[Member]:
    """One sidecar. Its journal outlives it: started again, it goes on with it."""
    own = folder / f"sidecar-{number}"
    own.mkdir(exist_ok=True)
    if journal:
        config["usage"] = {**config.get("usage", {}), "journal": str(own / "usage")}
    async with serving(own, env=skewed(skew), **config) as child, calling(child.port) as caller:
        yield Member(number, child, caller, own, skew)


def tell(figures: str) -> None:
    """What was measured; `pytest -s` shows it."""
    sys.stdout.write(f"{figures}\n")


def skewed(seconds: float) -> dict[str, str]:
    """The environment of a process whose clock is so far ahead.

    All of its clocks are off by the same, so that what it measures is right. Faking only some of them would
    hold up the event loop.
    """
    if not seconds:
        return {}
    return {"LD_PRELOAD": _library(), "FAKETIME": f"{seconds:+g}s", "FAKETIME_DISABLE_SHM": "1"}


def _library() -> str:
    for folder in _FOLDERS:
        for found in Path("/usr").glob(f"{folder}/{_LIBRARY}"):
            return str(found)
    message = "needs libfaketime: scripts/faketime.sh installs it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
