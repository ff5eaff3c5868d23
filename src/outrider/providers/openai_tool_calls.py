"""Pieces of tool calls, as vendors send them, put together into calls."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outrider.providers.openai_wire import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.providers.batch import BatchBuilder
    from outrider.providers.openai_wire import Function

_LEGACY_INDEX: Final = -1  # of the one call that `function_call` can hold


class _Call:
    __slots__ = ("call_id", "latest", "part")

    def __init__(self, call_id: str, part: int) -> None:
        self.call_id = call_id
        self.part = part
        self.latest = ""  # piece of its arguments that is not blank


class ToolCalls:
    """Gives every call a part of its own, an id where it has none, and `{}` where it has no arguments."""

    __slots__ = ("_batch", "_by_index", "_calls", "_new_part")

    def __init__(self, batch: BatchBuilder, new_part: Callable[[], int]) -> None:
        self._batch = batch
        self._new_part = new_part
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: ToolCall) -> None:
        """A call, or a piece of one."""
        name = arguments = ""
        if piece.function is not None:
            name = piece.function.name or ""
            arguments = _json_text(piece.function.arguments)
        call = self._find(piece, name, arguments)
        call_id = ""
        if call is None:
            if not (piece.id or name or arguments):
                return  # some vendors fill the field in with nothing
            call_id = str(piece.id or f"call_{secrets.token_hex(12)}")
            call = _Call(call_id, self._new_part())
            self._calls.append(call)
            if piece.index is not None:
                self._by_index[piece.index] = call
        if arguments.strip():
            call.latest = arguments
        self._batch.tool_call(call.part, call_id, name, arguments, thought_signature(piece.extra_content))

    def add_legacy(self, function: Function) -> None:
        """A piece of the one call that the old `function_call` field can hold."""
        self.add(ToolCall(index=_LEGACY_INDEX, function=function))

    def close(self) -> None:
        """No more pieces will come."""
        for call in self._calls:
            if not call.latest:
                self._batch.tool_call(call.part, arguments="{}")

    def _find(self, piece: ToolCall, name: str, arguments: str) -> _Call | None:
        """The call that a piece belongs to; None where it begins a new one."""
        call_id = str(piece.id or "")
        if piece.index is not None:
            call = self._by_index.get(piece.index)
            if call is None or call_id == call.call_id:
                return call
            if call_id:
                return self._by_id(call_id) or (None if name else call)  # the index is shared
            return None if name and _follows(call.latest, arguments) else call  # as here, without ids
        if call_id:
            return self._by_id(call_id)
        return self._calls[-1] if self._calls and not name else None

    def _by_id(self, call_id: str) -> _Call | None:
        return next((call for call in reversed(self._calls) if call.call_id == call_id), None)


def _follows(before: str, arguments: str) -> bool:
    """Whether arguments are those of another call: within an object, no `{` comes right behind a `}`."""
    return before.rstrip().endswith("}") and arguments.lstrip().startswith("{")


def _json_text(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()


def thought_signature(extra_content: Any) -> bytes:
    """Gemini's thought signature: https://ai.google.dev/gemini-api/docs/thought-signatures"""
    try:
        signature = extra_content["google"]["thought_signature"]
    except (TypeError, KeyError):
        return b""
    return signature.encode() if isinstance(signature, str) else b""
