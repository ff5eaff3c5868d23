"""The interceptor through which every error leaves."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import structlog
from grpc.aio import AbortError, ServerInterceptor

from outrider.core.errors import GenerationError, Reason
from outrider.server.status import to_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    RpcHandler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger("outrider.server")


class ErrorGuard(ServerInterceptor):
    """Turns GenerationError into its status and anything unexpected into INTERNAL with an id.

    grpc would send an unexpected exception's text to the caller word for word.
    """

    def __init__(self) -> None:
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
        self._wrapped[method] = wrapped = handler if handler.request_streaming else _wrap(handler)
        return wrapped


def _wrap(handler: RpcHandler) -> RpcHandler:
    streaming = handler.response_streaming
    behaviour: Any = handler.unary_stream if streaming else handler.unary_unary

    async def guarded(request: object, context: Context) -> object:
        try:
            return await behaviour(request, context)
        except AbortError:
            raise
        except GenerationError as error:
            return await _abort(context, error)
        except asyncio.CancelledError:
            if not context.cancelled():
                # Cancelled from within: without a status the caller would hang.
                await _abort(context, GenerationError(Reason.DRAINING, "the sidecar is stopping"))
            raise
        except Exception as bug:  # noqa: BLE001 - the last line of defence
            error_id = uuid.uuid4().hex
            _log.error("unexpected error", error_id=error_id, exc_info=bug)
            return await _abort(context, GenerationError(Reason.INTERNAL, f"unexpected error {error_id}"))

    make: Any = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    wrapped: RpcHandler = make(guarded, handler.request_deserializer, handler.response_serializer)
    return wrapped


async def _abort(context: Context, error: GenerationError) -> object:
    code, text, trailers = to_status(error)
    return await context.abort(code, text, trailers)
