"""The places of concurrency limits that this sidecar's requests have in Redis, kept while they run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.quota import Charge, Concurrency, Meter
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.quota_script import SCRIPT, SECOND, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.stores.redis_link import RedisLink

_RENEWALS = 3  # in the time of one lease
_HOLDERS_PER_CALL = 1_000


class Places:
    """Who has a place. It ends `lease` seconds after this sidecar last reached Redis."""

    def __init__(self, link: RedisLink, lease: float) -> None:
        self._link = link
        self.lease = lease
        self._holders: dict[str, set[str]] = {}  # by key
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._task = asyncio.create_task(self._renew_for_ever())

    async def aclose(self) -> None:
        """Stop renewing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def enter(self, holder: str, charges: Iterable[Charge]) -> None:
        """A holder has places, here and, with the next renewal at the latest, in Redis."""
        for meter, _ in charges:
            if isinstance(meter.bound, Concurrency):
                self._holders.setdefault(self._key(meter), set()).add(holder)

    def leave(self, holder: str, charges: Iterable[Charge]) -> None:
        """It runs no more."""
        for meter, _ in charges:
            if isinstance(meter.bound, Concurrency):
                key = self._key(meter)
                holders = self._holders.get(key, set())
                holders.discard(holder)
                if not holders:
                    self._holders.pop(key, None)

    def taken(self, meter: Meter) -> int:
        """How many places this sidecar has."""
        return len(self._holders.get(self._key(meter), ()))

    async def renew(self) -> None:
        """Tell Redis of every place. Raises StoreUnavailableError."""
        for key, holders in list(self._holders.items()):
            there = list(holders)
            for start in range(0, len(there), _HOLDERS_PER_CALL):
                some = there[start : start + _HOLDERS_PER_CALL]
                await self._link.script(SCRIPT, [key], ["renew", "", int(self.lease * SECOND), 0, *some])

    def _key(self, meter: Meter) -> str:
        return key_of(self._link.prefix, meter)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.lease / _RENEWALS)
            try:
                await self.renew()
            except StoreUnavailableError:
                continue  # they are told once Redis is back
