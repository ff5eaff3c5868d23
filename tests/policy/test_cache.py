import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from outrider import v1
from outrider.core.answers import LEASE_SECONDS, Lease, MemoryStats, StoredAnswer
from outrider.core.context import Principal
from outrider.core.errors import GenerationError, Reason
from outrider.policy.account import Accountant
from outrider.policy.cache import Cache
from outrider.policy.cache_rules import CacheMode, CachePlan, CacheRules
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.tiered_answers import TieredAnswers
from tests.policy.test_account import Counter, cost
from tests.support.paused_clock import now, paused
from tests.support.readers import Reader, Readers
from tests.support.scripted import DONE, ScriptedProvider, Watcher, attempt_loop, upstream

ANSWER = ["Hello ", 1.0, "world", DONE]
DOWN = GenerationError(Reason.PROVIDER_ERROR, "down")
HIT, MISS, STALE, BYPASS = (
    v1.CACHE_STATUS_HIT,
    v1.CACHE_STATUS_MISS,
    v1.CACHE_STATUS_STALE,
    v1.CACHE_STATUS_BYPASS,
)
ONLY, USE, REFRESH = v1.CACHE_POLICY_ONLY, v1.CACHE_POLICY_USE, v1.CACHE_POLICY_REFRESH


class Fleet:
    """A shared store of which each sidecar has this end; the others do what a test says."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredAnswer] = {}
        self.holder: str | None = None  # token of the lease
        self.log: list[str] = []
        self.delay = 0.0  # seconds of a round trip
        self.made = asyncio.Event()

    @property
    def shared(self) -> bool:
        return True

    def stats(self) -> MemoryStats:
        return MemoryStats(0, 0, 0, 0)

    def recall(self, key: str) -> StoredAnswer | None:
        return None

    async def look_up(self, key: str, *, lease: bool) -> StoredAnswer | Lease | None:
        self.log.append("look up")
        await asyncio.sleep(self.delay)
        found = self.stored.get(key)
        if found is not None and (found.is_fresh(now()) or not lease):
            return found
        if not lease or self.holder is not None:
            return None
        self.holder = "ours"
        return Lease(key, "ours")

    async def wait_for(self, key: str, patience: float) -> StoredAnswer | None:
        self.log.append(f"wait {patience:g}")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.made.wait()
        return self.stored.get(key)

    async def put(self, key: str, answer: StoredAnswer, lease: Lease | None) -> None:
        self.log.append("put")
        await asyncio.sleep(self.delay)
        self.stored[key] = answer
        if lease is not None:
            self.holder = None

    async def renew(self, lease: Lease) -> None:
        self.log.append("renew")

    async def release(self, lease: Lease) -> None:
        self.log.append("release")
        await asyncio.sleep(self.delay)
        self.holder = None

    async def invalidate(self, selector: v1.InvalidateCacheRequest) -> int:
        return 0


class Stand:
    """A cache between callers and providers p and q."""

    def __init__(
        self,
        *scripts: list[object],
        rules: CacheRules | None = None,
        answers: TieredAnswers | Fleet | None = None,
        fallback: list[object] | None = None,
        max_answer_bytes: int = 100_000,
        routes: dict[str, CacheRules] | None = None,
    ) -> None:
        self.provider = ScriptedProvider(*scripts)
        self.fallback = ScriptedProvider(fallback or [DONE], name="q")
        self.watcher = Watcher()
        self.answers = answers or TieredAnswers(MemoryAnswers(1_000_000, now))
        self.cache = Cache(
            self.answers,
            CachePlan(rules or CacheRules(), routes or {}),
            price=cost,
            clock=now,
            wall=now,
            max_answer_bytes=max_answer_bytes,
        )
        accountant = Accountant(Counter(), cost, self.watcher, now)
        loop = attempt_loop(
            upstream(self.provider, max_attempts=1),
            upstream(self.fallback, max_attempts=1),
            watcher=self.watcher,
        )
        self.handler = accountant(self.cache(loop))
        self.readers = Readers(self.handler)

    async def ask(self, **request: object) -> Reader:
        """One caller, to its end, and what is stored after it."""
        reader = self.readers.one(**request)  # type: ignore[arg-type]
        await reader.task
        await asyncio.sleep(0.001)
        return reader

    @property
    def calls(self) -> int:
        return len(self.provider.calls)


@paused
async def test_the_second_caller_gets_the_stored_answer() -> None:
    """At once, with its age, for nothing; the provider is not asked."""
    stand = Stand(ANSWER)
    first = await stand.ask()
    await asyncio.sleep(10.0)
    second = await stand.ask()
    assert (first.status, second.status, stand.calls) == (MISS, HIT, 1)
    assert second.text == first.text == "Hello world"
    started, completed = second.events[0].started, second.events[-1].completed
    assert (started.request_id, started.provider, started.model) == ("id-2", "p", "m")
    assert started.cache_age.ToSeconds() == 10
    assert completed.usage == v1.Usage(source=v1.USAGE_SOURCE_PROVIDER)
    assert (completed.HasField("cost"), completed.cost.total_nano_usd) == (True, 0)
    record = second.record
    assert (record.cache_status, record.attempts, record.provider, record.model) == (HIT, [], "p", "m")
    assert record.finished_at == record.started_at
    assert record.cache_key == first.record.cache_key != ""


@paused
async def test_what_is_saved_is_counted() -> None:
    """The provider's price for the answer, and the time that it took."""
    stand = Stand(["Hello", 2.0, DONE])
    stand.provider.usage = v1.Usage(input_tokens=3, output_tokens=4)
    await stand.ask()
    await stand.ask()
    await stand.ask()
    stats = stand.cache.stats.read()
    assert (stats.misses, stats.stored, stats.memory_hits, stats.shared_hits) == (1, 1, 2, 0)
    assert (stats.saved_nano_usd, stats.saved_seconds) == (14, 4.0)
    assert stats.memory_entries == 1
    assert 0 < stats.memory_bytes <= stats.memory_limit_bytes == 1_000_000


@paused
async def test_an_answer_is_given_for_its_time() -> None:
    """Then it is asked for anew."""
    stand = Stand(ANSWER, rules=CacheRules(ttl=60.0))
    await stand.ask()
    await asyncio.sleep(59.0)
    assert (await stand.ask()).status == HIT
    await asyncio.sleep(1.0)
    assert (await stand.ask()).status == MISS


@paused
async def test_a_route_may_allow_less_time_than_was_stored() -> None:
    """Both names lead to the same target, and share its answers."""
    stand = Stand(ANSWER, routes={"strict": CacheRules(ttl=5.0)})
    await stand.ask(model="p/m")
    await asyncio.sleep(4.0)
    assert (await stand.ask(model="strict")).status == HIT
    await asyncio.sleep(4.0)
    assert (await stand.ask(model="p/m")).status == HIT
    assert (await stand.ask(model="strict")).status == MISS


@paused
async def test_by_default_only_what_is_deterministic_is_cached() -> None:
    """Anything else goes its way as if there were no cache, each on its own."""
    stand = Stand(ANSWER)
    readers = [stand.readers.one(sampling=v1.Sampling(temperature=1)) for _ in range(2)]
    await stand.readers.done()
    assert [reader.status for reader in readers] == [BYPASS, BYPASS]
    assert (stand.calls, stand.cache.stats.misses, readers[0].record.cache_key) == (2, 0, "")


@paused
async def test_only_a_stored_answer_will_do() -> None:
    """ONLY reads what others have stored, and never asks a provider."""
    stand = Stand(ANSWER)
    missed = await stand.ask(cache_policy=ONLY)
    assert missed.error is not None
    assert (missed.error.reason, stand.calls) == (Reason.CACHE_MISS, 0)
    assert missed.record.cache_status == MISS
    await stand.ask()
    assert (await stand.ask(cache_policy=ONLY)).status == HIT


@paused
async def test_only_looks_in_the_shared_store_too() -> None:
    """And leaves the lease to those who would make the answer."""
    fleet = Fleet()
    stand = Stand(ANSWER, answers=fleet)
    missed = await stand.ask(cache_policy=ONLY)
    assert missed.error is not None
    assert (fleet.log, fleet.holder) == (["look up"], None)
    await stand.ask()
    assert (await stand.ask(cache_policy=ONLY)).status == HIT


@paused
async def test_refresh_does_not_read_but_stores() -> None:
    """Who comes after gets the new answer."""
    stand = Stand(["old", DONE], ["new", DONE])
    await stand.ask()
    fresh = await stand.ask(cache_policy=REFRESH)
    assert (fresh.text, fresh.status) == ("new", BYPASS)
    assert (await stand.ask()).text == "new"
    assert stand.calls == 2


@paused
async def test_refresh_joins_nothing_that_was_asked_for_before() -> None:
    """Those who come later may join the fresher one."""
    stand = Stand(["old", 2.0, DONE], ["new", 2.0, DONE])
    before = stand.readers.one()
    await asyncio.sleep(1.0)
    fresh, after = stand.readers.one(cache_policy=REFRESH), stand.readers.one()
    await stand.readers.done()
    assert [reader.text for reader in (before, fresh, after)] == ["old", "new", "new"]
    assert stand.calls == 2


@paused
async def test_an_ask_is_cached_at_any_temperature() -> None:
    """USE reads and stores."""
    stand = Stand(ANSWER)
    warm = v1.Sampling(temperature=1.5)
    await stand.ask(cache_policy=USE, sampling=warm)
    assert (await stand.ask(cache_policy=USE, sampling=warm)).status == HIT
    assert (await stand.ask(sampling=warm)).status == BYPASS


@pytest.mark.parametrize("policy", [USE, REFRESH])
def test_a_route_that_is_never_cached_says_so(policy: v1.CachePolicy) -> None:
    """What is asked of the cache is answered by the provider, with a warning; ONLY finds nothing."""

    @paused
    async def run() -> None:
        stand = Stand(ANSWER, rules=CacheRules(CacheMode.NEVER))
        for _ in range(2):
            reader = await stand.ask(cache_policy=policy)
            assert reader.status == BYPASS
            assert [each.field for each in reader.events[-1].completed.warnings] == ["cache_policy"]
        silent = await stand.ask()
        assert not silent.events[-1].completed.warnings
        missed = await stand.ask(cache_policy=ONLY)
        assert missed.error is not None
        assert (missed.error.reason, stand.calls) == (Reason.CACHE_MISS, 3)
        assert stand.cache.stats.read().memory_entries == 0

    run()


@paused
async def test_tenants_and_callers_are_apart() -> None:
    """Unless they are shared on purpose, nobody sees another's answers, in flight or stored."""
    for rules, calls in ((CacheRules(), 3), (CacheRules(shared_between_tenants=True), 1)):
        stand = Stand(ANSWER, rules=rules)
        for _ in range(2):
            stand.readers.one(attribution=v1.Attribution(tenant="a"))
            stand.readers.one(attribution=v1.Attribution(tenant="b"))
            stand.readers.one(change=lambda call: replace(call, principal=Principal("c")))
            await stand.readers.done()
            await asyncio.sleep(1.0)
        assert stand.calls == calls


@pytest.mark.parametrize(
    "finish",
    [
        v1.FINISH_REASON_MAX_TOKENS,
        v1.FINISH_REASON_CONTENT_FILTER,
        v1.FINISH_REASON_REFUSAL,
        v1.FINISH_REASON_PAUSED,
        v1.FINISH_REASON_OTHER,
    ],
)
def test_only_whole_unfiltered_answers_are_stored(finish: v1.FinishReason) -> None:
    """Cut, filtered, refused, paused or unknown: the next caller may fare better."""

    @paused
    async def run() -> None:
        stand = Stand(["text", DONE])
        stand.provider.finish_reason = finish
        await stand.ask()
        assert (await stand.ask()).status == MISS
        assert stand.cache.stats.stored == 0

    run()


@paused
async def test_failures_and_cut_streams_are_not_stored() -> None:
    """Nor what its only caller left."""
    stand = Stand([DOWN], ["half", GenerationError(Reason.STREAM_TRUNCATED, "cut")], ["left", 5.0, DONE])
    await stand.ask()
    await stand.ask()
    reader = stand.readers.one()
    await asyncio.sleep(1.0)
    await reader.leave()
    assert (stand.calls, stand.cache.stats.stored) == (3, 0)
    assert (await stand.ask()).status == MISS


@paused
async def test_what_is_too_large_is_not_stored() -> None:
    """It is given, not kept."""
    stand = Stand(["x" * 2_000, DONE], max_answer_bytes=1_000)
    assert (await stand.ask()).text == "x" * 2_000
    assert (await stand.ask()).status == MISS


@paused
async def test_a_large_answer_is_put_together_beside_the_loop() -> None:
    """And is the same."""
    words = [f"{number} " for number in range(2_000)]
    stand = Stand([*words, DONE])
    first = await stand.ask()
    await stand.cache.aclose()
    assert (await stand.ask()).response.message == first.response.message


@paused
async def test_a_large_request_is_hashed_beside_the_loop() -> None:
    """And found again."""
    stand = Stand(ANSWER)
    messages = [v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="x" * 100_000)])]
    await stand.ask(messages=messages)
    assert (await stand.ask(messages=messages)).status == HIT


@paused
async def test_the_answer_of_a_fallback_is_not_stored() -> None:
    """Under the name of the model that was asked for it would outlive the outage."""
    stand = Stand([DOWN], ["mine", DONE], fallback=["other", DONE])
    stand.readers = Readers(stand.handler, "p/m", "q/m")
    assert (await stand.ask()).text == "other"
    second = await stand.ask()
    assert (second.text, second.status) == ("mine", MISS)


@paused
async def test_only_what_leads_to_the_same_targets_is_joined() -> None:
    """A failure without a fallback is not one for those who have one."""
    stand = Stand([1.0, DOWN], fallback=["other", DONE])
    alone = stand.readers.one()
    backed = Readers(stand.handler, "p/m", "q/m").one()
    await asyncio.gather(alone.task, backed.task)
    assert alone.error is not None
    assert backed.text == "other"


@paused
async def test_warnings_about_the_answer_are_given_again() -> None:
    """Whoever gets it is told what the provider could not honour."""
    stand = Stand(ANSWER)
    stand.provider.warnings = [v1.Warning(code="SETTING_NOT_SUPPORTED", field="sampling.top_k")]
    first, second = await stand.ask(), await stand.ask()
    for reader in (first, second):
        assert [warning.field for warning in reader.events[-1].completed.warnings] == ["sampling.top_k"]
    assert second.status == HIT


@paused
async def test_a_temperature_that_is_left_out_makes_nothing_deterministic() -> None:
    """Such an answer is stored only for those who ask for it."""
    stand = Stand(ANSWER)
    stand.provider.warnings = [v1.Warning(code="SETTING_NOT_SUPPORTED", field="sampling.temperature")]
    await stand.ask()
    assert (await stand.ask()).status == MISS
    await stand.ask(cache_policy=USE)
    assert (await stand.ask(cache_policy=USE)).status == HIT


@paused
async def test_identical_requests_in_flight_are_one_call() -> None:
    """A whole stream and an answer in one piece too; who joined is counted, and what that saved."""
    stand = Stand(ANSWER)
    stand.provider.usage = v1.Usage(input_tokens=3, output_tokens=4)
    readers = [stand.readers.one(streaming=number % 2 == 0) for number in range(50)]
    await stand.readers.done()
    assert stand.calls == 1
    assert {reader.text for reader in readers} == {"Hello world"}
    assert [reader.status for reader in readers] == [MISS] + [HIT] * 49
    stats = stand.cache.stats.read()
    assert (stats.misses, stats.joined, stats.saved_nano_usd) == (1, 49, 49 * 7)
    assert sum(record.cost.total_nano_usd for record in stand.watcher.finished if record.cost) == 7


@paused
async def test_between_the_end_and_the_store_nothing_is_asked_twice() -> None:
    """Who comes while an answer is being stored gets it all the same, and the end waits for nothing."""
    fleet = Fleet()
    stand = Stand(ANSWER, answers=fleet)
    reader = stand.readers.one()
    await asyncio.sleep(0.5)
    fleet.delay = 5.0
    await reader.task
    assert reader.record.finished_at - reader.record.started_at == pytest.approx(1.0)
    late = stand.readers.one()
    await late.task
    assert (late.status, late.text, stand.calls, len(fleet.stored)) == (HIT, "Hello world", 1, 0)
    assert late.record.usage is not None
    assert late.record.usage.output_tokens == 0
    await asyncio.sleep(6.0)
    assert len(fleet.stored) == 1


@paused
async def test_a_shared_answer_is_a_hit_for_everyone_who_waits_for_it() -> None:
    """One look, however many ask."""
    fleet = Fleet()
    await Stand(ANSWER, answers=fleet).ask()
    stand = Stand(ANSWER, answers=fleet)
    fleet.delay = 0.05
    readers = stand.readers.some(3)
    await stand.readers.done()
    assert [reader.status for reader in readers] == [HIT] * 3
    assert (stand.calls, fleet.log.count("look up")) == (0, 2)
    stats = stand.cache.stats.read()
    assert (stats.shared_hits, stats.joined, stats.misses) == (1, 2, 0)
    assert [reader.record.cost and reader.record.cost.total_nano_usd for reader in readers] == [0] * 3


@paused
async def test_across_sidecars_one_makes_the_answer() -> None:
    """The others wait for it, and that is on record as a wait."""
    fleet = Fleet()
    fleet.holder = "another"
    stand = Stand(ANSWER, answers=fleet)
    reader = stand.readers.one()
    await asyncio.sleep(3.0)
    other = Stand(["theirs", DONE])
    await other.ask()
    key = reader.record.cache_key
    stored = other.answers.recall(key)
    assert stored is not None
    fleet.stored[key] = stored
    fleet.made.set()
    await reader.task
    assert (reader.text, reader.status, stand.calls) == ("theirs", HIT, 0)
    assert reader.record.waited == pytest.approx(3.0, abs=0.1)


@paused
async def test_who_waits_in_vain_asks_alone() -> None:
    """After 30 seconds, or half of what is left of its deadline."""
    for deadline, waits in ((float("inf"), "wait 30"), (10.0, "wait 5")):
        fleet = Fleet()
        fleet.holder = "another"
        stand = Stand(ANSWER, answers=fleet)
        reader = await stand.ask(deadline=deadline)
        assert (reader.text, reader.status) == ("Hello world", MISS)
        assert fleet.log == ["look up", waits, "put"]


@paused
async def test_a_lease_is_held_as_long_as_the_answer_takes() -> None:
    """And ends with storing it."""
    fleet = Fleet()
    third = LEASE_SECONDS / 3
    stand = Stand([third, "one", third, "two", third - 1.0, DONE], answers=fleet)
    await stand.ask()
    assert fleet.log == ["look up", "renew", "renew", "put"]
    assert fleet.holder is None
    await asyncio.sleep(LEASE_SECONDS)
    assert fleet.log[-1] == "put"


@paused
async def test_a_lease_is_given_up_with_the_answer() -> None:
    """By a failure, by what is not stored, and when the last caller leaves; none of them waits for that."""
    fleet = Fleet()
    stand = Stand([1.0, DOWN], ["text", DONE], ["text", 5.0, DONE], answers=fleet)
    fleet.delay = 0.01
    failed = stand.readers.one()
    await failed.task
    assert failed.record.finished_at - failed.record.started_at == pytest.approx(1.01)
    await asyncio.sleep(1.0)
    assert (fleet.log[-1], fleet.holder) == ("release", None)
    stand.provider.finish_reason = v1.FINISH_REASON_MAX_TOKENS
    await stand.ask()
    await asyncio.sleep(1.0)
    assert (fleet.log[-1], fleet.holder) == ("release", None)
    leaving = stand.readers.one()
    await asyncio.sleep(1.0)
    assert fleet.holder == "ours"
    await leaving.leave()
    await stand.cache.aclose()
    assert (fleet.log[-1], fleet.holder) == ("release", None)


class Reserving:
    """A reservation that tells when it is asked."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def begin(self) -> None:
        self._log.append("begin")

    async def enter(self, target: object, since: float, patience: float) -> None:
        self._log.append("enter")


@paused
async def test_limits_are_asked_in_the_moment_of_looking() -> None:
    """One round trip for both; a hit in memory and those who join ask for nothing."""
    fleet = Fleet()
    stand = Stand(ANSWER, answers=fleet)

    def limited(log: list[str]) -> Reader:
        return stand.readers.one(change=lambda call: replace(call, reservation=Reserving(log)))

    first, second = limited(fleet.log), limited(joined := [])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert fleet.log == ["begin", "look up"]
    await asyncio.gather(first.task, second.task)
    assert fleet.log[:3] == ["begin", "look up", "enter"]
    assert joined == []


@paused
async def test_in_an_outage_a_stale_answer_is_the_last_resort() -> None:
    """Where the route allows it: marked, with its age, for everyone who waits; and nothing is stored anew."""
    stand = Stand(["old", DONE], [1.0, DOWN], rules=CacheRules(ttl=10.0, stale=100.0))
    await stand.ask()
    await asyncio.sleep(50.0)
    readers = stand.readers.some(2)
    await stand.readers.done()
    for reader in readers:
        assert (reader.text, reader.status, reader.record.cache_status) == ("old", STALE, STALE)
        assert reader.events[0].started.cache_age.seconds == 51
        assert reader.record.cost == v1.Cost()
    assert [attempt.reason for attempt in readers[0].events[-1].completed.attempts] == ["PROVIDER_ERROR"]
    assert (stand.calls, stand.cache.stats.stale_hits, stand.cache.stats.stored) == (2, 1, 1)
    await asyncio.sleep(60.0)
    last = await stand.ask()
    assert last.error is not None


@pytest.mark.parametrize(
    ("error", "rules", "policy"),
    [
        (GenerationError(Reason.CONTENT_FILTERED, "no"), CacheRules(ttl=10.0, stale=100.0), USE),
        (DOWN, CacheRules(ttl=10.0), USE),
        (DOWN, CacheRules(ttl=10.0, stale=100.0), REFRESH),
    ],
)
def test_a_stale_answer_stands_for_nothing_else(
    error: GenerationError, rules: CacheRules, policy: v1.CachePolicy
) -> None:
    """Not for a fault of the caller, not where the route does not allow it, not for who wants a new one."""

    @paused
    async def run() -> None:
        stand = Stand(["old", DONE], [error], rules=rules)
        await stand.ask()
        await asyncio.sleep(50.0)
        failed = await stand.ask(cache_policy=policy)
        assert failed.error is not None
        assert failed.error.reason is error.reason

    run()


@paused
async def test_what_has_begun_is_not_replaced_by_what_is_stale() -> None:
    """After the commit point nothing else is given."""
    cut = ["half", GenerationError(Reason.STREAM_TRUNCATED, "cut")]
    stand = Stand(["old", DONE], cut, rules=CacheRules(ttl=10.0, stale=100.0))
    await stand.ask()
    await asyncio.sleep(50.0)
    reader = await stand.ask()
    assert reader.error is not None
    assert (reader.text, reader.error.committed) == ("half", True)


@paused
async def test_the_end_waits_for_what_is_being_stored() -> None:
    """Within a bound."""
    fleet = Fleet()
    stand = Stand(["text", 0.5, DONE], answers=fleet)
    reader = stand.readers.one()
    await asyncio.sleep(0.1)
    fleet.delay = 1.0
    await reader.task
    await stand.cache.aclose()
    assert len(fleet.stored) == 1
    fleet.delay, began = 0.0, now()
    reader = stand.readers.one(cache_policy=REFRESH)
    await asyncio.sleep(0.1)
    fleet.delay = 100.0
    await reader.task
    await stand.cache.aclose()
    assert now() - began < 3.0
