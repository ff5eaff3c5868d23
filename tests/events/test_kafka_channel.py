"""Events to a topic of a real Kafka broker."""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from outrider.assembly_events import event_bus, event_secrets, outlets
from outrider.config import Config
from outrider.events.cloud_event import cloud_event
from outrider.events.delivery import DeliveryError
from outrider.events.kafka_channel import KafkaChannel
from tests.events.events import NOW, delivering, event, first_of_each
from tests.support.kafka_broker import PASSWORD, PATIENCE, USER, Broker, kafka_broker
from tests.support.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from outrider import v1


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the tests of this file. Each leaves it running, and keeps to a topic of its own."""
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def topic() -> str:
    """Of one test."""
    return f"t{uuid.uuid4().hex[:12]}"


def channel(address: str, topic: str) -> KafkaChannel:
    return KafkaChannel(topic, lambda: {"bootstrap_servers": address, "request_timeout_ms": 1_000})


async def create(broker: Broker, topic: str) -> None:
    """Have the topic before its first event: until then, brokers refuse what they are about to create."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
        async with asyncio.timeout(PATIENCE):
            while any(found["error_code"] for found in await admin.describe_topics([topic])):  # noqa: ASYNC110 - a broker does not call
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


def some_events(count: int) -> Sequence[v1.CloudEvent]:
    return [cloud_event(event(number), "/test", NOW) for number in range(count)]


async def records(broker: Broker, topic: str, last: int) -> list[Any]:
    """What a consumer reads from the topic's beginning to the event of this number."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.address, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for record in consumer:
                found.append(record)
                if json.loads(record.value)["data"]["number"] == last:
                    return found
    finally:
        await consumer.stop()
    raise AssertionError(found)


def values(found: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in found]


def no_tasks_left() -> bool:
    """Whether nothing runs beside the test."""
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_batch_is_produced_in_order(broker: Broker, topic: str) -> None:
    """One record for each event, keyed by its subject, as CloudEvents want it; nothing runs on afterwards."""
    await create(broker, topic)
    out = channel(broker.address, topic)
    await out.send(some_events(100))
    found = await records(broker, topic, 99)
    assert [value["data"]["number"] for value in values(found)] == list(range(100))
    assert [record.key for record in found] == [f"subject-{number}".encode() for number in range(100)]
    assert found[0].headers == (("content-type", b"application/cloudevents+json"),)
    await out.aclose()
    assert no_tasks_left()


async def test_tls_and_scram(broker: Broker, topic: str) -> None:
    """A broker is trusted by its certificate, and told who we are; a wrong password is not shown."""
    trust = ssl.create_default_context(cafile=str(broker.authority))
    options = {
        "bootstrap_servers": broker.secure_address,
        "security_protocol": "SASL_SSL",
        "ssl_context": trust,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": USER,
    }
    await create(broker, topic)
    passwords = iter(["a wrong one", PASSWORD])
    out = KafkaChannel(topic, lambda: options | {"sasl_plain_password": next(passwords)})
    with pytest.raises(DeliveryError) as caught:
        await out.send(some_events(1))
    assert "wrong" not in str(caught.value)
    assert not caught.value.lasting
    await out.send(some_events(3))
    assert first_of_each(values(await records(broker, topic, 2))) == [0, 1, 2]
    await out.aclose()
    assert no_tasks_left()


async def test_what_is_configured_delivers(broker: Broker, topic: str, tmp_path: Path) -> None:
    """By TLS, with a password from a file; what waits at the end is delivered."""
    (tmp_path / "password").write_text(PASSWORD)
    kafka = {
        "brokers": [broker.secure_address],
        "topic": topic,
        "tls": True,
        "ca_file": str(broker.authority),
        "username": USER,
        "password_file": str(tmp_path / "password"),
    }
    config = Config.model_validate({"events": {"kafka": kafka}})
    assert list(event_secrets(config)()) == [PASSWORD]
    bus = event_bus(config)
    channels = outlets(config, bus, None)
    channels.start()
    for number in range(150):
        bus.emit(event(number))
    await channels.aclose()
    assert first_of_each(values(await records(broker, topic, 149))) == list(range(150))
    assert list(channels.counts()) == [("kafka", 150, 0, 0)]
    assert no_tasks_left()


async def test_a_broker_that_is_not_there(topic: str) -> None:
    """Row 29: an error at once, which may pass; nothing is left of the try."""
    out = channel(f"127.0.0.1:{free_port()}", topic)
    with pytest.raises(DeliveryError, match="KafkaConnectionError") as caught:
        await out.send(some_events(1))
    assert not caught.value.lasting
    await out.aclose()
    assert no_tasks_left()


async def test_events_outlast_an_outage(broker: Broker, topic: str) -> None:
    """Row 29: the broker is killed while events are on their way, and comes back: all come, in order."""
    async with delivering(channel(broker.address, topic)) as (bus, delivery):
        bus.emit(event(0))
        await records(broker, topic, 0)
        for number in range(1, 200):
            bus.emit(event(number))
        await asyncio.sleep(0)
        broker.kill()
        for number in range(200, 400):
            bus.emit(event(number))
        await asyncio.to_thread(broker.start)
        delivery.hurry()
        found = values(await records(broker, topic, 399))
        assert first_of_each(found) == list(range(400))
        assert delivery.count().dropped == 0
    assert no_tasks_left()


async def test_a_broker_that_hangs(broker: Broker, topic: str) -> None:
    """Row 29: what it has taken without saying so is sent again, under the same ids; the end is bounded."""
    async with delivering(channel(broker.address, topic)) as (bus, delivery):
        bus.emit(event(0))
        await records(broker, topic, 0)
        broker.pause()
        try:
            for number in range(1, 50):
                bus.emit(event(number))
            async with asyncio.timeout(PATIENCE):
                while not delivery._failing:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            broker.resume()
        delivery.hurry()
        assert first_of_each(values(await records(broker, topic, 49))) == list(range(50))
        broker.pause()
        bus.emit(event(50))
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        try:
            await delivery.aclose(0.5)
        finally:
            broker.resume()
        assert asyncio.get_running_loop().time() - before < 4
    assert no_tasks_left()
