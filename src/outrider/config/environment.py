"""Settings from environment variables: `OUTRIDER_…`, and names that users' services set already."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from outrider.config import yaml_source
from outrider.config.older_names import OLDER_NAMES
from outrider.config.schema import Config
from outrider.config.shape import is_named, is_scalar, is_section, key_paths, kind_below
from outrider.config.tree import Finding, Origin, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "OUTRIDER_"
FILE_VARIABLE = "OUTRIDER_CONFIG"
_NOT_SETTINGS = frozenset({FILE_VARIABLE, "OUTRIDER_ADDRESS", "OUTRIDER_TOKEN", "OUTRIDER_RECORDED"})

ALIASES = {
    "LLM_RETRY_MAX_ATTEMPTS": ("attempts", "max_attempts"),
    "LLM_RETRY_BASE_DELAY": ("attempts", "base_delay"),
    "LLM_RESPONSE_TIMEOUT": ("timeouts", "total"),
    "LLM_MAX_RESPONSE_SIZE": ("limits", "max_response_bytes"),
    "LLM_PRIMARY_PROVIDER": ("primary_provider",),
    "LLM_FALLBACK_PROVIDER": ("fallback_provider",),
    "LLM_MAX_TOKENS": ("defaults", "max_output_tokens"),
    "LLM_TEMPERATURE": ("defaults", "temperature"),
    "LLM_ENABLE_USAGE_TRACKING": ("usage", "enabled"),
    "REDIS_URL": ("redis", "url"),
}
GROQ_ALIASES = {
    "GROQ_MODEL": ("providers", "groq", "default_model"),
    "GROQ_TIMEOUT": ("providers", "groq", "timeouts", "total"),
    "GROQ_MAX_RETRIES": ("providers", "groq", "attempts", "max_attempts"),
    "GROQ_RATE_LIMIT_RPM": ("providers", "groq", "limits", "requests_per_minute"),
    "GROQ_RATE_LIMIT_RPD": ("providers", "groq", "limits", "requests_per_day"),
}

# Kubernetes sets these in every pod beside a Service that is named "outrider" or "outrider-…":
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"OUTRIDER_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URLS = ("tcp://", "udp://", "sctp://")


class _Place(NamedTuple):
    """Where a variable leads: the path of a setting, and its kind."""

    path: tuple[str, ...]
    kind: Any


def apply_overrides(tree: Tree, environ: Mapping[str, str]) -> list[Finding]:
    """Put every `OUTRIDER_…` variable over what is in the tree. Returns those that cannot be used."""
    found: list[Finding] = []
    # Whole mappings come before settings in them.
    for variable in sorted(environ, key=lambda name: (name.count("__"), name)):
        if variable.startswith(PREFIX) and not _is_foreign(variable, environ[variable]):
            found += _override(tree, variable, environ[variable])
    return found


def apply_aliases(tree: Tree, environ: Mapping[str, str], aliases: Mapping[str, tuple[str, ...]]) -> None:
    """Put the aliases that are set where the tree says nothing; those of a provider only where it exists."""
    for variable, path in aliases.items():
        known = path[0] != "providers" or path[1] in tree.keys("providers")
        text = environ.get(variable)
        if text and known and tree.get(*path) is None:
            tree.put(path, _attempts(text) if variable.endswith("_RETRIES") else text, Origin(variable))


def _attempts(retries: str) -> str:
    """Attempts count the first try, retries do not."""
    return str(int(retries) + 1) if retries.isdecimal() and len(retries) < 10 else retries


def _override(tree: Tree, variable: str, text: str) -> Iterator[Finding]:
    origin = Origin(variable)
    place = _locate(tree, variable)
    if isinstance(place, str):
        yield Finding((), place, origin)
    elif is_scalar(place.kind):
        tree.put(place.path, text, origin)
    else:
        yield from _override_structure(tree, place.path, text, origin)


def _override_structure(tree: Tree, path: tuple[str, ...], text: str, origin: Origin) -> Iterator[Finding]:
    try:
        document = yaml_source.parse(text)
    except yaml_source.YamlError as error:
        yield Finding(path, error.message, origin)
        return
    for _, below, message in document.faults:
        yield Finding((*path, *below), message, origin)
    # An empty variable must not take callers, and with them authentication, away.
    if document.value is not None:
        tree.put(path, document.value, origin)


def _locate(tree: Tree, variable: str) -> _Place | str:
    """Where a variable leads, or what is wrong with its name."""
    place = _Place((), Config)
    first, *rest = variable.removeprefix(PREFIX).lower().split("__")
    steps = [OLDER_NAMES.get(first, first), *rest]
    for depth, step in enumerate(steps):
        key = _key(place.kind, step, tree.keys(*place.path))
        if key is None:
            return _unknown(steps, depth, place.kind)
        place = _Place((*place.path, key), kind_below(place.kind, key))
    return place


def _key(kind: Any, step: str, written: list[str]) -> str | None:
    if is_section(kind):
        return step if step in kind.model_fields else None
    # A variable's name cannot hold every character that a key can.
    known = {re.sub(r"[^a-z0-9_]", "_", key.lower()): key for key in reversed(written)}
    return known.get(step, step if is_named(kind) else None)


def _unknown(steps: list[str], depth: int, kind: Any) -> str:
    if not is_section(kind):
        return f"unknown variable; set {_variable(steps[:depth])} as a whole"
    close = get_close_matches("__".join(steps[depth:]), map("__".join, key_paths(kind)), n=1)
    if close:
        return f"unknown variable; did you mean {_variable([*steps[:depth], *close])}?"
    return "unknown variable; levels are separated by two underscores, as in OUTRIDER_SERVER__LISTEN"


def _variable(steps: list[str]) -> str:
    return PREFIX + "__".join(steps).upper()


def _is_foreign(variable: str, value: str) -> bool:
    """Whether a variable is none of the configuration's, though it begins like one."""
    if variable in _NOT_SETTINGS:
        return True
    if variable.endswith("_PORT") and value.startswith(_SERVICE_URLS):
        return True
    return "__" not in variable and bool(_SERVICE_LINK.fullmatch(variable))
