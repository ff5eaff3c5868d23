"""Record, limits and budgets of a flight: those of whoever pays for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outrider.core.context import UNLIMITED, Progress, Record
from outrider.core.errors import Fault, GenerationError

if TYPE_CHECKING:
    from outrider.core.context import Target
    from outrider.policy.flight import Flight
    from outrider.policy.passenger import Passenger


class FlightRecord(Record):
    """What a flight goes through. Its progress is the payer's: limits and budgets follow it as it grows."""

    def __init__(self, payer: Passenger, started_at: float) -> None:
        self._payer = payer
        own = payer.context.record
        super().__init__(own.request_id, own.method, own.principal, own.requested_model, started_at)
        self.cache_status = own.cache_status

    @property
    def progress(self) -> Progress | None:
        """Of the attempt that has begun to answer."""
        return self._payer.context.record.progress

    @progress.setter
    def progress(self, progress: Progress | None) -> None:
        self._payer.context.record.progress = progress

    def move_to(self, payer: Passenger) -> None:
        """Somebody else pays."""
        progress, self.progress = self.progress, None
        self._payer = payer
        self.progress = progress
        self.request_id = payer.context.record.request_id


class PayersReservation:
    """The Reservation of a flight. A payer that leaves, or may not, makes way for the next one."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    @property
    def hard(self) -> bool:
        """Whether the payer has a budget that must not be exceeded."""
        return self._flight.payer.context.reservation.hard

    def begin(self) -> None:
        """Ask for what the first try needs."""
        self._flight.payer.context.reservation.begin()

    async def enter(self, target: Target, since: float, patience: float) -> None:
        """Wait for leave to try a target. Raises GenerationError where nobody is left who may."""
        while True:
            payer = self._flight.payer
            may = payer.context.reservation is UNLIMITED or await self._may_enter(
                payer, target, since, patience
            )
            # It may have left in the very moment in which it was let through.
            if may and payer is self._flight.payer:
                break
        self._flight.has_entered = True

    def leave(self, target: Target) -> None:
        """Give back what was taken for a target."""
        self._flight.payer.context.reservation.leave(target)

    async def _may_enter(self, payer: Passenger, target: Target, since: float, patience: float) -> bool:
        """False where somebody else pays now."""
        # In a task of its own: it ends with this caller, and the flight does not.
        entering = asyncio.create_task(payer.context.reservation.enter(target, since, patience))
        payer.entering.add(entering)
        try:
            await entering
        except GenerationError as error:
            if error.traits.fault is Fault.CALLER and self._flight.expel(payer, error):
                return False
            raise
        except asyncio.CancelledError:
            if self._flight.is_ending or payer is self._flight.payer or _is_cancelled():
                raise
            return False
        finally:
            payer.entering.discard(entering)
        return True


def _is_cancelled() -> bool:
    """Whether it is this try that nobody waits for any more."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
