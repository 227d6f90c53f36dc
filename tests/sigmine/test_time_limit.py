"""Searches that are stopped: what is said about what was searched is exactly right."""

import math
import time
from collections import Counter

import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.exceptions import InputError, InputTypeError
from sigmine.search import driver, search_patterns, testability, worker
from sigmine.search.layout import N_VALUES
from sigmine.search.schedule import Schedule
from sigmine.search.tasks import Plan
from sigmine.search.worker import Task
from sigmine.settings import SearchSettings
from tests import naive, strategies
from tests.searches import (
    OPTIONS,
    assert_outcomes_are_identical,
    draw_limits,
    draw_table,
    make_problem,
    option_id,
    patterns,
)

FAR = 1e6  # seconds: a limit that is never reached


def search(case, *, n_jobs=None, time_limit=None, progress=None, **options):
    problem = make_problem(*case)
    outcome = search_patterns(
        problem, SearchSettings(**options), n_jobs=n_jobs, time_limit=time_limit, progress=progress
    )
    return problem, outcome


@pytest.fixture
def stop_after(monkeypatch):
    """Have searches stop when so many tasks are done, one root item a task."""

    def arrange(n_tasks, stage="threshold"):
        passes = iter(("threshold", stage) if stage != "threshold" else (stage,))
        state = {}

        class Counted(driver.Control):
            def __init__(self, seconds=None):
                super().__init__(seconds)
                state["control"] = self

        class Stopping(Schedule):
            def __init__(self, *args):
                super().__init__(*args)
                state["left"] = n_tasks if next(passes, None) == stage else math.inf
                if state["left"] == 0:
                    state["control"].stop[0] = 1

            def end(self, number, seconds=None):
                super().end(number, seconds)
                state["left"] -= 1
                if state["left"] == 0:
                    state["control"].stop[0] = 1

        def one_by_one(prepared, *_, **__):
            n_items = len(prepared.items)
            tasks = [Task(i, i + 1) for i in range(n_items)]
            return Plan(tasks, np.full(n_items, 1.0 / max(1, n_items)))

        monkeypatch.setattr(driver, "Control", Counted)
        monkeypatch.setattr(driver, "Schedule", Stopping)
        monkeypatch.setattr(driver, "plan_tasks", one_by_one)

    return arrange


def searched_hypotheses(twin, problem, outcome):
    """Those of the brute-force hypotheses whose rarest item is among the searched ones."""
    if outcome.searched_items is None:
        return twin["hypotheses"]
    names = {problem.item_names[j] for j in outcome.searched_items}
    supports = np.bitwise_count(problem.table.columns).sum(axis=1, dtype=np.int64)
    order = sorted(range(len(supports)), key=lambda j: (-supports[j], j))
    rank = {problem.item_names[j]: i for i, j in enumerate(order)}
    return [
        h for h in twin["hypotheses"] if max(map(str, h["closed"]), key=rank.__getitem__) in names
    ]


def assert_is_about(hypotheses, problem, outcome, alpha, grid_step=None):
    """Compare an outcome with Tarone's procedure on a family of hypotheses, by brute force."""
    minima = [h["psi"] for h in hypotheses]
    if grid_step is None:
        delta, m = naive.tarone_exact(minima, alpha)
    else:
        delta, m = naive.tarone_grid(minima, alpha, grid_step)
    assert outcome.n_testable == m
    if m:
        assert outcome.testability_threshold == pytest.approx(delta, rel=1e-9)
    else:
        assert math.isnan(outcome.testability_threshold)
    assert outcome.corrected_threshold <= alpha / max(1, m) * (1 + 1e-12)
    labels = problem.stratum_labels
    assert patterns(problem, outcome) == {
        frozenset(map(str, h["closed"])): frozenset(zip(labels, h["x"], h["a"], strict=True))
        for h in hypotheses
        if m
        and naive.at_most(h["psi"], delta)
        and naive.at_most(h["p"], outcome.corrected_threshold)
    }
    found = sorted(map(tuple, outcome.sample_support.tolist()))
    assert outcome.sample_fraction == 1.0
    assert found == sorted(h["x"] for h in hypotheses if m and naive.at_most(h["psi"], delta))


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_tarone_on_what_was_searched(options, stop_after):
    rng = np.random.default_rng(17)
    stopped = found = 0
    for _ in range(25 if JIT_ENABLED else 8):
        case = draw_table(rng)
        limits = draw_limits(rng) | {"max_length": None}
        twin = naive.mine(*(part.tolist() for part in case), **options, **limits)
        stop_after(int(rng.integers(0, 8)))
        problem, outcome = search(case, time_limit=FAR, **options, **limits)
        assert outcome.complete == (outcome.searched_items is None)
        assert outcome.complete == (outcome.searched_fraction == 1.0)
        hypotheses = searched_hypotheses(twin, problem, outcome)
        if not outcome.complete:
            stopped += 1
            assert 0.0 <= outcome.searched_fraction < 1.0
        assert_is_about(hypotheses, problem, outcome, limits["alpha"], options["grid_step"])
        found += not outcome.complete and len(outcome.closures)
    assert stopped > 3
    assert found > 0


def test_with_limited_length(stop_after):
    # Then a hypothesis belongs to the rarest item of its first shortest description, not of its
    # closure: whatever was counted has to be a hypothesis, and the thresholds have to fit.
    rng = np.random.default_rng(18)
    for _ in range(10):
        case = draw_table(rng)
        twin = naive.mine(*(part.tolist() for part in case), alpha=0.4, max_length=2)
        stop_after(3)
        problem, outcome = search(case, time_limit=FAR, alpha=0.4, max_length=2)
        everything = {h["x"]: h for h in twin["hypotheses"]}
        assert outcome.n_testable <= len(twin["hypotheses"])
        assert len(outcome.sample_cases) == outcome.n_testable
        for x in map(tuple, outcome.sample_support.tolist()):
            assert naive.at_most(everything[x]["psi"], outcome.testability_threshold)
        assert set(patterns(problem, outcome)) <= {
            frozenset(map(str, h["closed"])) for h in twin["hypotheses"]
        }
        if outcome.n_testable:
            assert outcome.testability_threshold * outcome.n_testable <= 0.4 * (1 + 1e-9)


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_a_limit_that_is_not_reached_changes_nothing(n_jobs):
    case = strategies.random_case(np.random.default_rng(3), 90, 14, 3, 0.4, 0.8, corners=False)
    without = search(case)[1]
    limited = search(case, n_jobs=n_jobs, time_limit=FAR)[1]
    assert limited.complete
    assert limited.searched_fraction == 1.0
    assert limited.searched_items is None
    assert_outcomes_are_identical(without, limited, but=("n_visited", "seconds"))


def rich_case():
    """Every combination of the items is associated: 255 hypotheses, many of them significant."""
    rng = np.random.default_rng(1)
    y = np.arange(80) % 2 == 0
    matrix = rng.random((80, 8)) < np.where(y, 0.8, 0.4)[:, None]
    return matrix, y, np.zeros(80, dtype=np.int64)


class TestWithoutTimeForASecondPass:
    """The first pass is done, and something is missing that a second one would bring."""

    def test_values_are_missing(self, stop_after, monkeypatch):
        case = rich_case()
        twin = naive.mine(*(part.tolist() for part in case), alpha=0.2)
        whole = search(case, alpha=0.2)[1]
        # No value is kept, so that delta* cannot be told from the others of its bucket.
        monkeypatch.setattr(driver._Search, "_window", lambda _: 0.0)
        stop_after(0, stage="collect")
        problem, outcome = search(case, time_limit=FAR, alpha=0.2)
        assert not outcome.complete
        assert outcome.searched_fraction == 1.0
        assert outcome.searched_items is None
        # The whole critical bucket is left out: a hundredth of the logarithm of p at most.
        assert 100 < outcome.n_testable <= whole.n_testable
        psi = [h["psi"] for h in twin["hypotheses"]]
        assert outcome.n_testable == sum(p <= outcome.testability_threshold for p in psi)
        assert outcome.testability_threshold * outcome.n_testable <= 0.2
        assert whole.testability_threshold / outcome.testability_threshold < math.exp(0.0101)
        assert len(outcome.sample_cases) == outcome.n_testable
        assert outcome.corrected_threshold == pytest.approx(0.2 / outcome.n_testable)
        assert set(patterns(problem, outcome)) == {
            frozenset(map(str, h["closed"]))
            for h in twin["hypotheses"]
            if h["psi"] <= outcome.testability_threshold
            and naive.at_most(h["p"], outcome.corrected_threshold)
        }

    def test_patterns_are_missing(self, stop_after, monkeypatch):
        case = rich_case()
        whole_problem, whole = search(case, alpha=0.2)
        assert len(whole.closures) > 10
        # Only p-values far below the threshold of the moment are remembered by the first pass.
        monkeypatch.setattr(testability, "LOG_SAFETY", -3.0)
        stop_after(0, stage="collect")
        problem, outcome = search(case, time_limit=FAR, alpha=0.2)
        assert not outcome.complete
        assert outcome.searched_fraction == 1.0
        assert outcome.n_testable == whole.n_testable
        assert outcome.testability_threshold == whole.testability_threshold
        # So less is called significant, and what is said about that is complete.
        assert outcome.corrected_threshold < 0.2 / outcome.n_testable
        everything = patterns(whole_problem, whole)
        found = patterns(problem, outcome)
        assert found.items() <= everything.items()
        table = problem.table
        p = {
            name: naive.pvalue(
                tuple(x for _, x, _ in sorted(cells)),
                sum(a for _, _, a in cells),
                tuple(table.sizes.tolist()),
                tuple(table.case_sizes.tolist()),
                ("exact", "two-sided", "central", "mantel-haenszel"),
            )
            for name, cells in everything.items()
        }
        expected = {
            n for n, value in p.items() if naive.at_most(value, outcome.corrected_threshold)
        }
        assert set(found) == expected
        assert 0 < len(found) < len(everything)

    def test_a_sample_that_is_too_thin(self, stop_after, monkeypatch):
        case = rich_case()
        whole = search(case, alpha=0.2)[1]
        monkeypatch.setattr(driver._Search, "_window", lambda _: 0.0)
        monkeypatch.setattr(driver, "_SAMPLE_SIZE", 8)
        stop_after(0, stage="collect")
        outcome = search(case, time_limit=FAR, alpha=0.2)[1]
        assert not outcome.complete
        assert outcome.sample_fraction < 1.0
        every = set(map(tuple, whole.sample_support.tolist()))
        assert set(map(tuple, outcome.sample_support.tolist())) <= every

    def test_the_smallest_minimum_pvalue_is_that_of_what_was_visited(self, stop_after):
        rng = np.random.default_rng(2)
        case = rng.random((14, 6)) < 0.4, np.arange(14) < 7, None
        whole = search(case, alpha=1e-5)[1]
        assert whole.n_testable == 0
        stop_after(1, stage="summit")
        outcome = search(case, time_limit=FAR, alpha=1e-5)[1]
        assert not outcome.complete
        assert outcome.n_testable == 0
        assert not outcome.smallest_minimum_pvalue < whole.smallest_minimum_pvalue


def big_case():
    """A search of many seconds, however fast the machine."""
    rng = np.random.default_rng(6)
    n, p = (1200, 90) if JIT_ENABLED else (300, 40)
    return rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 4, n)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("options", [{}, {"method": "asymptotic", "grid_step": 0.06}])
def test_stops_in_time_in_the_middle_of_a_task(options, n_jobs):
    # Compiled and imported; the limit leaves a busy machine time to prepare the search.
    small = tuple(part[:100] for part in big_case())
    search(small, n_jobs=n_jobs, alpha=1e-6, time_limit=FAR, **options)
    states = []
    started = time.perf_counter()
    _, outcome = search(
        big_case(), n_jobs=n_jobs, time_limit=1.5, progress=states.append, **options
    )
    assert 1.4 < time.perf_counter() - started < 4.5
    assert not outcome.complete
    assert 0.0 <= outcome.searched_fraction < 1.0
    assert outcome.n_testable > 100
    assert outcome.n_visited > outcome.n_testable
    assert states[-1].seconds_left is None or states[-1].seconds_left <= 1.5
    assert states[-1].fraction_done < 1.0
    # The last word on it counts what was met in tasks that were left in the middle, too.
    assert states[-1].visited == outcome.n_visited
    assert states[-1].testable >= outcome.n_testable
    thresholds = [state.threshold for state in states]
    assert thresholds == sorted(thresholds, reverse=True)
    # What is in the sample is testable, and there are as many as are said to be.
    expected = outcome.n_testable * outcome.sample_fraction
    assert abs(len(outcome.sample_cases) - expected) <= 6 * math.sqrt(expected)
    if not options:
        assert outcome.testability_threshold * outcome.n_testable <= 0.05 * (1 + 1e-9)


@pytest.mark.parametrize("calls", [3, 20, 60])
def test_what_was_met_in_a_task_that_was_left_counts_too(calls, monkeypatch):
    # The workers' buffers are short, and the flag is set when one is emptied: in the middle of a
    # task. Tarone's procedure on the values that went through the buffers gives the outcome.
    rng = np.random.default_rng(12)
    n, p = (300, 30) if JIT_ENABLED else (100, 14)
    case = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 2, n)
    met = []
    new_buffer, empty = worker._new_buffer, worker.Worker._empty

    def short_buffer(n_strata):
        buffer = new_buffer(n_strata)
        return buffer._replace(values=buffer.values[:20].copy())

    def emptied(self):
        met.append(self.buffer.values[: self.tally.state[N_VALUES]].copy())
        empty(self)
        if len(met) == calls:
            self.shared.stop[0] = 1

    monkeypatch.setattr(worker, "_new_buffer", short_buffer)
    monkeypatch.setattr(worker.Worker, "_empty", emptied)
    problem, outcome = search(case, time_limit=FAR, alpha=0.3)
    minima = np.exp(-np.concatenate(met))
    delta, m = naive.tarone_exact(minima.tolist(), 0.3)
    assert not outcome.complete
    assert 0.0 <= outcome.searched_fraction < 1.0
    assert outcome.n_testable == m > 5
    assert outcome.testability_threshold == pytest.approx(delta, rel=1e-9)
    assert outcome.corrected_threshold == pytest.approx(0.3 / m)
    # The kernel counts the children of a node before it visits them: some of the last node were
    # counted, and so are paid for, but never looked at.
    assert 0.9 * m - 30 < len(outcome.sample_cases) <= m
    margins = tuple(problem.table.sizes.tolist()), tuple(problem.table.case_sizes.tolist())
    settings = ("exact", "two-sided", "central", "mantel-haenszel")
    found = Counter(
        round(math.log(naive.minimum_pvalue(tuple(x), *margins, settings)), 6)
        for x in outcome.sample_support.tolist()
    )
    assert found <= Counter(round(math.log(p), 6) for p in minima if p <= delta * (1 + 1e-9))


@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, math.inf])
def test_limits_that_are_none(value):
    case = np.eye(6, dtype=bool)[:, :3], np.arange(6) < 3, None
    with pytest.raises(InputError, match=r"time_limit=.* must be above 0 seconds"):
        search(case, time_limit=value)


@pytest.mark.parametrize("value", ["10", True, [1]])
def test_limits_of_another_type(value):
    case = np.eye(6, dtype=bool)[:, :3], np.arange(6) < 3, None
    with pytest.raises(InputTypeError, match=r"time_limit=.* must be None or a number of seconds"):
        search(case, time_limit=value)


def test_no_time_at_all():
    _, outcome = search(tuple(part[:100] for part in big_case()), time_limit=1e-9)
    assert not outcome.complete
    assert outcome.searched_fraction == 0.0
    assert len(outcome.searched_items) == outcome.n_visited == outcome.n_testable == 0
    assert math.isnan(outcome.testability_threshold)
