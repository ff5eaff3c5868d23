"""Messages of `v1` as turns and content blocks of Anthropic's Messages API.

The blocks are described in https://platform.claude.com/docs/en/api/messages/create.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from outrider import v1
from outrider.core.errors import Violation
from outrider.providers.signatures import is_foreign

if TYPE_CHECKING:
    from collections.abc import Sequence

Json: TypeAlias = dict[str, Any]
Block: TypeAlias = Json | msgspec.Raw

NOT_SUPPORTED: Final = "SETTING_NOT_SUPPORTED"
ADJUSTED: Final = "SETTING_ADJUSTED"
EMULATED: Final = "SETTING_EMULATED"

FORMAT: Final = "anthropic"

_IN_SYSTEM: Final = ("text",)
_IN_RESULT: Final = ("text", "image", "file")
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Conversation:
    """Collects system text and turns, what is wrong with them, and what had to be left out: that which others
    than `signer` have signed, too.
    """

    __slots__ = ("_signer", "system", "turns", "violations", "warnings")

    def __init__(self, warnings: list[v1.Warning], signer: str) -> None:
        self._signer = signer
        self.system: list[Block] = []
        self.turns: list[Json] = []
        self.violations: list[Violation] = []
        self.warnings = warnings

    def add(self, message: v1.Message, field: str) -> None:
        """Add the next message; `field` is where it stands in the request."""
        if message.name:
            self.warn(f"{field}.name", "Anthropic knows no names of participants; the name is left out")
        if message.role == v1.ROLE_SYSTEM:
            if self.turns:
                self.warn(field, "system text is sent in front of the conversation", ADJUSTED)
            self.system += self._blocks(message.parts, field, _IN_SYSTEM)
            return
        blocks = self._blocks(message.parts, field)
        role = "assistant" if message.role == v1.ROLE_ASSISTANT else "user"
        if not blocks:
            if role == "user":
                self.refuse(field, "Anthropic takes no message without content")
        elif self.turns and self.turns[-1]["role"] == role:
            # The results of parallel calls must stand in one turn.
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def json_object(self, text: str, field: str) -> dict[str, msgspec.Raw]:
        """The members of a JSON object, each as it was written; anything else is refused."""
        try:
            return _OBJECT.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            self.refuse(field, f"must be a JSON object: {error}")
            return {}

    def warn(self, field: str, message: str, code: str = NOT_SUPPORTED) -> None:
        """Tell the caller of a setting that is not honoured as it was given."""
        self.warnings.append(v1.Warning(code=code, field=field, message=message))

    def refuse(self, field: str, description: str) -> None:
        """Note a field that is wrong."""
        self.violations.append(Violation(field, description))

    def _blocks(
        self, parts: Sequence[v1.Part], field: str, allowed: tuple[str, ...] | None = None
    ) -> list[Block]:
        blocks: list[Block] = []
        for index, part in enumerate(parts):
            place = f"{field}.parts[{index}]"
            kind = part.WhichOneof("content")
            if kind is None or (allowed and kind not in allowed):
                self.refuse(place, f"must be one of {', '.join(allowed)}" if allowed else "is empty")
            elif (block := self._block(kind, part, f"{place}.{kind}")) is not None:
                blocks.append(block)
        return blocks

    def _block(self, kind: str, part: v1.Part, field: str) -> Block | None:
        if part.signature and kind != "reasoning":
            self.warn(field, "Anthropic signs reasoning only; the signature of another provider is left out")
        match kind:
            case "text":
                # Anthropic refuses blank text, which its own models sometimes write between other blocks.
                return None if part.text.isspace() or not part.text else {"type": "text", "text": part.text}
            case "image":
                return {"type": "image", "source": _source(part.image)}
            case "file":
                return self._document(part.file, field)
            case "tool_call":
                call = part.tool_call
                arguments = self.json_object(call.arguments_json or "{}", f"{field}.arguments_json")
                return {"type": "tool_use", "id": _call_id(call.id), "name": call.name, "input": arguments}
            case "tool_result":
                return self._tool_result(part.tool_result, field)
            case "reasoning":
                return self._reasoning(part, field)
            case "opaque":
                return self._opaque(part, field)
        self.refuse(field, "Anthropic takes no audio")
        return None

    def _document(self, media: v1.Media, field: str) -> Json:
        block: Json = {"type": "document"}
        mime_type = media.mime_type.partition(";")[0].strip().lower()
        if mime_type == "application/pdf" or (media.uri and not mime_type):
            block["source"] = _source(media)
        elif mime_type.startswith("text/") and not media.uri:
            try:
                block["source"] = {"type": "text", "media_type": "text/plain", "data": media.data.decode()}
            except UnicodeDecodeError:
                self.refuse(f"{field}.data", "must be text in UTF-8")
        else:
            self.refuse(field, "Anthropic takes PDF files by content or URL, and text files by content")
        if media.filename:
            block["title"] = media.filename
        return block

    def _tool_result(self, result: v1.ToolResult, field: str) -> Json:
        block: Json = {"type": "tool_result", "tool_use_id": _call_id(result.tool_call_id)}
        if content := self._blocks(result.parts, field, _IN_RESULT):
            block["content"] = content
        if result.is_error:
            block["is_error"] = True
        return block

    def _reasoning(self, part: v1.Part, field: str) -> Json | None:
        block = None if is_foreign(part, self._signer) else _thinking(part)
        if block is None:
            self.warn(field, "reasoning without a signature of this provider's is left out")
        return block

    def _opaque(self, part: v1.Part, field: str) -> msgspec.Raw | None:
        opaque = part.opaque
        if opaque.format != FORMAT or is_foreign(part, self._signer):
            self.warn(field, "a part that only another provider understands is left out")
            return None
        self.json_object(opaque.json, f"{field}.json")
        return msgspec.Raw(opaque.json.encode())


def _thinking(part: v1.Part) -> Json | None:
    """Reasoning as it came; None where it is not what Anthropic's format signs."""
    try:
        if part.reasoning.redacted:
            return {"type": "redacted_thinking", "data": part.reasoning.redacted.decode()}
        if part.signature:
            signature = part.signature.decode()
            return {"type": "thinking", "thinking": part.reasoning.text, "signature": signature}
    except UnicodeDecodeError:
        pass  # this format's are text
    return None


def _source(media: v1.Media) -> Json:
    if media.uri:
        return {"type": "url", "url": media.uri}
    # Base64 needs no escaping, so large media skip the JSON encoder.
    data = msgspec.Raw(b'"%b"' % base64.b64encode(media.data))
    return {"type": "base64", "media_type": media.mime_type, "data": data}


def _call_id(call_id: str) -> str:
    """Anthropic refuses other characters, which ids of other providers hold."""
    if call_id.replace("_", "").replace("-", "").isalnum() and call_id.isascii():
        return call_id
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in call_id)
