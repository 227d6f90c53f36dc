"""All subsets of a few items at once: how many rows each has, and which items those rows share.

A table over the 2^k subsets of k items is filled with the rows, each at the subset that it holds,
and then summed over supersets, one item at a time (the zeta transform of the lattice of subsets).
Along with the sums runs the intersection of the rows, so that in the end it is known of every
subset whether it is closed. Most itemsets of a search are met in such tables, at a few nanoseconds
each: there is no path to walk, and no candidate to look at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_leaf
from .layout import CLOSED, LEAST, LIMIT, N_ITEMS, N_SETS, WRITE, Int

__all__ = ["LATTICE_ITEMS", "mine_lattice"]

U = np.uint64
LATTICE_ITEMS = 8  # 4 KiB of tables; with 6 and with 10 it is slower
_SIZES = np.array([s.bit_count() for s in range(2**LATTICE_ITEMS)], dtype=np.int64)
# Entry 8 h + s is all ones if h, some of three items, holds s.
_HOLDS = np.array(
    [2**64 - 1 if s & ~h == 0 else 0 for h in range(8) for s in range(8)], dtype=np.uint64
)


@njit_leaf
def _fill(
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    first: Int,
    last: Int,
    k: Int,
    totals: NDArray[np.int64],
    common: NDArray[np.uint64],
) -> Int:
    """Fill the tables of the first `k` items from rows; return their length, at least 8."""
    mine = (U(1) << U(k)) - U(1)
    size = np.int64(1) << max(np.int64(k), np.int64(3))
    for s in range(size):
        totals[U(s)] = 0
        common[U(s)] = ~U(0)
    for r in range(first, last):
        key, weight = keys[U(r)], weights[U(r)]
        held = key & mine
        # At once for the subsets that differ in the first three items: they are one vector.
        holds, place = (held & U(7)) << U(3), held & ~U(7)
        for s in range(8):
            mask = _HOLDS[holds + U(s)]
            totals[place + U(s)] += weight & np.int64(mask)
            common[place + U(s)] &= key | ~mask
    step = np.int64(8)
    while step < size:
        place = np.int64(0)
        while place < size:
            for s in range(step):
                totals[U(place + s)] += totals[U(place + step + s)]
                common[U(place + s)] &= common[U(place + step + s)]
            place += 2 * step
        step *= 2
    return size


@njit_leaf
def mine_lattice(
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    first: Int,
    last: Int,
    k: Int,
    base: Int,
    depth: Int,
    state: NDArray[np.int64],
    names: NDArray[np.int32],
    totals: NDArray[np.int64],
    common: NDArray[np.uint64],
    prefix: NDArray[np.int32],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> None:
    """Count, or write, the itemsets of the first `k` items of a frame.

    A subset is closed, and met nowhere else, if its rows share nothing but its own items: neither
    another of the first items, nor a later one, nor one that excludes.
    """
    size = _fill(keys, weights, first, last, k, totals, common)
    least, limit, closed = state[LEAST], state[LIMIT] - base, state[CLOSED]
    n_sets, n_items = np.int64(0), np.int64(0)
    if not state[WRITE]:
        for s in range(1, size):
            met = (totals[U(s)] >= least) & (_SIZES[U(s)] <= limit)
            met &= (closed == 0) | (common[U(s)] == U(s))
            n_sets += np.int64(met)
            n_items += np.int64(met) * _SIZES[U(s)]
        state[N_SETS] += n_sets
        state[N_ITEMS] += n_items + base * n_sets
        return
    n_sets, n_items = state[N_SETS], state[N_ITEMS]
    for s in range(1, size):
        if totals[U(s)] < least or _SIZES[U(s)] > limit or (closed and common[U(s)] != U(s)):
            continue
        out_support[n_sets] = totals[U(s)]
        out_length[n_sets] = base + _SIZES[U(s)]
        n_sets += 1
        for b in range(base):
            out_items[U(n_items + b)] = prefix[U(b)]
        n_items += base
        for b in range(k):
            if (s >> b) & 1:
                out_items[U(n_items)] = names[depth, U(b)]
                n_items += 1
    state[N_SETS], state[N_ITEMS] = n_sets, n_items
