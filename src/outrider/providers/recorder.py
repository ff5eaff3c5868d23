"""Writes down what is asked of providers, and what they answer: for development alone."""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from outrider.core.errors import GenerationError
from outrider.providers.recording import Exchange, write

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from pathlib import Path

    from outrider import v1
    from outrider.core.errors import Fact
    from outrider.core.ports import Batch, Call, Provider

_MOST_WAITING: Final = 256  # exchanges to be written
_MOST_WAITING_BYTES: Final = 64 * 2**20
_LARGEST: Final = 16 * 2**20  # bytes of an exchange
_CLOSING_SECONDS: Final = 2.0
_UNSAFE: Final = re.compile("[^A-Za-z0-9._]+")

_log = structlog.get_logger("outrider")


class Recorder:
    """One file in `folder` for each exchange, without `secrets`. No request ever waits or fails for it.

    What cannot be written, or would be too much, is lost; that is said once.
    """

    def __init__(self, folder: Path, secrets: Callable[[], Iterable[str]]) -> None:
        self._folder = folder
        self._secrets = secrets
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._waiting: dict[asyncio.Future[None], int] = {}  # and bytes
        self._has_told = False
        _log.warning(
            "RECORDING every request and every answer in clear text: never do so in production",
            folder=str(folder.absolute()),
        )

    def put(self, exchange: Exchange) -> None:
        """Have an exchange written."""
        size = exchange.size
        too_many = len(self._waiting) >= _MOST_WAITING
        if too_many or sum(self._waiting.values()) + size > _MOST_WAITING_BYTES or size > _LARGEST:
            self.lose("too much to write")
            return
        writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, exchange)
        self._waiting[writing] = size
        writing.add_done_callback(self._written)

    def lose(self, why: str) -> None:
        """Something is not recorded: say so, the first time."""
        if not self._has_told:
            self._has_told = True
            _log.warning("not everything is recorded", folder=str(self._folder), problem=why)

    async def aclose(self) -> None:
        """Write what waits, within two seconds."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=_CLOSING_SECONDS)
        self._writer.shutdown(wait=False, cancel_futures=True)

    def _written(self, writing: asyncio.Future[None]) -> None:
        del self._waiting[writing]
        if not writing.cancelled() and (error := writing.exception()) is not None:
            self.lose(f"{type(error).__name__}: {error}")

    def _write(self, exchange: Exchange) -> None:
        """On the thread. Raises OSError."""
        digest, text = write(exchange, tuple(self._secrets()))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self._folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        file = self._folder / _name(exchange, digest)
        part = file.with_name(f".{file.name}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(text)
            part.replace(file)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise


class RecordingProvider:
    """A provider, recorded."""

    def __init__(self, inner: Provider, recorder: Recorder) -> None:
        self.name = inner.name
        self._inner = inner
        self._recorder = recorder

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        """As the provider does."""
        take = _Take(self.name, call)
        try:
            async with aclosing(self._inner.generate(call)) as batches:
                async for batch in batches:
                    take.add(batch)
                    yield batch
        except GenerationError as error:
            take.fact = error.fact
            raise
        finally:
            take.end(self._recorder)

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        """As the provider does."""
        return await self._inner.count_tokens(request, model)

    async def check(self) -> None:
        """As the provider does."""
        await self._inner.check()

    async def aclose(self) -> None:
        """Close the provider, and write what waits."""
        await self._inner.aclose()
        await self._recorder.aclose()


class _Take:
    """One exchange that is being recorded."""

    def __init__(self, provider: str, call: Call) -> None:
        self._provider = provider
        self._call = call
        self._request = call.request.SerializeToString()
        self._size = len(self._request)
        self._events: list[tuple[float, bytes]] = []
        self._began_at, self._started = time.time(), time.monotonic()
        self.fact: Fact | None = None

    def add(self, batch: Batch) -> None:
        at = time.monotonic() - self._started
        if self._size <= _LARGEST:
            for event in batch:
                data = event.SerializeToString()
                self._size += len(data)
                self._events.append((at, data))

    def end(self, recorder: Recorder) -> None:
        call, request, events = self._call, self._request, tuple(self._events)
        if self._size > _LARGEST:
            recorder.lose("an exchange is too large")
            return
        recorder.put(
            Exchange(self._provider, call.model, call.streaming, self._began_at, request, events, self.fact)
        )


def _name(exchange: Exchange, digest: str) -> str:
    began = datetime.fromtimestamp(exchange.began_at, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    words: tuple[Any, ...] = (exchange.provider, exchange.model)
    provider, model = (_UNSAFE.sub("_", word)[:64] for word in words)
    return f"{began}-{provider}-{model}-{digest[:12]}.json"
