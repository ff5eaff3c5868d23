"""`make scaling`: what a fleet of sidecars costs one real Redis, and where that is the end of one Redis.

Three things, with the sidecars' real stores: what a request costs Redis by feature when it is asked as fast
as it can answer; a simulation of up to 1,000 sidecars; and one real sidecar that has nothing to do. Writes
scaling.json, scaling.md and scaling.svg to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.conditions import conditions
from benchmarks.feature_subjects import REDIS
from benchmarks.fleet_report import AT_REST, WHOLE, Ceiling, Step, picture, report
from benchmarks.load import load
from benchmarks.logical_sidecar import EVERYTHING, Uses, log_failures_only
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, on_core, python, running
from benchmarks.progress import show
from benchmarks.redis_server import figures, info, redis_server
from benchmarks.replay import forget, replay
from benchmarks.subjects import mock_upstream
from benchmarks.tape import record_requests, record_rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.fleet_report import Idle
    from benchmarks.processes import Child
    from benchmarks.redis_server import Redis
    from benchmarks.tape import Batch

_RESULTS: Final = Path(__file__).with_name("results")
_FEATURES: Final = {
    "request limit of a tenant": Uses(requests=True),
    "token limit of a tenant": Uses(tokens=True),
    "budget of a tenant": Uses(budget=True),
    "all three": Uses(requests=True, tokens=True, budget=True),
    "request limit of a provider": Uses(provider=True),
    "cache, miss": Uses(cache=True),
    "cache, hit": Uses(hit=True),
    "ledger, ungathered": Uses(ledger=True),
    WHOLE: EVERYTHING,
}
_CONNECTIONS: Final = 200
_CROWD_CORES: Final = (
    LOAD_CORE,
    SUBJECT_CORE,
    LOAD_CORE,
    LOAD_CORE,
)  # a thousand sidecars need more than one
_SETTLING: Final = 1.5  # seconds of load before it counts
_IDLE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and for how long."""

    pods: Sequence[int] = (125, 250, 500, 1000)
    rate: float = 0.5  # requests a second for each pod
    seconds: float = 4.0  # of each round
    rounds: int = 3  # of each step
    requests: int = 4000  # that are recorded of each feature


def main() -> None:
    """Measure, report, write."""
    parser = argparse.ArgumentParser(description="What a fleet of sidecars costs one Redis.")
    parser.add_argument("--pods", type=int, nargs="+", default=list(Plan().pods), help="sizes, upwards")
    parser.add_argument("--rate", type=float, default=Plan().rate, help="requests a second for each pod")
    parser.add_argument("--seconds", type=float, default=Plan().seconds, help="of each round")
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="of each step; the median counts")
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR", help="where results go")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="write the plot here too")
    arguments = parser.parse_args()
    results = measure(Plan(arguments.pods, arguments.rate, arguments.seconds, arguments.rounds))
    text, drawn = report(results), picture(results)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "scaling.json").write_text(json.dumps(results, indent=1))
    (arguments.results / "scaling.md").write_text(text)
    for path in filter(None, [arguments.results / "scaling.svg", arguments.plot]):
        path.write_text(drawn)
    print(text)


def measure(plan: Plan) -> dict[str, Any]:
    """Everything, as JSON has it."""
    log_failures_only()
    before = conditions()
    with on_core(LOAD_CORE):
        ceilings = [rest(), *(ceiling(name, uses, plan.requests) for name, uses in _FEATURES.items())]
        steps = simulate(plan)
        idle = real_idle()
    show("")
    return {
        "conditions": before,
        "rate": plan.rate,
        "ceilings": [each.as_json() for each in ceilings],
        "steps": [each.as_json() for each in steps],
        "idle": idle,
    }


def ceiling(name: str, uses: Uses, requests: int) -> Ceiling:
    """What requests cost a Redis that has no moment to spare."""
    show(f"recording and replaying: {name}")
    with redis_server(SUBJECT_CORE) as redis:
        tapes = asyncio.run(record_requests(redis.port, uses, requests))
        if not uses.hit:
            forget(redis.port)
        return _replayed(redis, name, tapes, requests)


def rest(sidecars: int = 50, seconds: float = 6.0) -> Ceiling:
    """The same of a second in which nobody asks anything of a sidecar."""
    show("recording and replaying: sidecars at rest")
    with redis_server(SUBJECT_CORE) as redis:
        tapes = asyncio.run(record_rest(redis.port, sidecars, seconds))
        return _replayed(redis, AT_REST, tapes, sidecars * seconds)


def _replayed(redis: Redis, name: str, tapes: Sequence[Sequence[Batch]], made: float) -> Ceiling:
    before = figures(redis.port)
    seconds = replay(redis.port, tapes, _CONNECTIONS)
    used = figures(redis.port) - before
    return Ceiling(
        name=name,
        cpu_us=used.cpu * 1e6 / made,
        busy=used.cpu / seconds,
        round_trips=sum(map(len, tapes)) / made,
        sent=sum(batch.commands for one in tapes for batch in one) / made,
        commands=used.commands / made,
        kilobytes=(used.bytes_in + used.bytes_out) / made / 1000,
    )


def simulate(plan: Plan) -> list[Step]:
    """A fleet that grows: under load at every size, at its largest under twice the load, and at rest."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(SUBJECT_CORE))
        command = python("benchmarks.fleet_process", redis.url)
        crowds = [stack.enter_context(running(command, core=core)) for core in _CROWD_CORES]
        most = plan.pods[-1]
        sizes = [*((pods, plan.rate) for pods in plan.pods), (most, 2 * plan.rate), (most, 0.0)]
        return [_step(redis, crowds, *size, plan) for size in sizes]


def _step(redis: Redis, crowds: Sequence[Child], pods: int, rate: float, plan: Plan) -> Step:
    show(f"{pods} sidecars, {rate:g} requests a second each")
    started = {"sidecars": pods // len(crowds), "rate": 0.0, "seconds": 0.0}
    for crowd in crowds:
        crowd.tell(started)
    for crowd in crowds:
        crowd.hear()
    rounds = [_round(redis, crowds, pods, rate, plan.seconds).as_json() for _ in range(plan.rounds)]
    return Step(**{name: statistics.median(one[name] for one in rounds) for name in rounds[0]})


def _round(redis: Redis, crowds: Sequence[Child], pods: int, rate: float, seconds: float) -> Step:
    asked = {"sidecars": pods // len(crowds), "rate": pods * rate / len(crowds)}
    for crowd in crowds:
        crowd.tell({**asked, "seconds": _SETTLING + seconds})
    time.sleep(_SETTLING)
    tree = redis.child.tree
    before, cpu, began = figures(redis.port), tree.cpu_seconds(), time.perf_counter()
    time.sleep(max(0.0, seconds - 0.2))
    took = time.perf_counter() - began
    used, cpu = figures(redis.port) - before, tree.cpu_seconds() - cpu
    answers = [crowd.hear() for crowd in crowds]
    return Step(
        pods=pods,
        rate=rate,
        requests_per_s=sum(answer["requests"] for answer in answers) / (_SETTLING + seconds),
        cpu=cpu / took,
        scripts_per_s=used.scripts / took,
        commands_per_s=used.commands / took,
        reads_per_s=used.reads / took,
        megabits_per_s=(used.bytes_in + used.bytes_out) * 8 / took / 1e6,
        memory_mib=int(info(redis.port)["used_memory"]) / 2**20,
        wait_p50_ms=sum(answer["waits"][0] for answer in answers) / len(answers),
        wait_p99_ms=max(answer["waits"][1] for answer in answers),
        lost=sum(answer["lost"] for answer in answers),
        drivers=sum(answer["busy"] for answer in answers),
    )


def real_idle() -> Idle:
    """What one real sidecar asks of Redis when nobody asks anything of it, for each second."""
    show("one real sidecar, idle")
    with (
        tempfile.TemporaryDirectory() as folder,
        mock_upstream(Path(folder)) as mock,
        load(mock.child) as loaded,
        REDIS.start(mock, Path(folder)) as (child, target),
    ):
        loaded.first_answer(target, child)
        time.sleep(_SETTLING)
        before = figures(target.redis)
        time.sleep(_IDLE_SECONDS)
        used = figures(target.redis) - before
    return {
        "reads_per_s": used.reads / _IDLE_SECONDS,
        "scripts_per_s": used.scripts / _IDLE_SECONDS,
        "commands_per_s": used.commands / _IDLE_SECONDS,
    }


if __name__ == "__main__":
    main()
