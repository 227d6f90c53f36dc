"""One scale for every test: *evidence*, a number that grows as the p-value falls.

The search compares evidence, never p-values: the asymptotic test's evidence is its statistic (in
the direction of the alternative), the exact test's is -log p. So the inner loops need neither an
incomplete gamma function nor a logarithm; thresholds are converted once, outside.

They need no formula either. Whatever is asked of a row set is a sum over strata of a function of
the carriers there; those functions are tabulated here, and `sigmine.association.scores` knows what
the sums mean.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, ndtri_exp

from ..settings import SearchSettings
from . import cmh, cmh_exact
from .hypergeometric import MINLIKE_TOLERANCE
from .lines import (
    ANCHOR,
    BUCKET,
    N_CASES,
    N_FAR,
    SIZE,
    SPREAD,
    STEP,
    TOP_UP,
    asymptotic_lines,
    far_lines,
    moments,
)
from .scores import (
    ASYMPTOTIC,
    DOWN,
    DOWN_BOUND,
    DOWN_CORNER,
    EXACT,
    EXCESS,
    KIND,
    N_COLUMNS,
    UP,
    UP_BOUND,
    UP_CORNER,
    VARIANCE,
)

__all__ = [
    "EvidenceTables",
    "build_tables",
    "evidence_of_log_pvalue",
    "log_pvalue_of_evidence",
    "minimum_evidences",
    "own_tables",
    "root_of_log_pvalue",
]


_MOST_UNITS = 2.0**30  # of the bounds of all rows
# So many lines are tabulated whatever the data; of larger data so many, and 128 of every stratum,
# which the frames of at most 128 rows need.
_ALL_LINES, _FINE_LINES, _FINE_LEAST = 2**16, 2**13, 128
_BLOCK_LINES = 2**12  # looked up at a time


class EvidenceTables(NamedTuple):
    """Everything about the test that kernels need, as plain arrays.

    Attributes
    ----------
    choice : ndarray of int64, shape (4,)
        Kind of test (`ASYMPTOTIC` or `EXACT`), how its p-value is put together (code of
        `cmh_exact`), and whether an excess, and a deficit, of cases counts as evidence.
    parts : ndarray of float64
        A line of `N_COLUMNS` numbers (one cache line) for every stratum k and every
        x = 0, ..., n_k (as far as `fine`), strata one behind the other. Exact test: -log r_k(x),
        -log l_k(x), the same at min(x, n1_k) and min(x, n0_k). Asymptotic test: how far the number
        of cases may lie above and below its mean, and f_k^2 / v_k of both sides. Then mean, largest
        and smallest number of cases, and variance. If lines are missing, one spare line a stratum
        behind them: for those that a worker needs at the moment (so it must have arrays of its
        own, see `own_tables`).
    corners : ndarray of float64
        Of the asymptotic test, in the same lines: f, v, v / f of the excess, then of the deficit
        (see `cmh.maximum_statistic_bound`). Of no use, and short, for the exact test.
    ceilings : ndarray of int64
        For every line, the third and fourth of its parts in whole units, rounded up: the excess in
        the upper 32 bits, the deficit in the lower ones, so that one sum over strata is both (a
        side that is no evidence has 0). Then for every bucket (see `association.lines`).
    far : ndarray of float64
        Margins of every stratum and, for the exact test, the anchors of its missing lines (see
        `association.lines`).
    unit : float
        Units of `ceilings` in an evidence of 1.
    offset : ndarray of int64, shape (n_strata,)
        The line where stratum k starts.
    fine : int
        The most carriers that have a line; at least those of every stratum if none is missing.
    """

    choice: NDArray[np.int64]
    parts: NDArray[np.float64]
    corners: NDArray[np.float64]
    ceilings: NDArray[np.int64]
    far: NDArray[np.float64]
    unit: float
    offset: NDArray[np.int64]
    fine: int

    @property
    def is_whole(self) -> bool:
        """Whether no line is missing."""
        sizes = self.far[: N_FAR * len(self.offset)].reshape(-1, N_FAR)[:, SIZE]
        return self.fine >= int(sizes.max(initial=0.0))


def build_tables(
    sizes: ArrayLike, case_sizes: ArrayLike, settings: SearchSettings, *, fine: int | None = None
) -> EvidenceTables:
    """Tabulate a test for given strata.

    Parameters
    ----------
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k >= 1 and n1_k.
    settings : SearchSettings
        Names the test and its alternative.
    fine : int or None, default=None
        The most carriers that get a line; by default all of them unless the data are large.

    Returns
    -------
    EvidenceTables
        72 bytes a line for the exact test, 136 for the asymptotic one; beyond `fine`, 1/4 to 3/4
        of a byte a row.
    """
    n = np.ascontiguousarray(sizes, dtype=np.float64)
    n1 = np.ascontiguousarray(case_sizes, dtype=np.float64)
    exact = settings.method == "exact"
    if fine is None:
        fine = int(n.max(initial=0.0))
        if n.sum() + len(n) > _ALL_LINES:
            fine = min(fine, max(_FINE_LEAST, _FINE_LINES // len(n)))
    choice = (
        EXACT if exact else ASYMPTOTIC,
        cmh_exact.sidedness(settings.alternative, settings.two_sided),
        int(settings.alternative != "less"),
        int(settings.alternative != "greater"),
    )
    lengths = np.minimum(n.astype(np.int64), fine) + 1
    n_buckets = -(-np.maximum(n.astype(np.int64) - fine, 0) // STEP)
    far = np.zeros((len(n), N_FAR), dtype=np.float64)
    far[:, SIZE], far[:, N_CASES] = n, n1
    far[:, SPREAD] = cmh.spread(n, n1, settings.variance)
    far[:, BUCKET] = lengths.sum() + np.cumsum(n_buckets) - n_buckets
    offset = np.cumsum(lengths) - lengths
    stratum, x = _runs(lengths)
    n_lines, n_spare = len(x), len(n) if n_buckets.any() else 0
    parts = np.zeros((n_lines + n_spare, N_COLUMNS), dtype=np.float64)
    corners = np.zeros((1 if exact else len(parts), N_COLUMNS), dtype=np.float64)
    bounds = np.empty((n_lines + int(n_buckets.sum()), 2), dtype=np.float64)
    columns = (far[stratum, SIZE], far[stratum, N_CASES], far[stratum, SPREAD])
    moments(parts[:n_lines], x.astype(np.float64), *columns)
    if exact:
        far[:, ANCHOR] = far.size + 2 * (far[:, BUCKET] - n_lines)
        flat = np.empty(far.size + 2 * int(n_buckets.sum()), dtype=np.float64)
        anchors = flat[far.size :].reshape(-1, 2)
        _fill_extremes(parts[:n_lines], far, bounds[n_lines:], anchors, fine)
        flat[: far.size] = far.reshape(-1)
    else:
        flat = far.reshape(-1)
        asymptotic_lines(parts[:n_lines], corners[:n_lines], x.astype(np.float64), *columns)
        behind, bucket = _runs(n_buckets)
        ends = np.minimum(fine + (bucket + 1) * STEP, far[behind, SIZE].astype(np.int64))
        for first in range(0, len(ends), _BLOCK_LINES):
            some = slice(first, first + _BLOCK_LINES)
            at_ends, _ = far_lines(ends[some], behind[some], flat, fine, ASYMPTOTIC)
            bounds[n_lines:][some] = at_ends[:, [UP_BOUND, DOWN_BOUND]]
    bounds[:n_lines] = parts[:n_lines, [UP_BOUND, DOWN_BOUND]]
    last = np.where(n_buckets, n_lines + np.cumsum(n_buckets), offset + lengths) - 1
    ceilings, unit = _ceilings(bounds, last, choice)
    return EvidenceTables(
        choice=np.array(choice, dtype=np.int64),
        parts=parts.reshape(-1),
        corners=corners.reshape(-1),
        ceilings=ceilings,
        far=flat,
        unit=unit,
        offset=offset.astype(np.int64),
        fine=fine,
    )


def _runs(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for runs of the given lengths, the number of the run and the place in it."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - (np.cumsum(lengths) - lengths)[run]


def _fill_extremes(
    parts: NDArray[np.float64],
    far: NDArray[np.float64],
    bounds: NDArray[np.float64],
    anchors: NDArray[np.float64],
    fine: int,
) -> None:
    """Fill in what the exact test looks up, and bounds and anchors of the buckets."""
    known: dict[tuple[int, int], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    line = bucket = 0
    for k, (n, n1) in enumerate(far[:, [SIZE, N_CASES]].astype(np.int64).tolist()):
        length, n_own = min(n, fine) + 1, -(-max(n - fine, 0) // STEP)
        here = parts[line : line + length]
        for side, group in enumerate((n1, n - n1)):
            if (n, group) not in known:  # thousands of small strata share a few sizes
                marks = fine + STEP * np.arange(n_own + 1)
                marks = np.concatenate([np.minimum(marks, n), [group]])
                places, back = np.unique(
                    np.concatenate([np.arange(length), marks]), return_inverse=True
                )
                values = cmh_exact.extremes_at(n, group, places)[back]
                known[n, group] = values[:length], values[length:]
            table, at_marks = known[n, group]
            top = far[k, TOP_UP + side] = at_marks[-1]
            inside = np.arange(length) <= group
            here[:, UP + side] = table
            here[:, UP_BOUND + side] = np.where(inside, table, top)
            anchors[bucket : bucket + n_own, side] = at_marks[:n_own]
            is_inside = fine + STEP * np.arange(1, n_own + 1) <= group
            bounds[bucket : bucket + n_own, side] = np.where(is_inside, at_marks[1:-1], top)
        line += length
        bucket += n_own


def _ceilings(
    bounds: NDArray[np.float64], last: NDArray[np.int64], choice: tuple[int, int, int, int]
) -> tuple[NDArray[np.int64], float]:
    """Return bounds of both sides in whole units, and the size of a unit.

    `last` are those of whole strata, which are the largest: the unit is such that no sum over
    strata comes near 2^32.
    """
    bounds *= np.array(choice[EXCESS:], dtype=np.float64)
    unit = _MOST_UNITS / max(1.0, float(bounds[last].sum(axis=0).max(initial=0.0)))
    bounds *= unit
    units = np.ceil(bounds, out=bounds).astype(np.int64)
    return (units[:, 0] << 32) | units[:, 1], unit


def own_tables(tables: EvidenceTables) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return parts and corners for one worker: copies if it has to write missing lines there."""
    if tables.is_whole:
        return tables.parts, tables.corners
    return tables.parts.copy(), tables.corners.copy()


def minimum_evidences(
    support: NDArray[np.int64], tables: EvidenceTables, *, bound: bool = False
) -> NDArray[np.float64]:
    """Return the evidence of the smallest p-value that each row of margins can attain.

    By numpy, for the few row sets that are not met by a kernel of the search.

    Parameters
    ----------
    support : ndarray of int64, shape (n_patterns, n_strata)
        Carriers by stratum.
    tables : EvidenceTables
        The test.
    bound : bool, default=False
        The largest value over all x' <= x instead.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
        At least 0.
    """
    step = max(1, _BLOCK_LINES // max(1, support.shape[1]))
    evidence = np.empty(len(support), dtype=np.float64)
    for first in range(0, len(support), step):
        some = slice(first, first + step)
        evidence[some] = _minimum_evidences(support[some], tables, bound)
    return evidence


def _minimum_evidences(
    support: NDArray[np.int64], tables: EvidenceTables, bound: bool
) -> NDArray[np.float64]:
    """Do it for a few row sets."""
    parts, corners = _lines(support, tables)
    kind, side, excess, deficit = tables.choice.tolist()
    if kind == ASYMPTOTIC:
        if bound:
            return _largest_corner(corners, excess, deficit)
        best = np.zeros(len(support), dtype=np.float64)
        variance = parts[:, :, VARIANCE].sum(axis=1)
        for wanted, column in ((excess, UP), (deficit, DOWN)):
            if wanted:
                np.maximum(best, parts[:, :, column].sum(axis=1) ** 2, out=best)
        return np.asarray(np.divide(best, variance, out=np.zeros_like(best), where=variance > 0.0))
    up, down = (
        parts[:, :, c].sum(axis=1) for c in ((UP_BOUND, DOWN_BOUND) if bound else (UP, DOWN))
    )
    larger = np.maximum(up, down)
    if side == cmh_exact.GREATER:
        return np.asarray(up, dtype=np.float64)
    if side == cmh_exact.LESS:
        return np.asarray(down, dtype=np.float64)
    if side == cmh_exact.CENTRAL:
        return np.asarray(np.maximum(0.0, larger - math.log(2.0)))
    gap = larger - np.minimum(up, down)
    both = np.maximum(0.0, larger - np.log1p(np.exp(-gap)))
    ties = (gap <= MINLIKE_TOLERANCE) & (larger > 0.0) & (not bound)
    return np.asarray(np.where(ties, both, larger))


def _lines(
    support: NDArray[np.int64], tables: EvidenceTables
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return parts and corners of every row set and stratum, shape (n_patterns, n_strata, 8)."""
    kind = int(tables.choice[KIND])
    lines = tables.offset + np.minimum(support, tables.fine)
    parts = tables.parts.reshape(-1, N_COLUMNS)[lines]
    corners = parts
    if kind == ASYMPTOTIC:
        corners = tables.corners.reshape(-1, N_COLUMNS)[lines]
    missing = support > tables.fine
    if missing.any():
        found = far_lines(support[missing], np.nonzero(missing)[1], tables.far, tables.fine, kind)
        parts[missing] = found[0]
        if kind == ASYMPTOTIC:
            corners[missing] = found[1]
    return parts, corners


def _largest_corner(corners: NDArray[np.float64], excess: int, deficit: int) -> NDArray[np.float64]:
    """Return the maximum over prefixes, by ascending v / f, of (sum f)^2 / sum v."""
    best = np.zeros(len(corners), dtype=np.float64)
    for wanted, corner in ((excess, UP_CORNER), (deficit, DOWN_CORNER)):
        if not wanted:
            continue
        order = np.argsort(corners[:, :, corner + 2], axis=1, kind="stable")
        f = np.cumsum(np.take_along_axis(corners[:, :, corner], order, axis=1), axis=1)
        v = np.cumsum(np.take_along_axis(corners[:, :, corner + 1], order, axis=1), axis=1)
        values = np.divide(f * f, v, out=np.zeros_like(f), where=v > 0.0)
        np.maximum(best, values.max(axis=1, initial=0.0), out=best)
    return best


def log_pvalue_of_evidence(
    evidence: NDArray[np.float64] | float, settings: SearchSettings
) -> NDArray[np.float64]:
    """Return the log p-value of an evidence.

    Parameters
    ----------
    evidence : ndarray of float64 or float
        At least 0.
    settings : SearchSettings
        Names the test.

    Returns
    -------
    ndarray of float64
        At most 0, non-increasing in the evidence.
    """
    values = np.asarray(evidence, dtype=np.float64)
    if settings.method == "exact":
        return -values
    return cmh.log_pvalue_of_statistic(values, settings.alternative)


def evidence_of_log_pvalue(
    log_pvalue: NDArray[np.float64] | float, settings: SearchSettings
) -> NDArray[np.float64]:
    """Return the evidence of a log p-value; the inverse of `log_pvalue_of_evidence`.

    Parameters
    ----------
    log_pvalue : ndarray of float64 or float
        At most 0.
    settings : SearchSettings
        Names the test.

    Returns
    -------
    ndarray of float64
        At least 0. One-sided p-values above one half have evidence 0: margins never attain them.
    """
    logp = np.asarray(log_pvalue, dtype=np.float64)
    if settings.method == "exact":
        return -logp
    root = root_of_log_pvalue(logp, settings.alternative)
    return np.asarray(np.maximum(root, 0.0) ** 2, dtype=np.float64)


def root_of_log_pvalue(
    log_pvalue: NDArray[np.float64] | float, alternative: str
) -> NDArray[np.float64]:
    """Return the signed root z of a log p-value of the asymptotic test (may be negative)."""
    logp = np.asarray(log_pvalue, dtype=np.float64)
    if alternative == "two-sided":
        logp = logp - math.log(2.0)
    near_one = logp > -1e-3  # there the upper tail is the small one
    return np.asarray(
        np.where(near_one, ndtri(-np.expm1(np.minimum(logp, 0.0))), -ndtri_exp(logp)),
        dtype=np.float64,
    )
