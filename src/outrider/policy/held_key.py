"""An idempotency key, held for as long as its request runs, and then for as long as keys are kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.keys import Claim, SharedKeys

_AWAY = 0.5  # seconds between two tries while the store is away


class HeldKey:
    """Renews the claim from a task of its own until `end`, of which the store learns even if it is away then.

    `on_loss` is called where another sidecar has the key: this one was silent for longer than a lease.
    """

    def __init__(self, name: str, claim: Claim, shared: SharedKeys, on_loss: Callable[[], None]) -> None:
        self._name = name
        self._claim = claim
        self._shared = shared
        self._on_loss = on_loss
        self._answered = False
        self._over = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name="idempotency-key")

    def end(self, *, answered: bool) -> None:
        """The request has ended: keep the key, or give it up."""
        self._answered = answered
        self._over.set()

    async def _run(self) -> None:
        pause = LEASE_SECONDS / 3
        while not await self._has_ended(pause):
            try:
                if await self._shared.hold(self._name, self._claim) != self._claim:
                    self._on_loss()
                    return
                pause = LEASE_SECONDS / 3
            except StoreUnavailableError:
                pause = _AWAY
        await self._tell()

    async def _has_ended(self, within: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._over.wait()
        return self._over.is_set()

    async def _tell(self) -> None:
        while True:
            try:
                if self._answered:
                    await self._shared.hold(self._name, self._claim._replace(ended=True))
                else:
                    await self._shared.release(self._name, self._claim)
            except StoreUnavailableError:
                await asyncio.sleep(_AWAY)
            else:
                return
