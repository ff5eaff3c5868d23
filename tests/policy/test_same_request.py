"""After failover the next provider is sent exactly what it would have been sent in the first place."""

from __future__ import annotations

import base64
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Target
from outrider.core.errors import GenerationError
from outrider.policy.attempt import AttemptLoop
from outrider.providers.anthropic_format import AnthropicFormat
from outrider.providers.credentials import LiteralKey
from outrider.providers.http_provider import HttpProvider
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE, GROQ, OPENAI
from tests.support.paused_clock import now, paused
from tests.support.scripted import Watcher, context, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.core.ports import WireFormat, WireRequest


class Wire:
    """A transport that keeps what it is to send, and fails."""

    def __init__(self) -> None:
        self.sent: list[WireRequest] = []

    @asynccontextmanager
    async def open(self, request: WireRequest) -> AsyncIterator[Refusal]:
        self.sent.append(request)
        yield Refusal()

    async def aclose(self) -> None: ...


class Refusal:
    """The answer of a server that is down."""

    status = 500
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"


FORMATS: dict[str, WireFormat] = {
    "openai": OpenAIFormat(OPENAI),
    "groq": OpenAIFormat(GROQ),
    "compatible": OpenAIFormat(replace(COMPATIBLE, signer="openai:x")),
    "anthropic": AnthropicFormat(signer="anthropic:x"),
}
WORDS = st.text("abc äß\n", min_size=1, max_size=12).filter(str.strip)
NAMES = st.text("abcdefgh", min_size=1, max_size=8)
SIGNERS = st.sampled_from(["", "openai:x", "anthropic:x"])
OPAQUE = st.binary(min_size=3, max_size=9).map(base64.b64encode)


@st.composite
def turns(draw: st.DrawFn) -> list[v1.Message]:
    """A question, maybe after an assistant's turn with reasoning, a tool call and its result."""
    said = [v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=draw(WORDS))])]
    if draw(st.booleans()):
        said.insert(0, v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text=draw(WORDS))]))
    if draw(st.booleans()):
        reasoning = v1.Reasoning(text=draw(WORDS))
        call = v1.ToolCall(id=draw(NAMES), name="look_up", arguments_json='{"a": [1.50, {}]}')
        parts = [
            v1.Part(reasoning=reasoning, signature=draw(OPAQUE), signed_by=draw(SIGNERS)),
            v1.Part(opaque=v1.OpaquePart(format="anthropic", type="server_tool_use", json='{"type": "x"}')),
            v1.Part(text=draw(WORDS)),
            v1.Part(tool_call=call, signature=draw(st.one_of(st.just(b""), OPAQUE))),
        ]
        said.append(v1.Message(role=v1.ROLE_ASSISTANT, parts=parts))
        result = v1.ToolResult(tool_call_id=call.id, parts=[v1.Part(text=draw(WORDS))])
        said.append(v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)]))
    return said


@st.composite
def requests(draw: st.DrawFn) -> v1.GenerateRequest:
    """What callers ask, with settings that some providers take and others do not."""
    request = v1.GenerateRequest(
        model="a/m",
        messages=draw(turns()),
        sampling=v1.Sampling(
            temperature=draw(st.one_of(st.none(), st.floats(0, 1))),
            top_p=draw(st.one_of(st.none(), st.floats(0.1, 1))),
            top_k=draw(st.one_of(st.none(), st.integers(1, 50))),
            seed=draw(st.one_of(st.none(), st.integers(0, 9))),
            max_output_tokens=draw(st.one_of(st.none(), st.integers(1, 9999))),
            stop=draw(st.lists(NAMES, max_size=2)),
        ),
        attribution=v1.Attribution(tenant=draw(NAMES), user=draw(NAMES), labels={"k": draw(NAMES)}),
    )
    if draw(st.booleans()):
        schema = '{"type": "object", "properties": {"a": {"type": "array"}}}'
        request.tools.append(v1.Tool(name="look_up", description=draw(WORDS), parameters_json_schema=schema))
        request.tool_choice.mode = v1.ToolChoice.MODE_AUTO
    if draw(st.booleans()):
        request.reasoning.effort = v1.ReasoningOptions.EFFORT_LOW
    return request


async def ask(wires: dict[str, Wire], plan: list[str], request: v1.GenerateRequest) -> list[v1.Warning]:
    """Run a request that fails everywhere; the warnings that concern its last target."""
    ends = {
        name: upstream(
            HttpProvider(  # type: ignore[arg-type]
                name, FORMATS[name], wire, LiteralKey("k"), needs_key=True, max_response_bytes=1000
            ),
            max_attempts=1,
        )
        for name, wire in wires.items()
    }
    call = context(*(f"{name}/m" for name in plan), request=request)
    loop = AttemptLoop(ends, observer=Watcher(), clock=now, random=Random(1))
    try:
        async with aclosing(loop(call)) as batches:
            async for _ in batches:
                pass
    except GenerationError:
        pass
    assert [Target(a.provider, a.model) for a in call.record.attempts] == list(call.plan)
    return call.record.warnings


@settings(max_examples=120, deadline=None)
@given(requests(), st.permutations(sorted(FORMATS)))
def test_what_a_fallback_is_sent_does_not_depend_on_who_failed_before(
    request: v1.GenerateRequest, order: list[str]
) -> None:
    """Path, headers, body and warnings are those of a request that goes there first."""

    @paused
    async def run() -> None:
        before = request.SerializeToString(deterministic=True)
        together = {name: Wire() for name in FORMATS}
        warnings = await ask(together, order, request)
        assert request.SerializeToString(deterministic=True) == before
        for name in order:
            alone = {name: Wire()}
            expected = await ask(alone, [name], request)
            assert [vars_of(sent) for sent in together[name].sent] == [vars_of(alone[name].sent[0])]
            if name == order[-1]:
                assert warnings == expected

    run()


def vars_of(sent: WireRequest) -> tuple[str, bytes | None, dict[str, str]]:
    return sent.path, sent.body, dict(sent.headers)


@paused
async def test_what_only_another_format_understands_stays_behind() -> None:
    """A part of another wire format is left out with a warning; so is a signature where none is taken."""
    request = v1.GenerateRequest(
        model="m",
        messages=[
            v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")]),
            v1.Message(
                role=v1.ROLE_ASSISTANT,
                parts=[
                    v1.Part(opaque=v1.OpaquePart(format="anthropic", type="t", json='{"secret": 1}')),
                    v1.Part(text="hi", signature=b"signed-by-somebody"),
                ],
            ),
            v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="go on")]),
        ],
    )
    wires = {"anthropic": Wire(), "openai": Wire()}
    warnings = await ask(wires, ["anthropic", "openai"], request)
    assert b"secret" in (wires["anthropic"].sent[0].body or b"")
    body = wires["openai"].sent[0].body or b""
    assert b"secret" not in body
    assert b"signed-by-somebody" not in body
    assert {"messages[1].parts[0].opaque", "messages[1].parts[1].text"} <= {each.field for each in warnings}
