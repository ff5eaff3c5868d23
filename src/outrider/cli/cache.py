"""`outrider cache`: how the cache of answers does, and making it forget."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.command_error import usage_error
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import print_json
from outrider.cli.terminal import dim
from outrider.v1.cache_service_pb2_grpc import CacheServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers, or forget. Raises CommandError."""
    selector = _selector(arguments)
    if not arguments.clear:
        if selector.ByteSize():
            raise usage_error("what is to be forgotten is told with --clear")
        return _show(arguments)
    if not selector.ByteSize():
        if not _is_meant(arguments):
            print("Nothing was forgotten.", file=sys.stderr)
            return ExitCode.FAILED
        selector.all = True
    return _clear(arguments, selector)


def _show(arguments: argparse.Namespace) -> int:
    with connect(arguments) as sidecar:
        stats = CacheServiceStub(sidecar.channel).GetCacheStats(v1.GetCacheStatsRequest(), **sidecar.call)
    if arguments.json:
        print_json(stats)
        return ExitCode.OK
    for label, text in _rows(stats):
        print(f"{dim(f'{label:<7}', sys.stdout)} {text}")
    return ExitCode.OK


def _clear(arguments: argparse.Namespace, selector: v1.InvalidateCacheRequest) -> int:
    with connect(arguments) as sidecar:
        response = CacheServiceStub(sidecar.channel).InvalidateCache(selector, **sidecar.call)
    if arguments.json:
        print_json(response)
    else:
        print(f"{response.removed:,} answer{'' if response.removed == 1 else 's'} forgotten.")
    return ExitCode.OK


def _selector(arguments: argparse.Namespace) -> v1.InvalidateCacheRequest:
    """What was given. A script's variable that is empty must not come to mean everything."""
    for name in ("key", "model", "tenant"):
        if getattr(arguments, name) == "":
            raise usage_error(f"--{name} is empty")
    return v1.InvalidateCacheRequest(
        key=arguments.key, model=arguments.model, tenant=arguments.tenant, labels=dict(arguments.label)
    )


def _is_meant(arguments: argparse.Namespace) -> bool:
    """Whether every answer is to be forgotten. Raises CommandError where nobody can be asked."""
    if arguments.yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise usage_error("this would forget every answer; --yes says that it is meant")
    print(
        "Forget every answer, for all sidecars that share the cache? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _rows(stats: v1.GetCacheStatsResponse) -> Iterator[tuple[str, str]]:
    parts = {
        "from memory": stats.memory_hits,
        "shared": stats.shared_hits,
        "joined": stats.joined,
        "stale": stats.stale_hits,
    }
    hits = sum(parts.values())
    looked = hits + stats.misses
    share = f" ({hits / looked:.1%})" if looked else ""
    yield "hits", f"{hits:,} of {looked:,} requests{share}" + _of_which(parts)
    yield "stored", f"{stats.stored:,} answers · {stats.evicted:,} had to leave memory"
    limit = stats.memory_limit_bytes
    full = f" ({stats.memory_bytes / limit:.0%})" if limit else ""
    memory = f"{units.size(stats.memory_bytes)} of {units.size(limit)}{full}"
    yield "memory", f"{stats.memory_entries:,} answers · {memory}"
    yield "shared", "with other sidecars" if stats.shared else "no, in this sidecar alone"
    saved = units.rounded_usd(stats.saved_nano_usd, units.decimals(stats.saved_nano_usd))
    yield "saved", f"{saved} · {units.span(stats.saved_seconds)} of waiting"


def _of_which(parts: dict[str, int]) -> str:
    said = ", ".join(f"{number:,} {name}" for name, number in parts.items() if number)
    return f": {said}" if said else ""
