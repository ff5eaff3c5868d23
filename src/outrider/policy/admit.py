"""Whether a caller is known, and may have what it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.context import NOBODY
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from outrider import v1
    from outrider.core.context import Principal, RequestContext, Target
    from outrider.core.ports import Batch, Handler


def authenticate(inner: Handler) -> Handler:
    """The stage that refuses callers whom nobody knows, before they learn anything."""

    def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
        check_caller(context.principal)
        return inner(context)

    return handle


def check_caller(principal: Principal) -> None:
    """Raise GenerationError CALLER_UNKNOWN for nobody."""
    if principal is NOBODY:
        raise GenerationError(
            Reason.CALLER_UNKNOWN, "send the metadata 'authorization: Bearer <token>' with a caller's token"
        )


def admit(inner: Handler) -> Handler:
    """The stage that refuses models which the caller is not allowed."""

    def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
        check_models(context.principal, context.request, context.plan)
        return inner(context)

    return handle


def check_models(principal: Principal, request: v1.GenerateRequest, plan: tuple[Target, ...]) -> None:
    """Raise GenerationError MODEL_NOT_ALLOWED unless the caller may go wherever the plan leads.

    Being allowed a name is being allowed all that it leads to. Every name in the request counts, those of
    fallbacks too.
    """
    if "*" in principal.models:
        return
    named = [name for name in (request.model, *request.fallback.models) if name]
    denied = [name for name in named if not principal.may_use(name)]
    if request.model and not denied:
        return
    for target in map(str, plan):
        if not principal.may_use(target):
            # Who may not use a route is not told where it leads.
            what = target if target in denied else " or ".join(denied) or target
            raise GenerationError(Reason.MODEL_NOT_ALLOWED, f"{principal.name} may not use {what}")


def may_use_all(principal: Principal, name: str, targets: Iterable[Target]) -> bool:
    """Whether `check_models` lets a caller use a name that leads to these targets."""
    return principal.may_use(name) or all(principal.may_use(str(target)) for target in targets)
