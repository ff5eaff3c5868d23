import pytest

from outrider import v1
from outrider.core.context import Principal, Record, RequestContext
from outrider.policy.cache_rules import CacheMode, CachePlan, CacheRules, is_fresh, namespace
from tests.support.paused_clock import paused
from tests.support.scripted import context

DEFAULT, BYPASS, REFRESH, ONLY, USE = (
    v1.CACHE_POLICY_DEFAULT,
    v1.CACHE_POLICY_BYPASS,
    v1.CACHE_POLICY_REFRESH,
    v1.CACHE_POLICY_ONLY,
    v1.CACHE_POLICY_USE,
)
UNSPECIFIED = v1.CACHE_POLICY_UNSPECIFIED
COLD, WARM, UNSAID = v1.Sampling(temperature=0), v1.Sampling(temperature=0.1), None
NOTHING = None
READ_AND_STORE, STORE, READ_ONLY = (True, True, True), (False, True, True), (True, False, False)
FORBIDDEN, FORBIDDEN_ONLY = (False, False, True), (False, False, False)


def used(
    mode: CacheMode, policy: v1.CachePolicy, sampling: v1.Sampling | None
) -> tuple[bool, bool, bool] | None:
    """Whether it is read, stored, and a provider may be asked."""
    plan = CachePlan(CacheRules(CacheMode.ALWAYS), {"m": CacheRules(mode)})
    use = plan.use(v1.GenerateRequest(model="m", cache_policy=policy, sampling=sampling))
    return None if use is None else (use.read, use.store, use.may_ask)


@pytest.mark.parametrize(
    ("mode", "policy", "sampling", "expected"),
    [
        (CacheMode.DEFAULT, DEFAULT, COLD, READ_AND_STORE),
        (CacheMode.DEFAULT, UNSPECIFIED, COLD, READ_AND_STORE),
        (CacheMode.DEFAULT, DEFAULT, WARM, NOTHING),
        (CacheMode.DEFAULT, DEFAULT, UNSAID, NOTHING),
        (CacheMode.DEFAULT, DEFAULT, v1.Sampling(top_k=1), NOTHING),
        (CacheMode.DEFAULT, BYPASS, COLD, NOTHING),
        (CacheMode.DEFAULT, REFRESH, WARM, STORE),
        (CacheMode.DEFAULT, ONLY, WARM, READ_ONLY),
        (CacheMode.DEFAULT, USE, WARM, READ_AND_STORE),
        (CacheMode.ALWAYS, DEFAULT, WARM, READ_AND_STORE),
        (CacheMode.ALWAYS, UNSPECIFIED, UNSAID, READ_AND_STORE),
        (CacheMode.ALWAYS, BYPASS, COLD, NOTHING),
        (CacheMode.NEVER, DEFAULT, COLD, NOTHING),
        (CacheMode.NEVER, UNSPECIFIED, COLD, NOTHING),
        (CacheMode.NEVER, BYPASS, COLD, NOTHING),
        (CacheMode.NEVER, USE, COLD, FORBIDDEN),
        (CacheMode.NEVER, REFRESH, COLD, FORBIDDEN),
        (CacheMode.NEVER, ONLY, COLD, FORBIDDEN_ONLY),
    ],
)
def test_what_the_cache_does(
    mode: CacheMode,
    policy: v1.CachePolicy,
    sampling: v1.Sampling | None,
    expected: tuple[bool, bool, bool] | None,
) -> None:
    """By default what is deterministic or asks for it; `never` wins over what a request asks."""
    assert used(mode, policy, sampling) == expected


def test_routes_without_rules_of_their_own_have_the_common_ones() -> None:
    """Whatever name a request uses."""
    plan = CachePlan(CacheRules(CacheMode.ALWAYS, ttl=7.0), {"judge": CacheRules(CacheMode.NEVER)})
    use = plan.use(v1.GenerateRequest(model="p/m"))
    assert use is not None
    assert use.rules.ttl == 7.0
    assert plan.use(v1.GenerateRequest(model="judge")) is None


def test_a_policy_of_a_newer_caller_is_the_default() -> None:
    """A number that this sidecar does not know asks for nothing."""
    request = v1.GenerateRequest.FromString(b"\x40\x63")
    assert int(request.cache_policy) == 99
    assert CachePlan(CacheRules(), {}).use(request) is None


def asked_by(principal: Principal, tenant: str = "") -> RequestContext:
    request = v1.GenerateRequest(attribution=v1.Attribution(tenant=tenant))
    return RequestContext("id", request, principal, Record("id", "Generate", principal.name, "", 0.0))


@paused
async def test_tenants_do_not_see_each_others_answers() -> None:
    """Nor do callers without a tenant, nor a tenant that has a caller's name; unless shared on purpose."""
    own, shared = CacheRules(), CacheRules(shared_between_tenants=True)
    everyone = [
        context("p/m"),
        asked_by(Principal("a")),
        asked_by(Principal("b")),
        asked_by(Principal("a"), tenant="a"),
        asked_by(Principal("a", tenant="t")),
    ]
    assert len({namespace(each, own) for each in everyone}) == len(everyone)
    assert len({namespace(each, shared) for each in everyone}) == 1
    assert namespace(context("p/m"), own) != namespace(context("p/m"), shared)
    assert namespace(asked_by(Principal("a", tenant="t"), tenant="u"), own) == "tenant=t"


def test_an_answer_is_as_fresh_as_both_routes_allow() -> None:
    """The one that stored it, and the one that would give it."""
    assert is_fresh(5.0, 10.0, CacheRules(ttl=10.0))
    assert not is_fresh(5.0, 10.0, CacheRules(ttl=5.0))
    assert not is_fresh(5.0, 5.0, CacheRules(ttl=10.0))
