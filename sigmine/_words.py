"""Kernels on blocks of columns of bits: the same word of all columns is contiguous.

Word w of column c of a block stands at ``parent[base + w * stride + c]``, so that loops run over
columns and vectorise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._jit import Int, njit_leaf
from .bitset import popcount

__all__ = ["count_shared"]

U = np.uint64


@njit_leaf
def count_shared(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    n: Int,
    rows: NDArray[np.uint64],
    n_words: Int,
    shared_ones: NDArray[np.int64],
) -> None:
    """Count the rows that `n` columns of a block share with a row set, two words a pass."""
    for i in range(n):
        shared_ones[U(i)] = 0
    w = np.int64(0)
    while w < n_words:
        first = rows[w]
        if first == 0:
            w += 1
            continue
        v = w + 1
        while v < n_words and rows[v] == 0:
            v += 1
        a = base + w * stride
        if v < n_words:
            second = rows[v]
            b = base + v * stride
            for i in range(n):
                shared_ones[U(i)] += np.int64(
                    popcount(parent[U(a + i)] & first) + popcount(parent[U(b + i)] & second)
                )
        else:
            for i in range(n):
                shared_ones[U(i)] += np.int64(popcount(parent[U(a + i)] & first))
        w = v + 1
