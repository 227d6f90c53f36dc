"""P-values of the hypotheses that a pass has kept: only of those that can be significant, once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ..association import cmh, cmh_exact
from ..bitset import BitTable
from ..settings import SearchSettings

__all__ = ["log_pvalue_bound", "log_pvalues"]

_DEDUPLICATE_FROM = 2048
_TOLERANCE = 1e-9
_TABLE_CELLS, _BLOCK_CELLS = 2**20, 2**16


def log_pvalues(
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
    table: BitTable,
    settings: SearchSettings,
    log_threshold: float,
) -> NDArray[np.float64]:
    """Return the log p-values of row sets, or 0 where they are known to be above a threshold.

    Parameters
    ----------
    support, support_cases : ndarray of int64, shape (n_patterns, n_strata)
        Carriers, and carriers that are cases, by stratum.
    table : BitTable
        Sizes of the strata.
    settings : SearchSettings
        The test.
    log_threshold : float
        Log p-value above which it does not matter.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
        At most 0.
    """
    cases = support_cases.sum(axis=1)
    if settings.method == "asymptotic":
        margins = (support, cases, table.sizes, table.case_sizes)
        return cmh.log_pvalue(
            *margins, alternative=settings.alternative, variance=settings.variance
        )
    out = np.zeros(len(cases), dtype=np.float64)
    bound = log_pvalue_bound(support, support_cases, table, settings)
    open_ = bound <= log_threshold + _TOLERANCE
    support, cases = support[open_], cases[open_]
    first, inverse = _distinct(support, cases, table)
    values = cmh_exact.log_pvalue(
        support[first],
        cases[first],
        table.sizes,
        table.case_sizes,
        alternative=settings.alternative,
        two_sided=settings.two_sided,
    )
    out[open_] = values[inverse]
    return out


def _distinct(
    support: NDArray[np.int64], cases: NDArray[np.int64], table: BitTable
) -> tuple[NDArray[np.intp] | slice, NDArray[np.intp] | slice]:
    """Return the first of each kind of margins, and the kind of each row set.

    With few strata a hundred thousand row sets have a few thousand different margins; with many,
    nearly all differ (and their number does not fit an integer), so nothing is merged.
    """
    everything = slice(None)
    radices = [int(size) + 1 for size in table.sizes] + [int(table.case_sizes.sum()) + 1]
    if len(cases) < _DEDUPLICATE_FROM or math.prod(radices) >= 2**62:
        return everything, everything
    key = cases.copy()
    for k, radix in enumerate(radices[:-1]):
        key = key * radix + support[:, k]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse


def log_pvalue_bound(
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
    table: BitTable,
    settings: SearchSettings,
) -> NDArray[np.float64]:
    """Bound the log p-values of the exact test from below, without a convolution.

    If in every stratum there are at least as many cases among the carriers as were observed, there
    are so in all: the upper tail is no smaller than the product of the upper tails of the strata,
    and the lower one likewise. On the side of the mean where the observed number lies the tail is
    the smaller one, or both are at least about one half.

    Parameters
    ----------
    support, support_cases : ndarray of int64, shape (n_patterns, n_strata)
        Carriers, and carriers that are cases, by stratum.
    table : BitTable
        Sizes of the strata.
    settings : SearchSettings
        The alternative, and how a two-sided p-value is put together.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
        At most the log p-value, but for rounding.
    """
    upper = np.zeros(len(support), dtype=np.float64)
    lower = np.zeros(len(support), dtype=np.float64)
    for k in range(table.n_strata):
        high, low = _log_tails_of_stratum(
            support[:, k], support_cases[:, k], int(table.sizes[k]), int(table.case_sizes[k])
        )
        upper += high
        lower += low
    if settings.alternative == "greater":
        return upper
    if settings.alternative == "less":
        return lower
    mean = (support * (table.case_sizes / table.sizes)).sum(axis=1)
    cases = support_cases.sum(axis=1)
    # The median is less than 1 from the mean, so beyond that the other tail is at least one half.
    far_up, far_down = cases >= mean + 1.0, cases <= mean - 1.0
    tail = np.where(far_up, upper, np.where(far_down, lower, np.minimum(upper, lower)))
    if settings.two_sided == "central":
        tail = np.minimum(tail + math.log(2.0), 0.0)
    return np.asarray(tail)


def _log_tails_of_stratum(
    x: NDArray[np.int64], a: NDArray[np.int64], n: int, n1: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log P(A >= a) and log P(A <= a) of one hypergeometric variable each.

    By a table of the values of x that occur, some of them at a time; where it would be large, the
    probability of a itself, which is no larger, is returned for both.
    """
    values, row = np.unique(x, return_inverse=True)
    if len(values) * (n1 + 1) > _TABLE_CELLS:
        log_p = _log_probability(x, a, n, n1)
        return log_p, log_p
    upper, lower = np.empty((2, len(x)), dtype=np.float64)
    step = max(1, _BLOCK_CELLS // (n1 + 1))
    for first in range(0, len(values), step):
        some = np.flatnonzero((row >= first) & (row < first + step))
        place = (row[some] - first, a[some])
        outcomes = np.arange(n1 + 1)[None, :]
        all_ = np.exp(_log_probability(values[first : first + step, None], outcomes, n, n1))
        with np.errstate(divide="ignore"):
            lower[some] = np.log(np.cumsum(all_, axis=1)[place])
            upper[some] = np.log(np.cumsum(all_[:, ::-1], axis=1)[:, ::-1][place])
    return np.minimum(upper, 0.0), np.minimum(lower, 0.0)


def _log_probability(
    x: NDArray[np.int64], a: NDArray[np.int64], n: int, n1: int
) -> NDArray[np.float64]:
    """Return the log-probability of a cases among x carriers."""
    possible = (a >= np.maximum(0, x - (n - n1))) & (a <= np.minimum(x, n1))
    a = np.where(possible, a, np.maximum(0, x - (n - n1)))
    b = x - a
    log_p = (
        gammaln(x + 1.0)
        - gammaln(a + 1.0)
        - gammaln(b + 1.0)
        + gammaln(n - x + 1.0)
        - gammaln(n1 - a + 1.0)
        - gammaln(n - n1 - b + 1.0)
        + gammaln(n1 + 1.0)
        + gammaln(n - n1 + 1.0)
        - gammaln(n + 1.0)
    )
    return np.asarray(np.where(possible, log_p, -np.inf))
