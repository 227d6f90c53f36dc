"""The ladder of buckets and the exact threshold, against Tarone's rule on the whole list."""

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine._jit import JIT_ENABLED
from sigmine.association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from sigmine.ranking import select, tarone
from sigmine.search import counting
from sigmine.search.counting import lowered
from sigmine.search.layout import (
    ALIVE,
    COLLECT,
    COUNT,
    COUNTS,
    CUT,
    EDGE,
    GRID,
    HIGHEST_BUCKET,
    KEEP,
    KEEP_FROM,
    LEAST,
    LEVEL,
    LIMIT,
    MOST,
    N_STATE,
    N_VALUES,
    PRUNE,
    PUBLISHED,
    PURPOSE,
    ROOM,
    SCALE,
    STORE,
    STORE_FROM,
    WINDOW,
    Ladder,
)
from sigmine.search.testability import (
    LOG_SAFETY,
    MARGIN,
    TIE_TOLERANCE,
    build_ladder,
    climbed,
    first_level,
    scale_of,
    solve_critical,
)
from sigmine.settings import SearchSettings
from tests import naive

SETTINGS = [
    SearchSettings(method=method, alternative=alternative, grid_step=grid_step, alpha=alpha)
    for method in ("exact", "asymptotic")
    for alternative in ("two-sided", "greater")
    for grid_step in (None, 0.06)
    for alpha in (0.05, 0.6)
]


def setting_id(setting):
    return f"{setting.method}-{setting.alternative}-{setting.grid_step}-{setting.alpha}"


every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=setting_id)


def largest_pvalue(setting):
    """Minimum p-values of one-sided asymptotic tests are below one half."""
    return 0.499 if setting.method == "asymptotic" and setting.alternative != "two-sided" else 1.0


@lru_cache
def ladder_of(setting):
    return build_ladder(setting)


def minima(setting):
    """Lists of minimum p-values with many ties, and some that differ by rounding only."""
    top = largest_pvalue(setting)
    element = st.one_of(
        st.sampled_from([1.0, 0.4, 0.1, 0.05, 0.025, 0.0125, 0.01, 1e-3, 1e-6, 1e-12, 1e-40]),
        st.floats(1e-50, 1.0),
        st.integers(1, 400).map(lambda k: 1.0 / k),
    )
    return st.lists(element.map(lambda p: min(p, top)), max_size=80)


def evidence_of(values, setting):
    return np.asarray(evidence_of_log_pvalue(np.log(np.asarray(values, dtype=float)), setting))


# ---------------------------------------------------------------------------------------------
# Buckets
# ---------------------------------------------------------------------------------------------


@every_setting
def test_ladder(setting):
    ladder = ladder_of(setting)
    edges, room = ladder.rungs[:, EDGE], ladder.rungs[:, ROOM]
    n = len(edges)
    assert ladder.rungs.shape == (n, 4)
    assert edges[0] == 0.0
    assert (np.diff(edges) >= 0).all()
    if setting.grid_step:  # 10 ** (-0.06 j), j = 0..500
        assert n == 501
        expected = 10.0 ** (-0.06 * np.arange(n))
    else:
        expected = np.exp(-0.01 * np.arange(n))
        assert expected[-1] * 2.0**64 <= setting.alpha * (1 + 1e-9)
    np.testing.assert_allclose(room, setting.alpha / expected, rtol=1e-10)
    below = expected <= largest_pvalue(setting)
    np.testing.assert_allclose(
        np.exp(log_pvalue_of_evidence(edges[below], setting)[1:]),
        expected[below][1:],
        rtol=1e-6,  # edges of the grid are lowered by what rounding may take
    )


@every_setting
def test_what_is_remembered_while_a_bucket_is_the_lowest(setting):
    rungs = ladder_of(setting).rungs
    edges, keep, store = rungs[:, EDGE], rungs[:, KEEP_FROM], rungs[:, STORE_FROM]
    # Values: from the lower edge on, with a margin where they decide about the threshold.
    margin = 0.0 if setting.grid_step else MARGIN
    np.testing.assert_allclose(store, np.maximum(edges - margin, 0.0), rtol=1e-12)
    # P-values: twice that of the edge, and a little more.
    log_p = np.log(setting.alpha / rungs[:, ROOM])
    assert pytest.approx(math.log(2)) == LOG_SAFETY
    doubled = np.minimum(log_p + math.log(2), 0.0)
    assert (keep <= evidence_of_log_pvalue(doubled, setting)).all()
    far = keep > 0
    np.testing.assert_allclose(
        log_pvalue_of_evidence(keep[far], setting), doubled[far], rtol=1e-6, atol=1e-6
    )
    assert far[-1]
    assert (np.diff(keep) >= 0).all()


def right_bucket(edges, value):
    return max(i for i, edge in enumerate(edges) if edge <= value)


def look_up(ladder, value):
    cell = min(int(value * scale_of(ladder)), len(ladder.guide) - 1)
    return int(ladder.guide[cell])


def evidences(ladder):
    """Anywhere, on an edge, and the next number below and above an edge."""
    edges = ladder.rungs[:, EDGE].tolist()
    return st.one_of(
        st.floats(0.0, 1.5 * edges[-1]),
        st.floats(0.0, 1.0),
        st.tuples(st.sampled_from(edges), st.sampled_from([-math.inf, 0.0, math.inf])).map(
            lambda pair: max(0.0, math.nextafter(pair[0], pair[1]) if pair[1] else pair[0])
        ),
    )


@every_setting
@given(st.data())
def test_the_guide_is_never_above_the_right_bucket(setting, data):
    ladder = ladder_of(setting)
    edges = ladder.rungs[:, EDGE].tolist()
    for value in data.draw(st.lists(evidences(ladder), min_size=20, max_size=20)):
        assert 0 <= look_up(ladder, value) <= right_bucket(edges, value)


@every_setting
def test_the_guide_is_close(setting):
    # Where edges lie dense (one-sided asymptotic tests near p = 1/2) it takes longer: rarely.
    ladder = ladder_of(setting)
    values = np.random.default_rng(0).uniform(0.0, ladder.rungs[-1, EDGE], 2000)
    right = np.searchsorted(ladder.rungs[:, EDGE], values, side="right") - 1
    steps = right - [look_up(ladder, value) for value in values]
    assert steps.min() >= 0
    assert np.mean(steps) < 3


def test_guide_and_scale_by_hand():
    ladder = build_ladder(SearchSettings(grid_step=10.0, alpha=0.5))
    assert len(ladder.rungs) == 4  # p = 1, 1e-10, 1e-20, 1e-30
    n_cells = len(ladder.guide) - 1
    assert scale_of(ladder) == pytest.approx(n_cells / math.log(1e30))
    thirds = 3 * np.arange(n_cells + 1) / n_cells  # where a cell starts, in buckets
    away = np.abs(thirds - np.round(thirds)) > 1.5 / n_cells * 3
    np.testing.assert_array_equal(ladder.guide[away], np.floor(thirds[away]))
    assert ladder.guide[0] == 0
    assert ladder.guide[-1] == 2  # one cell lower, against rounding


# ---------------------------------------------------------------------------------------------
# Counting and climbing
# ---------------------------------------------------------------------------------------------


class Counter:
    """What a worker has of the threshold, and the kernels that move it."""

    def __init__(self, ladder, setting, *, purpose=COUNT, level=None, n_values=100):
        self.ladder = ladder
        self.state = np.zeros(N_STATE, dtype=np.int64)
        self.marks = np.zeros(MOST + 1)
        self.counts = np.zeros((len(ladder.rungs), 2), dtype=np.int64)
        self.by_ones = np.full((1, 2), np.inf)
        self.values = np.full(n_values, np.nan)
        level = first_level(ladder, setting) if level is None else level
        self.state[PURPOSE] = purpose
        self.state[LEVEL] = self.state[HIGHEST_BUCKET] = level
        self.state[GRID] = setting.grid_step is not None
        self.marks[WINDOW], self.marks[SCALE] = math.inf, scale_of(ladder)
        self.set_marks()

    def set_marks(self):
        counting.set_marks(
            state=self.state, marks=self.marks, rungs=self.ladder.rungs, by_ones=self.by_ones
        )

    def count(self, evidence):
        """Do what the search does with a hypothesis; say whether it was counted."""
        if evidence < self.marks[STORE]:
            return False
        counting.count_hypothesis(
            evidence=float(evidence),
            state=self.state,
            marks=self.marks,
            rungs=self.ladder.rungs,
            guide=self.ladder.guide,
            counts=self.counts,
            by_ones=self.by_ones,
            values=self.values,
        )
        return True

    def raise_threshold(self):
        counting.raise_threshold(
            state=self.state,
            marks=self.marks,
            rungs=self.ladder.rungs,
            counts=self.counts,
            by_ones=self.by_ones,
        )

    def exchange(self, shared):
        counting.exchange(
            state=self.state,
            marks=self.marks,
            rungs=self.ladder.rungs,
            counts=self.counts,
            by_ones=self.by_ones,
            shared=shared,
        )

    @property
    def level(self):
        return int(self.state[LEVEL])

    def assert_consistent(self):
        rungs, level = self.ladder.rungs, self.level
        assert self.state[ALIVE] == self.counts[level:, COUNTS].sum()
        assert self.marks[CUT] == rungs[level, EDGE]
        assert self.marks[STORE] == rungs[level, STORE_FROM]
        assert self.marks[KEEP] == rungs[level, KEEP_FROM]
        assert self.marks[PRUNE] == lowered(rungs[level, STORE_FROM])
        used = np.flatnonzero(self.counts[:, COUNTS])
        assert self.state[HIGHEST_BUCKET] >= used.max(initial=0)


def test_lowered_allows_for_rounding_and_no_more():
    for edge in (0.0, 1e-3, 1.0, 57.3, 1e4):
        assert edge - 2e-9 * max(1.0, edge) <= lowered(edge) < edge


@every_setting
@given(st.data())
def test_a_hypothesis_is_counted_in_the_last_bucket_whose_edge_is_not_above(setting, data):
    ladder = ladder_of(setting)
    edges = ladder.rungs[:, EDGE].tolist()
    values = data.draw(st.lists(evidences(ladder), min_size=1, max_size=30))
    counter = Counter(ladder, setting, purpose=COLLECT, level=0)
    expected = np.zeros(len(edges), dtype=np.int64)
    for value in values:
        assert counter.count(value)
        expected[right_bucket(edges, value)] += 1
    np.testing.assert_array_equal(counter.counts[:, COUNTS], expected)
    assert counter.state[HIGHEST_BUCKET] == np.flatnonzero(expected).max()
    assert counter.state[N_VALUES] == len(values)
    assert counter.values[: len(values)].tolist() == values
    assert counter.level == 0  # the pass that collects does not climb
    counter.assert_consistent()


def test_values_are_kept_below_the_window_only():
    setting = SearchSettings()
    ladder = ladder_of(setting)
    counter = Counter(ladder, setting, purpose=COLLECT, level=500)  # p = exp(-5)
    counter.marks[WINDOW] = 6.0
    for value in (4.9, 5.5, 6.0, 7.0, 5.9, 5.0 - MARGIN / 2):
        counter.count(value)
    assert counter.values[: counter.state[N_VALUES]].tolist() == [5.5, 5.9, 5.0 - MARGIN / 2]
    # Just below the edge a value may still decide, but it belongs to a bucket that is dead.
    assert counter.state[ALIVE] == counter.counts[:, COUNTS].sum() == 4


@given(st.lists(st.floats(0.0, 60.0), min_size=2, max_size=40), st.integers(1, 30))
def test_too_few_rows_for_the_threshold(limits, level):
    setting = SearchSettings(grid_step=0.5)
    counter = Counter(ladder_of(setting), setting)
    counter.by_ones = np.zeros((len(limits), 2))
    counter.by_ones[:, LIMIT] = np.sort(limits)
    counter.state[LEVEL] = level
    counter.set_marks()
    prune = counter.marks[PRUNE]
    assert prune < 0.5 * level * math.log(10)
    reach = [s for s, limit in enumerate(sorted(limits)) if limit >= prune]
    assert counter.state[LEAST] == (reach[0] if reach else len(limits))
    counter.state[LEAST] = 7 + len(limits)  # what min_support asks for stays
    counter.set_marks()
    assert counter.state[LEAST] == 7 + len(limits)


def is_dead(room, counts, bucket, grid):
    """Say whether no threshold in a bucket can be feasible, by the definition."""
    beyond = sum(counts[bucket + 1 :])
    if grid:
        return beyond + counts[bucket] > room[bucket]
    return beyond + 1 > room[bucket + 1]


@given(st.lists(st.integers(0, 30), min_size=31, max_size=31), st.booleans(), st.integers(0, 30))
def test_climbing_stops_at_the_first_bucket_that_is_alive(counts, grid, start):
    setting = SearchSettings(grid_step=0.5 if grid else None)
    rungs = np.zeros((31, 4))
    rungs[:, EDGE] = rungs[:, STORE_FROM] = 0.2 * np.arange(31)
    rungs[:, ROOM] = np.exp(rungs[:, EDGE])
    ladder = Ladder(rungs, np.zeros(3, dtype=np.int64))
    alive = (b for b in range(start, 30) if not is_dead(rungs[:, ROOM], counts, b, grid))
    expected = next(alive, 30)
    assert climbed(ladder, np.array(counts), start, setting) == (expected, sum(counts[expected:]))
    counter = Counter(ladder, setting, level=start)
    counter.counts[:, COUNTS] = counts
    counter.state[ALIVE] = sum(counts[start:])
    counter.state[HIGHEST_BUCKET] = 30
    counter.raise_threshold()
    assert counter.level == expected
    counter.assert_consistent()


@every_setting
def test_what_is_feasible_before_anything_is_counted(setting):
    ladder = ladder_of(setting)
    level = first_level(ladder, setting)
    p = setting.alpha / ladder.rungs[:, ROOM]
    if setting.grid_step:
        assert level == 1  # the original starts at j = 1: nothing is counted, all are feasible
        return
    # Nothing above alpha can be testable: those buckets are dead.
    assert p[level] > setting.alpha * (1 - 0.02)
    assert level == 0 or p[level + 1] <= setting.alpha * (1 + 1e-9)


def near_grid(p, step):
    steps = -math.log10(p) / step
    return abs(steps - round(steps)) < 1e-6


def count_all(evidence, setting):
    """Count in the given order, pruning what is below the ladder, as the search does."""
    counter = Counter(ladder_of(setting), setting, n_values=len(evidence) + 1)
    for value in evidence:
        counter.count(value)
    counter.assert_consistent()
    return counter


def solved(counter, evidence, setting):
    """Solve the critical bucket, whose values are those that the counter has kept."""
    edges, level = counter.ladder.rungs[:, EDGE], counter.level
    kept = np.sort(counter.values[: counter.state[N_VALUES]])
    start, end = edges[level] - MARGIN, edges[level + 1] + MARGIN
    critical = kept[(kept >= start) & (kept < end)]
    np.testing.assert_array_equal(
        critical, np.sort(evidence[(evidence >= start) & (evidence < end)])
    )
    beyond = evidence[evidence >= end]
    return solve_critical(critical, len(beyond), float(beyond.min(initial=math.inf)), setting)


@settings(max_examples=150 if JIT_ENABLED else 60)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step is None]), st.randoms())
def test_counting_on_line_and_solving_the_critical_bucket(data, setting, random):
    # What the search does, without a search: count in any order, prune what is below the ladder,
    # then solve the one bucket that is left.
    values = data.draw(minima(setting))
    order = list(values)
    random.shuffle(order)
    evidence = evidence_of(order, setting)
    counter = count_all(evidence, setting)
    # Every live bucket has been counted in full.
    edges = [*counter.ladder.rungs[:, EDGE].tolist(), math.inf]
    for bucket in range(counter.level, len(edges) - 1):
        inside = (evidence >= edges[bucket]) & (evidence < edges[bucket + 1])
        assert counter.counts[bucket, COUNTS] == inside.sum()
    found = solved(counter, evidence, setting)
    delta, m = naive.tarone_exact(values, setting.alpha)
    assert found.n_testable == m
    if m:
        assert math.exp(found.log_threshold) == pytest.approx(delta, rel=1e-8)


@settings(max_examples=100 if JIT_ENABLED else 50)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step]))
def test_grid_threshold_is_that_of_the_original(data, setting):
    values = [p for p in data.draw(minima(setting)) if not near_grid(p, setting.grid_step)]
    counter = count_all(evidence_of(values, setting), setting)
    delta, m = naive.tarone_grid(values, setting.alpha, setting.grid_step)
    room = counter.ladder.rungs[counter.level, ROOM]
    assert setting.alpha / room == pytest.approx(delta, rel=1e-9)
    assert counter.state[ALIVE] == m


@settings(max_examples=100 if JIT_ENABLED else 40)
@given(st.data(), st.sampled_from(SETTINGS), st.integers(1, 4))
def test_workers_that_exchange_their_counts(data, setting, n_workers):
    # Any split of the hypotheses, exchanges at any time: nobody is ever ahead of all counts
    # together, and after a last round nobody is behind them. (With a grid a worker may stay behind:
    # it is not told of what was counted in a bucket that was dead by then.)
    values = evidence_of(data.draw(minima(setting)), setting)
    owners = data.draw(st.lists(st.integers(0, n_workers - 1), min_size=len(values)))
    talks = data.draw(st.lists(st.booleans(), min_size=len(values)))
    ladder = ladder_of(setting)
    alone = Counter(ladder, setting, n_values=len(values) + 1)
    workers = [Counter(ladder, setting, n_values=len(values) + 1) for _ in range(n_workers)]
    shared = np.zeros(len(ladder.rungs), dtype=np.int64)
    for value, owner, talk in zip(values, owners, talks, strict=False):
        alone.count(value)
        workers[owner].count(value)
        if talk:
            workers[owner].exchange(shared)
        workers[owner].assert_consistent()
    for _ in range(2):  # the first to talk hears of the others in the second round
        for worker in workers:
            worker.exchange(shared)
            worker.assert_consistent()
    final, _ = climbed(ladder, alone.counts[:, COUNTS], alone.level, setting)
    levels = [worker.level for worker in workers]
    assert max(levels) <= final
    if setting.grid_step is None:
        assert levels == [final] * n_workers
    total = sum(worker.counts[final:, COUNTS] for worker in workers)
    np.testing.assert_array_equal(total, alone.counts[final:, COUNTS])
    np.testing.assert_array_equal(shared[final:], total)
    for worker in workers:
        told = worker.counts[final:]
        np.testing.assert_array_equal(told[:, PUBLISHED], told[:, COUNTS])


def test_a_worker_moves_by_what_the_others_have_counted():
    # Alone each could still find a threshold near alpha / 4, among its own; together they are too
    # many for anything above p = 0.01.
    setting = SearchSettings(alpha=0.05)
    ladder = ladder_of(setting)
    shared = np.zeros(len(ladder.rungs), dtype=np.int64)
    one, two = Counter(ladder, setting), Counter(ladder, setting)
    for counter in (one, two):
        for value in evidence_of([0.01, 0.01, 1e-9], setting):
            counter.count(value)
    alone = one.level
    assert one.level == two.level
    p = setting.alpha / ladder.rungs[:, ROOM]
    assert p[alone] == pytest.approx(0.05 / 4, rel=0.02)  # three, and the value itself
    one.exchange(shared)
    assert one.level == alone  # nobody else has said anything yet
    two.exchange(shared)
    assert shared.sum() == 6
    assert p[two.level] == pytest.approx(0.01, rel=0.02)
    one.exchange(shared)
    assert one.level == two.level
    one.exchange(shared)
    assert shared.sum() == 6  # nothing is told twice


# ---------------------------------------------------------------------------------------------
# The critical bucket
# ---------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step is None]))
def test_exact_threshold_of_everything_in_one_bucket(data, setting):
    values = data.draw(minima(setting))
    evidence = evidence_of(values, setting)
    found = solve_critical(evidence, 0, math.inf, setting)
    delta, m = naive.tarone_exact(values, setting.alpha)
    assert found.n_testable == m
    if m == 0:
        assert math.isnan(found.log_threshold)
        assert found.evidence == math.inf
        return
    assert math.exp(found.log_threshold) == pytest.approx(delta, rel=1e-8)
    assert sum(evidence >= found.evidence) == m
    if values:
        selection = select(np.array(values), tarone(setting.alpha))
        assert selection.n_kept == m


@pytest.mark.parametrize(
    ("values", "alpha", "expected"),
    [
        ([], 0.05, (math.nan, 0)),
        ([0.06], 0.05, (math.nan, 0)),
        ([0.05], 0.05, (0.05, 1)),  # equality
        ([0.025, 0.025], 0.05, (0.025, 2)),
        ([0.025, 0.025, 0.025], 0.05, (math.nan, 0)),  # the third takes the others along
        ([0.01, 0.025, 0.025, 0.025], 0.05, (0.01, 1)),
        ([0.05 / 3] * 3, 0.05, (0.05 / 3, 3)),  # equality up to rounding
        ([0.001, 0.03], 0.05, (0.001, 1)),
        ([0.001, 0.025], 0.05, (0.025, 2)),
        ([0.005] * 10 + [0.0049], 0.05, (0.0049, 1)),
    ],
)
def test_threshold_by_hand(values, alpha, expected):
    setting = SearchSettings(alpha=alpha)
    found = solve_critical(evidence_of(values, setting), 0, math.inf, setting)
    assert found.n_testable == expected[1]
    if expected[1]:
        assert math.exp(found.log_threshold) == pytest.approx(expected[0], rel=1e-12)
        assert found.evidence == pytest.approx(-math.log(expected[0]), rel=1e-12)
    else:
        assert math.isnan(found.log_threshold)
        assert found.evidence == math.inf


def test_what_lies_beyond_the_bucket_is_testable_if_nothing_in_it_is():
    setting = SearchSettings(alpha=0.05)
    evidence = -np.log([0.02, 0.02, 0.02])
    found = solve_critical(evidence, 2, -math.log(0.01), setting)
    assert found == (2, pytest.approx(math.log(0.01)), -math.log(0.01))
    # Two beyond and one of 1 / 60 in the bucket: 3 / 60 = alpha.
    found = solve_critical(-np.log([1 / 60]), 2, -math.log(0.01), setting)
    assert found.n_testable == 3


def test_values_that_differ_by_rounding_are_one():
    setting = SearchSettings(alpha=0.05)
    tied = 0.025 * (1 + 1e-15 * np.arange(-2, 3))[:2]
    assert solve_critical(-np.log(tied), 0, math.inf, setting).n_testable == 2
    # As a group of three they fail together, whichever of them is a hair smaller.
    tied = 0.025 * (1 + TIE_TOLERANCE * np.array([-0.5, 0.0, 0.5]))
    assert solve_critical(-np.log(tied), 0, math.inf, setting).n_testable == 0
    apart = 0.025 * (1 + 1e-6 * np.array([-1.0, -0.5, 0.5]))
    assert solve_critical(-np.log(apart), 0, math.inf, setting).n_testable == 2
