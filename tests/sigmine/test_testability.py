"""The ladder of buckets and the exact threshold, against Tarone's rule on the whole list."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmine.association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from sigmine.ranking import select, tarone
from sigmine.search.itemsets import lowered
from sigmine.search.layout import ALIVE, GRID, LEVEL, Ladder
from sigmine.search.testability import (
    TIE_TOLERANCE,
    bucket_of,
    build_ladder,
    climb,
    climbed,
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
    ladder = build_ladder(setting)
    n = len(ladder.edges)
    assert ladder.room.shape == ladder.counts.shape == (n,)
    assert ladder.edges[0] == 0.0
    assert (np.diff(ladder.edges) >= 0).all()
    assert not ladder.counts.any()
    if setting.grid_step:  # 10 ** (-0.06 j), j = 0..500
        assert n == 501
        expected = 10.0 ** (-0.06 * np.arange(n))
        assert ladder.state.tolist() == [1, 0, 1]  # the original starts at j = 1
    else:
        expected = np.exp(-0.01 * np.arange(n))
        assert expected[-1] * 2.0**64 <= setting.alpha * (1 + 1e-9)
        # Nothing above alpha can be testable: those buckets are dead before anything is counted.
        level = int(ladder.state[LEVEL])
        assert expected[level] > setting.alpha * (1 - 0.02)
        assert level == 0 or expected[level + 1] <= setting.alpha * (1 + 1e-9)
        assert ladder.state[ALIVE] == ladder.state[GRID] == 0
    np.testing.assert_allclose(ladder.room, setting.alpha / expected, rtol=1e-10)
    top = largest_pvalue(setting)
    below = expected <= top
    np.testing.assert_allclose(
        np.exp(log_pvalue_of_evidence(ladder.edges[below], setting)[1:]),
        expected[below][1:],
        rtol=1e-6,  # edges of the grid are lowered by what rounding may take
    )


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=60),
    st.one_of(st.floats(0.0, 120.0), st.integers(0, 59)),
    st.integers(0, 59),
)
def test_bucket_is_the_last_edge_not_above(edges, value, lowest):
    edges = np.array([0.0, *sorted(edges)])
    if isinstance(value, int):  # on an edge
        value = float(edges[value % len(edges)])
    lowest = min(lowest, max(i for i, edge in enumerate(edges) if edge <= value))
    expected = max(i for i, edge in enumerate(edges) if edge <= value)
    assert bucket_of(edges, value, lowest) == expected


def test_bucket_from_any_lowest_edge():
    edges = np.arange(200) * 0.5
    for value in (0.0, 0.49, 0.5, 17.3, 99.5, 1e9):
        expected = min(int(value / 0.5), 199)
        for lowest in range(expected + 1):
            assert bucket_of(edges, value, lowest) == expected


def is_dead(ladder, bucket, grid):
    """Say whether no threshold in a bucket can be feasible, by the definition."""
    beyond = int(ladder.counts[bucket + 1 :].sum())
    if grid:
        return beyond + int(ladder.counts[bucket]) > ladder.room[bucket]
    return beyond + 1 > ladder.room[bucket + 1]


@given(st.lists(st.integers(0, 30), min_size=31, max_size=31), st.booleans())
def test_climb_stops_at_the_first_bucket_that_is_alive(counts, grid):
    room = np.exp(0.2 * np.arange(31))
    ladder = Ladder(
        edges=0.2 * np.arange(31),
        room=room,
        counts=np.array(counts, dtype=np.int64),
        state=np.array([0, sum(counts), int(grid)], dtype=np.int64),
    )
    expected = next((b for b in range(30) if not is_dead(ladder, b, grid)), 30)
    assert climbed(room, ladder.counts, 0, sum(counts), int(grid)) == (
        expected,
        sum(counts[expected:]),
    )
    climb(ladder)
    assert ladder.state.tolist() == [expected, sum(counts[expected:]), int(grid)]


# ---------------------------------------------------------------------------------------------
# The critical bucket
# ---------------------------------------------------------------------------------------------


def twin_threshold(values, alpha):
    return naive.tarone_exact(values, alpha)


@settings(max_examples=150)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step is None]))
def test_exact_threshold_of_everything_in_one_bucket(data, setting):
    values = data.draw(minima(setting))
    evidence = evidence_of(values, setting)
    found = solve_critical(evidence, 0, math.inf, setting)
    delta, m = twin_threshold(values, setting.alpha)
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


@settings(max_examples=150)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step is None]), st.randoms())
def test_counting_on_line_and_solving_the_critical_bucket(data, setting, random):
    # What the search does, without a search: count in any order, prune what is below the ladder,
    # then solve the one bucket that is left.
    values = data.draw(minima(setting))
    order = list(values)
    random.shuffle(order)
    evidence = evidence_of(order, setting)
    ladder = build_ladder(setting)
    for value in evidence:
        level = int(ladder.state[LEVEL])
        if value >= ladder.edges[level]:
            bucket = bucket_of(ladder.edges, float(value), level)
            ladder.counts[bucket] += 1
            ladder.state[ALIVE] += 1
            climb(ladder)
    level = int(ladder.state[LEVEL])
    # Every live bucket has been counted in full.
    for bucket in range(level, len(ladder.edges)):
        upper = ladder.edges[bucket + 1] if bucket + 1 < len(ladder.edges) else math.inf
        inside = (evidence >= ladder.edges[bucket]) & (evidence < upper)
        assert ladder.counts[bucket] == inside.sum()
    start = ladder.edges[level] - 1e-6
    end = ladder.edges[level + 1] + 1e-6
    critical = evidence[(evidence >= start) & (evidence < end)]
    beyond = evidence[evidence >= end]
    found = solve_critical(critical, len(beyond), float(beyond.min(initial=math.inf)), setting)
    delta, m = twin_threshold(values, setting.alpha)
    assert found.n_testable == m
    if m:
        assert math.exp(found.log_threshold) == pytest.approx(delta, rel=1e-8)


@settings(max_examples=100)
@given(st.data(), st.sampled_from([s for s in SETTINGS if s.grid_step]))
def test_grid_threshold_is_that_of_the_original(data, setting):
    values = [p for p in data.draw(minima(setting)) if not near_grid(p, setting.grid_step)]
    evidence = evidence_of(values, setting)
    ladder = build_ladder(setting)
    for value in evidence:
        level = int(ladder.state[LEVEL])
        if value >= ladder.edges[level]:
            ladder.counts[bucket_of(ladder.edges, float(value), level)] += 1
            ladder.state[ALIVE] += 1
            climb(ladder)
    delta, m = naive.tarone_grid(values, setting.alpha, setting.grid_step)
    level = int(ladder.state[LEVEL])
    assert setting.alpha / ladder.room[level] == pytest.approx(delta, rel=1e-9)
    assert ladder.state[ALIVE] == ladder.counts[level:].sum() == m


def near_grid(p, step):
    steps = -math.log10(p) / step
    return abs(steps - round(steps)) < 1e-6


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


def test_lowered_allows_for_rounding_and_no_more():
    for edge in (0.0, 1e-3, 1.0, 57.3, 1e4):
        assert edge - 2e-9 * max(1.0, edge) <= lowered(edge) < edge
