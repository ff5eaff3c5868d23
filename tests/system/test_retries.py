"""How often a provider is asked, how long it is left alone, and what the caller is told of it."""

import asyncio
import json
import time
from collections.abc import Awaitable
from email.utils import formatdate
from pathlib import Path

import grpc
import pytest

from outrider import v1
from tests.support.answers import (
    anthropic_error,
    anthropic_stream,
    body,
    json_body,
    openai_error,
    openai_events,
    openai_stream,
    unending,
)
from tests.support.caller import calling
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Exchange, Upstream

RETRYING: dict[str, object] = {
    "grpc.service_config": json.dumps(
        {
            "methodConfig": [
                {
                    "name": [{"service": "outrider.v1.GenerationService"}],
                    "retryPolicy": {
                        "maxAttempts": 4,
                        "initialBackoff": "0.01s",
                        "maxBackoff": "0.01s",
                        "backoffMultiplier": 1,
                        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                    },
                }
            ]
        }
    )
}
FAILING = json_body({"error": {"message": "no", "type": "server_error"}}, 500)


async def failed(call: Awaitable[object]) -> Failure:
    """How a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Failure.of(caught.value)


@pytest.mark.parametrize("method", ["Generate", "Complete"])
@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_retries_do_not_multiply(tmp_path: Path, transport: str, method: str) -> None:
    """Row 7: always 500: asked as often as configured, although library and channel could retry too."""
    settings = provider("", transport=transport, attempts={"max_attempts": 3, "base_delay": 0.01})
    async with Upstream(FAILING) as upstream:
        settings["base_url"] = upstream.url
        async with (
            running(tmp_path, providers={"openai": settings}) as sidecar,
            calling(sidecar.sidecar.port, options=RETRYING) as caller,
        ):
            if method == "Generate":
                failure = await failed(collect(caller.generation.Generate(ask(), timeout=5)))
            else:
                request = v1.CompleteRequest(request=ask())
                failure = await failed(caller.generation.Complete(request, timeout=5))
        assert len(upstream.requests) == 3
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_ERROR")
    assert failure.pushback == "-1"
    assert failure.info.metadata["attempts"] == "3"
    assert failure.info.metadata["upstream_status"] == "500"


async def test_every_target_has_its_own_tries(tmp_path: Path) -> None:
    """Row 7: two targets, each as often as configured for it, in order."""
    async with (
        Upstream(FAILING) as first,
        Upstream(FAILING) as second,
        running(
            tmp_path,
            providers={
                "first": provider(first.url, attempts={"max_attempts": 2, "base_delay": 0.01}),
                "second": provider(second.url, attempts={"max_attempts": 1}),
            },
            routes={"safe": ["first/m", "second/m"]},
        ) as sidecar,
        calling(sidecar.sidecar.port, options=RETRYING) as caller,
    ):
        failure = await failed(collect(caller.generation.Generate(ask("safe"), timeout=5)))
        assert (len(first.requests), len(second.requests)) == (2, 1)
    assert failure.failure is not None
    assert [each.provider for each in failure.failure.attempts] == ["first", "first", "second"]


async def test_where_nothing_was_tried_the_caller_is_told_when_to_come_back(tmp_path: Path) -> None:
    """Row 7: a call that is shed costs the provider nothing; a channel that retries does so when told."""
    limits = {"max_concurrency": 1, "max_waiting": 0}
    async with (
        Upstream(unending(openai_events("a")[:1]), openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, limits=limits)}) as sidecar,
        calling(sidecar.sidecar.port, options=RETRYING) as caller,
    ):
        holding = sidecar.generation.Generate(ask())
        await holding.read()
        failure = await failed(collect(sidecar.generation.Generate(ask(), timeout=5)))
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "LOAD_SHED")
        assert (failure.retry_delay, failure.pushback) == (1.0, "1000")
        started = time.monotonic()
        retrying = asyncio.ensure_future(collect(caller.generation.Generate(ask(), timeout=5)))
        labels = 'method="Generate",model="m",outcome="failed",provider="p",reason="LOAD_SHED"'
        while await sidecar.counted(f"outrider_requests_total{{{labels}}}") < 2:
            assert not retrying.done()
        holding.cancel()
        assert text(await retrying) == "fine"
        assert time.monotonic() - started > 0.9
        assert len(upstream.requests) == 2


WAITS: dict[str, tuple[dict[str, str], float]] = {
    "seconds": ({"retry-after": "1"}, 1.0),
    "date": ({"retry-after": "DATE"}, 0.9),
    "milliseconds": ({"retry-after-ms": "300"}, 0.3),
    "milliseconds before seconds": ({"retry-after-ms": "300", "retry-after": "50"}, 0.3),
    "past date": ({"retry-after": formatdate(1e9, usegmt=True)}, 0.0),
    "nothing": ({}, 0.0),
    "junk": ({"retry-after": "soon"}, 0.0),
    "negative": ({"retry-after": "-5"}, 0.0),
    "not a number": ({"retry-after": "nan"}, 0.0),
    "infinite": ({"retry-after": "inf"}, 0.0),
    "exponent": ({"retry-after": "1e9"}, 0.0),
    "no date": ({"retry-after": "Fri, 99 Nov 2026 99:99:99 GMT"}, 0.0),
    "empty": ({"retry-after": ""}, 0.0),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_retry_after_is_obeyed(tmp_path: Path, wait: str) -> None:
    """Row 8: in every form there is; what cannot be understood leaves the sidecar's own short backoff."""
    headers, at_least = WAITS[wait]

    async def busy(exchange: Exchange) -> None:
        date = formatdate(time.time() + 2, usegmt=True)  # in 1 to 2 s: dates have no fractions
        sent = {name: value.replace("DATE", date) for name, value in headers.items()}
        await json_body(openai_error("slow down", "rate_limit_exceeded"), 429, sent)(exchange)

    async with (
        Upstream(busy, openai_stream("fine")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        assert text(await collect(sidecar.generation.Generate(ask(), timeout=5))) == "fine"
        first, second = (request.at for request in upstream.requests)
    assert at_least <= second - first < at_least + 1.5


BUSY = {
    "five seconds": ("5", 5.0),
    "an hour": ("3600", 3600.0),
    "eternity": ("9" * 60, 7 * 86_400.0),
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wait", BUSY)
async def test_no_wait_passes_the_callers_deadline(tmp_path: Path, wait: str, status: int) -> None:
    """Row 8: what would end too late is not begun: the caller hears at once, and of the provider's wish."""
    asked, told = BUSY[wait]
    busy = json_body(openai_error("slow down"), status, {"retry-after": asked})
    async with (
        Upstream(busy) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        started = time.monotonic()
        failure = await failed(collect(sidecar.generation.Generate(ask(), timeout=3)))
        assert time.monotonic() - started < 1
        assert len(upstream.requests) == 1
    limited = (grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED")
    assert (failure.code, failure.reason) == (
        limited if status == 429 else (grpc.StatusCode.UNAVAILABLE, "PROVIDER_ERROR")
    )
    assert failure.retry_delay == told
    assert (failure.quota is not None) == (status == 429)
    assert failure.pushback == "-1"


async def test_a_long_wait_is_for_the_next_target(tmp_path: Path) -> None:
    """Row 8: another target answers at once, rather than the same one much later."""
    busy = json_body(openai_error("slow down"), 429, {"retry-after": "2"})
    async with (
        Upstream(busy) as first,
        Upstream(anthropic_stream("fine")) as second,
        running(
            tmp_path,
            providers={"first": provider(first.url), "second": provider(second.url, "anthropic")},
            routes={"safe": ["first/m", "second/m"]},
        ) as sidecar,
    ):
        events = await collect(sidecar.generation.Generate(ask("safe"), timeout=1.5))
        assert len(first.requests) == 1
    assert text(events) == "fine"


async def test_deadlines_of_callers_hold(tmp_path: Path) -> None:
    """Row 8: retries end with the deadline, and the sidecar's own status comes before it."""
    slow = {"base_delay": 5, "max_delay": 5, "max_attempts": 20}
    async with (
        Upstream(FAILING) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, attempts=slow)}) as sidecar,
    ):
        started = time.monotonic()
        failure = await failed(collect(sidecar.generation.Generate(ask(), timeout=1)))
        assert time.monotonic() - started < 1.2
        assert len(upstream.requests) < 20
    assert failure.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


LONG = "The provider has much to say. " * 700
ERRORS = {
    "openai 500": ("openai", json_body(openai_error(LONG, kind="server_error"), 500), "PROVIDER_ERROR"),
    "openai 429": ("openai", json_body(openai_error(LONG, LONG), 429), "PROVIDER_RATE_LIMITED"),
    "openai 400": ("openai", json_body(openai_error(LONG), 400), "INVALID_REQUEST"),
    "anthropic 529": ("anthropic", json_body(anthropic_error(LONG), 529), "PROVIDER_OVERLOADED"),
    "plain text": ("openai", body(LONG.encode(), 502, {"content-type": "text/plain"}), "PROVIDER_ERROR"),
    "html": ("anthropic", body(f"<html>{LONG}</html>".encode(), 503), "PROVIDER_ERROR"),
    "no text at all": ("openai", body(b"\xff\x00\x1b" * 7000, 500), "PROVIDER_ERROR"),
}
CODES = {
    "PROVIDER_ERROR": grpc.StatusCode.UNAVAILABLE,
    "PROVIDER_OVERLOADED": grpc.StatusCode.UNAVAILABLE,
    "PROVIDER_RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "INVALID_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
}


@pytest.mark.parametrize("error", ERRORS)
async def test_a_huge_error_keeps_its_code_and_reason(tmp_path: Path, error: str) -> None:
    """Row 18: 20 KB of a provider's words, and the caller has code, reason and attempts in under 4 KB."""
    format_, answer, reason = ERRORS[error]
    attempts = {"max_attempts": 20, "base_delay": 0, "max_delay": 0}
    async with (
        Upstream(answer) as upstream,
        running(
            tmp_path,
            providers={"p": provider(upstream.url, format_, attempts=attempts)},
            breaker={"failures": 100, "minimum": 100},
        ) as sidecar,
    ):
        failure = await failed(collect(sidecar.generation.Generate(ask("p/" + "m" * 200), timeout=5)))
    assert (failure.code, failure.reason) == (CODES[reason], reason)
    assert failure.info.metadata["provider"] == "p"
    assert failure.failure is not None
    assert len(failure.failure.attempts) >= 1
    assert 0 < len(failure.message) <= 1024
