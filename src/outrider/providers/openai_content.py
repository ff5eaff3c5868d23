"""Conversations of `v1` as messages of Chat Completions.

https://developers.openai.com/api/docs/api-reference/chat/create
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from outrider import v1
from outrider.providers.openai_assistant import AssistantEncoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outrider.providers.openai_findings import Findings
    from outrider.providers.profiles import Profile

Json: TypeAlias = dict[str, Any]

_AUDIO_FORMATS: Final = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def encode_messages(messages: Iterable[v1.Message], profile: Profile, findings: Findings) -> list[Json]:
    """The whole conversation."""
    conversation = _Conversation(profile, findings)
    for index, message in enumerate(messages):
        conversation.add(message, f"messages[{index}]")
    conversation.flush_attachments()
    return conversation.messages


class _Conversation:
    __slots__ = ("_assistant", "_attachments", "_findings", "_profile", "messages")

    def __init__(self, profile: Profile, findings: Findings) -> None:
        self.messages: list[Json] = []
        self._profile = profile
        self._findings = findings
        self._assistant = AssistantEncoder(profile, findings)
        self._attachments: list[Json] = []  # media of tool results

    def add(self, message: v1.Message, field: str) -> None:
        if message.role == v1.ROLE_TOOL:
            self._tool_results(message, field)
            return
        self.flush_attachments()
        if message.role == v1.ROLE_ASSISTANT:
            encoded = self._assistant.encode(message, field)
        else:
            role = "system" if message.role == v1.ROLE_SYSTEM else "user"
            encoded = {"role": role, "content": self._content(message.parts, field)}
        if message.name and self._profile.participant_names:
            encoded["name"] = message.name
        elif message.name:
            self._findings.warn(f"{field}.name", "the provider refuses names of participants")
        self.messages.append(encoded)

    def flush_attachments(self) -> None:
        """Send the media behind the last tool result: all results must follow their calls at once."""
        if self._attachments:
            self.messages.append({"role": "user", "content": self._attachments})
            self._attachments = []

    def _content(self, parts: Iterable[v1.Part], field: str) -> str | list[Json]:
        """One text as a string, which every vendor takes; anything else as a list."""
        blocks = [
            block
            for index, part in enumerate(parts)
            if (block := self._block(part, f"{field}.parts[{index}]")) is not None
        ]
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            text: str = blocks[0]["text"]
            return text
        return blocks or ""

    def _block(self, part: v1.Part, field: str) -> Json | None:
        match part.WhichOneof("content"):
            case "text":
                return {"type": "text", "text": part.text}
            case "image":
                return {"type": "image_url", "image_url": {"url": _url(part.image)}}
            case "audio" if not part.audio.uri:
                data = msgspec.Raw(b'"%b"' % base64.b64encode(part.audio.data))
                return {"type": "input_audio", "input_audio": {"data": data, "format": _sound(part.audio)}}
            case "audio":
                self._findings.refuse(f"{field}.audio.uri", "Chat Completions takes sound by content only")
            case "file":
                return {"type": "file", "file": _file(part.file)}
            case kind:
                self._findings.refuse(field, f"{kind or 'an empty part'} cannot stand in this message")
        return None

    def _tool_results(self, message: v1.Message, field: str) -> None:
        for index, part in enumerate(message.parts):
            place = f"{field}.parts[{index}]"
            if part.WhichOneof("content") != "tool_result":
                self._findings.refuse(place, "must be a tool_result")
                continue
            result = part.tool_result
            content = self._content(result.parts, f"{place}.tool_result")
            if not isinstance(content, str):
                content = self._detach_media(content, result.tool_call_id)
            if result.is_error:
                content = f"Error: {content}"
            self.messages.append({"role": "tool", "tool_call_id": result.tool_call_id, "content": content})

    def _detach_media(self, blocks: list[Json], call_id: str) -> str:
        """The text of a tool result. Its media are kept for a user message: a tool's holds text only."""
        media = [block for block in blocks if block["type"] != "text"]
        if media:
            self._attachments += [{"type": "text", "text": f"Attached to the result of {call_id}:"}, *media]
        return "\n".join(block["text"] for block in blocks if block["type"] == "text") or "See attachment."


def _url(media: v1.Media) -> str | msgspec.Raw:
    if media.uri:
        return media.uri
    # Base64 needs no escaping, so large media skip the JSON encoder.
    start = msgspec.json.encode(f"data:{media.mime_type};base64,")
    return msgspec.Raw(b'%b%b"' % (start[:-1], base64.b64encode(media.data)))


def _sound(media: v1.Media) -> str:
    subtype = media.mime_type.partition(";")[0].strip().lower().rpartition("/")[2]
    return _AUDIO_FORMATS.get(subtype, subtype)


def _file(media: v1.Media) -> Json:
    if media.uri.startswith("file-"):
        return {"file_id": media.uri}
    encoded: Json = {"file_data": _url(media)}
    if media.filename or media.data:
        encoded["filename"] = media.filename or f"file.{media.mime_type.rpartition('/')[2]}"
    return encoded
