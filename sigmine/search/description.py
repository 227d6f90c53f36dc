"""Which of the itemsets with the same rows stands for them when their length is limited."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit
from ..bitset import is_subset, popcount
from .layout import PATH, SUPPORT

__all__ = ["is_first_description"]


@njit
def is_first_description(
    columns: NDArray[np.uint64],
    root_info: NDArray[np.int64],
    words: NDArray[np.uint64],
    at: int,
    levels: NDArray[np.int64],
    depth: int,
) -> bool:
    """Say whether the path is the first of the shortest itemsets with the rows ``words[at]``.

    Sets are ordered by length, then lexicographically. Only items that cover the rows can take
    part, so the combinations of the closure are tried in that order until one has these rows. The
    path itself is one of them: most closures hold nothing else and the search is short.
    """
    n_words = columns.shape[1]
    size = depth + 1
    path = np.empty(size, dtype=np.int64)
    for i in range(size):
        place = i
        while place > 0 and path[place - 1] > levels[i, PATH]:
            path[place] = path[place - 1]
            place -= 1
        path[place] = levels[i, PATH]
    support = 0
    for w in range(n_words):
        support += popcount(words[at, w])
    closure = np.empty(columns.shape[0], dtype=np.int64)
    n_closure = 0
    for j in range(columns.shape[0]):
        if root_info[j, SUPPORT] < support:  # supports fall: nothing behind can cover the rows
            break
        if is_subset(words, at, columns, j):
            closure[n_closure] = j
            n_closure += 1
    chosen = np.empty(size, dtype=np.int64)
    partial = np.empty((size + 1, n_words), dtype=np.uint64)
    for w in range(n_words):
        partial[0, w] = words[at, w] | ~words[at, w]
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
                partial[level + 1, w] = partial[level, w] & columns[column, w]
                ones += popcount(partial[level + 1, w])
            if level + 1 < length:
                level += 1
                chosen[level] = chosen[level - 1]
                continue
            if ones == support:
                if length < size:
                    return False
                for i in range(size):
                    if closure[chosen[i]] != path[i]:
                        return False
                return True
    return False
