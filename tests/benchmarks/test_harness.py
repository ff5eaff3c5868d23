"""The benchmarks work: on the real subjects, with a load of seconds."""

from dataclasses import replace

import pytest
from benchmarks.load import load
from benchmarks.measure import CASES, DIRECT, Bench, Case, Results
from benchmarks.plot import plot
from benchmarks.report import table
from benchmarks.soak import Sample, growth, soak
from benchmarks.subjects import DEFAULTS, FLOOR, mock_upstream


def _small(case: Case) -> Case:
    paced = case.name == "paced"
    model, tokens = ("paced-1-20", 20) if paced else (case.work.model, case.work.tokens)
    work = replace(case.work, model=model, tokens=tokens, calls=8, concurrency=min(case.work.concurrency, 8))
    return replace(case, work=work)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of one round on the floor and on Outrider."""
    folder = tmp_path_factory.mktemp("bench")
    with mock_upstream(folder) as mock, load(mock.child) as loaded:
        bench = Bench(mock, loaded, folder)
        bench.starts([FLOOR, DEFAULTS], rounds=1, streams=(4, 8))
        bench.rounds([FLOOR, DEFAULTS], [], [_small(case) for case in CASES], rounds=1)
    return bench.results


def test_every_figure_is_measured_on_every_subject(results: Results) -> None:
    """Every call succeeds, brings every token, and is timed."""
    assert results.failures == {}
    for case in CASES:
        for figure in case.figures:
            measured = results.figures[figure]
            assert set(measured) == {FLOOR.name, DEFAULTS.name, *([DIRECT] if case.direct else [])}
            assert min(measured[DEFAULTS.name]) > 0
    assert min(results.figures["start_s"][DEFAULTS.name]) > 0
    assert min(results.figures["rss_idle_mib"][FLOOR.name]) > 1


def test_the_report_names_every_subject_and_the_targets(results: Results) -> None:
    """The table has a column for each subject, and the plot is a picture of them."""
    whole = {
        "conditions": {},
        "titles": {subject.name: subject.title for subject in (FLOOR, DEFAULTS)},
        "variants": [],
        "failures": {"peer: install": "not there"},
        "figures": results.figures,
        "busy": results.busy,
    }
    text = table(whole)
    assert f"|  | {FLOOR.title} | {DEFAULTS.title} |" in text
    assert "| target |" in text
    assert "failed: peer: install: not there" in text
    assert plot(whole).count("<rect") == 8


def test_a_soak_ends_where_it_began() -> None:
    """Rows 10, 11: after calls of every kind, sockets and tasks are back at the baseline."""
    (before, *_, after), counts = soak(seconds=2)
    assert after.tasks <= before.tasks
    assert after.sockets <= before.sockets
    assert counts["unary OK"] > 0
    assert {kind.split()[0] for kind in counts} >= {"unary", "burst", "paced", "cancel", "fault"}


@pytest.mark.parametrize(("mib_per_sample", "share"), [(0.0, 0.0), (1.0, 0.06)])
def test_growth_is_that_of_the_line_after_warming_up(mib_per_sample: float, share: float) -> None:
    """The first quarter does not count, however steep."""
    samples = [
        Sample(seconds, 500 + mib_per_sample * seconds if seconds >= 10 else 5.0 * seconds, 0, 0, 0, {})
        for seconds in range(0, 41, 1)
    ]
    assert growth(samples)[1] == pytest.approx(share, abs=0.005)
