"""How a search runs: buffers and stack, passes, the sample, workers, interrupts, progress."""

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
from sigmine.search import driver, testability, worker
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


def stages_of(case, **options):
    """Return the outcome of a search and the passes that it took."""
    states = []
    outcome = mine(*case, progress=states.append, **options)[1]
    return outcome, [stage for stage, _ in itertools.groupby(state.stage for state in states)]


def assert_same_but_for_visits(one, two):
    """Compare outcomes in all that does not depend on how the threshold was approached."""
    assert_outcomes_are_identical(one, two, but=("n_visited", "seconds"))


# ---------------------------------------------------------------------------------------------
# Room
# ---------------------------------------------------------------------------------------------

GROWING = (
    "levels", "cand", "score", "cells_lo", "cells_hi", "covers_lo", "covers_hi", "arena",
    "segments", "masks", "closed", "chosen", "shared_ones",
)  # fmt: skip


def shortest_stack(new_stack):
    """Leave of the growing arrays what they hold at the start, and nothing more."""

    def make(prepared):
        stack = new_stack(prepared)
        holds = {
            "levels": 1,
            "arena": prepared.table.n_words,
            "segments": len(prepared.table.masks),
            "masks": len(prepared.table.masks),
        }
        return stack._replace(
            **{name: getattr(stack, name)[: holds.get(name, 1)].copy() for name in GROWING}
        )

    return make


def short_buffer(new_buffer, values, records, items):
    def make(n_strata):
        buffer = new_buffer(n_strata)
        return buffer._replace(
            values=buffer.values[:values].copy(),
            evidence=buffer.evidence[:records].copy(),
            found=buffer.found[:records].copy(),
            items=buffer.items[:items].copy(),
        )

    return make


@pytest.mark.parametrize(
    "options",
    [
        {"method": "asymptotic", "alternative": "greater"},
        {"grid_step": 0.06},
        {"max_length": 4},
        {"two_sided": "minlike", "min_support": 3},
    ],
)
@pytest.mark.parametrize("rows", ["two words", "many words"])
def test_length_of_buffers_and_stack_does_not_matter(rows, options, monkeypatch):
    # Shortest possible: the kernel asks for a longer stack at every turn, and its buffers are
    # emptied after every hypothesis, or every few items.
    case = rich_case(9 if JIT_ENABLED else 7, n_rows=600 if rows == "many words" else 150)
    whole = mine(*case, **options)[1]
    assert len(whole.closures) > (200 if JIT_ENABLED else 60)
    kernel, calls = worker.search_subtrees, Counter()
    new_stack, new_buffer = worker._new_stack, worker._new_buffer

    def counted(*args):
        calls["kernel"] += 1
        if calls["kernel"] > 20_000:
            raise AssertionError("the kernel is called again and again without getting on")
        return kernel(*args)

    monkeypatch.setattr(worker, "search_subtrees", counted)
    assert_outcomes_are_identical(whole, mine(*case, **options)[1])
    usual = calls["kernel"]
    monkeypatch.setattr(worker, "_new_stack", shortest_stack(new_stack))
    for lengths in ((1, 1, 16), (7, 7, 1000), (1000, 1000, 1), (1000, 3, 11), (1, 1000, 1000)):
        monkeypatch.setattr(worker, "_new_buffer", short_buffer(new_buffer, *lengths))
        calls.clear()
        assert_outcomes_are_identical(whole, mine(*case, **options)[1])
        assert calls["kernel"] > usual + 5  # it did run short
        assert_same_but_for_visits(whole, mine(*case, n_jobs=2, **options)[1])


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_a_search_that_runs_short_everywhere_equals_brute_force(options, monkeypatch):
    rng = np.random.default_rng([OPTIONS.index(options), 88])
    monkeypatch.setattr(worker, "_new_stack", shortest_stack(worker._new_stack))
    monkeypatch.setattr(worker, "_new_buffer", short_buffer(worker._new_buffer, 1, 1, 1))
    monkeypatch.setattr(worker, "_VALUES_KEPT", 6)
    for _ in range(6):
        case = draw_table(rng)
        limits = draw_limits(rng)
        twin = naive.mine(*(part.tolist() for part in case), **options, **limits)
        _, outcome = mine(*case, **options, **limits)
        assert outcome.n_testable == twin["n_testable"]
        if twin["n_testable"]:
            assert outcome.testability_threshold == pytest.approx(
                twin["testability_threshold"], rel=1e-9
            )
        assert len(outcome.closures) == len(twin["significant"])


# ---------------------------------------------------------------------------------------------
# A lattice with known counts
# ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not JIT_ENABLED, reason="131,071 nodes")
@pytest.mark.parametrize("grid_step", [None, 0.06])
@pytest.mark.parametrize("copies", [1, 5])
def test_deep_lattice_with_known_counts(copies, grid_step):
    # Item j holds in every row but row j (of every copy), so s items together hold in n - s rows
    # of a copy: 2^17 - 1 closed itemsets, C(17, s) of them with the same minimum p-value.
    n_items, n_rows, n_cases, alpha = 17, 40, 20, 0.4
    matrix = np.ones((n_rows, n_items), dtype=bool)
    matrix[np.arange(n_items), np.arange(n_items)] = False
    y = np.arange(n_rows) >= n_cases  # the missing rows are controls
    matrix, y = np.tile(matrix, (copies, 1)), np.tile(y, copies)
    n_rows, n_cases = n_rows * copies, n_cases * copies
    _, outcome = mine(matrix, y, None, alpha=alpha, grid_step=grid_step)
    psi = {
        s: min(1.0, 2 * math.comb(n_cases, s * copies) / math.comb(n_rows, s * copies))
        for s in range(1, n_items + 1)
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
    assert (outcome.support[:, 0] == [n_rows - copies * len(c) for c in outcome.closures]).all()
    assert all(count == math.comb(n_items, s) for s, count in lengths.items())


# ---------------------------------------------------------------------------------------------
# A second pass, where the first has not kept enough
# ---------------------------------------------------------------------------------------------


def tied_case():
    """300 items that are tied and fail together: the threshold jumps back over them.

    Three items hold in 20 of 40 rows, 300 in 10. The minimum p-value of the 300 is 2.2e-4 and
    300 of them are too many, but the search cannot know before it has counted them all that no
    other value lies near. So m = 3, and alpha / 3 is far above what was kept on the way.
    """
    rng = np.random.default_rng(0)
    y = np.arange(40) < 20
    matrix = np.zeros((40, 303), dtype=bool)
    for j in range(300):
        matrix[rng.choice(40, 10, replace=False), j] = True
    for j in range(3):  # 14 of 20 carriers are cases: p = 0.013
        matrix[rng.choice(20, 14, replace=False), 300 + j] = True
        matrix[20 + rng.choice(20, 6, replace=False), 300 + j] = True
    return matrix, y, np.zeros(40, dtype=np.int64)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_heavy_ties_need_a_second_pass_and_get_it(n_jobs):
    options = {"alternative": "greater", "max_length": 1}
    outcome, stages = stages_of(tied_case(), n_jobs=n_jobs, **options)
    assert stages == ["threshold", "collect"]
    assert outcome.n_testable == 3
    tail = sum(math.comb(20, a) * math.comb(20, 20 - a) for a in range(14, 21))
    assert 2e-3 < tail / math.comb(40, 20) <= outcome.corrected_threshold == 0.05 / 3
    assert [c.tolist() for c in outcome.closures] == [[300], [301], [302]]
    assert len(outcome.sample_cases) == 3


def test_one_pass_is_enough_as_a_rule():
    assert stages_of(rich_case(8))[1] == ["threshold"]
    assert stages_of(rich_case(8), grid_step=0.06)[1] == ["threshold"]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_a_second_pass_gives_the_same(options, n_jobs, monkeypatch):
    rng = np.random.default_rng([OPTIONS.index(options), 5])
    cases = [draw_table(rng) for _ in range(4)]
    rich = rich_case(8 if JIT_ENABLED else 6)
    cases.append(rich if options["alternative"] != "less" else (rich[0], ~rich[1], rich[2]))
    once = [mine(*case, alpha=0.2, **options)[1] for case in cases]
    # P-values are kept only if they are far below the threshold of the moment.
    monkeypatch.setattr(testability, "LOG_SAFETY", -3.0)
    twice = [stages_of(case, alpha=0.2, n_jobs=n_jobs, **options) for case in cases]
    for one, (two, _) in zip(once, twice, strict=True):
        assert_same_but_for_visits(one, two)
    assert twice[-1][1] == ["threshold", "collect"]
    assert once[-1].n_testable > 10


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("method", ["exact", "asymptotic"])
def test_values_that_were_let_go_are_collected_again(method, n_jobs, monkeypatch):
    # Of the exact values in the window only the four nearest to the threshold are remembered:
    # enough of the way, not of the critical bucket where ties are heavy.
    case = tied_case()
    options = {"alternative": "two-sided", "method": method, "alpha": 0.3, "max_length": 2}
    once = mine(*case, **options)[1]
    monkeypatch.setattr(worker, "_VALUES_KEPT", 4)
    monkeypatch.setattr(worker, "_new_buffer", short_buffer(worker._new_buffer, 5, 1000, 10_000))
    two, stages = stages_of(case, n_jobs=n_jobs, **options)
    assert stages == ["threshold", "collect"]
    assert_same_but_for_visits(once, two)


def test_the_window_of_values_narrows_and_is_enough(monkeypatch):
    # Few values near the threshold, many above it: what was let go is not missed.
    case = rich_case(9 if JIT_ENABLED else 7)
    once = mine(*case)[1]
    narrowed = Counter()
    narrow = worker.Worker._narrow_window

    def counted(self):
        narrow(self)
        narrowed["times"] += 1
        narrowed["finite"] += math.isfinite(self.tally.marks[worker.WINDOW])

    monkeypatch.setattr(worker.Worker, "_narrow_window", counted)
    monkeypatch.setattr(worker, "_VALUES_KEPT", 60 if JIT_ENABLED else 30)
    monkeypatch.setattr(worker, "_new_buffer", short_buffer(worker._new_buffer, 12, 1000, 10_000))
    assert_same_but_for_visits(once, mine(*case)[1])
    assert narrowed["times"] > 1
    assert narrowed["finite"] > 0


# ---------------------------------------------------------------------------------------------
# The sample
# ---------------------------------------------------------------------------------------------


def sampled_rows(outcome):
    return Counter(
        zip(map(tuple, outcome.sample_support.tolist()), outcome.sample_cases.tolist(), strict=True)
    )


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_the_sample_is_all_testable_patterns_where_they_are_few(options):
    rng = np.random.default_rng(41)
    for _ in range(10 if JIT_ENABLED else 4):
        case = draw_table(rng)
        limits = draw_limits(rng)
        twin = naive.mine(*(part.tolist() for part in case), **options, **limits)
        _, outcome = mine(*case, **options, **limits)
        assert outcome.sample_fraction == 1.0
        testable = [h for h in twin["hypotheses"] if h["testable"]]
        assert sampled_rows(outcome) == Counter((h["x"], sum(h["a"])) for h in testable)


def test_a_part_is_sampled_where_there_are_many(monkeypatch):
    case = rich_case(10 if JIT_ENABLED else 8)
    whole = mine(*case)[1]
    assert whole.sample_fraction == 1.0
    assert len(whole.sample_cases) == whole.n_testable > (800 if JIT_ENABLED else 200)
    for size in (whole.n_testable // k for k in (1, 2, 3, 7, 30)):
        monkeypatch.setattr(driver, "_SAMPLE_SIZE", size)
        part = mine(*case)[1]
        fold = round(1 / part.sample_fraction)
        assert part.sample_fraction == 1 / fold
        assert math.log2(fold) % 1 == 0  # bits of a hash
        assert whole.n_testable / size <= fold < 2 * whole.n_testable / size
        assert sampled_rows(part) <= sampled_rows(whole)
        # A binomial count with mean n / fold: six standard deviations on either side.
        mean = whole.n_testable / fold
        assert abs(len(part.sample_cases) - mean) <= 6 * math.sqrt(mean * (1 - 1 / fold))


def test_the_sample_is_a_cross_section():
    # The patterns that a hash of their path draws have on average the support of all: |z| < 5 for
    # eight means has a false-alarm rate below 1e-5.
    case = rich_case(10 if JIT_ENABLED else 8, n_rows=150, seed=4)
    with pytest.MonkeyPatch.context() as patched:
        whole = mine(*case)[1]
        for fold in (2, 4, 8, 16):
            patched.setattr(driver, "_SAMPLE_SIZE", -(-whole.n_testable // fold))
            part = mine(*case)[1]
            assert part.sample_fraction == 1 / fold
            for all_of, some in (
                (whole.sample_support.sum(axis=1), part.sample_support.sum(axis=1)),
                (whole.sample_cases, part.sample_cases),
            ):
                deviation = (some.mean() - all_of.mean()) / (all_of.std() / math.sqrt(len(some)))
                assert abs(deviation) < 5


@pytest.mark.parametrize(
    "options", [{}, {"method": "asymptotic", "grid_step": 0.06}, {"max_length": 3}]
)
def test_the_sample_depends_on_the_data_alone(options, monkeypatch):
    case = rich_case(10 if JIT_ENABLED else 8)
    monkeypatch.setattr(driver, "_SAMPLE_SIZE", 20)
    first = mine(*case, **options)[1]
    assert first.sample_fraction < 0.2
    for n_jobs in (2, 3):
        assert_same_but_for_visits(first, mine(*case, n_jobs=n_jobs, **options)[1])
    # The sample is thinned on the way as often as the buffers are emptied.
    for lengths in ((1, 1, 16), (100, 9, 1000), (1000, 1000, 50)):
        with monkeypatch.context() as patched:
            new_buffer = short_buffer(worker._new_buffer, *lengths)
            patched.setattr(worker, "_new_buffer", new_buffer)
            for n_jobs in (1, 2):
                assert_same_but_for_visits(first, mine(*case, n_jobs=n_jobs, **options)[1])
    with monkeypatch.context() as patched:  # by the second pass
        patched.setattr(testability, "LOG_SAFETY", -3.0)
        again, stages = stages_of(case, **options)
        assert stages == ["threshold", "collect"]
        assert_same_but_for_visits(first, again)


# ---------------------------------------------------------------------------------------------
# Workers, interrupts, progress
# ---------------------------------------------------------------------------------------------


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
    shapes = [(120, 14, 3, 0.4), (90, 150, 2, 0.06), (400, 40, 4, 0.2), (40, 1, 2, 0.5)]
    if not JIT_ENABLED:
        shapes = [(60, 9, 3, 0.4), (60, 70, 2, 0.04), (200, 8, 2, 0.5), (40, 1, 2, 0.5)]
    for n, p, k, density in shapes:
        case = strategies.random_case(rng, n, p, k, density, 0.8, corners=False)
        alone = mine(*case, n_jobs=1, **options)[1]
        assert alone.n_testable > 0 or n == 40
        for n_jobs in (2, 3):
            assert_same_but_for_visits(alone, mine(*case, n_jobs=n_jobs, **options)[1])


def big_case():
    """A search of many seconds, however fast the machine."""
    rng = np.random.default_rng(6)
    n, p = (2000, 120) if JIT_ENABLED else (300, 40)
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


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("grid_step", [None, 0.06])
def test_progress_is_sane_and_monotone(grid_step, n_jobs, passes, monkeypatch):
    if passes == 2:
        monkeypatch.setattr(testability, "LOG_SAFETY", -3.0)
    rng = np.random.default_rng(23)
    n, p = (500, 24) if JIT_ENABLED else (200, 11)
    case = rng.random((n, p)) < 0.5, rng.random(n) < 0.5, rng.integers(0, 3, n)
    states = []
    _, outcome = mine(
        *case, n_jobs=n_jobs, progress=states.append, grid_step=grid_step, method="asymptotic"
    )
    stages = [state.stage for state in states]
    assert stages == sorted(stages, reverse=True)  # "threshold" before "collect"
    assert set(stages) == ({"threshold", "collect"} if passes == 2 else {"threshold"})
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
    for stage in set(stages):
        ends = [state.fraction_done for state in states if state.stage == stage]
        assert ends[-1] == pytest.approx(1.0)
    if grid_step and (n_jobs == 1 or passes == 2):
        assert last.threshold == pytest.approx(outcome.testability_threshold, rel=1e-9)
        assert last.testable == outcome.n_testable
