"""The load: a process of its own that makes calls and says what they took.

Reads one command a line from standard input, writes one result a line to standard output, and ends with its
standard input. `Load` is the other end of it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.calls import CallError, Target
from benchmarks.grpc_client import GrpcClient
from benchmarks.http_client import HttpClient
from benchmarks.processes import LOAD_CORE, Child, ProcessTree, python, running
from benchmarks.redis_server import Figures, figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.calls import Call, Client

_WARM_UP: Final = 64  # calls, most, before those that count: they open what connections both sides need
_BOUND: Final = 150  # seconds of any command
_RETRY: Final = 0.005  # seconds between two tries to reach a process that is starting
_GLANCE: Final = 0.001  # seconds between two looks for a first token
_QUIET: Final = 0.5  # seconds before memory is read


class LoadError(Exception):
    """Calls failed, so there is nothing to report."""


@dataclass(frozen=True, slots=True)
class Work:
    """Calls of one kind at a steady concurrency."""

    model: str
    streaming: bool
    calls: int
    concurrency: int
    tokens: int = 0  # that each call must bring
    opened: bool = False  # only: each call is left open after its first token, and the next one begun


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the calls took. Seconds."""

    calls: int
    wall: float
    subject_cpu: float
    load_cpu: float
    mock_cpu: float
    latency: tuple[float, float]  # p50 and p99 of a call
    first_token: tuple[float, float]
    gap: tuple[float, float]  # between two reads of one stream that brought tokens
    redis: Figures  # what the subject's Redis did


class Load:
    """Sends commands to the load's process."""

    def __init__(self, child: Child, mock: Child) -> None:
        self._child = child
        self._mock = mock.tree.pid

    def run(self, target: Target, subject: Child | None, work: Work) -> Outcome:
        """Make the calls. Raises LoadError."""
        answer = self._ask("run", target, subject, work=asdict(work))
        pairs = {name: tuple(answer[name]) for name in ("latency", "first_token", "gap")}
        return Outcome(**{**answer, **pairs, "redis": Figures(**answer["redis"])})

    def hold(self, target: Target, subject: Child, model: str, streams: Sequence[int]) -> list[float]:
        """Memory in MiB with so many streams open, then with so many. Raises LoadError."""
        return [float(mib) for mib in self._ask("hold", target, subject, model=model, streams=streams)]

    def first_answer(self, target: Target, subject: Child) -> float:
        """When, by the machine's monotonic clock, the first call was answered. Raises LoadError."""
        return float(self._ask("first_answer", target, subject))

    def _ask(self, command: str, target: Target, subject: Child | None, **arguments: object) -> Any:
        pids = {"subject": subject.tree.pid if subject else None, "mock": self._mock}
        asked = {"command": command, "target": asdict(target), "pids": pids, **arguments}
        answer = self._child.ask(asked)
        if "error" in answer:
            said = f"; it says: {subject.said()[-500:]}" if subject and not subject.alive() else ""
            raise LoadError(answer["error"] + said)
        return answer["result"]


@contextmanager
def load(mock: Child) -> Iterator[Load]:
    """The load, until the block ends."""
    with running(python("benchmarks.load"), core=LOAD_CORE) as child:
        yield Load(child, mock)


def _connect(target: Target) -> Client:
    return GrpcClient(target) if target.protocol == "grpc" else HttpClient(target)


async def _run(client: Client, pids: dict[str, int | None], work: Work, port: int) -> dict[str, Any]:
    await client.connect(work.concurrency)
    if not work.opened:
        await _calls(client, work, min(work.concurrency, _WARM_UP))
    await client.connect(work.concurrency)
    trees = {name: ProcessTree(pid) for name, pid in pids.items() if pid}
    cpu, redis = {name: tree.cpu_seconds() for name, tree in trees.items()}, _figures(port)
    own, started = time.process_time(), time.perf_counter()
    calls = await (_open_calls if work.opened else _calls)(client, work, work.calls)
    wall, own = time.perf_counter() - started, time.process_time() - own
    used = {name: tree.cpu_seconds() - cpu[name] for name, tree in trees.items()}
    return {
        "redis": asdict(_figures(port) - redis),
        "calls": len(calls),
        "wall": wall,
        "subject_cpu": used.get("subject", 0.0),
        "load_cpu": own,
        "mock_cpu": used["mock"],
        "latency": _percentiles([ended - call.started for call, ended in calls]),
        "first_token": _percentiles([call.stamps[0] - call.started for call, _ in calls]),
        "gap": _percentiles([late - early for call, _ in calls for early, late in pairwise(call.stamps)]),
    }


async def _calls(client: Client, work: Work, count: int) -> list[tuple[Call, float]]:
    """Each call with the time at which it ended. The first failure ends them all."""
    remaining = iter(range(count))
    ended: list[tuple[Call, float]] = []

    async def caller() -> None:
        for _ in remaining:
            call = client.start(work.model, streaming=work.streaming)
            await call.wait()
            ended.append((call, time.perf_counter()))
            if call.tokens != work.tokens:
                raise CallError(f"{call.tokens} tokens came instead of {work.tokens}")

    async with asyncio.TaskGroup() as callers:
        for _ in range(work.concurrency):
            callers.create_task(caller())
    return ended


async def _open_calls(client: Client, work: Work, count: int) -> list[tuple[Call, float]]:
    """Calls that have had their first token, each with the time at which that was seen."""
    opened: list[tuple[Call, float]] = []
    for _ in range(count):
        call = client.start(work.model, streaming=work.streaming)
        while not call.stamps:
            await asyncio.sleep(_GLANCE)
            if call.failed:
                await call.wait()
        opened.append((call, call.stamps[0]))
    return opened


def _figures(port: int) -> Figures:
    return figures(port) if port else Figures()


async def _hold(client: Client, tree: ProcessTree, model: str, streams: list[int]) -> list[float]:
    await client.connect(max(streams))
    open_: list[Call] = []
    memory: list[float] = []
    for count in streams:
        open_ += [client.start(model, streaming=True) for _ in range(count - len(open_))]
        while not all(call.stamps for call in open_):
            await asyncio.sleep(_RETRY)
            if failed := [call for call in open_ if call.failed]:
                await failed[0].wait()
        await asyncio.sleep(_QUIET)
        memory.append(tree.rss_mib())
    return memory


async def _first_answer(target: Target, subject: ProcessTree) -> float:
    while subject.rss_mib():  # a process that has ended has none
        client = _connect(target)
        try:
            await client.connect(1)
            await client.start("unary", streaming=False).wait()
        except (OSError, CallError):
            await asyncio.sleep(_RETRY)
        else:
            return time.monotonic()
        finally:
            client.abort()
    raise CallError("it ended before it answered")


def _percentiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (0.0, 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


async def _obey(asked: dict[str, Any]) -> Any:
    target = Target(**asked["target"])
    if asked["command"] == "first_answer":
        return await _first_answer(target, ProcessTree(asked["pids"]["subject"]))
    client = _connect(target)
    try:
        if asked["command"] == "hold":
            subject = ProcessTree(asked["pids"]["subject"])
            return await _hold(client, subject, asked["model"], asked["streams"])
        return await _run(client, asked["pids"], Work(**asked["work"]), target.redis)
    finally:
        client.abort()


def _answer(line: str) -> dict[str, Any]:
    async def bounded() -> Any:
        async with asyncio.timeout(_BOUND):
            return await _obey(json.loads(line))

    try:
        return {"result": uvloop.run(bounded())}
    except* (CallError, OSError) as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        failed = {"error": f"{type(first).__name__}: {first}"}
    return failed


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_answer(line)), flush=True)
