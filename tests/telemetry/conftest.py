from __future__ import annotations

import json
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.context import Record
from outrider.telemetry.logs import LogPipeline, start_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from outrider.telemetry.logs import Format, Level


class LogFile:
    """A real log in a real file: open it with `logging()`, read it when that is over."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def logging(
        self,
        level: Level = "info",
        form: Format = "json",
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> Iterator[LogPipeline]:
        with self._path.open("a") as stream, closing(start_logging(level, form, stream, secrets)) as log:
            yield log

    def text(self) -> str:
        return self._path.read_text()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def line(self) -> dict[str, object]:
        (line,) = self.lines()
        return line


@pytest.fixture
def log_file(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "log")


def settled_record(**changes: object) -> Record:
    """A request that succeeded at the first try; 1.25 s, first content after 0.5 s."""
    record = Record("req-1", "Generate", "checkout", "fast", started_at=100.0)
    record.provider, record.model = "openai", "gpt-large"
    attempt = v1.Attempt(provider="openai", model="gpt-large", outcome=v1.Attempt.OUTCOME_SUCCEEDED)
    attempt.duration.FromMilliseconds(1_200)
    record.attempts.append(attempt)
    record.finish_reason = v1.FINISH_REASON_STOP
    record.usage = v1.Usage(input_tokens=12, output_tokens=34, source=v1.USAGE_SOURCE_PROVIDER)
    record.cost = v1.Cost(total_nano_usd=123_000)
    record.first_content_at = 100.5
    record.finished_at = 101.25
    for name, value in changes.items():
        setattr(record, name, value)
    return record
