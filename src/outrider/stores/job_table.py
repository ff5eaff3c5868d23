"""The jobs of one sidecar: what may become of each, and when. Takes no time and touches nothing else."""

from __future__ import annotations

import heapq
import os
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from outrider.stores.job_record import (
    CANCELLED,
    COMPLETED,
    EXPIRED,
    FAILED,
    PROCESSING,
    QUEUED,
    WORKER_LOST,
    WORKER_LOST_MESSAGE,
)
from outrider.stores.job_turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from outrider import v1
    from outrider.core.jobs import Counts
    from outrider.core.ports import Clock
    from outrider.stores.job_record import JobRecord
    from outrider.stores.job_retention import Retention
    from outrider.stores.job_watermarks import Watermarks

_HERE = "here-"
_SPARE_ENDS = 1_000  # entries of jobs that are gone, in the heap of ends
_AT_ONCE = 200  # jobs whose time has come that are looked at in one call: under a millisecond


def is_from_here(token: str) -> bool:
    """Whether a claim was made by a JobTable."""
    return token.startswith(_HERE)


class _Hold(NamedTuple):
    """Who works on a job, and until when unless it is renewed, by the monotonic clock."""

    token: str
    until: float


class JobTable:
    """Moves jobs through their states. `changed(job_id, whole)` is told of every change: `whole` where more
    changed than how the job stands.

    A job is FAILED when `max_losses` workers have not come back from it. `lease` is in seconds. `ended` and
    `answers` bound what is kept of jobs that have ended: those that ended first are to be added first.
    """

    def __init__(
        self,
        marks: Watermarks,
        *,
        ended: Retention,
        answers: Retention,
        lease: float,
        max_losses: int,
        clock: Clock,
        wall_clock: Callable[[], float],
        changed: Callable[[str, bool], None],
    ) -> None:
        self._marks = marks
        self._kept = ended
        self._answers = answers
        self._lease = lease
        self._max_losses = max_losses
        self._clock = clock
        self._wall_clock = wall_clock
        self._changed = changed
        self._records: dict[str, JobRecord] = {}
        self._ids: list[str] = []  # sorted
        self._keys: dict[str, str] = {}
        self._batches: dict[str, Counter[tuple[str, v1.JobState]]] = {}
        self._turns = Turns()
        self._holds: OrderedDict[str, _Hold] = OrderedDict()  # by job; the one that ends first is first
        self._delayed: list[tuple[float, str]] = []  # heap
        self._ends: list[tuple[float, str]] = []  # heap of when they expire or are forgotten
        self._given_up: list[JobRecord] = []  # nobody was told yet

    @property
    def waiting(self) -> int:
        """Jobs that have not ended, and that nobody works on."""
        return self._marks.jobs - len(self._holds)

    def submit(self, records: Sequence[JobRecord]) -> list[tuple[JobRecord, bool]]:
        """Accept all or none; see JobStore. Raises QueueFullError."""
        self.sweep()
        fresh = {each.key or each.job_id: each for each in reversed(records) if self._twin(each) is None}
        if fresh:
            self._marks.check(len(fresh), sum(each.size for each in fresh.values()))
        accepted = []
        for record in records:
            known = self._twin(record)
            if known is None:
                self.add(record)
                self._changed(record.job_id, True)
            known = known or record
            accepted.append((known, known.job_id != record.job_id))
        return accepted

    def add(self, record: JobRecord) -> None:
        """Know a job, as it stands; one that was worked on has lost its worker."""
        self._records[record.job_id] = record
        insort(self._ids, record.job_id)
        if record.key:
            self._keys.setdefault(record.key, record.job_id)
        if record.batch:
            self._batches.setdefault(record.batch, Counter())[record.group, record.state] += 1
        heapq.heappush(self._ends, (record.standing.expires_at, record.job_id))
        if record.ended:
            self._retain(record)
            return
        self._marks.change(1, record.size)
        if record.standing.state == PROCESSING:
            self._lose(record)
        else:
            self._wait(record)

    def claim(self, left_out: Collection[str] = ()) -> tuple[JobRecord, str] | None:
        """The next job, and the token of whoever works on it now."""
        self.sweep()
        while (job_id := self._turns.take(left_out)) is not None:
            record = self._records[job_id]
            if self._is_due(record):
                self._expire(record)
                continue
            token = _HERE + os.urandom(8).hex()
            self._holds[job_id] = _Hold(token, self._clock() + self._lease)
            record.standing.tries += 1
            record.standing.started_at = self._wall_clock()
            self._become(record, PROCESSING)
            return record, token
        return None

    def renew(self, job_id: str, token: str) -> bool:
        """See JobStore."""
        record = self._held(job_id, token)
        if record is None:
            return False
        self._holds[job_id] = _Hold(token, self._clock() + self._lease)
        self._holds.move_to_end(job_id)
        return True

    def complete(self, job_id: str, token: str, result: bytes, outcome: bytes) -> bool:
        """See JobStore; `result` is packed."""
        record = self._held(job_id, token)
        if record is None:
            return False
        record.outcome = outcome
        self._end(record, COMPLETED, self._wall_clock(), result)
        return True

    def fail(
        self, job_id: str, token: str, reason: str, message: str, retry_in: float | None, outcome: bytes
    ) -> bool:
        """See JobStore."""
        record = self._held(job_id, token)
        if record is None:
            return False
        now = record.standing
        now.reason, now.message = reason, message
        if outcome != record.outcome:
            record.outcome = outcome
            self._changed(job_id, True)
        if retry_in is None or now.failures >= record.max_retries:
            self._end(record, FAILED, self._wall_clock())
        else:
            now.failures += 1
            self._give_back(record, retry_in)
        return True

    def release(self, job_id: str, token: str, delay: float) -> bool:
        """See JobStore."""
        record = self._held(job_id, token)
        if record is not None:
            self._give_back(record, delay)
        return record is not None

    def is_good(self, job_id: str, token: str) -> bool:
        """Whether a claim is good."""
        return self._held(job_id, token) is not None

    def cancel(self, job_id: str) -> JobRecord | None:
        """See JobStore."""
        record = self.get(job_id)
        if record is not None and not record.ended:
            self._end(record, CANCELLED, self._wall_clock())
        return record

    def get(self, job_id: str) -> JobRecord | None:
        """A job as it stands now."""
        record = self._records.get(job_id)
        if record is None or not self._is_due(record):
            return record
        if record.ended:
            self.drop((job_id,))
            return None
        self._expire(record)
        return self.get(job_id)

    def peek(self, job_id: str) -> JobRecord | None:
        """A job, though it may have to expire or be forgotten."""
        return self._records.get(job_id)

    def find(self, job_id: str, key: str) -> JobRecord | None:
        """The job with this id or, where it is not empty, with this key."""
        known = self.get(job_id)
        return known or self.get(self._keys.get(key, "")) if key else known

    def position(self, record: JobRecord) -> int:
        """How many come before it; 0 where it does not wait for its turn."""
        now = record.standing
        waits = now.state == QUEUED and not now.held and not now.not_before
        return self._turns.before(record) if waits else 0

    def older(self, job_id: str, most: int) -> list[str]:
        """Ids of jobs that arrived before this one, newest first; of the newest, where it is empty."""
        end = bisect_left(self._ids, job_id) if job_id else len(self._ids)
        return self._ids[max(0, end - most) : end][::-1]

    def progress(self, batch_id: str) -> Counts:
        """See JobStore."""
        return {each: count for each, count in self._batches.get(batch_id, {}).items() if count}

    def take_given_up(self) -> Sequence[JobRecord]:
        """The jobs that ended by nobody's doing, each once."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def idle(self, most: int) -> list[JobRecord]:
        """Jobs that nobody works on, oldest first."""
        found: list[JobRecord] = []
        for job_id in self._ids:
            if len(found) == most:
                break
            if self._is_idle(job_id):
                found.append(self._records[job_id])
        return found

    def hold(self, records: Iterable[JobRecord]) -> None:
        """Let nobody work on these here any more, but for those that somebody works on."""
        for record in records:
            if record.standing.state == QUEUED and not record.standing.held:
                self._turns.discard(record)
                record.standing.held = True
                self._changed(record.job_id, False)

    def withdraw(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that were not accepted after all, but for those that somebody works on already."""
        self.drop([each for each in job_ids if each in self._records and self._is_idle(each)])

    def drop(self, job_ids: Iterable[str]) -> None:
        """Forget jobs, as far as they are known."""
        for job_id in job_ids:
            record = self._records.pop(job_id, None)
            if record is None:
                continue
            del self._ids[bisect_left(self._ids, job_id)]
            if self._keys.get(record.key) == job_id:
                del self._keys[record.key]
            self._count(record, -1)
            self._turns.discard(record)
            self._holds.pop(job_id, None)
            self._kept.discard(job_id)
            self._answers.discard(job_id)
            if not record.ended:
                self._marks.change(-1, -record.size)
            self._changed(job_id, True)
        if len(self._ends) > 4 * len(self._records) + _SPARE_ENDS:
            self._ends = [(each.standing.expires_at, job_id) for job_id, each in self._records.items()]
            heapq.heapify(self._ends)

    def sweep(self) -> None:
        """Let those whose time has come expire, be forgotten, or wait for their turn again."""
        now = self._wall_clock()
        for _ in range(_AT_ONCE):
            if not self._ends or self._ends[0][0] > now:
                break
            self.get(heapq.heappop(self._ends)[1])
        for _ in range(_AT_ONCE):
            if not self._delayed or self._delayed[0][0] > now:
                break
            due, job_id = heapq.heappop(self._delayed)
            record = self._records.get(job_id)
            if record is not None and record.standing.not_before == due:
                self._wait(record)
        self._find_lost()

    def _find_lost(self) -> None:
        """Give back what workers have not renewed in time."""
        now = self._clock()
        while self._holds:
            job_id, hold = next(iter(self._holds.items()))
            if hold.until > now:
                return
            self._lose(self._records[job_id])

    def _lose(self, record: JobRecord) -> None:
        now = record.standing
        now.losses += 1
        if now.losses >= self._max_losses:
            now.reason, now.message = WORKER_LOST, WORKER_LOST_MESSAGE
            self._end(record, FAILED, self._wall_clock())
            self._given_up.append(record)
        else:
            self._give_back(record, 0.0)

    def _give_back(self, record: JobRecord, delay: float) -> None:
        self._holds.pop(record.job_id, None)
        record.standing.not_before = self._wall_clock() + delay if delay > 0 else 0.0
        self._become(record, QUEUED)
        self._wait(record)

    def _wait(self, record: JobRecord) -> None:
        now = record.standing
        if now.not_before > self._wall_clock():
            heapq.heappush(self._delayed, (now.not_before, record.job_id))
            return
        now.not_before = 0.0
        if not now.held:
            self._turns.add(record)

    def _expire(self, record: JobRecord) -> None:
        self._end(record, EXPIRED, record.standing.expires_at)
        if not record.standing.held:  # else Redis tells
            self._given_up.append(record)

    def _end(self, record: JobRecord, state: v1.JobState, ended_at: float, result: bytes = b"") -> None:
        """The only way into a final state."""
        self._turns.discard(record)
        self._holds.pop(record.job_id, None)
        self._marks.change(-1, -record.size)
        record.request, record.result = b"", result
        now = record.standing
        now.ended_at, now.expires_at, now.not_before = ended_at, ended_at + record.ttl, 0.0
        heapq.heappush(self._ends, (now.expires_at, record.job_id))
        self._become(record, state)
        self._retain(record)

    def _become(self, record: JobRecord, state: v1.JobState) -> None:
        self._count(record, -1)
        record.standing.state = state
        self._count(record, 1)
        self._changed(record.job_id, record.ended)

    def _count(self, record: JobRecord, change: int) -> None:
        if record.batch:
            counts = self._batches.setdefault(record.batch, Counter())
            counts[record.group, record.state] += change
            if not any(counts.values()):
                del self._batches[record.batch]

    def _retain(self, record: JobRecord) -> None:
        """What has ended is kept while there is room; of the oldest first the answers go."""
        answer = len(record.result)
        if answer:
            for job_id in self._answers.add(record.job_id, answer):
                self._records[job_id].result = b""
                self._changed(job_id, True)
        self.drop(self._kept.add(record.job_id, record.size - answer))

    def _held(self, job_id: str, token: str) -> JobRecord | None:
        """The job of a claim that is good."""
        record = self.get(job_id)
        hold = self._holds.get(job_id)
        return record if hold is not None and hold.token == token else None

    def _is_idle(self, job_id: str) -> bool:
        return self._records[job_id].standing.state != PROCESSING

    def _is_due(self, record: JobRecord) -> bool:
        return record.standing.expires_at <= self._wall_clock()

    def _twin(self, record: JobRecord) -> JobRecord | None:
        """What this one is, where it is known already."""
        return self.find(record.job_id, record.key)
