"""Lines of the tables of a test that are not kept: those of many carriers in a large stratum.

A table with a line for every number of carriers needs more memory than a hundred packed items, so
that beyond some thousand rows in all, a stratum has lines for its first `EvidenceTables.fine`
carriers only. Beyond, rows are taken `STEP` at a time: a *bucket* has one ceiling, that of its last
line, which is the largest; and the exact test has an *anchor* in front of each, from which a line
follows by at most `STEP` factors. The asymptotic test needs nothing but the margins.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, njit_leaf
from .scores import (
    ASYMPTOTIC,
    DOWN,
    DOWN_BOUND,
    DOWN_CORNER,
    EXACT,
    HIGHEST,
    LOWEST,
    MEAN,
    N_COLUMNS,
    UP,
    UP_BOUND,
    UP_CORNER,
    VARIANCE,
)

__all__ = ["N_FAR", "SHIFT", "STEP", "asymptotic_lines", "far_lines", "find_far", "moments"]

U = np.uint64
SHIFT = 5
STEP = 2**SHIFT  # the product of so many numbers of rows is a float for any that fit into memory
# Columns of the first part of `EvidenceTables.far`, a line a stratum: n_k, n1_k, c_k, the place of
# its first anchor in that array, that of its first bucket in the ceilings, and the largest of
# -log r_k, and of -log l_k, up to where they begin to fall.
SIZE, N_CASES, SPREAD, ANCHOR, BUCKET, TOP_UP, TOP_DOWN = range(7)
N_FAR = 8


def moments(
    parts: NDArray[np.float64],
    x: NDArray[np.float64],
    size: NDArray[np.float64],
    cases: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> None:
    """Fill in mean, range and variance of the number of cases."""
    parts[:, MEAN] = cases / size * x
    parts[:, HIGHEST] = np.minimum(x, cases)
    parts[:, LOWEST] = np.maximum(0.0, x - (size - cases))
    parts[:, VARIANCE] = spread * x * (1.0 - x / size)


def asymptotic_lines(
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    x: NDArray[np.float64],
    size: NDArray[np.float64],
    cases: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> None:
    """Fill in the rest of the parts, and the corners, of the asymptotic test."""
    share = cases / size
    parts[:, UP] = parts[:, HIGHEST] - parts[:, MEAN]
    parts[:, DOWN] = parts[:, MEAN] - parts[:, LOWEST]
    for column, corner, room, weight in (
        (UP_BOUND, UP_CORNER, cases, 1.0 - share),
        (DOWN_BOUND, DOWN_CORNER, size - cases, share),
    ):
        m = np.minimum(x, room)
        f, v = weight * m, spread * m * (1.0 - m / size)
        counts = (f > 0.0) & (v > 0.0)  # otherwise the stratum cannot raise this side
        corners[:, corner] = np.where(counts, f, 0.0)
        corners[:, corner + 1] = np.where(counts, v, 0.0)
        corners[:, corner + 2] = np.divide(v, f, out=np.zeros_like(f), where=counts)
        parts[:, column] = np.divide(f * f, v, out=np.zeros_like(f), where=counts)


def far_lines(
    x: NDArray[np.int64], stratum: NDArray[np.int64], far: NDArray[np.float64], fine: int, kind: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return parts and corners of lines beyond the tables, as `find_far` writes them.

    Parameters
    ----------
    x, stratum : ndarray of int64, shape (n_lines,)
        Carriers (more than `fine`), and where.
    far : ndarray of float64
    fine : int
        As in `EvidenceTables`.
    kind : int
        `ASYMPTOTIC` or `EXACT`; the latter has no corners.

    Returns
    -------
    parts, corners : ndarray of float64, shape (n_lines, 8)
    """
    place = N_FAR * stratum
    size, cases, spread = (far[place + column] for column in (SIZE, N_CASES, SPREAD))
    parts, corners = np.zeros((2, len(x), N_COLUMNS), dtype=np.float64)
    count = x.astype(np.float64)
    moments(parts, count, size, cases, spread)
    if kind == ASYMPTOTIC:
        asymptotic_lines(parts, corners, count, size, cases, spread)
        return parts, corners
    bucket = (x - fine - 1) >> SHIFT
    first = fine + (bucket << SHIFT)
    anchor = far[place + ANCHOR].astype(np.int64) + 2 * bucket
    for side, (column, bound, top, group) in enumerate(
        ((UP, UP_BOUND, TOP_UP, cases), (DOWN, DOWN_BOUND, TOP_DOWN, size - cases))
    ):
        over, under = np.ones((2, len(x)), dtype=np.float64)
        for step in range(STEP):
            i = (first + step).astype(np.float64)
            falls = i < group
            here = first + step < x
            over *= np.where(here, np.where(falls, size - i, i + 1.0 - group), 1.0)
            under *= np.where(here, np.where(falls, group - i, i + 1.0), 1.0)
        parts[:, column] = far[anchor + side] + np.log(over / under)
        parts[:, bound] = np.where(count <= group, parts[:, column], far[place + top])
    return parts, corners


@njit_leaf
def find_far(
    x: Int,
    stratum: Int,
    spare: Int,
    fine: Int,
    kind: Int,
    far: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
) -> Int:
    """Write a line beyond the tables to number `spare` of the spare lines; return its place.

    Steps of -log r: r(i + 1) / r(i) is (n1 - i) / (n - i) up to n1, and (i + 1) / (i + 1 - n1)
    beyond; l the same with n0.
    """
    line = U(parts.shape[0] - N_COLUMNS * (spare + 1))
    place = U(N_FAR * stratum)
    size, spread, count = far[place + U(SIZE)], far[place + U(SPREAD)], float(x)
    mean = far[place + U(N_CASES)] / size * count
    parts[line + U(MEAN)] = mean
    parts[line + U(VARIANCE)] = spread * count * (1.0 - count / size)
    bucket = (x - fine - 1) >> SHIFT
    anchor = U(np.int64(far[place + U(ANCHOR)]) + 2 * bucket)
    group = far[place + U(N_CASES)]
    # First the side of an excess, then that of a deficit: its columns stand next to the others.
    for side in (U(0), U(1)):
        most = min(count, group)
        if kind == EXACT:
            over, under, i = 1.0, 1.0, float(fine + (bucket << SHIFT))
            while i < count:
                over *= size - i if i < group else i + 1.0 - group
                under *= group - i if i < group else i + 1.0
                i += 1.0
            up = far[anchor + side] + math.log(over / under)
            bound = up if count <= group else far[place + U(TOP_UP) + side]
        else:
            f, v = (1.0 - group / size) * most, spread * most * (1.0 - most / size)
            if v <= 0.0:  # the stratum cannot raise this side
                f = 0.0
            corner = line + U(DOWN_CORNER) * side
            corners[corner] = f
            corners[corner + U(1)] = v
            corners[corner + U(2)] = v / f
            up = most - group / size * count
            bound = f * f / v if v > 0.0 else 0.0
        parts[line + U(UP) + side] = up
        parts[line + U(UP_BOUND) + side] = bound
        parts[line + U(HIGHEST) + side] = count - most if side else most
        group = size - group
    return np.int64(line)
