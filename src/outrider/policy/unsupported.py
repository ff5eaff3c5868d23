"""What a request may ask and this sidecar cannot do: warned of, never dropped silently."""

from __future__ import annotations

from outrider import v1


def unsupported(field: str, message: str) -> v1.Warning:
    """The warning that a field of the request is not honoured."""
    return v1.Warning(code="SETTING_NOT_SUPPORTED", field=field, message=message)
