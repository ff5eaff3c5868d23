"""Whose turn it is: priorities first, then tenants in turn, and of a tenant's jobs the oldest.

Each group of a tenant has a line of its own, so that those that are left out hold up no other.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import TYPE_CHECKING

from outrider.stores.job_record import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeAlias

    from outrider.stores.job_record import JobRecord

    _Place: TypeAlias = tuple[float, str]  # arrival and id
    _Groups: TypeAlias = dict[str, list[_Place]]  # of a tenant: oldest first


class Turns:
    """The jobs that wait. One that comes back has the place of its age."""

    def __init__(self) -> None:
        # By tenant, the one whose turn it is first.
        self._tenants: dict[int, OrderedDict[str, _Groups]] = {
            priority: OrderedDict() for priority in PRIORITIES
        }
        self._waiting: dict[int, int] = dict.fromkeys(PRIORITIES, 0)

    def add(self, record: JobRecord) -> None:
        """It waits. A tenant that had nothing waiting is the last to have a turn."""
        groups = self._tenants[record.priority].setdefault(record.tenant, {})
        insort(groups.setdefault(record.group, []), _place(record))
        self._waiting[record.priority] += 1

    def discard(self, record: JobRecord) -> None:
        """It does not wait any more, if it did."""
        jobs = self._tenants[record.priority].get(record.tenant, {}).get(record.group, [])
        index = bisect_left(jobs, _place(record))
        if index < len(jobs) and jobs[index] == _place(record):
            self._remove(record.priority, record.tenant, record.group, index)

    def take(self, left_out: Collection[str] = ()) -> str | None:
        """The id of the next that is in none of these groups; it waits no more."""
        for priority, tenants in self._tenants.items():
            for _ in range(len(tenants)):
                tenant, groups = next(iter(tenants.items()))
                tenants.move_to_end(tenant)
                oldest = min(
                    ((jobs[0], group) for group, jobs in groups.items() if group not in left_out),
                    default=None,
                )
                if oldest is not None:
                    (_, job_id), group = oldest
                    self._remove(priority, tenant, group, 0)
                    return job_id
        return None

    def before(self, record: JobRecord) -> int:
        """How many come before one that waits, as far as can be told: who comes later may be earlier."""
        tenants = self._tenants[record.priority]
        rank = sum(bisect_left(jobs, _place(record)) for jobs in tenants[record.tenant].values())
        higher = sum(self._waiting[priority] for priority in PRIORITIES if priority > record.priority)
        turns = rank * len(tenants) + list(tenants).index(record.tenant)
        return higher + min(turns, self._waiting[record.priority] - 1)

    def _remove(self, priority: int, tenant: str, group: str, index: int) -> None:
        tenants = self._tenants[priority]
        groups = tenants[tenant]
        del groups[group][index]
        self._waiting[priority] -= 1
        if not groups[group]:
            del groups[group]
        if not groups:
            del tenants[tenant]


def _place(record: JobRecord) -> _Place:
    return record.submitted_at, record.job_id
