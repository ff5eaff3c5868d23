"""Which usage a request means: its filter, checked, and what the caller may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider.core.context import Outcome
from outrider.core.errors import GenerationError, Reason, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from outrider import v1
    from outrider.core.context import Principal
    from outrider.core.ledger import UsageKey

_HOUR_MS = 3_600_000
# Protobuf's time is that of the years 1 to 9999.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_NANOS = 1_000_000_000
# Clocks of other sidecars may be ahead: "until now" includes what they say.
_AHEAD_MS = 60_000
_OUTCOMES = tuple(Outcome)
_TENANT = 0  # its place among the names of a key


@dataclass(frozen=True, slots=True)
class Selection:
    """Which names are meant: by their place in a UsageKey after the hour, any of these."""

    wanted: tuple[tuple[int, frozenset[str]], ...]

    def has_key(self, key: UsageKey) -> bool:
        """Whether a sum is meant."""
        return all(key[place + 1] in names for place, names in self.wanted)

    def has_record(self, record: v1.UsageRecord) -> bool:
        """Whether a record is meant."""
        if not self.wanted:
            return True
        by = record.attribution
        names = (by.tenant, by.project, by.agent, record.model, record.provider, record.outcome)
        return all(names[place] in wanted for place, wanted in self.wanted)


@dataclass(frozen=True, slots=True)
class Span:
    """A time, from `start_ms` to before `end_ms`, of the Unix clock."""

    start_ms: int
    end_ms: int

    @property
    def hours(self) -> range:
        """Every hour that is touched."""
        return range(self.start_ms // _HOUR_MS, -(-self.end_ms // _HOUR_MS))


def check_filter(usage: v1.UsageFilter) -> None:
    """Raise GenerationError INVALID_REQUEST that names the fields that are wrong."""
    violations = list(_violations(usage))
    if violations:
        raise invalid(*violations)


def selection(usage: v1.UsageFilter, principal: Principal) -> Selection:
    """The names that a checked filter means; a caller with a tenant of its own sees nothing else."""
    lists = (usage.tenants, usage.projects, usage.agents, usage.models, usage.providers, usage.outcomes)
    wanted = {place: frozenset(names) for place, names in enumerate(lists) if names}
    if principal.tenant:
        own = frozenset({principal.tenant})
        wanted[_TENANT] = own & wanted.get(_TENANT, own)
    return Selection(tuple(wanted.items()))


def span(usage: v1.UsageFilter, now: float, kept_for: float) -> Span:
    """The time that a checked filter means, within the `kept_for` seconds until `now`, a Unix time."""
    now_ms = int(now * 1000)
    oldest, newest = max(0, now_ms - int(kept_for * 1000)), now_ms + _AHEAD_MS
    start = _milliseconds(usage.start) if usage.HasField("start") else oldest
    end = _milliseconds(usage.end) if usage.HasField("end") else newest
    return Span(max(start, oldest), min(end, newest))


def invalid(*violations: Violation) -> GenerationError:
    """The error of a request with wrong fields."""
    first = violations[0]
    return GenerationError(
        Reason.INVALID_REQUEST, f"{first.field}: {first.description}", violations=violations
    )


def _violations(usage: v1.UsageFilter) -> Iterator[Violation]:
    for number, outcome in enumerate(usage.outcomes):
        if outcome not in _OUTCOMES:
            yield Violation(f"filter.outcomes[{number}]", f"is none of {', '.join(_OUTCOMES)}")
    times = {name: getattr(usage, name) for name in ("start", "end") if usage.HasField(name)}
    wrong = [name for name, time in times.items() if not _is_time(time)]
    for name in wrong:
        yield Violation(f"filter.{name}", "is not a time between the years 1 and 9999")
    if len(times) == 2 and not wrong and times["end"].ToNanoseconds() <= times["start"].ToNanoseconds():
        yield Violation("filter.end", "must be after start")


def _is_time(time: Timestamp) -> bool:
    return _FIRST_SECOND <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < _NANOS


def _milliseconds(time: Timestamp) -> int:
    return time.seconds * 1000 + time.nanos // 1_000_000
