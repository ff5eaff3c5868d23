"""The stage that turns the model a request names into its plan."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from outrider.core.context import DIRECT
from outrider.policy.admit import check_models
from outrider.policy.capabilities import nothing_fits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Handler, Stage
    from outrider.policy.planner import Candidates, Planner


def route(planner: Planner) -> Stage:
    """The stage. A request that may be too long for a target is counted first, without holding up others."""

    def stage(inner: Handler) -> Handler:
        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            candidates = planner.candidates(context.request)
            unsure = planner.capabilities.too_small(candidates.all, context.request)
            if unsure:
                return _count_first(planner, context, candidates, unsure, inner)
            return inner(_planned(planner, context, candidates, {}))

        return handle

    return stage


async def _count_first(
    planner: Planner,
    context: RequestContext,
    candidates: Candidates,
    unsure: Sequence[Target],
    inner: Handler,
) -> AsyncGenerator[Batch, None]:
    tokens = await planner.count(unsure, context.request)
    async with aclosing(inner(_planned(planner, context, candidates, tokens))) as batches:
        async for batch in batches:
            yield batch


def _planned(
    planner: Planner, context: RequestContext, candidates: Candidates, tokens: Mapping[Target, int]
) -> RequestContext:
    request = context.request
    fitting, left_out = planner.capabilities.sort_out(candidates.all, request, tokens)
    if not fitting:
        # Who may not use them is not told which targets there are.
        check_models(context.principal, request, candidates.all)
        raise nothing_fits(left_out)
    plan = planner.plan(candidates, fitting, request, streaming=context.streaming)
    settings = candidates.route.settings if candidates.route else DIRECT
    return replace(context, plan=plan.targets, route=settings, meant_for=plan.choice)
