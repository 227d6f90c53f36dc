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
    supports: NDArray[np.int64],
    cases: NDArray[np.uint64],
    segment_word: NDArray[np.int64],
    segment_mask: NDArray[np.uint64],
    segment_stratum: NDArray[np.int64],
    paths: NDArray[np.int64],
    ends: NDArray[np.int64],
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
    closure_ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Fill in the counts of every pattern; return all closures, one behind the other."""
    n_words = columns.shape[1]
    rows = np.empty(n_words, dtype=np.uint64)
    rows_of_cases = np.empty(n_words, dtype=np.uint64)
    closures = np.empty(max(16, 4 * paths.shape[0]), dtype=np.int64)
    top = 0
    begin = 0
    for i in range(ends.shape[0]):
        rows[:] = columns[paths[begin]]
        for p in range(begin + 1, ends[i]):
            column = columns[paths[p]]
            for w in range(n_words):
                rows[w] &= column[w]
        begin = ends[i]
        for w in range(n_words):
            rows_of_cases[w] = rows[w] & cases[w]
        total = count_segments(rows, segment_word, segment_mask, segment_stratum, support[i])
        count_segments(
            rows_of_cases, segment_word, segment_mask, segment_stratum, support_cases[i]
        )
        if top + columns.shape[0] > closures.shape[0]:
            larger = np.empty(2 * closures.shape[0] + columns.shape[0], dtype=np.int64)
            larger[:top] = closures[:top]
            closures = larger
        for j in range(columns.shape[0]):
            if supports[j] < total:  # supports fall: nothing behind can cover the rows
                break
            if is_subset(rows, columns[j]):
                closures[top] = j
                top += 1
        closure_ends[i] = top
    return closures[:top]


def describe_patterns(
    columns: NDArray[np.uint64],
    supports: NDArray[np.int64],
    table: BitTable,
    paths: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count carriers and cases of patterns by stratum and find their closures.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_columns, n_words)
        By falling support.
    supports : ndarray of int64, shape (n_columns,)
        Their ones.
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
            supports,
            table.cases,
            table.segment_word,
            table.segment_mask,
            table.segment_stratum,
            paths,
            ends,
            support,
            support_cases,
            closure_ends,
        )
    return support, support_cases, closures, closure_ends
