from random import Random

from hypothesis import given
from hypothesis import strategies as st

from outrider.policy.backoff import Backoff
from outrider.policy.retry_budget import RetryBudget


def test_ceilings_double_up_to_the_cap() -> None:
    """The defaults wait at most 1, 2, 4, 8, 8, … seconds."""
    assert [Backoff().ceiling(retry) for retry in range(1, 6)] == [1, 2, 4, 8, 8]


@given(
    retry=st.integers(1, 10_000),
    base=st.floats(0, 100),
    factor=st.floats(1, 10),
    cap=st.floats(0, 1000),
    seed=st.integers(),
)
def test_every_delay_lies_between_zero_and_its_ceiling(
    retry: int, base: float, factor: float, cap: float, seed: int
) -> None:
    """Full jitter: no delay is negative, none exceeds its ceiling or the cap, whatever the settings."""
    backoff = Backoff(base, factor, cap)
    delay = backoff.delay(retry, Random(seed))
    assert 0 <= delay <= backoff.ceiling(retry) <= cap


def test_jitter_spreads_callers() -> None:
    """A thousand callers that failed together do not come back together."""
    delays = sorted(Backoff().delay(3, Random(seed)) for seed in range(1000))
    assert delays[100] < 0.8 < 3.2 < delays[900]


@given(st.lists(st.booleans(), max_size=500), st.floats(0, 1))
def test_retries_never_exceed_their_share(calls: list[bool], ratio: float) -> None:
    """Within a moment, retries are at most `ratio` of requests plus the least, for any order of the two."""
    budget, requests, retries = RetryBudget(ratio, lambda: 0.0, least=5), 0, 0
    for is_retry in calls:
        if not is_retry:
            budget.deposit()
            requests += 1
        elif budget.withdraw():
            retries += 1
    assert retries <= 5 + ratio * requests + 1e-6


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_quiet_sidecars_may_retry(pauses: list[float]) -> None:
    """Whatever was used up before: a second later there are `least` retries again, and never more at once."""
    now = [0.0]
    budget, retries = RetryBudget(0.0, lambda: now[0], least=5), 0
    for pause in pauses:
        now[0] += pause
        retries += budget.withdraw()
    assert retries <= 5 + 5 * now[0] + 1e-6
    now[0] += 1
    assert [budget.withdraw() for _ in range(6)] == [True] * 5 + [False]
