"""The candidates of a node of at most 128 rows: which of them extend it, which may exclude it.

Indices are written ``array[U(i)]`` where it matters: numba makes a signed index wrap around, and
that test costs as much as what these loops do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_leaf, njit_part
from ..association.scores import (
    ASYMPTOTIC,
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
    FLAG,
    ITEM,
    KEEP,
    LEAST,
    LINE,
    N_STRATA,
    ONES,
    PEAK,
    PLAIN,
    PRUNE,
    PURPOSE,
    TEST_DEFICIT,
    TEST_EXCESS,
    TEST_KIND,
    TEST_SIDE,
    UNIT,
    UNKNOWN,
)

__all__ = ["bound_of_pair", "extend_pair", "inherit_covers"]

U = np.uint64
_FEW = 6  # candidates for which loops over all of them do not pay


@njit_part
def _add_parts(
    lo: Int,
    hi: Int,
    ones: Int,
    kind: Int,
    plain: Int,
    n_strata: Int,
    parts: NDArray[np.float64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    lines: NDArray[np.int64],
) -> tuple[float, float, float, float, float, float, float, float]:
    """Add up the parts of a row set over strata, as far as the test needs them.

    Returns up, down, mean, variance, both bounds, and the largest and smallest number of cases.
    Where no class of a stratum can be exhausted (`plain`), some are known without a look-up.
    """
    up, down, mean, variance, low = 0.0, 0.0, 0.0, 0.0, 0.0
    up_bound, down_bound = 0.0, 0.0
    high = float(ones)
    if kind == ASYMPTOTIC and plain:
        for s in range(n_strata):
            x = popcount(lo & pairs[U(s), U(0)]) + popcount(hi & pairs[U(s), U(1)])
            line = U(strata[U(s), U(LINE)] + N_COLUMNS * np.int64(x))
            lines[U(s)] = np.int64(line)
            up_bound += parts[line + U(UP_BOUND)]
            down_bound += parts[line + U(DOWN_BOUND)]
            mean += parts[line + U(MEAN)]
            variance += parts[line + U(VARIANCE)]
        up, down = high - mean, mean
    elif kind == ASYMPTOTIC:
        for s in range(n_strata):
            x = popcount(lo & pairs[U(s), U(0)]) + popcount(hi & pairs[U(s), U(1)])
            line = U(strata[U(s), U(LINE)] + N_COLUMNS * np.int64(x))
            lines[U(s)] = np.int64(line)
            up += parts[line + U(UP)]
            down += parts[line + U(DOWN)]
            up_bound += parts[line + U(UP_BOUND)]
            down_bound += parts[line + U(DOWN_BOUND)]
            mean += parts[line + U(MEAN)]
            variance += parts[line + U(VARIANCE)]
    else:
        for s in range(n_strata):
            x = popcount(lo & pairs[U(s), U(0)]) + popcount(hi & pairs[U(s), U(1)])
            line = U(strata[U(s), U(LINE)] + N_COLUMNS * np.int64(x))
            lines[U(s)] = np.int64(line)
            up += parts[line + U(UP)]
            down += parts[line + U(DOWN)]
            mean += parts[line + U(MEAN)]
        up_bound, down_bound = up, down
        if not plain:
            up_bound, down_bound, high = 0.0, 0.0, 0.0
            for s in range(n_strata):
                line = U(lines[U(s)])
                up_bound += parts[line + U(UP_BOUND)]
                down_bound += parts[line + U(DOWN_BOUND)]
                high += parts[line + U(HIGHEST)]
                low += parts[line + U(LOWEST)]
    return up, down, mean, variance, up_bound, down_bound, high, low


@njit_part
def _find_open(
    lo: Int,
    hi: Int,
    begin: Int,
    n: Int,
    least: Int,
    needed: Int,
    n_strata: Int,
    ceilings: NDArray[np.int64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
) -> Int:
    """Choose which of `n` candidates from `begin` on have to be looked at; return how many.

    Those with enough rows, and with ceilings that add up to enough (if any are `needed`). All
    candidates go through short loops without a branch: one that counts vectorises, one looks up.
    """
    for i in range(n):
        shared_ones[U(i)] = np.int64(
            popcount(lo & cells_lo[U(begin + i)]) + popcount(hi & cells_hi[U(begin + i)])
        )
    n_open = np.int64(0)
    if needed == 0:
        for i in range(n):
            chosen[U(n_open)] = i
            n_open += np.int64(shared_ones[U(i)] >= least)
        return n_open
    for i in range(n):
        units[U(i)] = 0
    for s in range(n_strata):
        in_lo, in_hi = lo & pairs[U(s), U(0)], hi & pairs[U(s), U(1)]
        line = strata[U(s), U(LINE)] // N_COLUMNS
        for i in range(n):
            chosen[U(i)] = np.int64(
                popcount(in_lo & cells_lo[U(begin + i)]) + popcount(in_hi & cells_hi[U(begin + i)])
            )
        for i in range(n):
            units[U(i)] += ceilings[U(line + chosen[U(i)])]
    for i in range(n):
        chosen[U(n_open)] = i
        n_open += np.int64((shared_ones[U(i)] >= least) & (not lacks_units(units[U(i)], needed)))
    return n_open


@njit_part
def extend_pair(
    lo: Int,
    hi: Int,
    ones: Int,
    begin: Int,
    at: Int,
    top: Int,
    closed_end: Int,
    case_lo: Int,
    case_hi: Int,
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    ceilings: NDArray[np.int64],
    cand: NDArray[np.int64],
    score: NDArray[np.float64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    closed: NDArray[np.int64],
    lines: NDArray[np.int64],
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
    scratch: NDArray[np.float64],
) -> tuple[Int, Int]:
    """Write the children of a row set from `top` on; return where they, and its closure, end.

    A ladder of filters, cheapest first: the candidate's own bound, the number of rows, the
    minimum evidence, its one-sum bound over subsets, and the exact bound.
    """
    prune, keep = marks[PRUNE], marks[KEEP]
    kind, side = state[TEST_KIND], state[TEST_SIDE]
    excess, deficit = state[TEST_EXCESS], state[TEST_DEFICIT]
    tested = state[PURPOSE] != ENUMERATE
    untested_flag = np.int64(CANDIDATE if keep <= 0.0 else 0)
    n_strata, plain = state[N_STRATA], state[PLAIN]
    needed = np.int64(0)
    if tested and n_strata > 1 and at - begin >= _FEW:
        needed = units_needed(prune, marks[UNIT], kind, side)
    n_open = _find_open(
        lo, hi, begin, at - begin, state[LEAST], needed, n_strata, ceilings, cells_lo, cells_hi,
        strata, pairs, chosen, shared_ones, units,
    )  # fmt: skip
    for k in range(n_open):
        j = begin + chosen[U(k)]
        n_ones = shared_ones[U(j - begin)]
        if score[U(j), U(BOUND)] < prune:
            continue
        if n_ones == ones:
            closed[closed_end] = cand[U(j), U(ITEM)]
            closed_end += 1
            continue
        child_lo, child_hi = lo & cells_lo[U(j)], hi & cells_hi[U(j)]
        evidence, bound, flag = UNKNOWN, UNKNOWN, untested_flag
        if tested:
            up, down, mean, variance, up_bound, down_bound, high, low = _add_parts(
                child_lo, child_hi, n_ones, kind, plain, n_strata, parts, strata, pairs, lines
            )
            evidence = evidence_of_sums(up, down, variance, kind, side, excess, deficit)
            if evidence < prune:
                bound = ceiling_of_sums(up_bound, down_bound, kind, side, excess, deficit)
                if bound < prune:
                    continue
                if not subsets_reach(
                    up_bound, down_bound, lines, n_strata, corners, kind, excess, deficit, prune,
                    scratch,
                ):  # fmt: skip
                    continue
                flag = np.int64(0)
            else:
                a = float(popcount(child_lo & case_lo) + popcount(child_hi & case_hi))
                peak = by_ones[n_ones, PEAK]
                flag = np.int64(
                    may_be_small(
                        a, mean, high, low, variance, up, down, peak, keep, kind, side, excess,
                        deficit,
                    )
                )  # fmt: skip
        cells_lo[U(top)] = child_lo
        cells_hi[U(top)] = child_hi
        cand[U(top), U(ITEM)] = cand[U(j), U(ITEM)]
        cand[U(top), U(ONES)] = n_ones
        cand[U(top), U(FLAG)] = flag
        score[U(top), U(EVIDENCE)] = evidence
        score[U(top), U(BOUND)] = bound
        top += 1
    return top, closed_end


@njit_leaf
def bound_of_pair(
    lo: Int,
    hi: Int,
    prune: float,
    state: NDArray[np.int64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    lines: NDArray[np.int64],
    scratch: NDArray[np.float64],
) -> float:
    """Return a bound of the evidence of all subsets of a row set; -1 if it is below `prune`."""
    n_strata = state[N_STRATA]
    excess, deficit = state[TEST_EXCESS], state[TEST_DEFICIT]
    up = 0.0
    down = 0.0
    for s in range(n_strata):
        x = popcount(lo & pairs[s, 0]) + popcount(hi & pairs[s, 1])
        lines[s] = strata[s, LINE] + N_COLUMNS * np.int64(x)
        up += parts[lines[s] + UP_BOUND]
        down += parts[lines[s] + DOWN_BOUND]
    bound = ceiling_of_sums(up, down, state[TEST_KIND], state[TEST_SIDE], excess, deficit)
    if bound < prune:
        return -1.0
    if subsets_reach(
        up, down, lines, n_strata, corners, state[TEST_KIND], excess, deficit, prune, scratch
    ):
        return bound
    return -1.0


@njit_part
def inherit_covers(
    lo: Int,
    hi: Int,
    least: Int,
    begin: Int,
    end: Int,
    others: Int,
    n_others: Int,
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    covers_lo: NDArray[np.uint64],
    covers_hi: NDArray[np.uint64],
) -> Int:
    """Write the excluders of a child frame behind those of its parent; return their number.

    They are those of the parent and the sparser siblings (`begin` to `end`), but for those that
    share fewer than `least` rows with the child: they cannot cover a testable row set.
    """
    place = others + n_others
    for i in range(n_others):
        cover_lo, cover_hi = covers_lo[U(others + i)], covers_hi[U(others + i)]
        covers_lo[U(place)] = cover_lo
        covers_hi[U(place)] = cover_hi
        place += np.int64(popcount(cover_lo & lo) + popcount(cover_hi & hi)) >= least
    for i in range(end - begin):
        cover_lo, cover_hi = cells_lo[U(begin + i)], cells_hi[U(begin + i)]
        covers_lo[U(place)] = cover_lo
        covers_hi[U(place)] = cover_hi
        place += np.int64(popcount(cover_lo & lo) + popcount(cover_hi & hi)) >= least
    return place - others - n_others
