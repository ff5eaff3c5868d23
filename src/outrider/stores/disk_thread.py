"""A thread for calls that may block on a disk."""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

PATIENCE = 5.0
"""Seconds for one call of the file system."""


class DiskThread:
    """One call at a time. While one takes too long, no other is begun."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._late: asyncio.Future[Any] | None = None  # a call that takes too long

    async def run(self, call: Callable[[], _Result], patience: float = PATIENCE) -> _Result:
        """Call on the thread. Raises OSError, also where that takes too long."""
        if self._late is not None and not self._late.done():
            raise OSError(errno.ETIMEDOUT, "the disk does not answer")
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        await asyncio.wait([future], timeout=patience)
        if not future.done():
            self._late = future
            raise OSError(errno.ETIMEDOUT, "the disk does not answer")
        return future.result()

    def close(self) -> None:
        """Take no more calls; one that takes too long is not waited for."""
        self._thread.shutdown(wait=False)
