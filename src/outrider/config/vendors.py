"""What the configuration itself knows of vendors: their names, and the variables that hold their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.config.tree import Origin, Tree, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "groq": "GROQ_API_KEY",
}
SIMULATED = "simulated"
VENDORS = (*KEY_VARIABLES, SIMULATED)


def add_providers(tree: Tree, environ: Mapping[str, str]) -> None:
    """Make the providers of a sidecar that was given none: vendors with a key or a mention, and `simulated`.

    A vendor that is mentioned but has no key is made all the same, so that it is disabled, not unknown.
    """
    own = tree.get("providers")
    configured = own if isinstance(own, dict) else {}
    wanted = {name for name, variable in KEY_VARIABLES.items() if environ.get(variable)}
    wanted.update(_mentioned(tree), configured)
    others = (name for name in configured if name not in VENDORS)
    names = (*(name for name in KEY_VARIABLES if name in wanted), *others, SIMULATED)
    tree.root["providers"] = {name: configured.get(name, {}) for name in names}


def add_keys(tree: Tree, environ: Mapping[str, str]) -> None:
    """Give vendors for which no key is written the one of their standard variable."""
    for name in tree.keys("providers"):
        variable = KEY_VARIABLES.get(name, "")
        key = environ.get(variable, "").strip()
        written = tree.get("providers", name, "api_key") is not None
        if key and not written and not tree.get("providers", name, "api_key_file"):
            tree.put(("providers", name, "api_key"), key, Origin(variable))


def _mentioned(tree: Tree) -> Iterator[str]:
    targets: list[Value] = [
        tree.get(key) for key in ("primary_provider", "fallback_provider", "default_model")
    ]
    for name in tree.keys("routes"):
        route = tree.get("routes", name)
        listed = route.get("targets") if isinstance(route, dict) else route
        targets += map(_name_of, listed) if isinstance(listed, list) else ()
    return (target.partition("/")[0].lower() for target in targets if isinstance(target, str))


def _name_of(target: Value) -> Value:
    return target.get("target") if isinstance(target, dict) else target
