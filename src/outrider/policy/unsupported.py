"""What a request may ask and this sidecar cannot do: warned of, never dropped silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY = "idempotency_key"


def warnings_for(request: v1.GenerateRequest) -> list[v1.Warning]:
    """The settings of a request that the sidecar itself cannot honour."""
    found = []
    if request.idempotency_key:
        found.append(unsupported(_KEY, "keys are kept for jobs alone: the same one may run twice"))
    return found


def about_the_answer(warnings: Iterable[v1.Warning]) -> list[v1.Warning]:
    """Those that hold for every request with this answer; the rest are the concern of one request."""
    return [warning for warning in warnings if warning.field != _KEY]


def unsupported(field: str, message: str) -> v1.Warning:
    """The warning that a field of the request is not honoured."""
    return v1.Warning(code="SETTING_NOT_SUPPORTED", field=field, message=message)
