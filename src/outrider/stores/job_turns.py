"""Whose turn it is: priorities first, then tenants in turn, and of a tenant's jobs the oldest."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import TYPE_CHECKING

from outrider.stores.job_record import PRIORITIES

if TYPE_CHECKING:
    from outrider.stores.job_record import JobRecord


class Turns:
    """The jobs that wait. One that comes back has the place of its age."""

    def __init__(self) -> None:
        # By tenant, the one whose turn it is first: arrival and id of its jobs, oldest first.
        self._lines: dict[int, OrderedDict[str, list[tuple[float, str]]]] = {
            priority: OrderedDict() for priority in PRIORITIES
        }
        self._waiting: dict[int, int] = dict.fromkeys(PRIORITIES, 0)

    def add(self, record: JobRecord) -> None:
        """It waits. A tenant that had nothing waiting is the last to have a turn."""
        insort(self._lines[record.priority].setdefault(record.tenant, []), _place(record))
        self._waiting[record.priority] += 1

    def discard(self, record: JobRecord) -> None:
        """It does not wait any more, if it did."""
        line = self._lines[record.priority]
        jobs = line.get(record.tenant, [])
        index = bisect_left(jobs, _place(record))
        if index < len(jobs) and jobs[index] == _place(record):
            del jobs[index]
            self._waiting[record.priority] -= 1
            if not jobs:
                del line[record.tenant]

    def take(self) -> str | None:
        """The id of the next, which then waits no more."""
        for priority, line in self._lines.items():
            for tenant, jobs in line.items():
                _, job_id = jobs.pop(0)
                self._waiting[priority] -= 1
                if jobs:
                    line.move_to_end(tenant)
                else:
                    del line[tenant]
                return job_id
        return None

    def before(self, record: JobRecord) -> int:
        """How many come before one that waits, as far as can be told: who comes later may be earlier."""
        line = self._lines[record.priority]
        rank = bisect_left(line[record.tenant], _place(record))
        higher = sum(self._waiting[priority] for priority in PRIORITIES if priority > record.priority)
        turns = rank * len(line) + list(line).index(record.tenant)
        return higher + min(turns, self._waiting[record.priority] - 1)


def _place(record: JobRecord) -> tuple[float, str]:
    return record.submitted_at, record.job_id
