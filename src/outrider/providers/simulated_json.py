"""JSON that fits a JSON Schema, always the same, for answers and arguments of simulated models."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from outrider.core.errors import GenerationError, Reason

_MAX_DEPTH: Final = 12
_MAX_VALUES: Final = 1000  # a schema that refers to itself would have no end
_BY_TYPE: Final[dict[str, Any]] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


def sample(schema_json: str) -> str:
    """JSON text for a schema; "{}" for an empty one. Formats, patterns and lengths are not looked at.

    Raises GenerationError with INVALID_REQUEST where it is no JSON Schema.
    """
    if not schema_json:
        return "{}"
    try:
        schema = msgspec.json.decode(schema_json)
        return msgspec.json.encode(_Sampler(schema).value(schema, 0)).decode()
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, RecursionError):
        raise GenerationError(Reason.INVALID_REQUEST, "simulated: a JSON schema cannot be read") from None


class _Sampler:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._room = _MAX_VALUES

    def value(self, schema: Any, depth: int) -> Any:
        self._room -= 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self._room < 0:
            return None
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self.value(schema[key][0], depth + 1)
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object")
        if isinstance(kind, list):
            kind = kind[0] if kind else "object"
        if kind == "object":
            properties = schema.get("properties") or {}
            return {name: self.value(each, depth + 1) for name, each in properties.items()}
        if kind == "array":
            return [self.value(schema.get("items") or {"type": "string"}, depth + 1)]
        if kind in ("integer", "number") and "minimum" in schema:
            return schema["minimum"]
        return _BY_TYPE.get(kind)

    def _resolve(self, reference: str) -> Any:
        """The part of the schema that a reference such as "#/$defs/City" names."""
        found = self._root
        for name in reference.removeprefix("#").split("/")[1:]:
            found = found[name]
        return found
