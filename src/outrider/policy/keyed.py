"""Requests with an idempotency key: one run and one answer for everyone who sends it again.

A keyed request is a resumable stream that is found by its key: who sends the key again reads it from the
first event on, whether it still runs or has ended, here or at another sidecar.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import structlog

from outrider.core.context import NOBODY
from outrider.core.errors import Fact, GenerationError, Reason
from outrider.core.fingerprint import digest, is_large
from outrider.core.keys import Claim, name_of, reused
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS, Failure
from outrider.policy.held_key import HeldKey
from outrider.policy.local_keys import LocalKeys
from outrider.policy.queue import as_error
from outrider.policy.resume import ResumableStreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider import v1
    from outrider.core.context import RequestContext
    from outrider.core.keys import SharedKeys
    from outrider.core.ports import Batch, Handler
    from outrider.core.streams import SharedStreams
    from outrider.policy.resumable_stream import ResumableStream
    from outrider.policy.resume import ResumeRules

_CLOSING_SECONDS = 1.0  # for telling the store which keys are free
_PAUSE = 0.2  # seconds between two looks whether the lease of a sidecar that is gone has ended
_LOST = (Reason.SIDECAR_LOST, Reason.REQUEST_UNKNOWN)
_TAKEN = Failure(
    Fact(Reason.SIDECAR_LOST, "this sidecar was silent for too long: another one runs the request"),
    committed=True,
)

_log = structlog.get_logger("outrider")


class KeyedRequests:
    """Wraps the whole pipeline. Owns what runs without a caller: `aclose` ends it with DRAINING.

    `keys` and `copies` are what the fleet shares; without them keys hold in this sidecar alone. While they
    are away, a key that is not known here is refused: it may have run elsewhere.
    """

    def __init__(
        self,
        pipeline: Handler,
        rules: ResumeRules,
        keys: SharedKeys | None = None,
        copies: SharedStreams | None = None,
    ) -> None:
        self.streams = ResumableStreams(pipeline, rules, copies)
        self._pipeline = pipeline
        self._keys = keys
        self._local = LocalKeys(rules.keep)
        self._held: set[asyncio.Task[None]] = set()
        self.replays = 0
        """Calls so far that were given the answer of an earlier one."""

    def answer(self, call: RequestContext) -> AsyncGenerator[Batch, None]:
        """The numbered events of a request, or of the one that had its key before.

        Raises GenerationError: KEY_REUSED where that was another request, STORE_UNAVAILABLE where it cannot
        be known, REQUEST_UNKNOWN where it was answered and its events are kept no more.
        """
        if call.principal is NOBODY:
            return self._pipeline(call)  # which refuses it
        return self._answer(call)

    async def aclose(self) -> None:
        """End what runs, and let the store learn of it; within three seconds."""
        await self.streams.aclose()
        if self._held:
            await asyncio.wait(self._held, timeout=_CLOSING_SECONDS)
        for task in self._held:
            task.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def _answer(self, call: RequestContext) -> AsyncGenerator[Batch, None]:
        name, claim = name_of(call), Claim(call.id, await _digest(call.request))
        clock = asyncio.get_running_loop().time
        until = inf
        while True:
            held = await self._claim(name, claim)
            if held.digest != claim.digest:
                raise reused(call.request)
            answer = self._run(call, name, claim) if held == claim else self._join(call, held)
            has_begun = False
            try:
                async with aclosing(answer) as batches:
                    async for batch in batches:
                        has_begun = True
                        yield batch
            except GenerationError as error:
                until = min(until, clock() + LEASE_SECONDS)
                is_final = has_begun or held == claim or clock() >= until
                if is_final or not self._is_lost(error, name, held):
                    raise
            else:
                return
            await asyncio.sleep(_PAUSE)  # its lease has yet to end

    async def _claim(self, name: str, claim: Claim) -> Claim:
        """Whose the key is now: this request's, or that of an earlier one."""
        known = self._local.find(name)
        if known is not None or self._keys is None:
            return known or claim
        try:
            held = await self._keys.hold(name, claim)
        except StoreUnavailableError:
            raise GenerationError(
                Reason.STORE_UNAVAILABLE,
                "the store of idempotency keys is away: whether this one was used cannot be known",
                retry_after=1.0,
            ) from None
        return self._local.find(name) or held  # meanwhile another call may have begun it here

    def _run(self, call: RequestContext, name: str, claim: Claim) -> AsyncGenerator[Batch, None]:
        def ended(stream: ResumableStream) -> None:
            self._local.end(name, answered=stream.answered)
            if held is None:
                return
            if stream.answered:
                # Whoever finds the key is to find the answer.
                stream.when_copied(partial(held.end, answered=True))
            else:
                held.end(answered=False)

        self._local.begin(name, claim)
        stream = self.streams.begin_keyed(call, ended)
        held = None if self._keys is None else self._hold(self._keys, name, claim, stream)
        return stream.read()

    def _hold(self, keys: SharedKeys, name: str, claim: Claim, stream: ResumableStream) -> HeldKey:
        held = HeldKey(name, claim, keys, on_loss=partial(stream.give_up, _TAKEN))
        self._held.add(held.task)
        held.task.add_done_callback(self._held.discard)
        held.task.add_done_callback(_tell)
        return held

    async def _join(self, call: RequestContext, held: Claim) -> AsyncGenerator[Batch, None]:
        """The events of an earlier request, marked as such."""
        async with aclosing(self.streams.resume(held.request_id, call.principal, 0)) as batches:
            async for batch in batches:
                if batch[0].HasField("started"):
                    batch[0].started.replayed = True
                    self.replays += 1
                    _log.info("answer given again", request_id=held.request_id, caller=call.principal.name)
                elif batch[0].HasField("queued") and not call.streaming:
                    raise as_error(batch[0].queued)
                yield batch

    def _is_lost(self, error: GenerationError, name: str, held: Claim) -> bool:
        """Whether whoever had the key is gone, so that it will be free."""
        return error.reason in _LOST and not held.ended and self._local.find(name) is None


async def _digest(request: v1.GenerateRequest) -> str:
    return await asyncio.to_thread(digest, request) if is_large(request) else digest(request)


def _tell(holding: asyncio.Task[None]) -> None:
    if not holding.cancelled() and holding.exception() is not None:
        _log.error("an idempotency key is no longer held", exc_info=holding.exception())
