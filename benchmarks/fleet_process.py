"""Many logical sidecars in one process, and requests that come to them at random times.

Run as a process: each line of standard input asks for sidecars and a load, and is answered by a line on
standard output; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from typing import Any

import uvloop

from benchmarks.logical_sidecar import EVERYTHING, TENANTS, LogicalSidecar, log_failures_only

_STARTING = 20  # sidecars at a time: a real fleet does not start in one moment either
_REQUEST_SECONDS = 1.0  # that a provider takes


class Crowd:
    """Some of a fleet's sidecars."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sidecars: list[LogicalSidecar] = []
        self._waits: list[float] = []

    async def grow(self, size: int) -> None:
        """Have so many, at least."""
        while len(self._sidecars) < size:
            some = [LogicalSidecar(self._url) for _ in range(min(_STARTING, size - len(self._sidecars)))]
            await asyncio.gather(*(sidecar.start() for sidecar in some))
            self._sidecars += some

    async def run(self, rate: float, seconds: float) -> dict[str, Any]:
        """Requests at so many a second in all; what they waited for Redis, and what this process took."""
        self._waits.clear()
        lost, cpu, began = self._lost(), time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            due = time.perf_counter()
            while rate and (due := due + random.expovariate(rate)) < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._request())
            await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
            busy = (time.process_time() - cpu) / (time.perf_counter() - began)
        return {
            "requests": len(self._waits),
            "waits": _percentiles(self._waits),
            "lost": self._lost() - lost,
            "busy": busy,
        }

    async def aclose(self) -> None:
        """Stop all."""
        await asyncio.gather(*(sidecar.aclose() for sidecar in self._sidecars))

    async def _request(self) -> None:
        sidecar, tenant = random.choice(self._sidecars), f"tenant-{random.randrange(TENANTS)}"
        self._waits.append(await sidecar.request(EVERYTHING, tenant, _REQUEST_SECONDS))

    def _lost(self) -> int:
        return sum(sidecar.lost for sidecar in self._sidecars)


def _percentiles(waits: list[float]) -> list[float]:
    """p50 and p99, in ms."""
    if len(waits) < 2:
        return [0.0, 0.0]
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return [cuts[49] * 1000, cuts[98] * 1000]


async def serve(url: str) -> None:
    """Obey until standard input ends."""
    crowd, loop = Crowd(url), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        await crowd.grow(asked["sidecars"])
        print(json.dumps(await crowd.run(asked["rate"], asked["seconds"])), flush=True)
    await crowd.aclose()


if __name__ == "__main__":
    log_failures_only()
    uvloop.run(serve(sys.argv[1]))
