"""The candidates of a node of many rows: which of them extend it, and which may exclude it.

The same word of all candidates of a frame is contiguous (a *block*), so that the loops that count
shared rows run over candidates and vectorise; what a candidate is worth is asked of the few that
have enough rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_leaf, njit_part
from .._words import count_shared
from ..association.lines import BUCKET, N_FAR, SHIFT, SIZE, find_far
from ..association.scores import (
    DOWN,
    DOWN_BOUND,
    HIGHEST,
    LOWEST,
    MEAN,
    N_COLUMNS,
    UP,
    UP_BOUND,
    VARIANCE,
    ceiling_of_sums,
    evidence_of_sums,
    lacks_units,
    may_be_small,
    subsets_reach,
    units_needed,
)
from ..bitset import popcount
from .layout import (
    BOUND,
    CANDIDATE,
    ENUMERATE,
    EVIDENCE,
    FINE,
    FLAG,
    ITEM,
    KEEP,
    LEAST,
    LINE,
    ONES,
    PEAK,
    PRUNE,
    PURPOSE,
    STRATUM,
    TEST_DEFICIT,
    TEST_EXCESS,
    TEST_KIND,
    TEST_SIDE,
    UNIT,
    UNKNOWN,
    WORD,
)

__all__ = [
    "bound_of_lines",
    "choose_covers",
    "extend_block",
    "find_lines",
    "flag_of",
]

U = np.uint64
_FEW = 8  # columns for which loops over all of them do not pay


@njit_leaf
def add_ceilings(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    n: Int,
    begin: Int,
    end: Int,
    segments: NDArray[np.int64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    ceilings: NDArray[np.int64],
    far: NDArray[np.float64],
    fine: Int,
    carriers: NDArray[np.int64],
    units: NDArray[np.int64],
) -> None:
    """Add up the ceilings of the rows that `n` columns of a block share with a row set.

    Stratum by stratum: a loop that counts, which vectorises, and one that looks up (of many
    carriers of a large stratum, the ceiling of their bucket).
    """
    for i in range(n):
        units[U(i)] = 0
    fresh = True
    for s in range(end - begin):
        word = limits[s]
        source = base + segments[begin + s, WORD] * stride
        if fresh:
            for i in range(n):
                carriers[U(i)] = np.int64(popcount(parent[U(source + i)] & word))
        elif word:
            for i in range(n):
                carriers[U(i)] += np.int64(popcount(parent[U(source + i)] & word))
        fresh = ends[s]
        if fresh:
            line = segments[begin + s, LINE] // N_COLUMNS
            place = N_FAR * segments[begin + s, STRATUM]
            if far[U(place + SIZE)] > fine:
                shift = np.int64(far[U(place + BUCKET)]) - line
                for i in range(n):
                    if carriers[U(i)] > fine:
                        carriers[U(i)] = shift + ((carriers[U(i)] - fine - 1) >> SHIFT)
            for i in range(n):
                units[U(i)] += ceilings[U(line + carriers[U(i)])]


@njit_leaf
def find_lines(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    column: Int,
    begin: Int,
    end: Int,
    segments: NDArray[np.int64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    state: NDArray[np.int64],
    far: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    lines: NDArray[np.int64],
) -> Int:
    """Find the places in the tables of a row set, a stratum each; return how many.

    Lines that are missing there are worked out. They are spare lines: good until the next call.

    `limits` holds the rows by segment, `ends` which segment is the last of its stratum. With a
    stride the rows of one column are taken of them.
    """
    x = np.int64(0)
    n = np.int64(0)
    for s in range(end - begin):
        word = limits[s]
        if stride:
            word &= parent[U(base + segments[begin + s, WORD] * stride + column)]
        x += np.int64(popcount(word))
        if ends[s]:
            lines[n] = segments[begin + s, LINE] + N_COLUMNS * x
            if x > state[FINE]:
                lines[n] = find_far(
                    x, segments[begin + s, STRATUM], n, state[FINE], state[TEST_KIND], far, parts,
                    corners,
                )  # fmt: skip
            n += 1
            x = np.int64(0)
    return n


@njit_leaf
def total_of(n: int, lines: NDArray[np.int64], parts: NDArray[np.float64], column: Int) -> float:
    """Add up one column of the parts."""
    total = 0.0
    for i in range(n):
        total += parts[U(lines[U(i)] + column)]
    return total


@njit_leaf
def bound_of_lines(
    n: Int,
    lines: NDArray[np.int64],
    prune: float,
    state: NDArray[np.int64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """Return a bound of the evidence of all subsets of a row set; -1 if it is below `prune`."""
    up = total_of(n, lines, parts, np.int64(UP_BOUND))
    down = total_of(n, lines, parts, np.int64(DOWN_BOUND))
    excess, deficit = state[TEST_EXCESS], state[TEST_DEFICIT]
    bound = ceiling_of_sums(up, down, state[TEST_KIND], state[TEST_SIDE], excess, deficit)
    if bound < prune:
        return -1.0
    if subsets_reach(
        up, down, lines, n, corners, state[TEST_KIND], excess, deficit, prune, scratch
    ):
        return bound
    return -1.0


@njit_leaf
def flag_of(
    cases: Int,
    ones: Int,
    n: Int,
    lines: NDArray[np.int64],
    keep: float,
    state: NDArray[np.int64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
) -> Int:
    """Return `CANDIDATE` if the p-value of a row set may be significant, else 0."""
    peak = by_ones[min(ones, by_ones.shape[0] - 1), PEAK]
    if ones >= by_ones.shape[0]:
        peak = 0.5 * math.log1p(3.0 * ones)  # as in `prepare`
    return np.int64(
        may_be_small(
            float(cases),
            total_of(n, lines, parts, np.int64(MEAN)),
            total_of(n, lines, parts, np.int64(HIGHEST)),
            total_of(n, lines, parts, np.int64(LOWEST)),
            total_of(n, lines, parts, np.int64(VARIANCE)),
            total_of(n, lines, parts, np.int64(UP)),
            total_of(n, lines, parts, np.int64(DOWN)),
            peak,
            keep,
            state[TEST_KIND],
            state[TEST_SIDE],
            state[TEST_EXCESS],
            state[TEST_DEFICIT],
        )
    )


@njit_part
def _find_open(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    n: Int,
    begin: Int,
    end: Int,
    least: Int,
    needed: Int,
    segments: NDArray[np.int64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    ceilings: NDArray[np.int64],
    far: NDArray[np.float64],
    fine: Int,
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
) -> Int:
    """Choose which of `n` columns of a block have to be looked at; return how many.

    Those with enough rows (counted already), and with ceilings that add up to enough, if any are
    `needed`. Those are worked out for all columns, which takes a tenth of the time of a column that
    is looked at by itself, unless few are left.
    """
    n_open = np.int64(0)
    for j in range(n):
        chosen[U(n_open)] = j
        n_open += np.int64(shared_ones[U(j)] >= least)
    if needed == 0 or n_open <= _FEW or 8 * n_open <= n:
        return n_open
    add_ceilings(
        parent, base, stride, n, begin, end, segments, limits, ends, ceilings, far, fine, chosen,
        units,
    )  # fmt: skip
    n_open = np.int64(0)
    for j in range(n):
        chosen[U(n_open)] = j
        n_open += np.int64((shared_ones[U(j)] >= least) & (not lacks_units(units[U(j)], needed)))
    return n_open


@njit_leaf
def extend_block(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    parent_cand: NDArray[np.int64],
    parent_score: NDArray[np.float64],
    start: Int,
    me: Int,
    top: Int,
    ones: Int,
    n_words: Int,
    cases_at: Int,
    begin: Int,
    end: Int,
    closed_end: Int,
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    ceilings: NDArray[np.int64],
    far: NDArray[np.float64],
    cand: NDArray[np.int64],
    score: NDArray[np.float64],
    arena: NDArray[np.uint64],
    segments: NDArray[np.int64],
    closed: NDArray[np.int64],
    lines: NDArray[np.int64],
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
    rows: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    scratch: NDArray[np.float64],
) -> tuple[Int, Int]:
    """Write the children of a column, but for their words; return where they, and closures, end.

    The row set is column `me`; column ``chosen[i]`` becomes child i. A ladder of filters, cheapest
    first: the number of rows, the column's own bound, the one-sum bound over subsets, the minimum
    evidence, the exact bound.
    """
    prune, first = marks[PRUNE], top
    kind, side = state[TEST_KIND], state[TEST_SIDE]
    excess, deficit = state[TEST_EXCESS], state[TEST_DEFICIT]
    count_shared(parent, base, stride, me, rows, n_words, shared_ones)
    needed = units_needed(prune, marks[UNIT], kind, side)
    if state[PURPOSE] == ENUMERATE or end - begin < 2:
        needed = np.int64(0)
    n_open = _find_open(
        parent, base, stride, me, begin, end, state[LEAST], needed, segments, limits, ends,
        ceilings, far, state[FINE], chosen, shared_ones, units,
    )  # fmt: skip
    for k in range(n_open):
        j = chosen[U(k)]
        n_ones = shared_ones[U(j)]
        if parent_score[start + j, BOUND] < prune:
            continue
        if n_ones == ones:
            closed[closed_end] = parent_cand[start + j, ITEM]
            closed_end += 1
            continue
        evidence, bound = UNKNOWN, UNKNOWN
        flag = np.int64(CANDIDATE if marks[KEEP] <= 0.0 else 0)
        if state[PURPOSE] != ENUMERATE:
            n = find_lines(
                parent, base, stride, j, begin, end, segments, limits, ends, state, far, parts,
                corners, lines,
            )  # fmt: skip
            up = total_of(n, lines, parts, np.int64(UP_BOUND))
            down = total_of(n, lines, parts, np.int64(DOWN_BOUND))
            if ceiling_of_sums(up, down, kind, side, excess, deficit) < prune:
                continue
            up = total_of(n, lines, parts, np.int64(UP))
            down = total_of(n, lines, parts, np.int64(DOWN))
            variance = total_of(n, lines, parts, np.int64(VARIANCE))
            evidence = evidence_of_sums(up, down, variance, kind, side, excess, deficit)
            flag = np.int64(0)
            if evidence < prune:
                bound = bound_of_lines(n, lines, prune, state, parts, corners, scratch)
                if bound < prune:
                    continue
            else:
                a = np.int64(0)
                for w in range(n_words):
                    a += np.int64(
                        popcount(rows[w] & arena[cases_at + w] & parent[U(base + w * stride + j)])
                    )
                flag = flag_of(a, n_ones, n, lines, marks[KEEP], state, by_ones, parts)
        cand[top, ITEM] = parent_cand[start + j, ITEM]
        cand[top, ONES] = n_ones
        cand[top, FLAG] = flag
        score[top, EVIDENCE] = evidence
        score[top, BOUND] = bound
        chosen[top - first] = j
        top += 1
    return top, closed_end


@njit_leaf
def choose_covers(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    first: Int,
    n: Int,
    rows: NDArray[np.uint64],
    n_words: Int,
    ones: Int,
    least: Int,
    chosen: NDArray[np.int64],
    place: Int,
    shared_ones: NDArray[np.int64],
) -> Int:
    """Choose the columns from `first` on that may exclude below a row set; -1: they exclude it.

    A column that shares fewer than `least` rows with it cannot cover a testable subset.
    """
    count_shared(parent, base + first, stride, n, rows, n_words, shared_ones)
    found = np.int64(0)
    most = np.int64(0)
    for j in range(n):
        chosen[U(place + found)] = first + j
        found += np.int64(shared_ones[U(j)] >= least)
        most = max(most, shared_ones[U(j)])
    return found if most < ones else np.int64(-1)
