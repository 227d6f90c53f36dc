"""Counts of given itemsets, and their shortest generators, against all subsets."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigmine import rowsets
from sigmine._jit import JIT_ENABLED
from sigmine.rowsets import (
    all_shortest_generators,
    count_itemsets,
    flatten,
    shortest_generators,
)
from tests.made_results import closure_of, make_problem

# Items in most rows, so that closures are large and generators long.
MATRICES = st.tuples(st.integers(2, 90), st.integers(1, 7)).flatmap(
    lambda shape: hnp.arrays(np.bool_, shape, elements=st.sampled_from([True, True, True, False]))
)


def by_brute_force(matrix, closure):
    """All shortest subsets of `closure` with the same rows."""
    rows = matrix[:, closure].all(axis=1)
    for size in range(1, len(closure) + 1):
        found = [
            list(items)
            for items in combinations(closure.tolist(), size)
            if (matrix[:, items].all(axis=1) == rows).all()
        ]
        if found:
            return found
    raise AssertionError


def packed(matrix):
    """A problem with one stratum in the order of the rows, constant columns left out."""
    y = np.zeros(len(matrix), dtype=bool)
    y[0] = True
    problem = make_problem(matrix, y)
    kept = matrix.any(axis=0) & ~matrix.all(axis=0)
    return problem, matrix[:, kept]


def closures_in(matrix):
    found = set()
    for size in range(1, matrix.shape[1] + 1):
        for items in combinations(range(matrix.shape[1]), size):
            rows = matrix[:, items].all(axis=1)
            found.add(tuple(np.flatnonzero(matrix[rows].all(axis=0)).tolist()))
    return [np.array(closure, dtype=np.int64) for closure in sorted(found)]


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_shortest_generators_are_the_first_of_all_shortest_subsets(matrix):
    problem, matrix = packed(matrix)
    if matrix.shape[1] == 0:
        return
    closures = closures_in(matrix)
    columns = problem.table.columns
    expected = [by_brute_force(matrix, closure) for closure in closures]
    for few in (0, rowsets._FEW):  # by the kernel; by Python
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rowsets, "_FEW", few)
            found = shortest_generators(columns, closures, closures)
        assert [items.tolist() for items in found] == [options[0] for options in expected]
    for closure, options in zip(closures, expected, strict=True):
        every = all_shortest_generators(columns, closure, len(matrix))
        assert [items.tolist() for items in every] == options


@settings(max_examples=30, deadline=None)
@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(matrix, random):
    order = list(range(len(matrix)))
    random.shuffle(order)
    answers = []
    for table in (matrix, matrix[order]):
        problem, kept = packed(table)
        closures = closures_in(kept) if kept.shape[1] else []
        found = shortest_generators(problem.table.columns, closures, closures)
        answers.append([items.tolist() for items in found])
    assert answers[0] == answers[1]


def test_long_closures_with_short_generators():
    # Every item lacks one row of its own, and the last item lacks them all.
    n_items = 40
    matrix = ~np.eye(130, n_items, dtype=bool)
    matrix[:n_items, -1] = False
    matrix[-1] = True
    problem = make_problem(matrix, np.arange(130) % 2 == 0)
    closure = np.arange(n_items)
    (found,) = shortest_generators(problem.table.columns, [closure], [closure])
    assert found.tolist() == [n_items - 1]


def test_a_pattern_beyond_the_limits_keeps_its_generator():
    # 80 items, each needed for one row of its own: more reasons than are collected.
    matrix = ~np.eye(200, 80, dtype=bool)
    problem = make_problem(matrix, np.arange(200) % 2 == 0)
    closure = np.arange(80)
    (found,) = shortest_generators(problem.table.columns, [closure], [closure[::-1]])
    assert found.tolist() == closure.tolist()


def test_the_kernel_and_python_find_the_same():
    # Long closures, with needed items and some that stand in for each other.
    rng = np.random.default_rng(11)
    matrix = rng.random((300, 14)) < 0.93
    matrix = np.concatenate([matrix, matrix[:, :3] & matrix[:, 3:6], matrix[:, :2]], axis=1)
    problem = make_problem(matrix, rng.random(300) < 0.5)
    columns = problem.table.columns
    closures = [
        closure_of(problem, rng.choice(len(columns), rng.integers(2, 9), replace=False))
        for _ in range(60 if JIT_ENABLED else 10)
    ]
    by_hand = shortest_generators(columns, closures, closures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowsets, "_FEW", 0)
        by_kernel = shortest_generators(columns, closures, closures)
    assert [items.tolist() for items in by_hand] == [items.tolist() for items in by_kernel]
    lengths = {(len(a), len(b)) for a, b in zip(closures, by_hand, strict=True)}
    assert max(a - b for a, b in lengths) >= 3


def test_hard_patterns_keep_what_is_known(monkeypatch):
    # Every row lacks three items of thirty: many hitting sets to try, and no item is needed.
    monkeypatch.setattr(rowsets, "_MAX_NODES", 50)
    rng = np.random.default_rng(4)
    matrix = np.ones((60, 30), dtype=bool)
    for row in matrix[1:]:
        row[rng.choice(30, 3, replace=False)] = False
    problem = make_problem(matrix, np.arange(60) % 2 == 0)
    closure = np.arange(30)
    (found,) = shortest_generators(problem.table.columns, [closure], [closure[::-1]])
    assert found.tolist() == closure.tolist()


def test_limit_of_the_list():
    matrix = np.ones((4, 9), dtype=bool)
    matrix[0] = False  # nine equal columns
    problem = make_problem(matrix, [True, False, True, False])
    found = all_shortest_generators(problem.table.columns, np.arange(9), 4, limit=3)
    assert [items.tolist() for items in found] == [[0], [1], [2]]


@pytest.mark.parametrize("n_rows", [5, 64, 65, 200])
def test_counts_by_stratum(n_rows):
    rng = np.random.default_rng(n_rows)
    matrix = rng.random((n_rows, 5)) < 0.6
    strata, y = rng.integers(0, 2, n_rows), rng.random(n_rows) < 0.5
    strata[:4], y[:4] = [0, 0, 1, 1], [True, False, True, False]
    matrix[0], matrix[1] = True, False  # no constant column
    problem = make_problem(matrix, y, strata)
    itemsets = [(0,), (1, 3), (0, 1, 2, 3, 4), ()]
    support, cases = count_itemsets(problem.table, [np.array(i, dtype=np.int64) for i in itemsets])
    for i, items in enumerate(itemsets):
        rows = matrix[:, list(items)].all(axis=1)
        assert support[i].tolist() == [int((rows & (strata == k)).sum()) for k in (0, 1)]
        assert cases[i].tolist() == [int((rows & y & (strata == k)).sum()) for k in (0, 1)]


def test_counts_of_many_itemsets_are_taken_in_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    problem = make_problem(rng.random((150, 6)) < 0.5, rng.random(150) < 0.5, np.arange(150) % 3)
    itemsets = [rng.choice(6, rng.integers(0, 4), replace=False) for _ in range(50)]
    at_once = count_itemsets(problem.table, itemsets)
    monkeypatch.setattr(rowsets, "_CELLS", 7)
    np.testing.assert_array_equal(count_itemsets(problem.table, itemsets), at_once)


def test_nothing_to_do():
    problem = make_problem([[1, 0], [0, 1]], [True, False])
    assert shortest_generators(problem.table.columns, [], []) == []
    assert count_itemsets(problem.table, [])[0].shape == (0, 1)
    items, offsets = flatten([np.array([2, 5]), np.array([1])])
    assert (items.tolist(), offsets.tolist()) == ([2, 5, 1], [0, 2, 3])
