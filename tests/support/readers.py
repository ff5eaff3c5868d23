"""Callers that read an answer from a handler, each in a task of its own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.errors import GenerationError
from tests.support.scripted import context

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler


class Reader:
    """One caller. It marks its events, as the servicer does: nobody else may see that."""

    def __init__(self, call: RequestContext, handler: Handler, *, pace: float = 0.0) -> None:
        self.call = call
        self.record = call.record
        self.events: Batch = []
        self.error: GenerationError | None = None
        self._pace = pace
        self._handler = handler
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with aclosing(self._handler(self.call)) as batches:
                async for batch in batches:
                    for event in batch:
                        assert event.sequence == 0
                        event.sequence = len(self.events) + 1
                        self.events.append(event)
                    if self._pace:
                        await asyncio.sleep(self._pace)
        except GenerationError as error:
            self.error = error

    async def leave(self) -> None:
        """Cancel the call, as grpc does, and wait until it has ended."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    @property
    def response(self) -> v1.CompleteResponse:
        """What it has read, as one answer."""
        collector = Collector()
        for event in self.events:
            collector.add(event)
        return collector.response

    @property
    def text(self) -> str:
        """All text."""
        return "".join(event.text_delta.text for event in self.events)

    @property
    def status(self) -> v1.CacheStatus:
        """What it was told of the cache."""
        return self.events[0].started.cache_status


class Readers:
    """Callers of one handler that all ask the same, but for what is changed."""

    def __init__(self, handler: Handler, *targets: str, **request: object) -> None:
        self._handler = handler
        self._targets = targets or ("p/m",)
        self._request = request
        self._count = 0
        self.all: list[Reader] = []

    def one(
        self,
        *,
        pace: float = 0.0,
        change: Callable[[RequestContext], RequestContext] = lambda call: call,
        deadline: float = float("inf"),
        streaming: bool = True,
        **request: object,
    ) -> Reader:
        """One more, which begins to read."""
        self._count += 1
        message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])
        fields = {"messages": [message], "sampling": v1.Sampling(temperature=0), **self._request, **request}
        call = context(
            *self._targets,
            deadline=deadline,
            request=v1.GenerateRequest(**fields),
            streaming=streaming,  # type: ignore[arg-type]
        )
        call = replace(call, id=f"id-{self._count}")
        call.record.request_id = call.id
        reader = Reader(change(call), self._handler, pace=pace)
        self.all.append(reader)
        return reader

    def some(self, count: int) -> list[Reader]:
        """Several at once."""
        return [self.one() for _ in range(count)]

    async def done(self) -> None:
        """Wait until all have ended."""
        await asyncio.gather(*(reader.task for reader in self.all))
