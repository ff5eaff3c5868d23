"""Whether a request may be answered from the cache, and its answer stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.context import ANYONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.core.context import RequestContext


class CacheMode(StrEnum):
    """What of a route is cached."""

    DEFAULT = "default"  # requests with temperature 0, and those that ask
    ALWAYS = "always"
    NEVER = "never"  # whatever a request asks


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How the answers of a route are cached. Times are seconds."""

    mode: CacheMode = CacheMode.DEFAULT
    ttl: float = 3_600.0
    stale: float = 0.0  # how long beyond that an answer may be given where nothing else can
    shared_between_tenants: bool = False


class CacheUse(NamedTuple):
    """What the cache does for one request."""

    rules: CacheRules
    read: bool = False
    store: bool = False
    may_ask: bool = True  # whether a provider may be asked
    asked: bool = True  # whether the request or its route asks for it; False: it is just deterministic


class CachePlan:
    """What the cache does for each request, by the route it names and the policy it carries."""

    def __init__(self, common: CacheRules, routes: Mapping[str, CacheRules]) -> None:
        self._common = _uses(common)
        self._uses = {name: _uses(rules) for name, rules in routes.items()}

    def use(self, request: v1.GenerateRequest) -> CacheUse | None:
        """What to do with a request; None: nothing. Takes under a microsecond."""
        uses = self._uses.get(request.model, self._common)
        use = uses.get(request.cache_policy, uses[v1.CACHE_POLICY_DEFAULT])
        if use is None or use.asked or _is_deterministic(request):
            return use
        return None


def namespace(context: RequestContext, rules: CacheRules) -> str:
    """Within which a request and its answer are known: callers of one never see answers of another."""
    if rules.shared_between_tenants:
        return "shared"
    if context.tenant:
        return f"tenant={context.tenant}"
    return "" if context.principal is ANYONE else f"caller={context.principal.name}"


def is_fresh(age: float, fresh_for: float, rules: CacheRules) -> bool:
    """Whether an answer of this age may be given on a route: both its own time and the route's count."""
    return age < min(fresh_for, rules.ttl)


def _uses(rules: CacheRules) -> dict[int, CacheUse | None]:
    """What each policy means on a route."""
    never = rules.mode is CacheMode.NEVER
    default = CacheUse(rules, read=True, store=True, asked=rules.mode is CacheMode.ALWAYS)
    return {
        v1.CACHE_POLICY_DEFAULT: None if never else default,
        v1.CACHE_POLICY_BYPASS: None,
        # What a route that is never cached cannot give is an answer to an ask, so it is told of.
        v1.CACHE_POLICY_REFRESH: CacheUse(rules, store=not never),
        v1.CACHE_POLICY_ONLY: CacheUse(rules, read=not never, may_ask=False),
        v1.CACHE_POLICY_USE: CacheUse(rules, read=not never, store=not never),
    }


def _is_deterministic(request: v1.GenerateRequest) -> bool:
    sampling = request.sampling
    return sampling.temperature == 0 and sampling.HasField("temperature")
