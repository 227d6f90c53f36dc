"""From the path of a pattern to its rows: carriers and cases by stratum, and the closed itemset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit
from ..bitset import BitTable, count_segments, is_subset

__all__ = ["describe_patterns"]


@njit
def _describe(
    columns: NDArray[np.uint64],
    info: NDArray[np.int64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    paths: NDArray[np.int64],
    ends: NDArray[np.int64],
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
    closure_ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Fill in the counts of every pattern; return all closures, one behind the other."""
    n_words = columns.shape[1]
    rows = np.empty((2, n_words), dtype=np.uint64)  # carriers; carriers that are cases
    closures = np.empty(max(16, 4 * paths.shape[0]), dtype=np.int64)
    top = 0
    begin = 0
    for i in range(ends.shape[0]):
        for w in range(n_words):
            word = columns[paths[begin], w]
            for p in range(begin + 1, ends[i]):
                word &= columns[paths[p], w]
            rows[0, w] = word
            rows[1, w] = word & cases[w]
        begin = ends[i]
        total = count_segments(rows, 0, segments, masks, support[i])
        count_segments(rows, 1, segments, masks, support_cases[i])
        if top + columns.shape[0] > closures.shape[0]:
            larger = np.empty(2 * closures.shape[0] + columns.shape[0], dtype=np.int64)
            for j in range(top):
                larger[j] = closures[j]
            closures = larger
        for j in range(columns.shape[0]):
            if info[j, 1] < total:  # supports fall: nothing behind can cover the rows
                break
            if is_subset(rows, 0, columns, j):
                closures[top] = j
                top += 1
        closure_ends[i] = top
    return closures[:top]


def describe_patterns(
    columns: NDArray[np.uint64],
    info: NDArray[np.int64],
    table: BitTable,
    paths: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count carriers and cases of patterns by stratum and find their closures.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_columns, n_words)
        By falling support.
    info : ndarray of int64, shape (n_columns, 2)
        Their numbers and their ones.
    table : BitTable
        Cases and strata.
    paths : ndarray of int64, shape (total length,)
        Columns of one generator of every pattern, one behind the other.
    ends : ndarray of int64, shape (n_patterns,)
        Where each ends.

    Returns
    -------
    support, support_cases : ndarray of int64, shape (n_patterns, n_strata)
    closures : ndarray of int64, shape (total length,)
        Columns that hold in every row of the pattern, one pattern behind the other.
    closure_ends : ndarray of int64, shape (n_patterns,)
    """
    shape = (len(ends), table.n_strata)
    support = np.zeros(shape, dtype=np.int64)
    support_cases = np.zeros(shape, dtype=np.int64)
    closure_ends = np.zeros(len(ends), dtype=np.int64)
    closures = np.zeros(0, dtype=np.int64)
    if len(ends):
        closures = _describe(
            columns,
            info,
            table.cases,
            table.segments,
            table.masks,
            paths,
            ends,
            support,
            support_cases,
            closure_ends,
        )
    return support, support_cases, closures, closure_ends
