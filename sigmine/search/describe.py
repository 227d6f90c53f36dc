"""The closed itemset of a row set, from a path that leads to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit
from ..bitset import is_subset, popcount
from .layout import ONES

__all__ = ["close_paths"]


@njit
def close_paths(
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    first: NDArray[np.int64],
    paths: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find all columns that hold in the rows of every path.

    Needed where the length is limited; otherwise the search meets them on its way.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        As in `BitTable`.
    root_cand : ndarray of int64, shape (n_columns, 3)
        As in `SearchData`: distinct columns, by falling support.
    first : ndarray of int64, shape (n_columns,)
        An item that has the rows of each.
    paths : ndarray of int64, shape (total length,)
        Columns of one generator of every pattern, one behind the other.
    ends : ndarray of int64, shape (n_patterns,)
        Where each ends.

    Returns
    -------
    closures : ndarray of int64, shape (total length,)
    closure_ends : ndarray of int64, shape (n_patterns,)
    """
    n_columns, n_words = first.shape[0], columns.shape[1]
    rows = np.empty((1, n_words), dtype=np.uint64)
    closures = np.empty(max(16, 4 * paths.shape[0]), dtype=np.int64)
    closure_ends = np.empty(ends.shape[0], dtype=np.int64)
    top = 0
    begin = 0
    for i in range(ends.shape[0]):
        total = 0
        for w in range(n_words):
            word = columns[first[paths[begin]], w]
            for p in range(begin + 1, ends[i]):
                word &= columns[first[paths[p]], w]
            rows[0, w] = word
            total += popcount(word)
        begin = ends[i]
        if top + n_columns > closures.shape[0]:
            larger = np.empty(2 * closures.shape[0] + n_columns, dtype=np.int64)
            for j in range(top):
                larger[j] = closures[j]
            closures = larger
        for j in range(n_columns):
            if root_cand[j, ONES] < total:  # supports fall: nothing behind can cover the rows
                break
            if is_subset(rows, 0, columns, first[j]):
                closures[top] = j
                top += 1
        closure_ends[i] = top
    return closures[:top], closure_ends
