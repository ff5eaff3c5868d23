"""The bus, and those who listen to it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from outrider.core.events import Event, EventType, is_beginning
from outrider.events.bus import EventBus
from outrider.events.cloud_event import to_json, to_json_batch
from tests.events.events import NOW, bus, event, numbers
from tests.support.paused_clock import paused

if TYPE_CHECKING:
    from outrider.core.events import Fact

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_everyone_who_listens_gets_every_event() -> None:
    """In the order in which they were emitted, from the moment of listening to the moment of closing."""
    from_ = bus()
    from_.emit(event(0))
    with from_.subscribe(capacity=10) as one, from_.subscribe(capacity=10) as other:
        from_.emit(event(1))
        from_.emit(event(2))
        other.close()
        from_.emit(event(3))
        assert numbers((await one.take(10))[0]) == [1, 2, 3]
        assert numbers((await other.take(10))[0]) == [1, 2]
        assert await other.take(10) == ([], 0)
    assert not from_.wants(EventType.JOB_CHANGED)


async def test_types_and_their_beginnings_are_chosen_by() -> None:
    """A beginning ends at a dot; without any, every type is wanted; nobody is asked in vain."""
    from_ = bus()
    with from_.subscribe(["dev.outrider.request", EventType.BREAKER_CHANGED], capacity=10) as some:
        with from_.subscribe(["dev.outrider.req"], capacity=10) as none:
            for number, type_ in enumerate(EventType):
                from_.emit(event(number, type_))
            assert none.waiting == 0
        taken, _ = await some.take(10)
        assert [each.type for each in taken] == [
            EventType.REQUEST_COMPLETED,
            EventType.REQUEST_FAILED,
            EventType.BREAKER_CHANGED,
        ]
        assert from_.wants(EventType.REQUEST_FAILED)
        assert not from_.wants(EventType.JOB_CHANGED)


async def test_a_tenant_is_shown_its_own_events_alone() -> None:
    """Neither those of another tenant nor those of the sidecar as a whole."""
    from_ = bus()
    with from_.subscribe(tenant="acme", capacity=10) as acme:
        from_.emit(event(1, tenant="zeta"))
        from_.emit(event(2))
        from_.emit(event(3, tenant=""))
        from_.emit(event(4, tenant="acme"))
        assert numbers((await acme.take(10))[0]) == [4]


@given(st.lists(st.integers(1, 7), max_size=40), st.integers(1, 5))
def test_the_oldest_give_way_and_are_counted(takes: list[int], capacity: int) -> None:
    """However a reader keeps up: what it gets is in order, and what it missed is told before what follows."""

    async def read() -> None:
        from_, expected, dropped = bus(), 0, 0
        with from_.subscribe(capacity=capacity, on_drop=lambda: None) as reader:
            for emitted, limit in enumerate(takes):
                for extra in range(limit):
                    from_.emit(event(emitted * 100 + extra))
                sent = [emitted * 100 + extra for extra in range(limit)]
                taken, missed = await reader.take(100)
                assert numbers(taken) == sent[-capacity:]
                assert missed == len(sent) - len(taken)
                expected += len(sent)
                dropped += missed
            assert reader.dropped == dropped

    asyncio.run(read())


@paused
async def test_a_reader_waits_until_something_comes() -> None:
    """And then gets all there is, up to its limit."""
    from_ = bus()
    with from_.subscribe(capacity=10) as reader:
        taking = asyncio.create_task(reader.take(2))
        await asyncio.sleep(60)
        assert not taking.done()
        for number in range(3):
            from_.emit(event(number))
        assert numbers((await taking)[0]) == [0, 1]
        assert numbers((await reader.take(2))[0]) == [2]


async def test_emitting_never_raises() -> None:
    """Row 29: a fact that cannot be written costs its event, and neither its emitter nor the next event."""
    from_ = bus()
    with from_.subscribe(capacity=10) as reader:
        from_.emit(event(1, text="lone \ud83d"))
        from_.emit(Event(EventType.JOB_CHANGED, "lone \ud83d", {"number": 2}))
        from_.emit(event(3, ratio=float("nan")))
        assert numbers((await reader.take(10))[0]) == [3]


async def test_nothing_is_made_where_nobody_listens() -> None:
    """The clock is not even read."""
    read: list[float] = []
    from_ = EventBus("/test", lambda: read.append(NOW) or NOW)  # type: ignore[func-returns-value]
    with from_.subscribe(["dev.outrider.job"], capacity=10):
        from_.emit(event(1, EventType.ROUTE_CHANGED))
        assert not read
        from_.emit(event(2))
        assert read


async def test_events_are_cloud_events() -> None:
    """With the attributes that version 1.0 requires, unique ids that sort by time, and the trace context."""
    times = iter([NOW, NOW + 1])
    from_ = EventBus("/outrider/pod-1", lambda: next(times))
    with from_.subscribe(capacity=10) as reader:
        facts: dict[str, Fact] = {"state": 'FAILED "x"', "tries": 2, "ratio": 0.5, "last": True, "why": None}
        from_.emit(Event(EventType.JOB_CHANGED, "job-1", facts, TRACEPARENT))
        from_.emit(Event(EventType.ROUTE_CHANGED, "fast"))
        (first, second), _ = await reader.take(10)
    assert json.loads(to_json(first)) == {
        "specversion": "1.0",
        "id": first.id,
        "source": "/outrider/pod-1",
        "type": "dev.outrider.job.changed",
        "subject": "job-1",
        "time": "2026-11-18T11:06:40.250Z",
        "datacontenttype": "application/json",
        "traceparent": TRACEPARENT,
        "data": facts,
    }
    assert json.loads(to_json_batch([first, second])) == [
        json.loads(to_json(first)),
        json.loads(to_json(second)),
    ]
    assert "traceparent" not in json.loads(to_json(second))
    assert first.id < second.id
    assert len({first.id, second.id}) == 2


def test_beginnings_of_types_are_known() -> None:
    """So that who asks for a type that there is not is told."""
    for text in (*EventType, "dev", "dev.outrider", "dev.outrider.", "dev.outrider.provider.health"):
        assert is_beginning(text), text
    for text in ("", ".", "job", "dev.outrider.jo", "dev.outrider.job.changed.x", "DEV"):
        assert not is_beginning(text), text
