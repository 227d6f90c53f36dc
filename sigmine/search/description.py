"""Which of the itemsets with the same rows stands for them when their length is limited."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_inner, njit_linked
from ..bitset import popcount
from .layout import ONES, PATH

__all__ = ["is_first_description"]


@njit_inner
def _closure(
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    rows: NDArray[np.uint64],
    support: int,
    closure: NDArray[np.int64],
) -> Int:
    """Write the items that cover a row set, the densest first; return how many."""
    n_items = root_cand.shape[0]
    n_closure = 0
    for j in range(n_items):
        if root_cand[j, ONES] < support:  # supports fall: nothing behind can cover the rows
            break
        covers = True
        for w in range(rows.shape[0]):
            if rows[w] & ~columns[w * n_items + j]:
                covers = False
                break
        if covers:
            closure[n_closure] = j
            n_closure += 1
    return n_closure


@njit_linked
def is_first_description(
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    levels: NDArray[np.int64],
    depth: Int,
    rows: NDArray[np.uint64],
) -> Int:
    """Say (1 or 0) whether the path is the first of the shortest itemsets with its rows.

    Sets are ordered by length, then lexicographically. Only items that cover the rows can take
    part, so the combinations of the closure are tried in that order until one has these rows. The
    path itself is one of them: most closures hold nothing else and the search is short. The length
    of `rows` is the number of words of a column.
    """
    n_words, n_items = rows.shape[0], root_cand.shape[0]
    size = depth + 1
    path = np.empty(size, dtype=np.int64)
    for i in range(size):
        place = i
        while place > 0 and path[place - 1] > levels[i, PATH]:
            path[place] = path[place - 1]
            place -= 1
        path[place] = levels[i, PATH]
    partial = np.empty((size + 1, n_words), dtype=np.uint64)
    support = 0
    for w in range(n_words):
        word = columns[w * n_items + path[0]]
        for i in range(1, size):
            word &= columns[w * n_items + path[i]]
        partial[0, w] = word
        support += popcount(word)
    closure = np.empty(n_items, dtype=np.int64)
    n_closure = _closure(columns, root_cand, partial[0], support, closure)
    for w in range(n_words):
        partial[0, w] |= ~partial[0, w]
    chosen = np.empty(size, dtype=np.int64)
    for length in range(1, size + 1):
        level = 0
        chosen[0] = -1
        while level >= 0:
            chosen[level] += 1
            if chosen[level] > n_closure - (length - level):
                level -= 1
                continue
            column = closure[chosen[level]]
            ones = 0
            for w in range(n_words):
                partial[level + 1, w] = partial[level, w] & columns[w * n_items + column]
                ones += popcount(partial[level + 1, w])
            if level + 1 < length:
                level += 1
                chosen[level] = chosen[level - 1]
                continue
            if ones == support:
                if length < size:
                    return 0
                for i in range(size):
                    if closure[chosen[i]] != path[i]:
                        return 0
                return 1
    return 0
