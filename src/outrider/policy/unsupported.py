"""What a request may ask and this sidecar cannot do: refused or warned of, never dropped silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler


def only_stored(inner: Handler) -> Handler:
    """The stage that refuses to ask a provider for a caller who wants a stored answer or none."""

    def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
        if context.request.cache_policy == v1.CACHE_POLICY_ONLY:
            raise GenerationError(Reason.CACHE_MISS, "no answer is stored: this sidecar has no cache")
        return inner(context)

    return handle


def warnings_for(request: v1.GenerateRequest) -> list[v1.Warning]:
    """The settings of a request that the sidecar itself cannot honour."""
    found = []
    if request.cache_policy == v1.CACHE_POLICY_REFRESH:
        found.append(_warning("cache_policy", "this sidecar has no cache: the answer is not stored"))
    if request.unavailability_policy == v1.UNAVAILABILITY_POLICY_QUEUE:
        found.append(_warning("unavailability_policy", "this sidecar has no queue: it fails at once instead"))
    if request.idempotency_key:
        found.append(_warning("idempotency_key", "this sidecar keeps no keys: the same one may run twice"))
    return found


def _warning(field: str, message: str) -> v1.Warning:
    return v1.Warning(code="SETTING_NOT_SUPPORTED", field=field, message=message)
