"""Which limits and budgets hold for a request: rules about dimensions, and the most exact one of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import quote

from outrider.core.quota import Concurrency, Meter, Rate, Unit, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from outrider import v1
    from outrider.core.context import Principal, Target
    from outrider.core.quota import Bound

EVERYTHING = "all"  # the scope of rules without a dimension

_KEPT = 1024  # combinations of values whose rules are remembered
_PLAIN = "/:@+*!$ "  # left as they are in a scope; what separates its parts is not


class Values(NamedTuple):
    """What a request counts under, by dimension. A value that it does not have is empty, and counts too."""

    provider: str = ""
    model: str = ""  # "provider/model"
    caller: str = ""
    tenant: str = ""
    project: str = ""
    agent: str = ""
    user: str = ""
    route: str = ""  # as the request has it in its `model`

    def at(self, target: Target) -> Values:
        """The same request at a target."""
        return self._replace(provider=target.provider, model=str(target))


DIMENSIONS = Values._fields
_OF_TARGETS = frozenset({"provider", "model"})


def values_of(principal: Principal, attribution: v1.Attribution, route: str = "") -> Values:
    """What a request counts under before it has a target."""
    return Values(
        caller=principal.name,
        tenant=principal.tenant or attribution.tenant,
        project=attribution.project,
        agent=attribution.agent,
        user=attribution.user,
        route=route,
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """Bounds for what fits a scope: dimensions with a value, or the beginning of values and "*".

    Of the rules of one `kind` over the same dimensions the most exact one holds, the first of several.
    Each value that fits is counted on its own.
    """

    scope: Mapping[str, str]
    bounds: Sequence[tuple[Unit, Bound]]
    kind: str = "limits"
    tier: str = ""

    def fits(self, values: Mapping[str, str]) -> bool:
        """Whether it speaks of these values."""
        return all(
            values[dimension] == wanted
            or (wanted.endswith("*") and values[dimension].startswith(wanted[:-1]))
            for dimension, wanted in self.scope.items()
        )

    @property
    def exactness(self) -> tuple[int, int]:
        """More is more exact: values written out, then letters before a "*"."""
        patterns = [wanted for wanted in self.scope.values() if wanted.endswith("*")]
        return len(self.scope) - len(patterns), sum(map(len, patterns))


def is_budget(meter: Meter) -> bool:
    """Whether it is money or tokens of a period: not a limit of how fast they are used."""
    return isinstance(meter.bound, Window) and meter.unit is not Unit.REQUESTS


def most(bound: Bound) -> float:
    """The largest amount that one request can ever be given; infinite where more is only warned of."""
    if isinstance(bound, Rate):
        return bound.most
    if isinstance(bound, Window) and not bound.hard:
        return math.inf
    return bound.limit


@dataclass(frozen=True, slots=True)
class Meters:
    """The meters that a request is held to, in the order of the rules, and what has to be known for them."""

    all: tuple[Meter, ...] = ()
    tokens: bool = False  # whether any counts tokens
    money: bool = False
    concurrency: tuple[Meter, ...] = ()
    budgets: tuple[Meter, ...] = ()  # of what a running answer uses more and more
    hard: bool = False  # whether one of them ends an answer

    @classmethod
    def of(cls, meters: tuple[Meter, ...]) -> Meters:
        """Look at meters once, for all requests to come."""
        units = {meter.unit for meter in meters}
        budgets = tuple(filter(is_budget, meters))
        return cls(
            meters,
            tokens=Unit.TOKENS in units,
            money=Unit.NANO_USD in units,
            concurrency=tuple(meter for meter in meters if isinstance(meter.bound, Concurrency)),
            budgets=budgets,
            hard=any(math.isfinite(most(meter.bound)) for meter in budgets),
        )

    def __bool__(self) -> bool:
        return bool(self.all)


NOTHING = Meters()
_Group: TypeAlias = "Sequence[Rule]"


class LimitBook:
    """All limits and budgets. False where there are none."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        groups: dict[tuple[frozenset[str], str], list[Rule]] = {}
        for rule in rules:
            groups.setdefault((frozenset(rule.scope), rule.kind), []).append(rule)
        self._groups = list(groups.values())
        of_targets = [group for group in self._groups if _OF_TARGETS & group[0].scope.keys()]
        self._of_caller = _remembered([group for group in self._groups if group not in of_targets])
        self._of_target = _remembered(of_targets)
        self._are_of_targets = bool(of_targets)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def of_caller(self, values: Values) -> Meters:
        """What a request is held to once, wherever it goes."""
        return self._of_caller(values)

    def of_target(self, values: Values, target: Target) -> Meters:
        """What each of its tries at a target is held to besides."""
        return self._of_target(values.at(target)) if self._are_of_targets else NOTHING


def _remembered(groups: Sequence[_Group]) -> Callable[[Values], Meters]:
    """Finds the meters of values. Only the dimensions that rules speak of are looked at."""
    if not groups:
        return lambda _: NOTHING
    spoken_of = frozenset(chain.from_iterable(group[0].scope for group in groups))
    used = [position for position, name in enumerate(DIMENSIONS) if name in spoken_of]

    @lru_cache(_KEPT)
    def find(*key: str) -> Meters:
        values = {DIMENSIONS[position]: value for position, value in zip(used, key, strict=True)}
        return Meters.of(tuple(chain.from_iterable(_meters(group, values) for group in groups)))

    return lambda values: find(*[values[position] for position in used])


def _meters(group: _Group, values: Mapping[str, str]) -> Iterator[Meter]:
    rule = max((rule for rule in group if rule.fits(values)), key=lambda rule: rule.exactness, default=None)
    if rule is None:
        return
    named = [f"{name}={quote(values[name], safe=_PLAIN)}" for name in DIMENSIONS if name in rule.scope]
    for unit, bound in rule.bounds:
        yield Meter(",".join(named) or EVERYTHING, unit, bound, rule.tier)
