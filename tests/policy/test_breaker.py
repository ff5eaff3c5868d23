import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from outrider.policy.breaker import Breaker, State, Trip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(failures: int = 3, open_for: float = 30.0) -> tuple[Breaker, Clock, list[State]]:
    clock, seen = Clock(), list[State]()
    return Breaker(Trip(failures, open_for=open_for), clock, seen.append), clock, seen


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.admit() is None
        breaker.failed(breaker.epoch)


def test_opens_after_so_many_failures_in_a_row() -> None:
    """A success in between starts the count anew."""
    breaker, _, _ = make()
    fail(breaker, 2)
    breaker.succeeded(breaker.epoch)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN
    assert breaker.admit() == 30.0


def test_one_probe_at_a_time() -> None:
    """Row 26: after the pause one caller probes, and all others are told to wait until it is back."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    clock.now = 31
    assert breaker.admit() is None
    assert all(breaker.admit() is not None for _ in range(20))
    breaker.succeeded(breaker.epoch)
    assert all(breaker.admit() is None for _ in range(20))


def test_a_failed_probe_doubles_the_pause_up_to_ten_times() -> None:
    """A provider that stays down is asked ever more rarely."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    pauses = []
    for _ in range(6):
        clock.now += breaker.admit() or 0
        fail(breaker)
        pauses.append(breaker.admit())
    assert pauses == [60, 120, 240, 300, 300, 300]


def test_an_abandoned_probe_lets_the_next_one_through() -> None:
    """A caller that leaves during its probe does not block the breaker for good."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    clock.now = 31
    assert breaker.admit() is None
    breaker.abandoned(breaker.epoch)
    assert breaker.admit() is None


def test_a_probe_that_has_begun_to_answer_lets_others_through() -> None:
    """A stream may last for minutes: its first content is enough, but the next failure is one too many."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    clock.now = 31
    assert breaker.admit() is None
    probe = breaker.answering(breaker.epoch)
    assert all(breaker.admit() is None for _ in range(20))
    breaker.failed(probe)
    assert breaker.state is State.OPEN


def test_a_probe_whose_answer_was_whole_starts_the_count_anew() -> None:
    """It takes as many failures as ever to open the breaker again."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    clock.now = 31
    assert breaker.admit() is None
    breaker.succeeded(breaker.answering(breaker.epoch))
    fail(breaker, 2)
    assert breaker.state is State.CLOSED


def test_asking_when_to_call_is_not_calling() -> None:
    """Any number may ask; the probe is still there for the one who goes."""
    breaker, clock, _ = make()
    fail(breaker, 3)
    assert breaker.retry_after() == 30
    clock.now = 31
    assert all(breaker.retry_after() is None for _ in range(20))
    assert breaker.state is State.OPEN
    assert breaker.admit() is None
    assert breaker.retry_after() == 30


def test_reports_from_before_a_change_tell_nothing() -> None:
    """A slow call that began while the breaker was closed neither closes it nor counts as its probe."""
    breaker, clock, _ = make()
    old = breaker.epoch
    fail(breaker, 3)
    breaker.succeeded(old)
    assert breaker.state is State.OPEN
    clock.now = 31
    assert breaker.admit() is None
    breaker.failed(old)
    breaker.abandoned(old)
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit() is not None


def test_a_call_that_answers_tells_how_the_target_is_until_it_ends() -> None:
    """A stream is heard of for as long as it goes on, and then when it ended; a failure is no good news."""
    breaker, clock, _ = make()
    first, second = breaker.answering(breaker.epoch), breaker.answering(breaker.epoch)
    for clock.now in (100, 200):
        assert (breaker.heard_at, breaker.well_at) == (clock.now, clock.now)
    breaker.abandoned(first)
    clock.now = 300
    assert breaker.well_at == 300
    breaker.failed(second)
    clock.now = 400
    assert (breaker.heard_at, breaker.well_at) == (300, 200)


def test_a_call_that_still_answers_once_the_breaker_has_opened_tells_nothing() -> None:
    """It began when the target was well; the calls after it are what counts."""
    breaker, clock, _ = make()
    old = breaker.answering(breaker.epoch)
    fail(breaker, 3)
    clock.now = 20
    assert (breaker.heard_at, breaker.well_at) == (0, -math.inf)
    breaker.succeeded(old)
    assert (breaker.heard_at, breaker.state) == (0, State.OPEN)
    clock.now = 31
    assert breaker.admit() is None
    probe = breaker.answering(breaker.epoch)
    breaker.abandoned(old)
    clock.now = 40
    assert breaker.well_at == 40
    breaker.succeeded(probe)
    clock.now = 50
    assert breaker.well_at == 40


def test_word_of_recovery_ends_the_pause() -> None:
    """The next call is the probe, however long the pause had grown; a closed breaker stays closed."""
    breaker, _, _ = make()
    breaker.wake()
    assert breaker.state is State.CLOSED
    fail(breaker, 3)
    breaker.wake()
    assert breaker.admit() is None
    assert breaker.admit() is not None


LEGAL = {
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.OPEN),
    (State.HALF_OPEN, State.CLOSED),
}


@given(
    st.lists(
        st.sampled_from(["admit", "answering", "succeeded", "failed", "abandoned", "wait"]), max_size=200
    )
)
def test_only_legal_transitions(actions: list[str]) -> None:
    """Whatever callers do, the state moves along the diagram, and half-open never has two probes out."""
    breaker, clock, seen = make(failures=2, open_for=5)
    seen.append(breaker.state)
    out: list[int] = []
    for action in actions:
        if action == "wait":
            clock.now += 3
        elif action == "admit":
            if breaker.admit() is None:
                out.append(breaker.epoch)
        elif action == "answering" and out:
            out.append(breaker.answering(out.pop(0)))
        elif out:
            getattr(breaker, action)(out.pop(0))
        if breaker.state is State.HALF_OPEN:
            assert out.count(breaker.epoch) <= 1
    assert set(pairwise(seen)) <= LEGAL


def test_opens_by_the_share_of_failures_in_a_window() -> None:
    """Successes in between do not hide that half of the calls fail, once there are enough to tell."""
    clock = Clock()
    breaker = Breaker(Trip(failures=1000, ratio=0.5, window=30, minimum=20), clock)
    for _ in range(9):
        fail(breaker)
        breaker.succeeded(breaker.epoch)
    assert breaker.state is State.CLOSED
    breaker.succeeded(breaker.epoch)
    fail(breaker)
    assert breaker.state is State.OPEN


def test_failures_of_long_ago_do_not_count() -> None:
    """What lies before the window is forgotten."""
    clock = Clock()
    breaker = Breaker(Trip(failures=1000, ratio=0.5, window=30, minimum=20), clock)
    fail(breaker, 19)
    clock.now = 33
    fail(breaker, 19)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN


def test_a_target_that_asks_for_a_pause_is_not_unwell() -> None:
    """A rate limit that is used up pauses the target for as long as it asks, and opens nothing."""
    breaker, clock, seen = make()
    breaker.pause(7)
    clock.now = 2
    assert breaker.paused_for() == 5
    breaker.pause(1)
    assert breaker.paused_for() == 5
    clock.now = 7
    assert breaker.paused_for() == 0
    assert not seen


def test_a_target_that_others_suspect_opens_at_the_first_failure() -> None:
    """What another sidecar saw is a hint: the first failure seen here decides."""
    breaker, clock, _ = make()
    breaker.suspect(30)
    assert breaker.admit() is None
    fail(breaker)
    assert breaker.state is State.OPEN
    other, clock, _ = make()
    other.suspect(30)
    clock.now = 31
    fail(other)
    assert other.state is State.CLOSED


def test_a_success_ends_a_suspicion() -> None:
    """Where calls succeed, the word of others is old."""
    breaker, _, _ = make()
    breaker.suspect(30)
    breaker.succeeded(breaker.epoch)
    fail(breaker)
    assert breaker.state is State.CLOSED
