"""A million items, a million rows, a thousand strata: right answers in bounded memory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array

from sigmine.bitset import count_strata
from sigmine.memory import estimate_memory
from sigmine.problem import build_problem
from sigmine.search import search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import encode_strata

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MILLION = 1_000_000


def roles(n_rows, n_strata, rng):
    strata = rng.permutation(np.arange(n_rows) % n_strata)
    return rng.random(n_rows) < np.linspace(0.25, 0.75, n_strata)[strata], strata


def packed(matrix, y, strata):
    """Pack and check the promise: twice the packed data, the input beside."""
    names = np.array([f"x{j}" for j in range(matrix.shape[1])], dtype=object)
    encoded = encode_strata(strata, len(y))
    tracemalloc.start()
    try:
        problem = build_problem(matrix, y, encoded, item_names=names)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    full = matrix.shape[1] * -(-len(y) // 64) * 8
    # Rows have an order and a stratum, items that are left out a name and a reason.
    assert peak < 2 * full + 40 * len(y) + 120 * len(problem.dropped) + 12 * 2**20
    assert peak < estimate_memory(len(y), matrix.shape[1], encoded.n_levels).total
    return problem


def random_rows(n_rows, n_items, density, rng):
    matrix = np.empty((n_rows, n_items), dtype=np.bool_)
    step = max(1, 5 * MILLION // n_items)
    for start in range(0, n_rows, step):
        part = matrix[start : start + step]
        part[:] = rng.random(part.shape, dtype=np.float32) < density
    return matrix


@pytest.mark.parametrize("density", [0.001, 0.05, 0.9])
def test_a_million_items(density):
    rng = np.random.default_rng(1)
    n_rows = 1000
    if density > 0.5:
        matrix = random_rows(n_rows, MILLION, density, rng)
        supports = matrix.sum(axis=0)
    else:
        # Repetitions within a row are merged: a little less dense than asked for.
        size = int(density * MILLION)
        rows = [np.unique(rng.integers(0, MILLION, size, np.int32)) for _ in range(n_rows)]
        indices = np.concatenate(rows)
        indptr = np.concatenate([[0], np.cumsum(list(map(len, rows)))])
        del rows
        matrix = csr_array((np.ones(len(indices), bool), indices, indptr), (n_rows, MILLION))
        supports = np.bincount(indices, minlength=MILLION)
    y, strata = roles(n_rows, 4, rng)
    problem = packed(matrix, y, strata)
    kept = (supports > 0) & (supports < n_rows)
    assert problem.item_names == tuple(f"x{j}" for j in np.flatnonzero(kept))
    np.testing.assert_array_equal(
        np.bitwise_count(problem.table.columns).sum(axis=1, dtype=np.int64), supports[kept]
    )
    if density < 0.01:
        outcome = search_patterns(problem, SearchSettings())
        assert outcome.n_testable > 0
        assert outcome.corrected_threshold == 0.05 / outcome.n_testable


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n_strata", [1, 1000])
def test_a_million_rows(density, n_strata):
    rng = np.random.default_rng(2)
    matrix = random_rows(MILLION, 100, density, rng)
    y, strata = roles(MILLION, n_strata, rng)
    problem = packed(matrix, y, strata)
    table = problem.table
    counts = count_strata(table.columns, table.segments, table.masks, table.n_strata)
    expected = [np.bincount(strata[column], minlength=n_strata) for column in matrix[:, :5].T]
    np.testing.assert_array_equal(counts[:5], expected)
    # What numba needs to compile or to load kernels is not the search's.
    small = packed(random_rows(1000, 10, 0.5, rng), *roles(1000, 2, rng))
    search_patterns(small, SearchSettings(max_length=1))
    tracemalloc.start()
    try:
        outcome = search_patterns(problem, SearchSettings(max_length=1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < estimate_memory(MILLION, 100, n_strata, packed=True).total
    if n_strata == 1:  # a copy of the columns, and buffers that are there at any size
        assert peak < table.columns.nbytes + 2**24
    assert outcome.n_testable == 100
    assert not math.isnan(outcome.corrected_threshold)
