"""What must not be told is not told: in no log line of the process, in no status, in no metric."""

import asyncio
import json
from pathlib import Path
from signal import SIGTERM

import grpc
import pytest

from outrider import v1
from tests.support.answers import (
    anthropic_error,
    anthropic_events,
    body,
    html,
    json_body,
    openai_error,
    openai_events,
    raw,
    silence,
    sse,
    stream,
    unending,
)
from tests.support.caller import Caller, calling, fetch
from tests.support.process import serving
from tests.support.sidecar import Failure, provider
from tests.support.upstream import Answer, Exchange, Upstream

PROMPT = "the-prompt-that-nobody-else-may-read"
ANSWER = "the-answer-that-nobody-else-may-read"
KEYS = {
    "openai-direct": "sk-direct-openai-5f0c9e7a1b",
    "openai-sdk": "gw.sdkopenai.8d61c2f3aa.plain",
    "anthropic-direct": "sk-ant-direct-77b1e0d4c2",
    "anthropic-sdk": "key_without_any_known_shape_93ab",
}
TOKEN = "caller-token-that-is-a-secret-too"


def faults(key: str, format_: str) -> dict[str, Answer]:
    """Each way to go wrong, repeating the key, and the prompt, wherever there is room for words."""
    words = f"bad key {key}, 'Authorization: Bearer {key}', begins {key[:10]} ends {key[-10:]}; {PROMPT}"
    error = openai_error(words) if format_ == "openai" else anthropic_error(words, "api_error")
    begun = (openai_events(ANSWER) if format_ == "openai" else anthropic_events(ANSWER))[:3]
    ended = sse(error, names=["error"])
    return {
        **{f"status-{status}": json_body(error, status) for status in (400, 401, 403, 404, 429, 500, 529)},
        "retry-after": json_body(error, 429, {"retry-after": key}),
        "html": html(f"<html>{words}</html>", 502),
        "html-200": html(f"<html>{words}</html>"),
        "text": body(words.encode(), 500, {"content-type": "text/plain"}),
        "redirect": body(b"", 302, {"location": f"http://127.0.0.1:9/?key={key}"}),
        "header": body(b"", 500, {"x-api-key": key, "www-authenticate": f"Bearer {key}"}),
        "error-in-200": json_body(error),
        "error-event": stream(ended),
        "error-after-text": stream([*begun, *ended]),
        "cut": unending(begun, "close"),
        "reset": unending(begun, "reset"),
        "stall": unending(begun),
        "silence": silence,
        "not-json": stream([f"data: {{{words}\n\n".encode()]),
        "not-http": raw(f"{words}\r\n\r\n".encode()),
    }


FAULTS = tuple(faults("any", "openai"))


async def as_the_model_says(exchange: Exchange) -> None:
    """The fault that the request's model names, with the key that it brought; to a check, a refusal."""
    request = exchange.request
    format_ = "anthropic" if "x-api-key" in request.headers else "openai"
    key = request.headers.get("x-api-key") or request.headers["authorization"].removeprefix("Bearer ")
    name = request.json()["model"] if request.body else "status-401"
    await faults(key, format_)[name](exchange)


async def test_no_fault_tells_a_secret(tmp_path: Path) -> None:
    """Row 28: every fault over both transports and both formats, streamed and in one piece."""
    key_file = tmp_path / "key"
    key_file.write_text(KEYS["openai-direct"])
    async with Upstream(as_the_model_says) as upstream:
        providers = {
            name: provider(
                upstream.url,
                name.partition("-")[0],
                api_key=key,
                transport=name.partition("-")[2],
                attempts={"max_attempts": 1},
                headers={"x-tenant": "blue"},
            )
            for name, key in KEYS.items()
        }
        del providers["openai-direct"]["api_key"]
        providers["openai-direct"]["api_key_file"] = str(key_file)
        providers["gone"] = provider("http://127.0.0.1:9", api_key=KEYS["openai-sdk"])
        async with (
            serving(
                tmp_path,
                providers=providers,
                callers={"shop": {"token": TOKEN}},
                breaker={"failures": 100_000, "minimum": 100_000},
                timeouts={"first_event": 0.5, "idle": 0.3, "total": 1, "connect": 1},
                log={"level": "debug"},
            ) as sidecar,
            calling(sidecar.port) as caller,
        ):
            models = [f"{name}/{fault}" for name in KEYS for fault in FAULTS] + ["gone/m", "nonsense"]
            failures = await asyncio.gather(*(fails(caller, model) for model in models))
            checks = [
                await caller.providers.CheckProvider(
                    v1.CheckProviderRequest(provider=name), metadata=bearer(TOKEN)
                )
                for name in providers
            ]
            strangers = await asyncio.gather(*(fails(caller, "x", TOKEN[:-1] + last) for last in "abc"))
            listed = await caller.providers.ListProviders(v1.ListProvidersRequest(), metadata=bearer(TOKEN))
            _, metrics = await fetch(sidecar.admin_port, "/metrics")
            sidecar.signal(SIGTERM)
            assert await sidecar.ended() == 0
    assert len(upstream.requests) >= 2 * len(KEYS) * len(FAULTS)
    statuses = "".join(failure.everything for both in (*failures, *strangers) for failure in both)
    told = f"{statuses}{checks}{listed}{metrics}{sidecar.log}"
    assert statuses.count("bad key [redacted]") > 2 * len(KEYS) * 10
    for secret in (*KEYS.values(), TOKEN):
        for piece in (secret, secret[:10], secret[-10:]):
            assert piece not in told, where(piece, told)
    for text in (PROMPT, ANSWER):
        assert text not in sidecar.log, where(text, sidecar.log)
        assert text not in metrics
    records = sidecar.events("request")
    assert len(records) == 2 * (len(models) + 3)
    assert all(json.loads(line) for line in sidecar.lines)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller."""
    return (("authorization", f"Bearer {token}"),)


async def fails(caller: Caller, model: str, token: str = TOKEN) -> tuple[Failure, Failure]:
    """How a request ends as a stream, and how in one piece."""
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=PROMPT)])
    request = v1.GenerateRequest(model=model, messages=[message])
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        async for _ in caller.generation.Generate(request, metadata=bearer(token)):
            pass
    with pytest.raises(grpc.aio.AioRpcError) as whole:
        await caller.generation.Complete(v1.CompleteRequest(request=request), metadata=bearer(token))
    return Failure.of(streamed.value), Failure.of(whole.value)


def where(text: str, found: str) -> str:
    """The surroundings of a text, for whoever has to find the leak."""
    position = found.find(text)
    return found[max(0, position - 300) : position + 100]
