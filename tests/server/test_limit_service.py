from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from outrider import v1
from outrider.core.context import Principal, RouteSettings, Target
from outrider.core.errors import Reason
from outrider.core.quota import Charge, Concurrency, Period, Rate, Unit, Window
from outrider.policy.limit_rules import LimitBook, Rule, Values
from outrider.policy.route_table import Models, Route, RouteTable
from outrider.server.callers import Callers
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.server.limit_service import LimitServicer
from outrider.stores.memory_quota import MemoryQuotaStore
from outrider.v1.limit_service_pb2_grpc import LimitServiceStub, add_LimitServiceServicer_to_server
from tests.support.sidecar import Failure

RULES = [
    Rule(
        {"tenant": "*"},
        (
            (Unit.REQUESTS, Rate(60, 10)),
            (Unit.REQUESTS, Window(500, Period.DAY)),
            (Unit.CONCURRENT_REQUESTS, Concurrency(2)),
        ),
        tier="free",
    ),
    Rule({"provider": "a"}, ((Unit.TOKENS, Rate(600, 100)),)),
    Rule({"tenant": "acme"}, ((Unit.NANO_USD, Window(10**9, Period.MONTH, hard=False)),), "usd"),
    Rule({}, ((Unit.TOKENS, Window(1_000, Period.TOTAL)),), "tokens"),
]
ROUTES = RouteTable(
    routes=[
        Route(RouteSettings("both"), (Target("a", "m"), Target("a", "n"), Target("b", "m"))),
    ],
    providers={"a": Models("m"), "b": Models("m")},
    default=("b",),
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(callers: Callers, store: MemoryQuotaStore) -> AsyncIterator[LimitServiceStub]:
    """A server with nothing but this service, on a real socket."""
    server = grpc.aio.server(interceptors=[ErrorGuard(InFlight(100), 2**20)])
    service = LimitServicer(callers=callers, routes=ROUTES, book=LimitBook(RULES), store=store)
    add_LimitServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield LimitServiceStub(channel)
    finally:
        await server.stop(0)


def shown(response: v1.GetLimitsResponse) -> list[tuple[object, ...]]:
    return [
        (
            limit.scope,
            v1.LimitUnit.Name(limit.unit).removeprefix("LIMIT_UNIT_"),
            v1.LimitPeriod.Name(limit.period).removeprefix("LIMIT_PERIOD_"),
            limit.limit,
            limit.remaining,
            limit.reserved,
            limit.resets_in.seconds if limit.HasField("resets_in") else None,
            limit.hard,
            limit.tier,
        )
        for limit in response.limits
    ]


async def test_every_limit_of_a_request_is_told() -> None:
    """What is left of each, and when it comes back; a fallback's limits too, each once."""
    clock, book = Clock(), LimitBook(RULES)
    store = MemoryQuotaStore(clock, clock)
    values = Values(tenant="acme")
    held = [Charge(meter, 4 if meter.unit is Unit.NANO_USD else 1) for meter in book.of_caller(values).all]
    await store.reserve("running", held, 0)
    async with serving(Callers({}), store) as stub:
        request = v1.GetLimitsRequest(attribution=v1.Attribution(tenant="acme"), model="both")
        response = await stub.GetLimits(request)
        assert shown(response) == [
            ("tenant=acme", "REQUESTS", "MINUTE", 60, 9, 0, 1, True, "free"),
            ("tenant=acme", "REQUESTS", "DAY", 500, 499, 1, 86_400, True, "free"),
            ("tenant=acme", "CONCURRENT_REQUESTS", "UNSPECIFIED", 2, 1, 1, None, True, "free"),
            ("tenant=acme", "NANO_USD", "MONTH", 10**9, 10**9 - 4, 4, 31 * 86_400, False, ""),
            ("all", "TOKENS", "TOTAL", 1_000, 999, 1, None, True, ""),
            ("provider=a", "TOKENS", "MINUTE", 600, 100, 0, None, True, ""),
        ]
        assert not response.local_share
        nobody = await stub.GetLimits(v1.GetLimitsRequest())
        assert [limit.scope for limit in nobody.limits] == ["tenant="] * 3 + ["all"]
        assert nobody.limits[0].remaining == 10


async def test_a_share_is_called_one() -> None:
    """While the store that a fleet shares is out of reach, the numbers are this sidecar's own."""

    class Away(MemoryQuotaStore):
        shared = False

    async with serving(Callers({}), Away()) as stub:
        assert (await stub.GetLimits(v1.GetLimitsRequest())).local_share


@pytest.mark.parametrize(
    ("token", "request_", "reason"),
    [
        ("", v1.GetLimitsRequest(), Reason.CALLER_UNKNOWN),
        ("secret", v1.GetLimitsRequest(model="nope"), Reason.MODEL_UNKNOWN),
        ("secret", v1.GetLimitsRequest(model="a/m"), Reason.MODEL_NOT_ALLOWED),
        (
            "secret",
            v1.GetLimitsRequest(attribution=v1.Attribution(user="x" * 300)),
            Reason.INVALID_REQUEST,
        ),
    ],
)
async def test_permission_is_that_of_requests(
    token: str, request_: v1.GetLimitsRequest, reason: Reason
) -> None:
    """Who may not make the request is not told how it would be limited."""
    callers = Callers({"app": (Principal("app", ("b/*",)), lambda: "secret")})
    async with serving(callers, MemoryQuotaStore()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetLimits(request_, metadata=(("authorization", f"Bearer {token}"),))
    assert Failure.of(caught.value).reason == reason


async def test_a_pinned_caller_sees_its_own_tenant() -> None:
    """Whichever it asks for."""
    callers = Callers({"app": (Principal("app", tenant="acme"), lambda: "secret")})
    async with serving(callers, MemoryQuotaStore()) as stub:
        request = v1.GetLimitsRequest(attribution=v1.Attribution(tenant="other"))
        response = await stub.GetLimits(request, metadata=(("authorization", "Bearer secret"),))
    assert {limit.scope for limit in response.limits} == {"tenant=acme", "all"}
