"""Frames of columns of bits: all of dense data, and what has more than 64 items.

A node is a row set, reached by a path of items. It is extended by the items of its frame that
stand *before* the last item of the path (those with more rows), and *excluded* if a later item
covers its rows, because then the same closed itemset is reached through that item. An earlier item
that covers them belongs to the closure. So every closed itemset is met exactly once.

A frame holds its candidates, and behind them the items that exclude in it, on the rows of its node
only; the same word of all columns is contiguous, so that loops run over columns and vectorise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_leaf
from .._words import count_shared
from ..bitset import extract_bits, popcount
from .lattice import LATTICE_ITEMS
from .layout import (
    AT,
    BASE,
    BLOCK,
    CANDIDATES,
    CLOSED,
    COLUMNS,
    IDS,
    LAST,
    LEAST,
    LIMIT,
    NARROW,
    NARROW_SHORT,
    NEEDED,
    NOTHING,
    TO_NARROW,
    TO_WIDE,
    WIDE_SHORT,
    WIDTH,
    Bool,
    Int,
)
from .narrow import open_narrow, write_set

__all__ = ["open_columns", "open_wide"]

U = np.uint64
# A narrow frame looks at its rows one by one, columns have 64 of them in a word: rows become words
# if there are few, or if merging takes at least half of them away. Measured: without the rule,
# 20,000 rows at random cost twice as much; with a stricter one, dense data of few different rows.
_FEW_ROWS, _WORTH_MERGING = 1024, 2


@njit_leaf
def _is_covered(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    first: Int,
    last: Int,
    carriers: NDArray[np.uint64],
    n_words: Int,
    chosen: NDArray[np.int64],
) -> Bool:
    """Say whether one of columns `first` to before `last` holds all rows of a node."""
    w = np.int64(0)
    while carriers[U(w)] == 0:
        w += 1
    mask, at, alive = carriers[U(w)], base + w * stride, np.int64(0)
    for j in range(first, last):
        alive += np.int64(parent[U(at + j)] & mask == mask)
    if alive == 0:  # nearly always: no column holds the rows of the first word
        return False
    alive = np.int64(0)
    for j in range(first, last):
        chosen[U(alive)] = j
        alive += np.int64(parent[U(at + j)] & mask == mask)
    w += 1
    while w < n_words and alive:
        mask, at, left = carriers[U(w)], base + w * stride, np.int64(0)
        for i in range(alive):
            column = chosen[U(i)]
            chosen[U(left)] = column
            left += np.int64(parent[U(at + column)] & mask == mask)
        alive = left
        w += 1
    return alive > 0


@njit_leaf
def _transpose(tile: NDArray[np.uint64]) -> None:
    """Turn a square of 64 words, columns, into its rows, in place: by halves, quarters, ..."""
    width = np.int64(32)
    mask = ~U(0) >> U(32)
    while width:
        i = np.int64(0)
        while i < 64:
            for k in range(width):
                low, high = tile[U(i + k)], tile[U(i + width + k)]
                swapped = ((low >> U(width)) ^ high) & mask
                tile[U(i + k)] = low ^ (swapped << U(width))
                tile[U(i + width + k)] = high ^ swapped
            i += 2 * width
        width >>= 1
        mask ^= mask << U(width)


@njit_leaf
def _append_rows(
    tile: NDArray[np.uint64],
    n: Int,
    m: Int,
    top: Int,
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
) -> Int:
    """Append the `n` rows of a tile that hold one of the first `m` items; return the new end."""
    _transpose(tile)
    mine = ~U(0) >> U(64 - m)
    for r in range(n):
        keys[U(top)] = tile[U(r)]
        weights[U(top)] = 1
        top += np.int64((tile[U(r)] & mine) != U(0))
    return top


@njit_leaf
def _rows_of_columns(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    chosen: NDArray[np.int64],
    n: Int,
    m: Int,
    carriers: NDArray[np.uint64],
    n_words: Int,
    tile: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
) -> Int:
    """Write the rows of a node as words of its `n` chosen columns, `m` of them candidates."""
    for c in range(128):
        tile[U(c)] = 0
    top: Int = np.int64(0)
    held = np.int64(0)
    for w in range(n_words):
        mask = carriers[U(w)]
        if mask == 0:
            continue
        at, length = base + w * stride, np.int64(popcount(mask))
        over = held + length > 64
        for c in range(n):
            word = extract_bits(parent[U(at + chosen[U(c)])], mask)
            tile[U(c)] |= word << U(held)
            if over:
                tile[U(64 + c)] = word >> U(64 - held)
        held += length
        if held >= 64:
            top = _append_rows(tile, np.int64(64), m, top, keys, weights)
            for c in range(64):
                tile[U(c)] = tile[U(64 + c)]
                tile[U(64 + c)] = 0
            held -= 64
    return _append_rows(tile, held, m, top, keys, weights)


@njit_leaf
def _pack_columns(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    chosen: NDArray[np.int64],
    n: Int,
    carriers: NDArray[np.uint64],
    n_words: Int,
    blocks: NDArray[np.uint64],
    place: Int,
    width: Int,
) -> None:
    """Write `n` chosen columns on the rows of a node only, their bits moved together."""
    for i in range(width * n):
        blocks[U(place + i)] = 0
    position = np.int64(0)
    for w in range(n_words):
        mask = carriers[U(w)]
        if mask == 0:
            continue
        at, target = base + w * stride, place + (position >> 6) * n
        bit, length = position & 63, np.int64(popcount(mask))
        over = bit + length > 64
        for c in range(n):
            word = extract_bits(parent[U(at + chosen[U(c)])], mask)
            blocks[U(target + c)] |= word << U(bit)
            if over:
                blocks[U(target + n + c)] = word >> U(64 - bit)
        position += length


@njit_leaf
def open_wide(
    depth: Int,
    place: Int,
    width: Int,
    m: Int,
    n: Int,
    length: Int,
    named: Int,
    wide: NDArray[np.int64],
) -> None:
    """Note down a wide frame of `m` candidates among `n` columns."""
    wide[depth, BLOCK] = place
    wide[depth, WIDTH] = width
    wide[depth, CANDIDATES] = m
    wide[depth, COLUMNS] = n
    wide[depth, AT] = m - 1
    wide[depth, BASE] = length
    wide[depth, IDS] = named


@njit_leaf
def _choose_candidates(
    me: Int,
    support: Int,
    base: Int,
    named: Int,
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    ids: NDArray[np.int32],
    prefix: NDArray[np.int32],
    chosen: NDArray[np.int64],
) -> tuple[Int, Int]:
    """Choose the candidates below a node by its counts; append it, with its closure, to the prefix.

    Returns
    -------
    m : int
        Candidates, in `chosen`.
    length : int
        Of the prefix.
    """
    least = state[LEAST]
    n_near, n_same = np.int64(0), np.int64(0)
    for j in range(me):
        n_near += np.int64(counts[U(j)] >= least)
        n_same += np.int64(counts[U(j)] == support)
    if not state[CLOSED]:
        n_same = np.int64(0)
    m = np.int64(0)
    if n_near > n_same:
        for j in range(me):
            chosen[U(m)] = j
            m += np.int64((counts[U(j)] >= least) & ((n_same == 0) | (counts[U(j)] < support)))
    prefix[base] = ids[named + me]
    length = base + 1
    if n_same:
        for j in range(me):
            if counts[U(j)] == support:
                prefix[length] = ids[named + j]
                length += 1
    return m, length


@njit_leaf
def open_columns(
    parent: NDArray[np.uint64],
    depth: Int,
    counted: Bool,
    state: NDArray[np.int64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    slots: NDArray[np.int32],
    names: NDArray[np.int32],
    levels: NDArray[np.int64],
    tile: NDArray[np.uint64],
    prefix: NDArray[np.int32],
    blocks: NDArray[np.uint64],
    ids: NDArray[np.int32],
    wide: NDArray[np.int64],
    carriers: NDArray[np.uint64],
    counts: NDArray[np.int64],
    chosen: NDArray[np.int64],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> Int:
    """Visit the node at which a wide frame stands; make the frame below, if there is one.

    Returns
    -------
    int
        `NOTHING`, `TO_NARROW` (a frame in the first row of `levels`), `TO_WIDE` (one at the next
        depth), or `NARROW_SHORT` or `WIDE_SHORT` for want of room.
    """
    least, closed = state[LEAST], state[CLOSED]
    block, n_words, stride = wide[depth, BLOCK], wide[depth, WIDTH], wide[depth, COLUMNS]
    me, base, named = wide[depth, AT], wide[depth, BASE], wide[depth, IDS]
    support = np.int64(0)
    for w in range(n_words):
        carriers[U(w)] = parent[U(block + w * stride + me)]
        support += np.int64(popcount(carriers[U(w)]))
    if closed and _is_covered(parent, block, stride, me + 1, stride, carriers, n_words, chosen):
        return NOTHING
    count_shared(parent, block, stride, me, carriers, n_words, counts)
    m, length = _choose_candidates(me, support, base, named, state, counts, ids, prefix, chosen)
    if length > state[LIMIT]:
        return NOTHING
    if counted:
        write_set(support, length, state, prefix, out_support, out_length, out_items)
    if m == 0:
        return NOTHING
    n = m
    if closed:  # what shares fewer rows than that can cover nothing below
        later = me + 1
        count_shared(parent, block + later, stride, stride - later, carriers, n_words, counts)
        for j in range(later, stride):
            chosen[U(n)] = j
            n += np.int64(counts[U(j - later)] >= least)
    if n <= NARROW:
        if support + 64 > keys.shape[0]:
            state[NEEDED] = support + 64
            return NARROW_SHORT
        last = _rows_of_columns(
            parent, block, stride, chosen, n, m, carriers, n_words, tile, keys, weights
        )
        open_narrow(np.int64(0), np.int64(0), last, m, length, keys, weights, slots, levels)
        rows_left = levels[0, LAST]
        if m <= LATTICE_ITEMS or rows_left <= _FEW_ROWS or _WORTH_MERGING * rows_left <= support:
            for c in range(m):
                names[0, c] = ids[named + chosen[c]]
            return TO_NARROW
    place, width = np.int64(0), (support + 63) >> 6
    if depth:  # the root is not in the blocks
        place = block + n_words * stride
    if (
        place + width * n > blocks.shape[0]
        or named + stride + n > ids.shape[0]
        or depth + 2 > wide.shape[0]
    ):
        state[NEEDED] = place + width * n
        return WIDE_SHORT
    _pack_columns(parent, block, stride, chosen, n, carriers, n_words, blocks, place, width)
    for c in range(n):
        ids[named + stride + c] = ids[named + chosen[c]]
    open_wide(depth + 1, place, width, m, n, length, named + stride, wide)
    return TO_WIDE
