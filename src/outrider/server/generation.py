"""GenerationService: where a request enters the pipeline and its events leave it."""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.context import Record, RequestContext
from outrider.core.errors import GenerationError, Reason
from outrider.policy.admit import check_caller, check_models
from outrider.policy.resume import not_resumable
from outrider.policy.validate import check_request
from outrider.server.traceparent import traceparent_in
from outrider.v1.generation_service_pb2_grpc import GenerationServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from grpc.aio import ServicerContext

    from outrider.core.ports import Batch, Clock, Handler, Provider, TokenCounter
    from outrider.policy.keyed import KeyedRequests
    from outrider.policy.resume import ResumableStreams
    from outrider.policy.route_table import RouteTable
    from outrider.server.callers import Callers


CACHE_KEY = "x-outrider-cache-key"
"""Trailing metadata: the name of the answer, where the cache was asked for one."""


class GenerationServicer(GenerationServiceServicer):
    """Generate, ResumeGenerate, Complete and CountTokens."""

    def __init__(
        self,
        *,
        pipeline: Handler,
        keyed: KeyedRequests,
        callers: Callers,
        routes: RouteTable,
        providers: Mapping[str, Provider],
        counter: TokenCounter,
        clock: Clock,
        streams: ResumableStreams | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._keyed = keyed
        self._callers = callers
        self._routes = routes
        self._providers = providers
        self._counter = counter
        self._clock = clock
        self._streams = streams

    async def Generate(  # type: ignore[override]  # a coroutine that writes, not a generator: see docs
        self,
        request: v1.GenerateRequest,
        context: ServicerContext[v1.GenerateRequest, v1.GenerateResponse],
    ) -> None:
        """Stream an answer."""
        call = self._open(request, context, "Generate", streaming=True)
        if request.idempotency_key:
            await _write_all(self._keyed.answer(call), call, context)
            return
        if request.resumable and self._streams is not None:
            await _write_all(self._streams.begin(call), call, context)
            return
        record, sequence = call.record, 0
        async with aclosing(self._begin(call)) as batches:
            async for batch in batches:
                for event in batch:
                    sequence += 1
                    event.sequence = sequence
                    await context.write(event)
                    record.last_sequence = sequence
        _tell_key(record, context)

    async def ResumeGenerate(  # type: ignore[override]
        self,
        request: v1.ResumeGenerateRequest,
        context: ServicerContext[v1.ResumeGenerateRequest, v1.ResumeGenerateResponse],
    ) -> None:
        """Continue a stream."""
        caller = self._callers.identify(context.invocation_metadata())  # type: ignore[arg-type]
        check_caller(caller)
        keyed = self._keyed.streams
        streams = keyed if keyed.has(request.request_id, caller) else self._streams
        if streams is None:
            raise GenerationError(Reason.REQUEST_UNKNOWN, "this sidecar keeps no streams: see resume.enabled")
        rest = streams.resume(request.request_id, caller, request.after_sequence)
        async with aclosing(rest) as batches:
            async for batch in batches:
                for event in batch:
                    await context.write(v1.ResumeGenerateResponse(event=event))

    async def Complete(
        self,
        request: v1.CompleteRequest,
        context: ServicerContext[v1.CompleteRequest, v1.CompleteResponse],
    ) -> v1.CompleteResponse:
        """Give an answer in one piece."""
        call = self._open(request.request, context, "Complete", streaming=False)
        collector = Collector()
        async with aclosing(self._begin(call)) as batches:
            async for batch in batches:
                for event in batch:
                    collector.add(event)
        _tell_key(call.record, context)
        return collector.response

    async def CountTokens(
        self,
        request: v1.CountTokensRequest,
        context: ServicerContext[v1.CountTokensRequest, v1.CountTokensResponse],
    ) -> v1.CountTokensResponse:
        """Count the input tokens of a request without running it."""
        call = self._open(request.request, context, "CountTokens", streaming=False)
        check_caller(call.principal)
        check_request(call.request)
        plan = self._routes.plan(call.request)
        check_models(call.principal, call.request, plan)
        target = plan[0]
        response = v1.CountTokensResponse(provider=target.provider, model=target.model)
        if request.method == v1.CountTokensRequest.METHOD_PROVIDER:
            counted = await self._ask_provider(call, target.provider, target.model)
            if counted is not None:
                response.input_tokens = counted
                response.source = v1.USAGE_SOURCE_PROVIDER
                return response
        tokens, exact = await asyncio.to_thread(self._counter.count_input, call.request, target.model)
        response.input_tokens = tokens
        response.source = v1.USAGE_SOURCE_VOCABULARY if exact else v1.USAGE_SOURCE_ESTIMATED
        return response

    def _begin(self, call: RequestContext) -> AsyncGenerator[Batch, None]:
        if call.request.idempotency_key:
            return self._keyed.answer(call)
        answer = self._pipeline(call)
        return not_resumable(answer) if call.request.resumable else answer

    async def _ask_provider(self, call: RequestContext, provider: str, model: str) -> int | None:
        patience = min(call.deadline - self._clock(), _COUNT_TIMEOUT)
        try:
            async with asyncio.timeout(patience):
                return await self._providers[provider].count_tokens(call.request, model)
        except TimeoutError:
            raise GenerationError(
                Reason.TOTAL_TIMEOUT, f"{provider} did not count within {patience:.1f} s"
            ).refine(provider=provider, model=model) from None

    def _open(
        self,
        request: v1.GenerateRequest,
        context: ServicerContext[Any, Any],
        method: str,
        *,
        streaming: bool,
    ) -> RequestContext:
        """Begin the record and the context of a request."""
        metadata = context.invocation_metadata()
        principal = self._callers.identify(metadata)  # type: ignore[arg-type]
        now = self._clock()
        remaining = context.time_remaining()
        request_id = new_id()
        record = Record(
            request_id=request_id,
            method=method,
            principal=principal.name,
            requested_model=request.model[:_LONGEST],
            started_at=now,
            attribution=_copy(request.attribution) if request.HasField("attribution") else None,
            traceparent=traceparent_in(metadata),  # type: ignore[arg-type]
        )
        deadline = math.inf if remaining is None else now + remaining
        return RequestContext(request_id, request, principal, record, streaming, deadline)


async def _write_all(
    events: AsyncGenerator[Batch, None],
    call: RequestContext,
    context: ServicerContext[v1.GenerateRequest, v1.GenerateResponse],
) -> None:
    """Write events that have their numbers."""
    async with aclosing(events) as batches:
        async for batch in batches:
            for event in batch:
                await context.write(event)
    _tell_key(call.record, context)


# Of what is put on record before it is validated: a caller may send megabytes as a name.
_LONGEST = 256
_LARGEST_ATTRIBUTION = 16_384


def _copy(attribution: v1.Attribution) -> v1.Attribution | None:
    # A part of a message keeps the whole alive, prompt and all, for as long as the record waits to be logged.
    if attribution.ByteSize() > _LARGEST_ATTRIBUTION:
        return None
    copy = v1.Attribution()
    copy.CopyFrom(attribution)
    return copy


def _tell_key(record: Record, context: ServicerContext[Any, Any]) -> None:
    if record.cache_key:
        context.set_trailing_metadata(((CACHE_KEY, record.cache_key),))


# A count is worth waiting for, but not for long: the estimate is there at once.
_COUNT_TIMEOUT = 10.0


def new_id() -> str:
    """A request id: sorts by time of arrival, unique across sidecars (48 bits of ms, 80 random)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
