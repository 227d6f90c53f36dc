r"""The exact conditional Cochran-Mantel-Haenszel test (a stratified Fisher test).

Given the margins of every stratum, the number of cases among the carriers, A, is a sum of
independent hypergeometric variables under the null hypothesis that, within each stratum, carrying
the itemset and being a case are independent. The p-value is a tail of that law: no approximation,
whatever the class balance and the number of strata. With one stratum it is Fisher's exact test;
with several it is what R prints for ``mantelhaen.test(exact = TRUE)``.

The extreme outcomes of stratum k have the probabilities

.. math::

    r_k(x) = \begin{cases}\binom{n_{1k}}{x} / \binom{n_k}{x} & x \le n_{1k}\\
    \binom{x}{n_{1k}} / \binom{n_k}{n_{1k}} & x > n_{1k}\end{cases}

(all carriers cases, or all cases carriers) and l_k(x), the same with n0_k, at the other end. So the
minimum p-value is a product of table look-ups, and because r_k falls on [0, n1_k] and rises beyond,
its minimum over every x' <= x is the same product at min(x_k, n1_k).

References
----------
.. [1] N. E. Breslow and N. E. Day, "Statistical Methods in Cancer Research, volume I: The Analysis
   of Case-Control Studies", IARC (1980), chapter 4.
.. [2] A. Agresti, "A survey of exact inference for contingency tables", Statistical Science 7
   (1992) 131-153.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._jit import njit, njit_inline, njit_leaf
from ._arrays import (
    LN10,
    as_cases,
    as_margins,
    as_support,
    check_alternative,
    check_two_sided,
)
from .cmh import CASES, SIZE, margins_matrix
from .hypergeometric import MINLIKE_TOLERANCE, log_tails, point_pvalue_sum

__all__ = [
    "extreme_tables",
    "log10_pvalue",
    "log_pvalue",
    "log_pvalue_and_mid",
    "minimum_log_pvalue",
    "minimum_log_pvalue_bound",
    "minimum_pvalue",
    "minimum_pvalue_bound",
    "pvalue",
]

# How a p-value is put together, for kernels.
GREATER, LESS, CENTRAL, MINLIKE = 0, 1, 2, 3
_LOG2 = math.log(2.0)


def sidedness(alternative: str, two_sided: str) -> int:
    """Return the kernel's code of an alternative."""
    check_alternative(alternative)
    check_two_sided(two_sided)
    if alternative == "two-sided":
        return CENTRAL if two_sided == "central" else MINLIKE
    return GREATER if alternative == "greater" else LESS


# Rows of the tables of extremes: all carriers cases (or all cases carriers), and the other end.
UP, DOWN = 0, 1


def extreme_tables(
    sizes: NDArray[np.float64], case_sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return -log r_k(x) and -log l_k(x) for every x, strata one behind the other.

    Parameters
    ----------
    sizes, case_sizes : ndarray of float64, shape (n_strata,)
        n_k and n1_k.

    Returns
    -------
    tables : ndarray of float64, shape (2, sum of n_k + 1)
        ``tables[0, offset[k] + x]`` is -log r_k(x), ``tables[1, offset[k] + x]`` is -log l_k(x).
    offset : ndarray of int64, shape (n_strata,)
    """
    lengths = sizes.astype(np.int64) + 1
    known: dict[tuple[int, int], NDArray[np.float64]] = {}

    def table(n: int, n1: int) -> NDArray[np.float64]:
        if (n, n1) not in known:  # thousands of small strata share a few sizes
            known[n, n1] = _negative_log_extreme(n, n1)
        return known[n, n1]

    margins = list(zip(sizes.astype(int).tolist(), case_sizes.astype(int).tolist(), strict=True))
    ups = [table(n, n1) for n, n1 in margins]
    downs = [table(n, n - n1) for n, n1 in margins]
    offset = np.zeros(len(lengths), dtype=np.int64)
    offset[1:] = np.cumsum(lengths)[:-1]
    return np.stack([np.concatenate(ups), np.concatenate(downs)]), offset


def _negative_log_extreme(n: int, n1: int) -> NDArray[np.float64]:
    """Return -log r(x) for x = 0..n by sums of log ratios, monotone on both sides of n1."""
    table = np.zeros(n + 1, dtype=np.float64)
    if n1 in (0, n):
        return table
    i = np.arange(n1, dtype=np.float64)
    table[1 : n1 + 1] = np.cumsum(-np.log((n1 - i) / (n - i)))
    x = np.arange(n, n1, -1, dtype=np.float64)  # r(x - 1) = r(x) (x - n1) / x, from r(n) = 1
    table[n1:n] = np.cumsum(-np.log((x - n1) / x))[::-1]
    return table


@njit_inline
def minimum_evidence_exact(
    x: NDArray[np.int64], tables: NDArray[np.float64], offset: NDArray[np.int64], side: int
) -> float:
    """Return -log of the minimum p-value, at least 0."""
    high = 0.0
    low = 0.0
    for k in range(x.shape[0]):
        high += tables[UP, offset[k] + x[k]]
        low += tables[DOWN, offset[k] + x[k]]
    if side == GREATER:
        return high
    if side == LESS:
        return low
    larger = max(high, low)
    if side == CENTRAL:
        return max(0.0, larger - _LOG2)
    gap = larger - min(high, low)  # minlike: the other end counts too if it is as unlikely
    if larger == 0.0:
        return 0.0
    if gap <= MINLIKE_TOLERANCE:
        return max(0.0, larger - math.log1p(math.exp(-gap)))
    return larger


@njit_leaf
def minimum_evidence_bound_exact(
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
    tables: NDArray[np.float64],
    offset: NDArray[np.int64],
    side: int,
) -> float:
    """Return the largest `minimum_evidence_exact` that any x' <= x may have."""
    high = 0.0
    low = 0.0
    for k in range(x.shape[0]):
        n1 = int(margins[CASES, k])
        n0 = int(margins[SIZE, k]) - n1
        high += tables[UP, offset[k] + min(x[k], n1)]
        low += tables[DOWN, offset[k] + min(x[k], n0)]
    if side == GREATER:
        return high
    if side == LESS:
        return low
    if side == CENTRAL:
        return max(0.0, max(high, low) - _LOG2)
    return max(high, low)


@njit
def _log_pvalues_from_tails(
    cases: NDArray[np.int64],
    support: NDArray[np.int64],
    margins: NDArray[np.float64],
    side: int,
    out: NDArray[np.float64],
) -> None:
    """Write log p and log mid-p of every pattern into the two rows of `out`."""
    for i in range(cases.shape[0]):
        lower, upper, point = log_tails(cases[i], support[i], margins)
        for mid in range(2):
            if mid:
                lower += math.log1p(-0.5 * math.exp(point - lower))
                upper += math.log1p(-0.5 * math.exp(point - upper))
            if side == GREATER:
                out[mid, i] = upper
            elif side == LESS:
                out[mid, i] = lower
            else:
                out[mid, i] = min(0.0, _LOG2 + min(lower, upper))


@njit
def _log_pvalues_minlike(
    cases: NDArray[np.int64],
    support: NDArray[np.int64],
    margins: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write log p and log mid-p of every pattern into the two rows of `out`."""
    for i in range(cases.shape[0]):
        total, tied = point_pvalue_sum(cases[i], support[i], margins)
        out[0, i] = total
        out[1, i] = total + math.log1p(-0.5 * math.exp(tied - total))


@njit
def _minimum_evidences(
    support: NDArray[np.int64],
    margins: NDArray[np.float64],
    tables: NDArray[np.float64],
    offset: NDArray[np.int64],
    side: int,
    bound: bool,
    out: NDArray[np.float64],
) -> None:
    for i in range(support.shape[0]):
        if bound:
            out[i] = minimum_evidence_bound_exact(support[i], margins, tables, offset, side)
        else:
            out[i] = minimum_evidence_exact(support[i], tables, offset, side)


def log_pvalue(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    alternative: str = "two-sided",
    two_sided: str = "central",
    mid_p: bool = False,
) -> NDArray[np.float64]:
    """Return the natural logarithm of the exact p-value, accurate at any depth.

    Parameters
    ----------
    support : array_like of int, shape (..., n_strata)
        Carriers in every stratum, x_k, 0 to n_k.
    cases : array_like of int, shape (...)
        Carriers that are cases, over all strata.
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k and n1_k.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        "greater": carriers are cases more often than others of their stratum.
    two_sided : {"central", "minlike"}, default="central"
        Twice the smaller tail, at most 1; or the sum over the outcomes no likelier than the
        observed one (within a relative 1e-7), as R and scipy do.
    mid_p : bool, default=False
        Count the observed outcome (and, for "minlike", those as likely) by half. Closer to
        uniform under the null, but no longer a guaranteed level.

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0.

    Raises
    ------
    InputError
        If the shapes do not fit, a count is outside its range, or the alternative is not known.

    Notes
    -----
    Under the null hypothesis of conditional independence given the strata, P(p <= t) <= t for
    every t, exactly (without `mid_p`).

    Examples
    --------
    >>> float(log_pvalue([[8]], [7], [20], [10], two_sided="minlike")[0].round(6))
    -3.923761
    """
    side = sidedness(alternative, two_sided)
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    a = as_cases(cases, x, n, n1)
    both = _both_log_pvalues(a, x, margins_matrix(n, n1, "mantel-haenszel"), side)
    return np.asarray(both[int(mid_p)], dtype=np.float64)


def log_pvalue_and_mid(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    alternative: str = "two-sided",
    two_sided: str = "central",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log p-values and the log mid-p-values, for the price of one.

    Parameters
    ----------
    support, cases, sizes, case_sizes, alternative, two_sided
        As in `log_pvalue`.

    Returns
    -------
    log_pvalue, log_mid_pvalue : ndarray of float64, shape (...)
        As `log_pvalue` returns them without and with ``mid_p``.

    Raises
    ------
    InputError
        As in `log_pvalue`.
    """
    side = sidedness(alternative, two_sided)
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    both = _both_log_pvalues(
        as_cases(cases, x, n, n1), x, margins_matrix(n, n1, "mantel-haenszel"), side
    )
    return both[0], both[1]


def _both_log_pvalues(
    cases: NDArray[np.int64], support: NDArray[np.int64], margins: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Return log p and log mid-p, shape (2, ...); kernels of their own, so that one compiles."""
    out = np.empty((2, cases.size), dtype=np.float64)
    flat = np.ascontiguousarray(support.reshape(-1, support.shape[-1]))
    a = np.array(cases, dtype=np.int64).reshape(-1)
    if side == MINLIKE:
        _log_pvalues_minlike(a, flat, margins, out)
    else:
        _log_pvalues_from_tails(a, flat, margins, side, out)
    return out.reshape(2, *support.shape[:-1])


def pvalue(*args: Any, **kwargs: Any) -> NDArray[np.float64]:
    """Return the exact p-value.

    Parameters
    ----------
    *args, **kwargs
        As in `log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        Between 0 and 1; below 1e-308 it is 0, and `log_pvalue` is what still tells.

    Raises
    ------
    InputError
        As in `log_pvalue`.
    """
    return np.asarray(np.exp(log_pvalue(*args, **kwargs)), dtype=np.float64)


def log10_pvalue(*args: Any, **kwargs: Any) -> NDArray[np.float64]:
    """Return the base-10 logarithm of the p-value.

    Parameters
    ----------
    *args, **kwargs
        As in `log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0.

    Raises
    ------
    InputError
        As in `log_pvalue`.
    """
    return log_pvalue(*args, **kwargs) / LN10


def _attainable(
    support: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    alternative: str,
    two_sided: str,
    bound: bool,
) -> NDArray[np.float64]:
    side = sidedness(alternative, two_sided)
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    flat = np.ascontiguousarray(x.reshape(-1, len(n)))
    out = np.empty(len(flat), dtype=np.float64)
    margins = margins_matrix(n, n1, "mantel-haenszel")
    tables, offset = extreme_tables(n, n1)
    _minimum_evidences(flat, margins, tables, offset, side, bound, out)
    return -out.reshape(x.shape[:-1])


def minimum_log_pvalue(
    support: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    alternative: str = "two-sided",
    two_sided: str = "central",
) -> NDArray[np.float64]:
    """Return the log of the smallest p-value that any table with these margins can have.

    Parameters
    ----------
    support : array_like of int, shape (..., n_strata)
        Carriers in every stratum.
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k and n1_k.
    alternative, two_sided
        As in `log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0.

    Raises
    ------
    InputError
        If the shapes do not fit, a count is outside its range, or the alternative is not known.

    Notes
    -----
    A log-concave law is least likely at one of its two ends, so the minimum is 2 min(prod r,
    prod l) ("central", at most 1), prod r or prod l (one-sided), and for "minlike"
    min(prod r, prod l), or their sum where the two ends are equally likely.
    """
    return _attainable(support, sizes, case_sizes, alternative, two_sided, bound=False)


def minimum_pvalue(*args: Any, **kwargs: Any) -> NDArray[np.float64]:
    """Return the smallest p-value that any table with these margins can have.

    Parameters
    ----------
    *args, **kwargs
        As in `minimum_log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        Between 0 and 1.

    Raises
    ------
    InputError
        As in `minimum_log_pvalue`.
    """
    return np.asarray(np.exp(minimum_log_pvalue(*args, **kwargs)), dtype=np.float64)


def minimum_log_pvalue_bound(
    support: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    alternative: str = "two-sided",
    two_sided: str = "central",
) -> NDArray[np.float64]:
    """Return a lower bound of `minimum_log_pvalue` over all margins x' <= x, in O(K).

    Attained by some x' in the box, except for "minlike" where both ends are equally likely: there
    it may be lower by at most log 2.

    Parameters
    ----------
    support, sizes, case_sizes, alternative, two_sided
        As in `minimum_log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        At most `minimum_log_pvalue` of the same margins.

    Raises
    ------
    InputError
        As in `minimum_log_pvalue`.

    Notes
    -----
    The formula and its proof are in "The mathematics", Theorem 2.
    """
    return _attainable(support, sizes, case_sizes, alternative, two_sided, bound=True)


def minimum_pvalue_bound(*args: Any, **kwargs: Any) -> NDArray[np.float64]:
    """Return a p-value that no margins x' <= x can go below.

    Parameters
    ----------
    *args, **kwargs
        As in `minimum_log_pvalue_bound`.

    Returns
    -------
    ndarray of float64, shape (...)
        Between 0 and 1.

    Raises
    ------
    InputError
        As in `minimum_log_pvalue_bound`.
    """
    return np.asarray(np.exp(minimum_log_pvalue_bound(*args, **kwargs)), dtype=np.float64)
