"""What encoding a request brings to light: fields that are wrong, and settings that are left out."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from outrider import v1
from outrider.core.errors import Violation

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Findings:
    """Collects violations and warnings; `field` is always a path in the request."""

    __slots__ = ("violations", "warnings")

    def __init__(self, warnings: list[v1.Warning]) -> None:
        self.violations: list[Violation] = []
        self.warnings = warnings

    def warn(self, field: str, message: str) -> None:
        """Tell the caller of a setting that is not honoured."""
        self.warnings.append(v1.Warning(code="SETTING_NOT_SUPPORTED", field=field, message=message))

    def refuse(self, field: str, description: str) -> None:
        """Note a field that is wrong."""
        self.violations.append(Violation(field, description))

    def json_object(self, text: str, field: str) -> msgspec.Raw:
        """A JSON object as it was written; anything else is refused."""
        return self._json(_OBJECT, text, field, "a JSON object")

    def json_array(self, text: str, field: str) -> msgspec.Raw:
        """A JSON array as it was written; anything else is refused."""
        return self._json(_ARRAY, text, field, "a JSON array")

    def _json(self, decoder: msgspec.json.Decoder[Any], text: str, field: str, expected: str) -> msgspec.Raw:
        try:
            decoder.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            self.refuse(field, f"must be {expected}: {error}")
        return msgspec.Raw(text.encode())
