"""What only its maker understands, in the next turns: signatures, hidden reasoning, its own tools."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from outrider import v1
from tests.support.answers import json_body, openai_error
from tests.support.sidecar import ask, provider, running
from tests.support.signed_answers import signed
from tests.support.turns import collected, next_turn
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = {
    "claude": "anthropic",
    "lookalike": "anthropic",
    "gemini": "openai",
    "router": "openai",
    "openai": "openai",
    "groq": "openai",
}
TAKE_SIGNATURES_BACK = ("claude", "lookalike", "gemini", "router")
DOWN = json_body(openai_error("no", kind="server_error"), 500)


def own(body: Any, format_: str) -> list[dict[str, Any]]:
    """What a provider was sent behind the first question."""
    messages: list[dict[str, Any]] = body["messages"]
    return messages[1 : 1 + len(signed(format_).next_turn)]


@pytest.mark.parametrize("format_", ["anthropic", "openai"])
async def test_an_answer_goes_back_as_it_came(tmp_path: Path, format_: str) -> None:
    """Row 32: thinking, what is redacted, calls and blocks of the provider's own tools, byte for byte."""
    answer = signed(format_)
    async with (
        Upstream(answer.whole, answer.streamed, answer.whole) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, format_)}) as sidecar,
    ):
        heard = [
            await sidecar.generation.Complete(v1.CompleteRequest(request=ask("p/m"))),
            await collected(sidecar.generation.Generate(ask("p/m"))),
        ]
        for said in heard:
            second = await sidecar.generation.Complete(next_turn("p/m", said.message))
            assert upstream.requests[-1].json()["messages"][1:] == answer.next_turn
            assert not second.completed.warnings


@pytest.mark.parametrize("maker", TAKE_SIGNATURES_BACK)
async def test_nothing_that_is_signed_goes_to_another_provider(tmp_path: Path, maker: str) -> None:
    """Row 32: whatever its format. Text, calls and results do, and the maker gets back all of its own."""
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(Upstream(signed(format_, name).whole))
            for name, format_ in FORMATS.items()
        }
        providers = {name: provider(each.url, FORMATS[name]) for name, each in upstreams.items()}
        sidecar = await stack.enter_async_context(running(tmp_path, providers=providers))
        complete = sidecar.generation.Complete
        first = await complete(v1.CompleteRequest(request=ask(f"{maker}/m")))
        for other in FORMATS.keys() - {maker}:
            second = await complete(next_turn(f"{other}/m", first.message))
            sent = upstreams[other].requests[-1].body.decode()
            assert f"+{maker}/" not in sent
            assert "Let me look." in sent
            for part in first.message.parts:
                # Once in the call, and once in its result.
                assert not part.tool_call.id or sent.count(f'"{part.tool_call.id}"') == 2
            warned = {each.field.rpartition(".")[0] for each in second.completed.warnings}
            assert warned == {
                f"messages[1].parts[{at}]" for at, part in enumerate(first.message.parts) if part.signed_by
            }
            third = await complete(next_turn(f"{maker}/m", first.message, second.message))
            back = upstreams[maker].requests[-1]
            assert own(back.json(), FORMATS[maker]) == signed(FORMATS[maker], maker).next_turn
            assert f"+{other}/" not in back.body.decode()
            assert all(each.field.startswith("messages[3]") for each in third.completed.warnings)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_conversation_survives_failover_and_the_way_back(tmp_path: Path, *, streaming: bool) -> None:
    """Row 32: whoever answered between, each is sent what it has signed, and nothing else that is."""
    formats = {"claude": "anthropic", "router": "openai"}
    answers = {name: signed(format_, name) for name, format_ in formats.items()}
    good = {name: each.streamed if streaming else each.whole for name, each in answers.items()}
    async with (
        Upstream(good["claude"], DOWN, good["claude"], DOWN) as claude,
        Upstream(good["router"]) as router,
        running(
            tmp_path,
            providers={
                name: provider(upstream.url, formats[name], attempts={"max_attempts": 1})
                for name, upstream in (("claude", claude), ("router", router))
            },
            routes={"safe": ["claude/m", "router/m"]},
        ) as sidecar,
    ):
        said: list[v1.Message] = []
        for turn, expected in enumerate(("claude", "router", "claude", "router")):
            request = next_turn("safe", *said)
            if streaming:
                answer = await collected(sidecar.generation.Generate(request.request))
            else:
                answer = await sidecar.generation.Complete(request)
            assert answer.started.provider == expected
            assert all(part.signed_by for part in answer.message.parts if part.signature)
            said.append(answer.message)
            # The one that failed was sent the conversation, too.
            assert len(claude.requests) == turn + 1
        _, _, third, fourth = (request.json() for request in claude.requests)
        assert own(third, "anthropic") == own(fourth, "anthropic") == answers["claude"].next_turn
        assert fourth["messages"][-2:] == answers["claude"].next_turn
        # Behind the question: an assistant's turn of the other's without what is signed, and two results.
        assert router.requests[1].json()["messages"][4:7] == answers["router"].next_turn
        assert not any("+router/" in request.body.decode() for request in claude.requests)
        assert not any("+claude/" in request.body.decode() for request in router.requests)
