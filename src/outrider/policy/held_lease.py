"""A lease for as long as an answer is being made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.answers import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from outrider.core.answers import AnswerStore, Lease


class HeldLease:
    """Renewed while its block lasts, and given up at its end unless it was handed over; None is no lease.

    `tend` owns the giving up, which nobody waits for.
    """

    def __init__(
        self, lease: Lease | None, answers: AnswerStore, tend: Callable[[Coroutine[None, None, None]], None]
    ) -> None:
        self._lease = lease
        self._answers = answers
        self._tend = tend
        self._renewing: asyncio.Task[None] | None = None

    def hand_over(self) -> Lease | None:
        """The lease, for whoever ends it now."""
        lease, self._lease = self._lease, None
        return lease

    def __enter__(self) -> HeldLease:
        if self._lease is not None:
            self._renewing = asyncio.create_task(self._renew(self._lease), name="cache-lease")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        lease = self.hand_over()
        if lease is not None:
            self._tend(self._answers.release(lease))

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._answers.renew(lease)
