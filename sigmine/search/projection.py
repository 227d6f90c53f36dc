"""Kernels that carry columns over to the rows of a node: fewer rows, fewer words, same order.

Once a node has few rows, whatever its subtree asks of an item is asked of those rows only. The bits
of the node's rows are moved together (`extract_bits`), so that a subtree below a thousand rows ends
up with one or two words an item. Rows keep their order and strata stay contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_leaf
from ..association.scores import HIGHEST, LOWEST, N_COLUMNS
from ..bitset import extract_bits, popcount
from .layout import LINE, N_STRATA, PLAIN, RANK, STRATUM, WORD

__all__ = ["project", "project_pair", "project_segments", "strata_of_pair"]


@njit_leaf
def project(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    chosen: NDArray[np.int64],
    first: Int,
    n: Int,
    rows: NDArray[np.uint64],
    n_words: Int,
    packed: bool,
    out: NDArray[np.uint64],
    place: Int,
    out_stride: Int,
) -> None:
    """Write `n` chosen columns of a block, on the given rows only, to ``out[place:]``.

    Word w of column c of the block stands at ``parent[base + w * stride + c]``. If `packed`, the
    bits of the rows are moved together; otherwise words without rows are left out.
    """
    position = np.int64(0)  # in bits if packed, else in words
    for w in range(n_words):
        mask = rows[np.uint64(w)]
        if mask == 0:
            continue
        source = base + w * stride
        if not packed:
            target = place + position * out_stride
            for i in range(n):
                column = chosen[np.uint64(first + i)]
                out[np.uint64(target + i)] = parent[np.uint64(source + column)] & mask
            position += 1
            continue
        bit = np.uint64(position & 63)
        target = place + (position >> 6) * out_stride
        length = np.int64(popcount(mask))
        over = np.int64(bit) + length > 64
        for i in range(n):
            column = chosen[np.uint64(first + i)]
            word = extract_bits(parent[np.uint64(source + column)], mask)
            if bit == 0:
                out[np.uint64(target + i)] = word
            else:
                out[np.uint64(target + i)] |= word << bit
            if over:
                out[np.uint64(target + out_stride + i)] = word >> (np.uint64(64) - bit)
        position += length


@njit_leaf
def project_pair(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    chosen: NDArray[np.int64],
    first: Int,
    n: Int,
    rows: NDArray[np.uint64],
    n_words: Int,
    packed: bool,
    lo: NDArray[np.uint64],
    hi: NDArray[np.uint64],
    place: Int,
) -> None:
    """Do the same for at most 128 rows: first word to `lo`, second to `hi`."""
    for i in range(n):
        lo[np.uint64(place + i)] = 0
        hi[np.uint64(place + i)] = 0
    position = np.int64(0)
    for w in range(n_words):
        mask = rows[np.uint64(w)]
        if mask == 0:
            continue
        source = base + w * stride
        length = np.int64(popcount(mask)) if packed else np.int64(64)
        bit = np.uint64(position & 63)
        out = hi if position > 63 else lo
        over = position < 64 and position + length > 64
        for i in range(n):
            word: Any = parent[np.uint64(source + chosen[np.uint64(first + i)])]
            word = extract_bits(word, mask) if packed else word & mask
            out[np.uint64(place + i)] |= word << bit
            if over:
                hi[np.uint64(place + i)] = word >> (np.uint64(64) - bit)
        position += length


@njit_leaf
def project_segments(
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    begin: Int,
    end: Int,
    rows: NDArray[np.uint64],
    packed: bool,
) -> Int:
    """Write the segments of a node behind those of its parent; return the place behind them."""
    top = end
    position = np.int64(0)
    for s in range(begin, end):
        word_number = segments[s, WORD]
        mask: Any = rows[word_number] & masks[s]
        left = np.int64(popcount(mask))
        while left:
            take = left
            if packed:
                bit = position & 63
                target = position >> 6
                take = min(left, 64 - bit)
                mask = ((~np.uint64(0)) >> np.uint64(64 - take)) << np.uint64(bit)
                position += take
            else:
                target = np.int64(0)
                for w in range(word_number):
                    target += rows[w] != 0
            left -= take
            if (
                top > end
                and segments[top - 1, WORD] == target
                and segments[top - 1, LINE] == segments[s, LINE]
            ):
                masks[top - 1] |= mask
                continue
            segments[top, WORD] = target
            segments[top, LINE] = segments[s, LINE]
            segments[top, STRATUM] = segments[s, STRATUM]
            segments[top, RANK] = segments[s, RANK]
            masks[top] = mask
            top += 1
    return top


@njit_leaf
def strata_of_pair(
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    begin: Int,
    end: Int,
    parts: NDArray[np.float64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    state: NDArray[np.int64],
) -> None:
    """Write the strata of at most 128 rows, one entry each, by rank.

    Note in `state` how many there are, and whether they are plain: no stratum has more of the rows
    than it has cases, or than it has controls.
    """
    n = np.int64(0)
    plain = True
    s = begin
    while s < end:
        lo: Any = np.uint64(0)
        hi: Any = np.uint64(0)
        line, stratum, rank = segments[s, LINE], segments[s, STRATUM], segments[s, RANK]
        while s < end and segments[s, LINE] == line:
            if segments[s, WORD]:
                hi |= masks[s]
            else:
                lo |= masks[s]
            s += 1
        count = np.int64(popcount(lo) + popcount(hi))
        place = line + N_COLUMNS * count
        plain = plain and parts[place + HIGHEST] == float(count) and parts[place + LOWEST] == 0.0
        j = n - 1
        while j >= 0 and strata[j, RANK] > rank:
            for column in range(4):
                strata[j + 1, column] = strata[j, column]
            pairs[j + 1, 0] = pairs[j, 0]
            pairs[j + 1, 1] = pairs[j, 1]
            j -= 1
        strata[j + 1, LINE] = line
        strata[j + 1, STRATUM] = stratum
        strata[j + 1, RANK] = rank
        pairs[j + 1, 0] = lo
        pairs[j + 1, 1] = hi
        n += 1
    state[N_STRATA] = n
    state[PLAIN] = np.int64(plain)
