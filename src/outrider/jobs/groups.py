"""Groups of jobs: those that may go to the same places, and are meant for the same one first.

A group's name is its first target, and a digest of the others: what is down for one of its jobs is down for
all of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.context import Target


def group_of(plan: Sequence[Target]) -> str:
    """The group of a job with this plan; empty where nothing is planned."""
    if not plan:
        return ""
    others = "\0".join(sorted(map(str, plan[1:])))
    return f"{plan[0]} {hashlib.blake2b(others.encode(), digest_size=6).hexdigest()}"


def target_of(group: str) -> str:
    """The first target of a group, as "provider/model"; empty where nothing was planned."""
    return group.rpartition(" ")[0]
