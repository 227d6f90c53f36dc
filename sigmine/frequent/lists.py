"""Root items of sparse data: what they share with others is counted in the lists of their rows.

The cost is that of the entries that are there, not that of rows times items; no table of bits of
all items is ever made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_leaf
from .layout import (
    BASE,
    CLOSED,
    COLUMNS,
    LEAST,
    LIMIT,
    NARROW,
    NARROW_SHORT,
    NEEDED,
    NOTHING,
    TO_NARROW,
    TO_WIDE,
    WIDE_SHORT,
    Bool,
    Int,
)
from .narrow import open_narrow, write_set
from .wide import open_wide

__all__ = ["open_lists"]

U = np.uint64


@njit_leaf
def _sort(values: NDArray[np.int64], n: Int) -> None:
    """Sort a few values, by insertion."""
    for i in range(1, n):
        value = values[i]
        place = i
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@njit_leaf
def _deliver(
    root: Int,
    later: Bool,
    least: Int,
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    tally: NDArray[np.int64],
    chosen: NDArray[np.int64],
    top: Int,
) -> Int:
    """Count the items before a root item, or those after it, in its rows.

    Those with at least `least` rows are appended to `chosen`, the ones before it ascending; returns
    their end. Where there are more rows than items it is cheaper to look at every item in the end
    than to notice in the innermost loop which has enough now.
    """
    begin, end = item_starts[root], item_starts[root + 1]
    low, high = np.int64(0), np.int64(root)
    if later:
        low, high = np.int64(root + 1), item_starts.shape[0] - 1
    looks = 4 * (end - begin) > high - low
    for k in range(begin, end):
        row = rows[U(k)]
        first = row_starts[U(row)]
        last = first + places[U(k)]
        if later:
            first, last = last + 1, row_starts[U(row + 1)]
        if looks:
            for i in range(first, last):
                tally[U(ranks[U(i)])] += 1
            continue
        for i in range(first, last):
            j = ranks[U(i)]
            count = tally[U(j)] + 1
            tally[U(j)] = count
            chosen[U(top)] = j
            top += np.int64(count == least)
    if looks:
        for j in range(low, high):
            chosen[U(top)] = j
            top += np.int64(tally[U(j)] >= least)
    elif not later:
        _sort(chosen, top)
    return top


@njit_leaf
def _forget(
    root: Int,
    later: Bool,
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    tally: NDArray[np.int64],
) -> None:
    """Set the counts of a root item, with those of later items if they were made, back to zero."""
    begin, end = item_starts[root], item_starts[root + 1]
    n = np.int64(root)
    if later:
        n = item_starts.shape[0] - 1
    if 4 * (end - begin) > n:
        for j in range(n):
            tally[U(j)] = 0
        return
    for k in range(begin, end):
        row = rows[U(k)]
        for i in range(row_starts[U(row)], row_starts[U(row + 1)]):
            tally[U(ranks[U(i)])] = 0


@njit_leaf
def _write_rows(
    root: Int,
    m: Int,
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    tally: NDArray[np.int64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
) -> Int:
    """Write the rows of a root item that hold one of `m` candidates as words; return their end.

    `tally` holds the bit of every item that counts, plus 1, and 0 for the others.
    """
    top = np.int64(0)
    mine = ~U(0) >> U(64 - m)
    for k in range(item_starts[root], item_starts[root + 1]):
        row, key = rows[U(k)], U(0)
        for i in range(row_starts[U(row)], row_starts[U(row + 1)]):
            column = tally[U(ranks[U(i)])]
            if column:
                key |= U(1) << U(column - 1)
        keys[U(top)] = key
        weights[U(top)] = 1
        top += np.int64((key & mine) != U(0))
    return top


@njit_leaf
def _write_columns(
    root: Int,
    n: Int,
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    tally: NDArray[np.int64],
    blocks: NDArray[np.uint64],
) -> Int:
    """Write the same rows as `n` columns of bits; return the words of a column."""
    first, last = item_starts[root], item_starts[root + 1]
    width: Int = (last - first + 63) >> 6
    for i in range(width * n):
        blocks[U(i)] = 0
    for k in range(first, last):
        row = rows[U(k)]
        line, bit = ((k - first) >> 6) * n - 1, U(1) << U((k - first) & 63)
        for i in range(row_starts[U(row)], row_starts[U(row + 1)]):
            column = tally[U(ranks[U(i)])]
            if column:
                blocks[U(line + column)] |= bit
    return width


@njit_leaf
def open_lists(
    root: Int,
    counted: Bool,
    ones: NDArray[np.int64],
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    state: NDArray[np.int64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    slots: NDArray[np.int32],
    names: NDArray[np.int32],
    levels: NDArray[np.int64],
    prefix: NDArray[np.int32],
    blocks: NDArray[np.uint64],
    ids: NDArray[np.int32],
    wide: NDArray[np.int64],
    tally: NDArray[np.int64],
    chosen: NDArray[np.int64],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> Int:
    """Visit a root item; make the frame below, if there is one. Returns as `open_columns` does."""
    least, closed, support = state[LEAST], state[CLOSED], ones[root]
    base = wide[0, BASE]
    n_before = _deliver(
        root, False, least, row_starts, ranks, item_starts, rows, places, tally, chosen,
        np.int64(0),
    )  # fmt: skip
    prefix[base] = root
    length, m = base + 1, np.int64(0)
    for i in range(n_before):
        j = chosen[i]
        if closed and tally[j] == support:
            prefix[length] = j
            length += 1
            continue
        chosen[m] = j
        m += 1
    n: Int = m
    later, excluded = False, False
    tied = root + 1 < ones.shape[0] and ones[root + 1] == support
    if closed and (m or tied) and length <= state[LIMIT]:
        later = True
        n = _deliver(
            root, True, least, row_starts, ranks, item_starts, rows, places, tally, chosen, m
        )
        for i in range(m, n):
            excluded = excluded or tally[chosen[i]] == support
    _forget(root, later, row_starts, ranks, item_starts, rows, tally)
    if excluded or length > state[LIMIT]:
        return NOTHING
    if counted:
        write_set(support, length, state, prefix, out_support, out_length, out_items)
    if m == 0:
        return NOTHING
    named = wide[0, COLUMNS]
    if n <= NARROW and support + 1 > keys.shape[0]:
        state[NEEDED] = support + 1
        return NARROW_SHORT
    words = ((support + 63) >> 6) * n
    if n > NARROW and (words > blocks.shape[0] or named + n > ids.shape[0]):
        state[NEEDED] = words
        return WIDE_SHORT
    for c in range(n):
        tally[chosen[c]] = c + 1
    if n <= NARROW:
        for c in range(m):
            names[0, c] = chosen[c]
        last = _write_rows(root, m, row_starts, ranks, item_starts, rows, tally, keys, weights)
        open_narrow(np.int64(0), np.int64(0), last, m, length, keys, weights, slots, levels)
    else:
        for c in range(n):
            ids[named + c] = chosen[c]
        width = _write_columns(root, n, row_starts, ranks, item_starts, rows, tally, blocks)
        open_wide(np.int64(1), np.int64(0), width, m, n, length, named, wide)
    for c in range(n):
        tally[chosen[c]] = 0
    if n <= NARROW:
        return TO_NARROW
    return TO_WIDE
