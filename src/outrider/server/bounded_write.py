"""Writing to a caller that may have stopped reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from grpc.aio import ServicerContext

# A caller that reads nothing for so long, though there is something to read, has gone without saying so.
_PATIENCE = 60.0


async def bounded_write(context: ServicerContext[Any, Any], response: Message) -> None:
    """Write a message. Raises GenerationError DEADLINE_EXCEEDED where nothing is read for a minute."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await context.write(response)
    except TimeoutError:
        text = f"nothing was read for {_PATIENCE:g} s"
        raise GenerationError(Reason.DEADLINE_EXCEEDED, text) from None
