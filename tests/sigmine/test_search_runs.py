"""How a search runs: buffers and stack, the sample, workers, interrupts, progress."""

import itertools
import math
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest

from sigmine._jit import JIT_ENABLED
from sigmine.exceptions import SearchInterrupted
from sigmine.search import driver, worker
from tests import naive, strategies
from tests.searches import (
    OPTIONS,
    assert_outcomes_are_identical,
    draw_limits,
    draw_table,
    mine,
    option_id,
)


def rich_case(n_items, n_rows=200, seed=1):
    """Every combination of the items is associated: 2^n_items - 1 hypotheses, most significant."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2 == 0
    matrix = rng.random((n_rows, n_items)) < np.where(y, 0.93, 0.3)[:, None]
    return matrix, y, np.zeros(n_rows, dtype=np.int64)


@pytest.mark.parametrize(
    "options",
    [{"method": "asymptotic", "alternative": "greater"}, {"grid_step": 0.06}, {"max_length": 4}],
)
def test_length_of_buffers_and_stack_does_not_matter(options, monkeypatch):
    # Shortest possible: the kernel asks for a longer stack at every turn, and its buffer is
    # emptied after a few hundred hypotheses, or a few items.
    case = rich_case(10 if JIT_ENABLED else 8)
    whole = mine(*case, **options)[1]
    assert len(whole.closures) > (256 if JIT_ENABLED else 100)
    make_worker, new_buffer = worker.Worker.__init__, worker.new_buffer
    calls = Counter()

    def with_shortest_stack(self, *args):
        make_worker(self, *args)
        long = self.stack
        self.stack = worker._new_stack(long.words.shape[1], len(long.counts), 1, 1)
        self.stack.cursor[:] = long.cursor

    def buffer_of(rows, items):
        def short_buffer(n_strata):
            buffer = new_buffer(n_strata)
            return buffer._replace(
                evidence=buffer.evidence[:rows].copy(),
                support=buffer.support[:rows].copy(),
                info=buffer.info[:rows].copy(),
                items=buffer.items[:items].copy(),
            )

        return short_buffer

    kernel = worker.search_subtrees

    def counted(*args):
        calls["kernel"] += 1
        if calls["kernel"] > 20_000:
            raise AssertionError("the kernel is called again and again without getting on")
        return kernel(*args)

    monkeypatch.setattr(worker.Worker, "__init__", with_shortest_stack)
    monkeypatch.setattr(worker, "search_subtrees", counted)
    for rows, items in ((1, 16), (7, 1000), (1000, 1), (1000, 11)):
        monkeypatch.setattr(worker, "new_buffer", buffer_of(rows, items))
        for n_jobs in (1, 2):
            calls.clear()
            assert_outcomes_are_identical(whole, mine(*case, n_jobs=n_jobs, **options)[1])


@pytest.mark.skipif(not JIT_ENABLED, reason="131,071 nodes")
@pytest.mark.parametrize("grid_step", [None, 0.06])
def test_deep_lattice_with_known_counts(grid_step):
    # Item j holds in every row but row j, so s items together hold in n - s rows: 2^17 - 1 closed
    # itemsets, C(17, s) of them with the minimum p-value 2 C(20, s) / C(40, s).
    n_items, n_rows, n_cases, alpha = 17, 40, 20, 0.4
    matrix = np.ones((n_rows, n_items), dtype=bool)
    matrix[np.arange(n_items), np.arange(n_items)] = False
    y = np.arange(n_rows) >= n_cases  # the missing rows are controls
    _, outcome = mine(matrix, y, None, alpha=alpha, grid_step=grid_step)
    psi = {
        s: min(1.0, 2 * math.comb(n_cases, s) / math.comb(n_rows, s)) for s in range(1, n_items + 1)
    }

    def count(delta):
        return sum(math.comb(n_items, s) for s, value in psi.items() if value <= delta * (1 + 1e-9))

    if grid_step is None:
        delta = max(value for value in psi.values() if value * count(value) <= alpha)
    else:
        grid = (10 ** (-grid_step * j) for j in range(1, 501))
        delta = next(value for value in grid if value * count(value) <= alpha)
    assert outcome.n_testable == count(delta) > 1000
    assert outcome.testability_threshold == pytest.approx(delta, rel=1e-9)
    # All missing rows are controls: p = psi for every pattern.
    threshold = alpha / count(delta)
    assert len(outcome.closures) == sum(
        math.comb(n_items, s) for s, v in psi.items() if v <= min(threshold, delta) * (1 + 1e-9)
    )
    assert max(map(len, outcome.generators)) == n_items
    lengths = Counter(map(len, outcome.closures))
    assert (outcome.support[:, 0] == [n_rows - len(c) for c in outcome.closures]).all()
    assert all(count == math.comb(n_items, s) for s, count in lengths.items())


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_the_sample_is_all_testable_patterns_where_they_are_few(options):
    rng = np.random.default_rng(41)
    for _ in range(10 if JIT_ENABLED else 4):
        case = draw_table(rng)
        limits = draw_limits(rng)
        twin = naive.mine(*(part.tolist() for part in case), **options, **limits)
        _, outcome = mine(*case, **options, **limits)
        assert outcome.sample_fraction == 1.0
        found = Counter(
            zip(
                map(tuple, outcome.sample_support.tolist()),
                outcome.sample_cases.tolist(),
                strict=True,
            )
        )
        testable = [h for h in twin["hypotheses"] if h["testable"]]
        assert found == Counter((h["x"], sum(h["a"])) for h in testable)


def test_a_part_is_sampled_where_there_are_many(monkeypatch):
    case = rich_case(9)
    whole = mine(*case)[1]
    monkeypatch.setattr(driver, "_SAMPLE_SIZE", 50)
    part = mine(*case)[1]
    assert whole.sample_fraction == 1.0
    assert len(whole.sample_cases) >= whole.n_testable > 300
    stride = round(1 / part.sample_fraction)
    assert stride == math.ceil(whole.n_testable / 50)
    # A binomial count with mean n / stride: six standard deviations on either side.
    mean = len(whole.sample_cases) / stride
    assert abs(len(part.sample_cases) - mean) < 6 * math.sqrt(mean)

    def rows_of(outcome):
        return Counter(
            (*x, a)
            for x, a in zip(
                outcome.sample_support.tolist(), outcome.sample_cases.tolist(), strict=True
            )
        )

    assert rows_of(part) <= rows_of(whole)
    assert_outcomes_are_identical(part, mine(*case, n_jobs=2)[1])
    # Which ones are drawn depends on the data alone, not on the threshold or the order of items.
    shuffled = mine(case[0][:, ::-1], *case[1:])[1]
    assert rows_of(shuffled) == rows_of(part)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06},
        {"max_length": 2, "alternative": "greater"},
        {"method": "asymptotic", "min_support": 5, "alpha": 0.3},
    ],
)
def test_number_of_workers_does_not_matter(options):
    rng = np.random.default_rng(12)
    shapes = [(120, 14, 3, 0.4), (90, 150, 2, 0.06), (40, 1, 2, 0.5)]
    if not JIT_ENABLED:
        shapes = [(60, 9, 3, 0.4), (60, 70, 2, 0.04), (40, 1, 2, 0.5)]
    for n, p, k, density in shapes:
        case = strategies.random_case(rng, n, p, k, density, 0.8, corners=False)
        alone = mine(*case, n_jobs=1, **options)[1]
        for n_jobs in (2, 3):
            assert_outcomes_are_identical(alone, mine(*case, n_jobs=n_jobs, **options)[1])


def big_case():
    """A search of many seconds, however fast the machine."""
    rng = np.random.default_rng(6)
    n, p = (1000, 60) if JIT_ENABLED else (300, 40)
    return rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 4, n)


def search_threads():
    return [thread for thread in threading.enumerate() if "sigmine" in thread.name]


@pytest.mark.parametrize("how", ["exception", "signal"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_interrupt_ends_the_search_within_a_second(how, n_jobs):
    mine(*(part[:100] for part in big_case()), alpha=1e-6, n_jobs=n_jobs)  # compiled
    called = []

    def progress(state):
        if state.visited > 0 and not called:
            called.append(time.perf_counter())
            if how == "signal":
                signal.raise_signal(signal.SIGINT)
            else:
                raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted, match="interrupted before its end"):
        mine(*big_case(), n_jobs=n_jobs, progress=progress)
    assert time.perf_counter() - called[0] < 1.0
    assert not search_threads()


def test_an_error_in_the_progress_callback_ends_the_search():
    mine(*(part[:100] for part in big_case()), alpha=1e-6)  # compiled

    def progress(state):
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        mine(*big_case(), progress=progress)
    deadline = time.monotonic() + 2.0
    while search_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not search_threads(), "the search goes on although nobody waits for it"


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("grid_step", [None, 0.06])
def test_progress_is_sane_and_monotone(n_jobs, grid_step):
    rng = np.random.default_rng(23)
    n, p = (500, 24) if JIT_ENABLED else (200, 13)
    case = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 3, n)
    states = []
    _, outcome = mine(
        *case, n_jobs=n_jobs, progress=states.append, grid_step=grid_step, method="asymptotic"
    )
    stages = [state.stage for state in states]
    assert stages == sorted(stages, reverse=True)  # "threshold" before "collect"
    assert set(stages) == {"threshold", "collect"}
    for before, after in itertools.pairwise(states):
        assert after.visited >= before.visited
        assert after.seconds >= before.seconds
        assert after.threshold <= before.threshold * (1 + 1e-12)
        if after.stage == before.stage:
            assert after.fraction_done >= before.fraction_done
    for state in states:
        assert 0.0 <= state.fraction_done <= 1.0
        assert state.testable >= 0
        assert 0.0 < state.threshold <= 1.0
    last = states[-1]
    assert last.seconds <= outcome.seconds
    assert last.visited >= outcome.n_visited > 0
    assert last.threshold >= outcome.testability_threshold * (1 - 1e-9)
    assert last.testable >= outcome.n_testable > 0
    if grid_step:
        assert last.threshold == pytest.approx(outcome.testability_threshold, rel=1e-9)
        assert last.testable == outcome.n_testable
    assert [s.fraction_done for s in states if s.stage == "threshold"][-1] > 0.5
