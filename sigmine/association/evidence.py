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
from .scores import (
    ASYMPTOTIC,
    DOWN,
    DOWN_BOUND,
    DOWN_CORNER,
    EXACT,
    EXCESS,
    HIGHEST,
    LOWEST,
    MEAN,
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
    "root_of_log_pvalue",
]


_MOST_UNITS = 2.0**30  # of the bounds of all rows


class EvidenceTables(NamedTuple):
    """Everything about the test that kernels need, as plain arrays.

    Attributes
    ----------
    choice : ndarray of int64, shape (4,)
        Kind of test (`ASYMPTOTIC` or `EXACT`), how its p-value is put together (code of
        `cmh_exact`), and whether an excess, and a deficit, of cases counts as evidence.
    parts : ndarray of float64, shape (8 * (n_rows + n_strata),)
        A line of `N_COLUMNS` numbers (one cache line) for every stratum k and every
        x = 0, ..., n_k, strata one behind the other. Exact test: -log r_k(x), -log l_k(x), the same
        at min(x, n1_k) and min(x, n0_k). Asymptotic test: how far the number of cases may lie above
        and below its mean, and f_k^2 / v_k of both sides. Then mean, largest and smallest number
        of cases, and variance.
    corners : ndarray of float64
        Of the asymptotic test, in the same lines: f, v, v / f of the excess, then of the deficit
        (see `cmh.maximum_statistic_bound`). Of no use, and short, for the exact test.
    ceilings : ndarray of int64, shape (n_rows + n_strata,)
        For every line, the third and fourth of its parts in whole units, rounded up: the excess in
        the upper 32 bits, the deficit in the lower ones, so that one sum over strata is both (a
        side that is no evidence has 0).
    unit : float
        Units of `ceilings` in an evidence of 1.
    offset : ndarray of int64, shape (n_strata,)
        The line where stratum k starts.
    """

    choice: NDArray[np.int64]
    parts: NDArray[np.float64]
    corners: NDArray[np.float64]
    ceilings: NDArray[np.int64]
    unit: float
    offset: NDArray[np.int64]


def build_tables(
    sizes: ArrayLike, case_sizes: ArrayLike, settings: SearchSettings
) -> EvidenceTables:
    """Tabulate a test for given strata.

    Parameters
    ----------
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k >= 1 and n1_k.
    settings : SearchSettings
        Names the test and its alternative.

    Returns
    -------
    EvidenceTables
        72 bytes a row and stratum for the exact test, 136 for the asymptotic one.
    """
    n = np.ascontiguousarray(sizes, dtype=np.float64)
    n1 = np.ascontiguousarray(case_sizes, dtype=np.float64)
    exact = settings.method == "exact"
    lengths = n.astype(np.int64) + 1
    offset = np.cumsum(lengths) - lengths
    stratum = np.repeat(np.arange(len(n)), lengths)
    x = (np.arange(int(lengths.sum())) - offset[stratum]).astype(np.float64)
    size, cases = n[stratum], n1[stratum]
    controls = size - cases
    share, spread = cases / size, cmh.spread(n, n1, settings.variance)[stratum]
    parts = np.zeros((len(x), N_COLUMNS), dtype=np.float64)
    parts[:, MEAN] = share * x
    parts[:, HIGHEST] = np.minimum(x, cases)
    parts[:, LOWEST] = np.maximum(0.0, x - controls)
    parts[:, VARIANCE] = spread * x * (1.0 - x / size)
    corners = np.zeros((1 if exact else len(x), N_COLUMNS), dtype=np.float64)
    if exact:
        extremes, _ = cmh_exact.extreme_tables(n, n1)
        base = offset[stratum]
        parts[:, UP], parts[:, DOWN] = extremes
        parts[:, UP_BOUND] = extremes[0, base + np.minimum(x, cases).astype(np.int64)]
        parts[:, DOWN_BOUND] = extremes[1, base + np.minimum(x, controls).astype(np.int64)]
    else:
        parts[:, UP] = parts[:, HIGHEST] - parts[:, MEAN]
        parts[:, DOWN] = parts[:, MEAN] - parts[:, LOWEST]
        for column, corner, room, weight in (
            (UP_BOUND, UP_CORNER, cases, 1.0 - share),
            (DOWN_BOUND, DOWN_CORNER, controls, share),
        ):
            m = np.minimum(x, room)
            f, v = weight * m, spread * m * (1.0 - m / size)
            counts = (f > 0.0) & (v > 0.0)  # otherwise the stratum cannot raise this side
            corners[:, corner] = np.where(counts, f, 0.0)
            corners[:, corner + 1] = np.where(counts, v, 0.0)
            corners[:, corner + 2] = np.divide(v, f, out=np.zeros_like(f), where=counts)
            parts[:, column] = np.divide(f * f, v, out=np.zeros_like(f), where=counts)
    choice = (
        EXACT if exact else ASYMPTOTIC,
        cmh_exact.sidedness(settings.alternative, settings.two_sided),
        int(settings.alternative != "less"),
        int(settings.alternative != "greater"),
    )
    ceilings, unit = _ceilings(parts, offset + lengths - 1, choice)
    return EvidenceTables(
        choice=np.array(choice, dtype=np.int64),
        parts=parts.reshape(-1),
        corners=corners.reshape(-1),
        ceilings=ceilings,
        unit=unit,
        offset=offset.astype(np.int64),
    )


def _ceilings(
    parts: NDArray[np.float64], last: NDArray[np.int64], choice: tuple[int, int, int, int]
) -> tuple[NDArray[np.int64], float]:
    """Return the bounds of every line in whole units, and the size of a unit.

    `last` are the last lines of the strata, where the bounds are largest: the unit is such that no
    sum over strata comes near 2^32.
    """
    bounds = parts[:, [UP_BOUND, DOWN_BOUND]] * np.array(choice[EXCESS:], dtype=np.float64)
    unit = _MOST_UNITS / max(1.0, float(bounds[last].sum(axis=0).max(initial=0.0)))
    units = np.ceil(bounds * unit).astype(np.int64)
    return (units[:, 0] << 32) | units[:, 1], unit


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
    lines = tables.offset + support
    parts = tables.parts.reshape(-1, N_COLUMNS)[lines]
    kind, side, excess, deficit = tables.choice.tolist()
    if kind == ASYMPTOTIC:
        if bound:
            return _largest_corner(tables.corners.reshape(-1, N_COLUMNS)[lines], excess, deficit)
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
