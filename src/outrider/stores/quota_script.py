"""How the script that counts in Redis is called: its keys and arguments."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeAlias

from outrider.core.quota import Bound, Charge, Meter, Rate, Window
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

Argument: TypeAlias = str | int | float

SECOND = 1_000_000  # of Redis's microseconds
SCRIPT = Script(
    "\n".join(
        files("outrider.stores").joinpath(name).read_text(encoding="utf-8")
        for name in ("calendar_period.lua", "quota.lua")
    )
)


def key_of(prefix: str, meter: Meter) -> str:
    """Where a meter is kept: all of a scope on one node of a Cluster."""
    return f"{prefix}:quota:{{{meter.scope}}}:{meter.key}"


def once_key(prefix: str, scope: str, name: str) -> str:
    """Where it is kept that something was done."""
    return f"{prefix}:quota:{{{scope}}}:once:{name}"


def keys_of(prefix: str, charges: Sequence[Charge]) -> list[str]:
    """The keys of meters of one scope."""
    keys = []
    for meter, _ in charges:
        key = key_of(prefix, meter)
        keys.append(key)
        if isinstance(meter.bound, Window):
            keys.append(f"{key}:holds")
    return keys


def arguments_of(
    charges: Sequence[Charge], used: Sequence[int], lease: float, *, taking: bool
) -> list[Argument]:
    """The arguments that describe charges; `taking`: to reserve them."""
    arguments: list[Argument] = []
    for (meter, amount), really in zip(charges, used, strict=True):
        arguments += _bound_arguments(meter.bound, lease, taking)
        arguments.append(amount)
        arguments.append(really)
    return arguments


@lru_cache(maxsize=4096)
def _bound_arguments(bound: Bound, lease: float, taking: bool) -> tuple[Argument, ...]:
    if isinstance(bound, Rate):
        return ("rate", 60 * SECOND / bound.per_minute, bound.burst, bound.most)
    if isinstance(bound, Window):
        sums = ",".join(str(math.ceil(share * bound.limit)) for share in sorted(bound.soft))
        return ("window", bound.period.value, bound.limit, int(bound.hard) if taking else sums)
    return ("places", bound.limit, int(lease * SECOND), 0)
