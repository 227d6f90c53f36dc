"""Kernels that turn sums of table entries into evidence, into bounds, and into a first look at p.

Everything that a search asks about a row set is a sum over strata of a function of x_k, the
carriers in that stratum. `sigmine.association.evidence` tabulates those functions, so that the
inner loops add table entries and know no formula; this module knows what the sums mean.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_inline, njit_leaf
from .cmh_exact import CENTRAL, GREATER, LESS
from .hypergeometric import MINLIKE_TOLERANCE

# Columns of the table of parts (see `EvidenceTables.parts`): what an excess, and a deficit, of
# cases may add at most, the same over all x' <= x, the mean, the ends of the range of the number
# of cases, and the variance.
UP, DOWN, UP_BOUND, DOWN_BOUND, MEAN, HIGHEST, LOWEST, VARIANCE = range(8)
N_COLUMNS = 8
# Columns of the table of corners: f, v and v / f of the excess, then of the deficit.
UP_CORNER, DOWN_CORNER = 0, 3
# Entries of `EvidenceTables.choice`.
KIND, SIDE, EXCESS, DEFICIT = 0, 1, 2, 3
ASYMPTOTIC, EXACT = 0, 1

_LOG2 = math.log(2.0)


@njit_inline
def evidence_of_sums(
    up: float, down: float, variance: float, kind: int, side: int, excess: int, deficit: int
) -> float:
    """Return the evidence of the smallest p-value that a row set can attain, from its sums."""
    if kind == ASYMPTOTIC:
        if variance <= 0.0:
            return 0.0
        best = 0.0
        if excess:
            best = up * up
        if deficit:
            best = max(best, down * down)
        return best / variance
    if side == CENTRAL:
        return max(0.0, max(up, down) - _LOG2)
    if side == GREATER:
        return up
    if side == LESS:
        return down
    larger = max(up, down)
    gap = larger - min(up, down)  # minlike: the other end counts too if it is as unlikely
    if larger > 0.0 and gap <= MINLIKE_TOLERANCE:
        return max(0.0, larger - math.log1p(math.exp(-gap)))
    return larger


@njit_inline
def ceiling_of_sums(
    up: float, down: float, kind: int, side: int, excess: int, deficit: int
) -> float:
    """Return an upper bound of the evidence of every subset of the rows, from the sums of bounds.

    For the exact test it is attained. For the asymptotic one it is sum f_k^2 / v_k, which is never
    below the maximum (Cauchy-Schwarz) and often equal to it.
    """
    if kind == EXACT and side == CENTRAL:
        return max(0.0, max(up, down) - _LOG2)
    best = 0.0
    if excess:
        best = up
    if deficit:
        best = max(best, down)
    return best


@njit_inline
def units_needed(prune: float, unit: float, kind: Int, side: Int) -> Int:
    """Return how many units of ceilings a row set needs for a subset to reach `prune`.

    Of a sum of `EvidenceTables.ceilings` one half has to be as large.
    """
    if prune <= 0.0:
        return np.int64(0)
    if kind == EXACT and side == CENTRAL:
        prune += _LOG2
    return np.int64(prune * unit)


@njit_inline
def lacks_units(units: Int, needed: Int) -> bool:
    """Say whether neither half of a sum of ceilings is as large as needed."""
    short: bool = (units >> 32 < needed) & (units & 0xFFFFFFFF < needed)
    return short


@njit_leaf
def corner_reaches(
    lines: NDArray[np.int64],
    n_strata: Int,
    corners: NDArray[np.float64],
    side: Int,
    cut: float,
    scratch: NDArray[np.float64],
) -> bool:
    """Say whether some x' <= x has an asymptotic evidence of at least `cut`, on one side.

    That is so if a prefix of the strata by ascending v / f has (sum f)^2 / sum v >= cut (see
    `cmh.maximum_statistic_bound`). `lines` are the places of the strata in the table. An insertion
    sort: by ascending share of cases they are nearly in order for the excess, and in reverse order
    for the deficit.
    """
    n = np.int64(0)
    for i in range(n_strata):
        place = lines[i if side == UP_CORNER else n_strata - 1 - i] + side
        f = corners[place]
        if f <= 0.0:  # the stratum cannot raise this side
            continue
        v = corners[place + 1]
        if f * f >= cut * v:  # it reaches the cut alone
            return True
        ratio = corners[place + 2]
        j = n - 1
        while j >= 0 and scratch[2, j] > ratio:
            scratch[0, j + 1] = scratch[0, j]
            scratch[1, j + 1] = scratch[1, j]
            scratch[2, j + 1] = scratch[2, j]
            j -= 1
        scratch[0, j + 1] = f
        scratch[1, j + 1] = v
        scratch[2, j + 1] = ratio
        n += 1
    total_f = 0.0
    total_v = 0.0
    for i in range(n):
        total_f += scratch[0, i]
        total_v += scratch[1, i]
        if total_f * total_f >= cut * total_v:
            return True
    return False


@njit_inline
def subsets_reach(
    up: float,
    down: float,
    lines: NDArray[np.int64],
    n_strata: Int,
    corners: NDArray[np.float64],
    kind: Int,
    excess: Int,
    deficit: Int,
    cut: float,
    scratch: NDArray[np.float64],
) -> bool:
    """Say whether a subset reaches `cut`, given that the one-sum bounds `up` or `down` do."""
    if kind == EXACT or n_strata < 2:
        return True
    reaches = False
    if excess and up >= cut:
        reaches = corner_reaches(lines, n_strata, corners, np.int64(UP_CORNER), cut, scratch)
    if not reaches and deficit and down >= cut:
        reaches = corner_reaches(lines, n_strata, corners, np.int64(DOWN_CORNER), cut, scratch)
    return reaches


@njit_inline
def may_be_small(
    cases: float,
    mean: float,
    highest: float,
    lowest: float,
    variance: float,
    up: float,
    down: float,
    peak: float,
    keep: float,
    kind: Int,
    side: Int,
    excess: Int,
    deficit: Int,
) -> bool:
    """Say whether the p-value may be as small as the one that `keep` is the evidence of.

    False is a proof that it is not; True is not a proof. For the asymptotic test the statistic is
    compared. For the exact one, the number of cases A is, given all margins, a sum of independent
    hypergeometric variables and thus of independent Bernoulli ones: its probabilities are
    log-concave with a mode less than 1 from the mean, and the mode has at least
    (1 + 12 Var A)^(-1/2) [1]_. So log P(A = a) lies above the chord from one step beside the mean
    at -`peak` to the end of the range, where it is known; a tail is no smaller than its first
    term.

    .. [1] S. Bobkov, A. Marsiglietti and J. Melbourne, "Concentration functions and entropy bounds
       for discrete log-concave distributions", Combin. Probab. Comput. 31 (2022) 54-72.
    """
    if keep <= 0.0:  # one-sided p-values above one half have no evidence
        return True
    gap = cases - mean
    if kind == ASYMPTOTIC:
        if (gap > 0.0 and not excess) or (gap < 0.0 and not deficit):
            return False
        return gap * gap >= keep * variance and variance > 0.0
    steps = highest - mean
    end = up
    if gap < 0.0:
        gap = -gap
        steps = mean - lowest
        end = down
        if side == GREATER:
            gap = 0.0
    elif side == LESS:
        gap = 0.0
    goal = keep
    if side == CENTRAL:
        goal += _LOG2
    # -log P(A = a) <= peak + (gap + 1) / (steps + 1) (end - peak)
    return peak * (steps + 1.0) + (gap + 1.0) * max(end - peak, 0.0) >= goal * (steps + 1.0)
