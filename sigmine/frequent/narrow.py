"""Frames of at most 64 items: a row is one word, and equal rows are one row with a weight.

The candidates of a frame are the low bits of its rows; above them are the items that exclude in it.
Rows that hold the same candidates are merged into one, which holds the excluding items that all of
them hold: whatever happens below, they are in or out together. So dense data of thousands of rows
come down to a dozen words, and a lattice ends every branch once few candidates are left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_leaf
from ..bitset import extract_bits, popcount
from .lattice import LATTICE_ITEMS, mine_lattice
from .layout import (
    AT,
    BASE,
    CANDIDATES,
    CLOSED,
    DONE,
    FIRST,
    LAST,
    LAST_SHARE,
    LEAST,
    LIMIT,
    N_ITEMS,
    N_SETS,
    N_SHARES,
    NARROW_SHORT,
    NEEDED,
    SHARE,
    WRITE,
    Bool,
    Int,
)

__all__ = ["mine_narrow", "open_narrow", "turn_of", "write_set"]

U = np.uint64


@njit_leaf
def turn_of(at: Int, m: Int, state: NDArray[np.int64], low: Int) -> Int:
    """Return the candidate after `at` of the `m` below a root item; below `low` if all were.

    They are visited share by share, in each from the last down, whoever visits which shares; -1
    asks for the first.
    """
    share = state[SHARE]
    if at >= 0:
        share = at % N_SHARES
        if at - N_SHARES >= low:
            return at - N_SHARES
        share += 1
    while share < state[LAST_SHARE]:
        at = share + (m - 1 - share) // N_SHARES * N_SHARES
        if at >= low:
            return at
        share += 1
    return np.int64(-1)


@njit_leaf
def write_set(
    support: Int,
    length: Int,
    state: NDArray[np.int64],
    prefix: NDArray[np.int32],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> None:
    """Count an itemset, the first `length` items of the prefix; write it if that is asked for."""
    if state[WRITE]:
        row, place = state[N_SETS], state[N_ITEMS]
        out_support[row] = support
        out_length[row] = length
        for i in range(length):
            out_items[place + i] = prefix[i]
    state[N_SETS] += 1
    state[N_ITEMS] += length


@njit_leaf
def _merge_rows(
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    first: Int,
    last: Int,
    m: Int,
    slots: NDArray[np.int32],
) -> Int:
    """Merge rows with the same first `m` bits, in place; return their new end."""
    bits = np.int64(3)
    while (np.int64(1) << bits) < 2 * (last - first):
        bits += 1
    size = np.int64(1) << bits
    for i in range(size):
        slots[U(i)] = -1
    mine = ~U(0) >> U(64 - m)
    top = first
    for r in range(first, last):
        key = keys[U(r)]
        held = key & mine
        hashed = held ^ (held << U(25))
        hashed ^= hashed >> U(27)
        hashed ^= hashed << U(31)
        slot = np.int64((hashed ^ (hashed >> U(11))) >> U(64 - bits))
        while slots[U(slot)] >= 0 and keys[U(slots[U(slot)])] & mine != held:
            slot = (slot + 1) & (size - 1)
        other = slots[U(slot)]
        if other < 0:
            slots[U(slot)] = top
            keys[U(top)] = key
            weights[U(top)] = weights[U(r)]
            top += 1
        else:
            keys[U(other)] &= key
            weights[U(other)] += weights[U(r)]
    return top


@njit_leaf
def open_narrow(
    depth: Int,
    first: Int,
    last: Int,
    m: Int,
    length: Int,
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    slots: NDArray[np.int32],
    levels: NDArray[np.int64],
) -> None:
    """Note down a frame of `m` candidates, with rows `first` to before `last`, which are merged."""
    end = last
    if m > LATTICE_ITEMS:  # a lattice merges rows on its own
        end = _merge_rows(keys, weights, first, last, m, slots)
    levels[depth, FIRST] = first
    levels[depth, LAST] = end
    levels[depth, CANDIDATES] = m
    levels[depth, AT] = m - 1
    levels[depth, BASE] = length


@njit_leaf
def _count_items(
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    first: Int,
    last: Int,
    n: Int,
    counts: NDArray[np.int64],
) -> None:
    """Count the rows that hold each of the first `n` items."""
    for b in range(n):
        counts[U(b)] = 0
    for r in range(first, last):
        key, weight = keys[U(r)], weights[U(r)]
        for b in range(n):
            counts[U(b)] += weight & -np.int64((key >> U(b)) & U(1))


@njit_leaf
def _note_names(
    depth: Int,
    at: Int,
    base: Int,
    closure: Int,
    chosen: Int,
    names: NDArray[np.int32],
    prefix: NDArray[np.int32],
) -> None:
    """Append a candidate and its closure to the prefix, and name the candidates below it."""
    prefix[base] = names[depth, at]
    place, held = base + 1, np.int64(0)
    for b in range(at):
        if (closure >> U(b)) & U(1):
            prefix[place] = names[depth, b]
            place += 1
        if (chosen >> U(b)) & U(1):
            names[depth + 1, held] = names[depth, b]
            held += 1


@njit_leaf
def mine_narrow(
    stop: NDArray[np.int64],
    dealt: Bool,
    state: NDArray[np.int64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    slots: NDArray[np.int32],
    names: NDArray[np.int32],
    levels: NDArray[np.int64],
    totals: NDArray[np.int64],
    common: NDArray[np.uint64],
    prefix: NDArray[np.int32],
    counts: NDArray[np.int64],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> Int:
    """Mine the frame in the first row of `levels`: a lattice, and the candidates that it lacks.

    `dealt` says whether its candidates are dealt out in shares.

    Returns
    -------
    int
        `DONE` (also when told to stop) or `NARROW_SHORT`; then nothing that it did counts.
    """
    least, limit, closed = state[LEAST], state[LIMIT], state[CLOSED]
    depth, fresh = np.int64(0), True
    while depth >= 0:
        first, last = levels[depth, FIRST], levels[depth, LAST]
        base, at = levels[depth, BASE], levels[depth, AT]
        if fresh:
            fresh = False
            if depth or not dealt or state[SHARE] == 0:
                mine_lattice(
                    keys, weights, first, last, min(at + 1, np.int64(LATTICE_ITEMS)), base, depth,
                    state, names, totals, common, prefix, out_support, out_length, out_items,
                )  # fmt: skip
            if depth == 0 and dealt:
                at = turn_of(np.int64(-1), levels[0, CANDIDATES], state, np.int64(LATTICE_ITEMS))
        if at < LATTICE_ITEMS:
            depth -= 1
            continue
        if stop[0]:
            return DONE
        if 2 * last - first > keys.shape[0]:
            state[NEEDED] = 2 * last - first
            return NARROW_SHORT
        levels[depth, AT] = at - 1
        if depth == 0 and dealt:
            levels[0, AT] = turn_of(at, levels[0, CANDIDATES], state, np.int64(LATTICE_ITEMS))
        top, support, shared = last, np.int64(0), ~U(0)
        for r in range(first, last):
            key, weight = keys[U(r)], weights[U(r)]
            has = (key >> U(at)) & U(1)
            keys[U(top)] = key
            weights[U(top)] = weight
            shared &= key | U(np.int64(has) - 1)  # all ones without it
            support += weight & -np.int64(has)
            top += np.int64(has)
        later = ~U(0) << U(at) << U(1)
        if closed and shared & later:  # a later item, or one that excludes, covers these rows
            continue
        closure = U(0)
        if closed:
            closure = shared & ~(~U(0) << U(at))
        length = base + 1 + np.int64(popcount(closure))
        if length > limit:
            continue
        _count_items(keys, weights, last, top, (at + 7) >> 3 << 3, counts)
        chosen = U(0)
        for b in range(at):
            chosen |= U(counts[U(b)] >= least) << U(b)
        chosen &= ~closure
        if state[WRITE]:
            _note_names(depth, at, base, closure, chosen, names, prefix)
        write_set(support, length, state, prefix, out_support, out_length, out_items)
        m = np.int64(popcount(chosen))
        if m == 0:
            continue
        kept = chosen
        if closed:
            kept |= later
        mine = ~U(0) >> U(64 - m)
        end = last
        for r in range(last, top):
            key = extract_bits(keys[U(r)], kept)
            keys[U(end)] = key
            weights[U(end)] = weights[U(r)]
            end += np.int64((key & mine) != U(0))
        depth += 1
        open_narrow(depth, last, end, m, length, keys, weights, slots, levels)
        fresh = True
    return DONE
