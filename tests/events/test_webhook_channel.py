"""Webhooks, to a receiver on a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks
import structlog
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.events import EventType
from outrider.events.cloud_event import cloud_event
from outrider.events.delivery import DeliveryError
from outrider.events.http_post import Answer
from outrider.events.webhook_channel import WebhookChannel, signature, signing_key
from tests.events.events import NOW, delivering, event, first_of_each
from tests.events.receiver import HANG, RESET, STALL, Receiver, receiving, status
from tests.support.redis_server import certificates, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from outrider import v1

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def channel(
    receiver: Receiver | str, *, secret: str | None = SECRET, timeout: float = 10.0
) -> WebhookChannel:
    url = receiver if isinstance(receiver, str) else receiver.url
    return WebhookChannel("webhook 127.0.0.1", url, lambda: secret, timeout)


def some_events(count: int = 2) -> Sequence[v1.CloudEvent]:
    return [cloud_event(event(number), "/test", NOW) for number in range(count)]


async def test_a_batch_is_one_signed_post() -> None:
    """As standardwebhooks.com says: computed here by hand, and by the library that receivers use."""
    events = some_events()
    async with receiving() as receiver:
        await channel(receiver).send(events)
    (request,) = receiver.requests
    assert request.line == "POST /hook?token=t0p HTTP/1.1"
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert [each["data"] for each in request.events] == [{"number": 0}, {"number": 1}]
    assert request.headers["Webhook-Id"] == events[0].id
    stamp = request.headers["Webhook-Timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    by_hand = hmac.digest(KEY, f"{events[0].id}.{stamp}.".encode() + request.body, hashlib.sha256)
    assert request.headers["Webhook-Signature"] == "v1," + base64.b64encode(by_hand).decode()
    verified: Any = standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
    assert verified == request.events


@given(text=st.text(), seconds=st.integers(0, 2**35))
def test_signatures_agree_with_the_library(text: str, seconds: int) -> None:
    """Whatever is signed, and with or without the prefix of the secret."""
    ours = signature("id", seconds, text.encode(), SECRET.removeprefix("whsec_"))
    theirs = standardwebhooks.Webhook(SECRET).sign("id", datetime.fromtimestamp(seconds, UTC), text)
    assert ours["Webhook-Signature"] == theirs


@pytest.mark.parametrize("secret", [None, "", "whsec_", "not base64!", "whsec_ä"])
async def test_nothing_leaves_unsigned(secret: str | None) -> None:
    """A secret that is missing or unusable now may come: events wait. It is in no error."""
    async with receiving() as receiver:
        with pytest.raises(DeliveryError, match="secret is missing, or is not base64") as caught:
            await channel(receiver, secret=secret).send(some_events())
    assert not caught.value.lasting
    assert not receiver.requests
    with pytest.raises(ValueError, match="secret is missing"):
        signing_key(secret or "")


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_any_status_of_success_is_a_receipt(code: int) -> None:
    """What the answer says beyond that is not read."""
    async with receiving(status(code)) as receiver:
        await channel(receiver).send(some_events())


@pytest.mark.parametrize(
    ("code", "lasting"),
    [
        *((code, True) for code in (400, 404, 410, 413, 422)),
        *((code, False) for code in (401, 403, 408, 425, 429, 500, 502, 503, 504, 599)),
    ],
)
async def test_what_cannot_succeed_later_is_given_up(code: int, lasting: bool) -> None:
    """A refusal of the content lasts; anything else may pass, also a secret that has just been changed."""
    async with receiving(status(code)) as receiver:
        with pytest.raises(DeliveryError, match=f"^status {code}$") as caught:
            await channel(receiver).send(some_events())
    assert caught.value.lasting is lasting


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(code: int) -> None:
    """They would carry the events elsewhere."""
    async with receiving() as elsewhere, receiving(status(code, f"Location: {elsewhere.url}")) as receiver:
        with pytest.raises(DeliveryError, match=f"status {code}"):
            await channel(receiver).send(some_events())
        assert not elsewhere.requests


async def test_an_interim_answer_is_not_the_answer() -> None:
    """Row 8: 1xx come before the status that counts."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with receiving(interim + status(503)) as receiver:
        with pytest.raises(DeliveryError, match="status 503"):
            await channel(receiver).send(some_events())


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 200_000, RESET],
)
async def test_whatever_comes_back_is_an_error_of_ours(answer: bytes) -> None:
    """A receiver that leaves early or speaks something else is tried again."""
    async with receiving(answer) as receiver:
        with pytest.raises(DeliveryError) as caught:
            await channel(receiver).send(some_events())
    assert not caught.value.lasting


@pytest.mark.parametrize("answer", [HANG, STALL])
async def test_a_receiver_that_hangs_is_left(answer: bytes) -> None:
    """In time, whether it says nothing or half of an answer; the connection is closed."""
    async with receiving(answer) as receiver:
        with pytest.raises(DeliveryError, match=r"no answer within 0.2 s"):
            await channel(receiver, timeout=0.2).send(some_events())
        async with asyncio.timeout(5):
            while receiver._calls:  # noqa: ASYNC110 - it has to see that we have left
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0), ("99999999999999", 999_999_999.0)),
        *((formatdate(NOW + 60, usegmt=True), 60.0), (formatdate(NOW - 60, usegmt=True), 0.0)),
        *((text, 0.0) for text in ("", "-3", "1.5", "soon", "\u0663", "Fri, 99 Foo 2026 99:99:99 GMT")),
    ],
)
def test_retry_after_is_understood(said: str, seconds: float) -> None:
    """Row 7: as seconds or as a date; what is neither is nothing."""
    assert Answer(503, {"retry-after": said}).retry_after(NOW) == pytest.approx(seconds, abs=1)


async def test_retry_after_is_heeded() -> None:
    """Events wait for as long as the receiver asks."""
    async with (
        receiving(status(429, "Retry-After: 2")) as receiver,
        delivering(channel(receiver)) as (bus, _),
    ):
        bus.emit(event(1))
        await receiver.until(1)
        before = time.monotonic()
        await receiver.until(2)
        assert time.monotonic() - before > 1.5
    first, second = receiver.requests
    assert first.headers["Webhook-Id"] == second.headers["Webhook-Id"]
    assert first.body == second.body


async def test_events_outlast_an_outage() -> None:
    """Row 29: away at the start, in between and back: all come, in order, and repeats bear the same id."""
    port = free_port()
    with structlog.testing.capture_logs() as logs:
        async with delivering(channel(f"http://127.0.0.1:{port}/hook")) as (bus, delivery):
            bus.emit(event(0))
            await _until_failing(logs)
            async with receiving(port=port) as receiver:
                delivery.hurry()
                await receiver.until(1)
                # Taken, but the receipt is lost; then nothing for a while.
                receiver.answers = [b"", status(500)]
                for number in range(1, 4):
                    bus.emit(event(number))
                await receiver.until(3)
            for number in range(4, 8):
                bus.emit(event(number))
            async with receiving(port=port) as again:
                delivery.hurry()
                while len(first_of_each(receiver.events + again.events)) < 8:
                    await again.until(len(again.requests) + 1)
    assert first_of_each(receiver.events + again.events) == list(range(8))
    assert len(receiver.events + again.events) > 8
    assert SECRET not in str(logs)
    assert "t0p" not in str(logs)


async def _until_failing(logs: list[Any]) -> None:
    async with asyncio.timeout(10):
        while not any(line["event"] == "events wait" for line in logs):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_types_are_chosen() -> None:
    """A receiver gets what it asked for."""
    async with receiving() as receiver:
        async with delivering(channel(receiver), types=["dev.outrider.job"]) as (bus, _):
            bus.emit(event(1, EventType.ROUTE_CHANGED))
            bus.emit(event(2))
        assert [each["data"]["number"] for each in receiver.events] == [2]


async def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose authority is not trusted gets nothing."""
    authority, certificate = certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with receiving(tls=tls) as receiver:
        with pytest.raises(DeliveryError, match="SSLCertVerificationError"):
            await channel(receiver).send(some_events())
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        await channel(receiver).send(some_events())
        assert len(receiver.requests) == 1
