"""OpenRouter's reasoning blocks, put together from their pieces."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from outrider import v1
from outrider.providers.openai_wire import FORMAT, REASONING_DETAILS

_TEXT_FIELDS: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}


class ReasoningDetails:
    """Collects blocks; pieces that follow each other with the same type and index are one block."""

    __slots__ = ("_blocks", "_pieces")

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[list[str]] = []  # of each block's text

    def add(self, details: object) -> tuple[str, bytes]:
        """Add what came; gives its text and its signature."""
        text, signature = "", b""
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict):
                text += self._add(detail)
                if isinstance(found := detail.get("signature"), str):
                    signature = found.encode()
        return text, signature

    def _add(self, detail: dict[str, Any]) -> str:
        field = _TEXT_FIELDS.get(str(detail.get("type")), "")
        text = detail.pop(field, None)
        if not isinstance(text, str):
            text = ""
        last = self._blocks[-1] if self._blocks else {}
        if field and all(last.get(key) == detail.get(key) for key in ("type", "index")):
            last.update((key, value) for key, value in detail.items() if value)
            self._pieces[-1].append(text)
        else:
            self._blocks.append(detail)
            self._pieces.append([text])
        return text

    def opaque(self) -> v1.OpaquePart | None:
        """All blocks, where one is signed or encrypted; None where the text alone says everything."""
        if not any(block.get("signature") or block.get("data") for block in self._blocks):
            return None
        for block, pieces in zip(self._blocks, self._pieces, strict=True):
            if text := "".join(pieces):
                block[_TEXT_FIELDS[block["type"]]] = text
        blocks = msgspec.json.encode(self._blocks).decode()
        return v1.OpaquePart(format=FORMAT, type=REASONING_DETAILS, json=blocks)
