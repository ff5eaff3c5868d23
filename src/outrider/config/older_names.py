"""Names that sections had before. They are still read, and everything else knows the new ones alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.config.tree import Finding

if TYPE_CHECKING:
    from outrider.config.tree import Tree

OLDER_NAMES = {"models": "routes"}


def use_new_names(tree: Tree, found: list[Finding]) -> None:
    """Move what stands under an older name to the new one, findings too; add what stands under both."""
    for old, new in OLDER_NAMES.items():
        if old not in tree.root:
            continue
        found[:] = (
            finding._replace(path=(new, *finding.path[1:])) if finding.path[:1] == (old,) else finding
            for finding in found
        )
        if tree.root.get(new) is None:
            tree.move((old,), (new,))
        elif tree.keys(new):
            for key in tree.keys(old):
                if key in tree.keys(new):
                    message = f"stands in {new} too, whose older name is {old}; write it once"
                    found.append(Finding((old, key), message))
                else:
                    tree.move((old, key), (new, key))
            tree.drop((old,))
