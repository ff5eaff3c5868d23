"""What would become of a request, and why. Runs nothing, and leaves no trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider.policy.planner import with_fallbacks
from outrider.policy.route_order import Ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1
    from outrider.core.context import Target
    from outrider.policy.planner import Candidates, Planner
    from outrider.policy.route_table import Route

_UNWELL = "; unwell now: it keeps failing, or has asked for a pause"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The plan of a request, empty where nothing fits, and what was left out of it."""

    route: Route | None
    candidates: tuple[Target, ...]
    plan: Sequence[Ranked]
    left_out: Sequence[Ranked]


async def explain(planner: Planner, request: v1.GenerateRequest) -> Explanation:
    """The plan for a stream, with reasons. The request gets its parameters.

    Raises GenerationError MODEL_UNKNOWN.
    """
    candidates = planner.candidates(request)
    tokens = await planner.count(planner.capabilities.too_small(candidates.all, request), request)
    fitting, unfit = planner.capabilities.sort_out(candidates.all, request, tokens)
    ranked = _ranked(planner, candidates, fitting, request)
    plan = _with_own_fallbacks(candidates, ranked, fitting)
    planned = [each.target for each in plan]
    left_out = [
        *(Ranked(each.target, each.why) for each in unfit),
        *(Ranked(each.target, _why_not(candidates)) for each in ranked if each.target not in planned),
    ]
    if candidates.fallbacks != ():
        plan = _well_first(planner, plan)
    return Explanation(candidates.route, candidates.all, plan, left_out)


def _ranked(
    planner: Planner, candidates: Candidates, fitting: Sequence[Target], request: v1.GenerateRequest
) -> list[Ranked]:
    own = [each for each in candidates.targets if each in fitting]
    if candidates.route is None:
        return [Ranked(each, "the model that the request names") for each in own]
    return planner.orders.explain(candidates.route, own, request, streaming=True)


def _with_own_fallbacks(
    candidates: Candidates, ranked: Sequence[Ranked], fitting: Sequence[Target]
) -> list[Ranked]:
    if candidates.fallbacks is None:
        return list(ranked)
    others = [each for each in candidates.fallbacks if each in fitting]
    first = dict(ranked[:1])
    return [
        Ranked(each, first.get(each, "a fallback that the request names"))
        for each in with_fallbacks([*first], others)
    ]


def _why_not(candidates: Candidates) -> str:
    return "the request names other fallbacks" if candidates.fallbacks else "the request wants no fallback"


def _well_first(planner: Planner, plan: Sequence[Ranked]) -> list[Ranked]:
    reasons = dict(plan)
    return [
        Ranked(each, reasons[each] + ("" if planner.available(each) else _UNWELL))
        for each in planner.well_first([*reasons])
    ]
