"""Validates a tree so that one mistake does not hide another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from outrider.config.explain import explain
from outrider.config.schema import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config.tree import Finding, KeyPath, Tree


def validate(tree: Tree, found: list[Finding]) -> Config | None:
    """The configuration of a tree with which nothing is wrong; None where something is, now or in `found`.

    What is wrong is added to `found` and taken out of the tree; then the rest is looked at again, because
    rules between settings are checked only where every setting is right by itself.
    """
    broken = {finding.path for finding in found if tree.get(*finding.path) is None}
    while True:
        try:
            config = Config.model_validate(tree.root)
        except ValidationError as error:
            fresh = list(explain(error, tree))
        else:
            return None if found else config
        found += _independent(fresh, broken)
        dropped = {tree.drop(finding.path) for finding in fresh}
        if not any(dropped):
            return None
        broken |= dropped


def _independent(fresh: list[Finding], broken: set[KeyPath]) -> Iterator[Finding]:
    """Those of the findings that are not mere consequences of settings that were broken before."""
    around = {path[:length] for path in broken for length in range(1, len(path) + 1)}
    for finding in fresh:
        path = finding.path
        inside = any(path[:length] in broken for length in range(1, len(path) + 1))
        if not (path in around or inside or _is_broken_name(finding.refers_to, broken)):
            yield finding


def _is_broken_name(name: str, broken: set[KeyPath]) -> bool:
    provider = name.partition("/")[0]
    possible = {("providers",), ("routes",), ("providers", provider), ("routes", name)}
    return bool(name) and not broken.isdisjoint(possible)
