"""Plays recorded exchanges again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.recording import CANCELLED, COMPLETED, digest, read

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from outrider.core.ports import Batch, Call
    from outrider.providers.recording import Recording

_OK: Final = 200
_SHORT: Final = 12  # digits of the digest in a file's name


class Recordings:
    """The recordings that were in a folder when it was opened, as their files are now, by what was asked.

    What was asked more than once is answered as it was then, in the order of the files, and then always as
    the last time. What a caller had left in the middle counts only where there is nothing else.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where there is no such folder."""
        if not folder.is_dir():
            raise ValueError(f"replay: {folder} is not a folder")
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        for file in sorted(folder.glob("[!.]*.json")):
            self._files.setdefault(file.stem.rpartition("-")[2], []).append(file)
        self._known: dict[Path, tuple[object, Recording]] = {}  # with what tells whether the file has changed
        self._turns: dict[str, int] = {}

    async def play(self, call: Call, *, first_delay: float, pace: float) -> AsyncGenerator[Batch, None]:
        """The recorded answer; seconds before the first event, and between two.

        Raises GenerationError: as it was recorded, or NOT_RECORDED with the digest of the request.
        """
        name = await asyncio.to_thread(digest, call.request)
        recording = await self._next(name)
        await asyncio.sleep(first_delay)
        call.progress.upstream_status = int(recording.error.get("upstream_status") or _OK)
        batch: Batch = []
        for event in recording.events:
            if pace and batch:
                yield batch
                await asyncio.sleep(pace)
                batch = []
            batch.append(_copy(event))
            _progress(event, call)
        if batch:
            yield batch
        if recording.outcome != COMPLETED:
            raise recording.failure()

    async def _next(self, name: str) -> Recording:
        turns = await asyncio.to_thread(self._load, name)
        if not turns:
            raise GenerationError(
                Reason.NOT_RECORDED,
                f"no recording in {self._folder} answers this request: its digest is {name}",
            )
        turn = self._turns.get(name, 0)
        self._turns[name] = turn + 1
        return turns[min(turn, len(turns) - 1)]

    def _load(self, name: str) -> Sequence[Recording]:
        found = [self._read(file) for file in self._files.get(name[:_SHORT], ())]
        found = [recording for recording in found if recording.digest == name]
        return [recording for recording in found if recording.outcome != CANCELLED] or found

    def _read(self, file: Path) -> Recording:
        """As the file is now; it is parsed again only where it has changed."""
        try:
            stat = file.stat()
            version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if file not in self._known or self._known[file][0] != version:
                self._known[file] = (version, read(file.read_text()))
        except (OSError, ValueError) as error:
            raise GenerationError(
                Reason.NOT_RECORDED, f"the recording {file} cannot be read: {error}"
            ) from None
        return self._known[file][1]


def _copy(event: v1.GenerateResponse) -> v1.GenerateResponse:
    copy = v1.GenerateResponse()
    copy.CopyFrom(event)
    return copy


def _progress(event: v1.GenerateResponse, call: Call) -> None:
    texts = (event.text_delta.text, event.reasoning_delta.text, event.tool_call_delta.arguments_json)
    call.progress.output_chars += sum(map(len, texts))
    if event.completed.HasField("usage"):
        call.progress.usage = v1.Usage()
        call.progress.usage.CopyFrom(event.completed.usage)
