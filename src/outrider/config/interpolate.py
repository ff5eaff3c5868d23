"""`${NAME}` and `${NAME:-default}` in the values of the file; `$${` stands for `${` itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from outrider.config.tree import Finding, KeyPath, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^{}]*)?\})?")


class Interpolation:
    """Replaces references by values of the environment; `findings` tells what could not be replaced."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self._environ = environ

    def apply(self, value: Value, path: KeyPath = ()) -> Value:
        """The value with every reference in it replaced; None instead of a text where that cannot be done."""
        if isinstance(value, dict):
            return {key: self.apply(child, (*path, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [self.apply(child, (*path, position)) for position, child in enumerate(value)]
        return self._expand(value, path) if value and "${" in value else value

    def _expand(self, text: str, path: KeyPath) -> str | None:
        faults: list[str] = []
        unset: list[str] = []
        expanded = _REFERENCE.sub(lambda reference: self._replace(reference, faults, unset), text)
        if unset and not faults and _is_key(path):
            return ""
        faults += (f"the variable {name} is not set; set it, or write ${{{name}:-default}}" for name in unset)
        self.findings += (Finding(path, fault) for fault in faults)
        return None if faults else expanded

    def _replace(self, reference: re.Match[str], faults: list[str], unset: list[str]) -> str:
        if reference[0] == "$${":
            return "${"
        name, default = reference["name"], reference["default"]
        if name is None:
            faults.append("write ${NAME} or ${NAME:-default}, and $${ for a literal ${")
            return ""
        value = self._environ.get(name, "")
        if not value and default is not None:
            return str(default).removeprefix(":-")
        if name not in self._environ:
            unset.append(name)
        return value


def _is_key(path: KeyPath) -> bool:
    """Whether this is a provider's key: one without a value disables the provider and is no error."""
    return len(path) == 3 and path[0] == "providers" and path[2] == "api_key"
