"""Assistant messages of `v1` as those of Chat Completions, with the reasoning that a vendor takes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outrider.providers.openai_wire import FORMAT, REASONING_DETAILS
from outrider.providers.signatures import is_foreign

if TYPE_CHECKING:
    from outrider import v1
    from outrider.providers.openai_findings import Findings
    from outrider.providers.profiles import Profile


class AssistantEncoder:
    """Encodes one assistant message after the other; `field` is where it stands in the request."""

    __slots__ = ("_findings", "_profile")

    def __init__(self, profile: Profile, findings: Findings) -> None:
        self._profile = profile
        self._findings = findings

    def encode(self, message: v1.Message, field: str) -> dict[str, Any]:
        """The message but for its name."""
        encoded: dict[str, Any] = {"role": "assistant", "content": None}
        texts, calls = [], []
        reasoning: list[dict[str, Any]] = []
        for index, part in enumerate(message.parts):
            place = f"{field}.parts[{index}]"
            match part.WhichOneof("content"):
                case "text":
                    texts.append(part.text)
                    encoded |= self._thought_signature(part, f"{place}.text")
                case "tool_call":
                    calls.append(self._tool_call(part, f"{place}.tool_call"))
                case "reasoning":
                    reasoning += self._reasoning(part, f"{place}.reasoning")
                case "opaque":
                    self._opaque(part, encoded, f"{place}.opaque")
                case kind:
                    self._findings.refuse(
                        place, f"{kind or 'an empty part'} cannot stand in an assistant message"
                    )
        # Text that the model wrote around a tool call came as one string, and goes back as one.
        if texts or not calls:
            encoded["content"] = "".join(texts)
        if calls:
            encoded["tool_calls"] = calls
        if REASONING_DETAILS not in encoded:
            encoded |= self._reasoning_fields(reasoning)
        return encoded

    def _reasoning(self, part: v1.Part, field: str) -> list[dict[str, Any]]:
        """A reasoning part as OpenRouter's blocks."""
        if not self._profile.reasoning_field:
            self._findings.warn(field, "the provider takes no reasoning back; it is left out")
            return []
        if part.reasoning.redacted:
            data = self._opaque_text(part, part.reasoning.redacted, field)
            return [{"type": "reasoning.encrypted", "data": data}] if data else []
        block = {"type": "reasoning.text", "text": part.reasoning.text}
        if signature := self._opaque_text(part, part.signature, field):
            block["signature"] = signature
        return [block]

    def _reasoning_fields(self, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        """Blocks where one of them must come back unchanged, else the mere text, which more vendors read."""
        if any("signature" in block or "data" in block for block in blocks):
            return {REASONING_DETAILS: blocks}
        text = "".join(block["text"] for block in blocks)
        return {self._profile.reasoning_field: text} if text else {}

    def _tool_call(self, part: v1.Part, field: str) -> dict[str, Any]:
        call = part.tool_call
        encoded: dict[str, Any] = {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json or "{}"},
        }
        return encoded | self._thought_signature(part, field)

    def _thought_signature(self, part: v1.Part, field: str) -> dict[str, Any]:
        """https://ai.google.dev/gemini-api/docs/thought-signatures, under OpenAI compatibility"""
        signature = self._opaque_text(part, part.signature, field)
        return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}

    def _takes_back(self, part: v1.Part) -> bool:
        """Whether the vendor takes back what only the maker of a part understands."""
        return self._profile.signatures and not is_foreign(part, self._profile.signer)

    def _opaque_text(self, part: v1.Part, value: bytes, field: str) -> str:
        """A part's signature or encrypted reasoning as text; empty where it cannot be sent."""
        if value and self._takes_back(part):
            try:
                return value.decode()
            except UnicodeDecodeError:
                pass  # this format's are text, so it is another provider's
        if value:
            self._findings.warn(field, "an opaque signature that the provider does not take is left out")
        return ""

    def _opaque(self, part: v1.Part, message: dict[str, Any], field: str) -> None:
        opaque = part.opaque
        if opaque.format != FORMAT or opaque.type != REASONING_DETAILS or not self._takes_back(part):
            self._findings.warn(field, "a part that only another provider understands is left out")
            return
        message[REASONING_DETAILS] = self._findings.json_array(opaque.json, f"{field}.json")
