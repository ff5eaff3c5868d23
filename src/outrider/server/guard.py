"""The interceptor through which every error leaves."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc.aio import AbortError, InternalError, ServerInterceptor

from outrider.core.errors import GenerationError, Reason
from outrider.server.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from outrider.server.in_flight import InFlight

    RpcHandler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_ABORT_SECONDS = 1.0  # for a status that waits behind events which nobody reads
_OURS = "/outrider."  # how our own methods begin

_log = structlog.get_logger("outrider.server")


class ErrorGuard(ServerInterceptor):
    """Turns GenerationError into its status and anything unexpected into INTERNAL with an id.

    grpc would send an unexpected exception's text to the caller word for word. Calls of our own services
    count as in flight; health and reflection neither use up the limit nor hold up the drain.
    """

    def __init__(self, in_flight: InFlight, max_request_bytes: int) -> None:
        self._in_flight = in_flight
        self._max_request_bytes = max_request_bytes
        # Wrapping once per method, not once per call.
        self._wrapped: dict[str, RpcHandler | None] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[RpcHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> RpcHandler | None:
        """Wrap the handler of a method."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # not kept: the names of unknown methods are the caller's
        if not handler.request_streaming:
            counted = self._in_flight if method.startswith(_OURS) else nullcontext()
            handler = _wrap(handler, counted, self._max_request_bytes)
        self._wrapped[method] = handler
        return handler


def _wrap(handler: RpcHandler, counted: AbstractContextManager[None], max_bytes: int) -> RpcHandler:
    streaming = handler.response_streaming
    behaviour: Any = handler.unary_stream if streaming else handler.unary_unary

    async def guarded(request: object, context: Context) -> object:
        try:
            if isinstance(request, GenerationError):
                raise request
            with counted:
                return await behaviour(request, context)
        except AbortError:
            raise
        except GenerationError as error:
            return await _abort(context, error)
        except asyncio.CancelledError as cancel:
            if Reason.DRAINING in cancel.args or not _is_being_cancelled():
                # Cancelled by `InFlight.cut`, or by something inside: without a status the caller would hang.
                # One that has left must get none: grpc keeps what is sent to it for ever, 300 bytes each.
                stopping = GenerationError(Reason.DRAINING, "the sidecar is stopping")
                stopping.committed = streaming  # as far as is known here, the answer had begun
                await _abort(context, stopping)
            raise
        except InternalError:
            # The caller's end is gone, in the moment of a write; nobody is left to tell.
            raise asyncio.CancelledError from None
        except Exception as bug:  # noqa: BLE001 - the last line of defence
            error_id = uuid.uuid4().hex
            _log.error("unexpected error", error_id=error_id, exc_info=bug)
            return await _abort(context, GenerationError(Reason.INTERNAL, f"unexpected error {error_id}"))

    make: Any = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    deserialize = _checked(handler.request_deserializer, max_bytes)
    wrapped: RpcHandler = make(guarded, deserialize, handler.response_serializer)
    return wrapped


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked(deserialize: Any, max_bytes: int) -> Callable[[bytes], object]:
    """Gives an error in place of a request that is too large or no message; grpc would call it UNKNOWN."""

    def check(data: bytes) -> object:
        if len(data) > max_bytes:
            text = f"the request has {len(data)} bytes; at most {max_bytes} are allowed"
            return GenerationError(Reason.INVALID_REQUEST, text)
        try:
            return deserialize(data)
        except DecodeError as error:
            return GenerationError(Reason.INVALID_REQUEST, str(error))

    return check


async def _abort(context: Context, error: GenerationError) -> object:
    code, text, trailers = to_status(error)
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            return await context.abort(code, text, trailers)
    except TimeoutError:
        # The caller reads nothing, not even how its call ended; cancelled, it still gets the status.
        raise asyncio.CancelledError from None
