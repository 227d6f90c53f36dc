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
.. [3] W. Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 58 (1963)
   13-30, Theorem 4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import (
    LN10,
    as_cases,
    as_margins,
    as_support,
    check_alternative,
    check_two_sided,
)
from .cmh import margins_matrix
from .hypergeometric import MINLIKE_TOLERANCE, log_tails, no_likelier

__all__ = [
    "extreme_tables",
    "extremes_at",
    "log10_pvalue",
    "log_pvalue",
    "log_pvalue_and_mid",
    "log_pvalue_ceiling",
    "minimum_log_pvalue",
    "minimum_log_pvalue_bound",
    "minimum_pvalue",
    "minimum_pvalue_bound",
    "pvalue",
]

# How a p-value is put together, for kernels.
GREATER, LESS, CENTRAL, MINLIKE = 0, 1, 2, 3
_LOG2 = math.log(2.0)
_BLOCK_TERMS = 2**12


def sidedness(alternative: str, two_sided: str) -> int:
    """Return the kernel's code of an alternative."""
    check_alternative(alternative)
    check_two_sided(two_sided)
    if alternative == "two-sided":
        return CENTRAL if two_sided == "central" else MINLIKE
    return GREATER if alternative == "greater" else LESS


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
            known[n, n1] = extremes_at(n, n1, np.arange(n + 1))
        return known[n, n1]

    margins = list(zip(sizes.astype(int).tolist(), case_sizes.astype(int).tolist(), strict=True))
    ups = [table(n, n1) for n, n1 in margins]
    downs = [table(n, n - n1) for n, n1 in margins]
    offset = np.zeros(len(lengths), dtype=np.int64)
    offset[1:] = np.cumsum(lengths)[:-1]
    return np.stack([np.concatenate(ups), np.concatenate(downs)]), offset


def extremes_at(n: int, n1: int, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -log r(x) at some x, by sums of log ratios, monotone on both sides of n1.

    Parameters
    ----------
    n, n1 : int
        Rows and cases of a stratum.
    places : ndarray of int64
        Ascending numbers from 0 to n.

    Returns
    -------
    ndarray of float64
        However many rows there are, a few thousand terms are in memory at a time.
    """
    found = np.zeros(len(places), dtype=np.float64)
    if n1 in (0, n):
        return found
    total = 0.0
    for first in range(0, n1, _BLOCK_TERMS):
        i = np.arange(first, min(first + _BLOCK_TERMS, n1), dtype=np.float64)
        steps = -np.log((n1 - i) / (n - i))
        steps[0] += total
        sums = np.cumsum(steps)
        some = slice(*np.searchsorted(places, [first + 1, first + len(i) + 1]).tolist())
        found[some] = sums[places[some] - first - 1]
        total = float(sums[-1])
    total = 0.0
    for last in range(n, n1, -_BLOCK_TERMS):
        # r(x - 1) = r(x) (x - n1) / x, from r(n) = 1
        x = np.arange(last, max(last - _BLOCK_TERMS, n1), -1, dtype=np.float64)
        steps = -np.log((x - n1) / x)
        steps[0] += total
        sums = np.cumsum(steps)
        some = slice(*np.searchsorted(places, [last - len(x), last]).tolist())
        found[some] = sums[last - 1 - places[some]]
        total = float(sums[-1])
    return found


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


def log_pvalue_ceiling(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    alternative: str = "two-sided",
    two_sided: str = "central",
) -> NDArray[np.float64]:
    r"""Return an upper bound of `log_pvalue` in closed form, to settle clear cases fast.

    Parameters
    ----------
    support, cases, sizes, case_sizes, alternative, two_sided
        As in `log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        At least `log_pvalue`; 0 where the bound says nothing, and always for "minlike".

    Raises
    ------
    InputError
        As in `log_pvalue`.

    Notes
    -----
    Markov's inequality for exp(theta A) bounds the tail from a on by
    :math:`e^{-\theta a} \prod_k E e^{\theta A_k}`, whatever theta; and the moment generating
    function of a hypergeometric variable is at most that of the binomial one with its draws and
    its mean (Hoeffding 1963, see the module), which may be x_k draws of the share of cases or n1_k
    draws of that of carriers.
    """
    side = sidedness(alternative, two_sided)
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    a = as_cases(cases, x, n, n1)
    n = np.maximum(n, 1.0)
    n_draws = np.minimum(x, n1)
    share = np.where(x <= n1, n1, x) / n
    mean = (n_draws * share).sum(axis=-1)
    # The log odds of a success among all draws, against those expected; any theta will do.
    most = np.maximum(n_draws.sum(axis=-1), 1.0)
    found, expected = np.clip(a, 0.5, most - 0.5), np.clip(mean, 1e-9 * most, (1 - 1e-9) * most)
    theta = np.log(found * (most - expected)) - np.log((most - found) * expected)
    log_mgf = (n_draws * np.log1p(share * np.expm1(theta)[..., None])).sum(axis=-1)
    bound = np.where((a - mean) * theta > 0.0, log_mgf - theta * a, 0.0)
    if side == MINLIKE:
        return np.zeros_like(bound)
    if side == CENTRAL:
        bound = bound + _LOG2
    else:
        bound = np.where(theta > 0.0 if side == GREATER else theta < 0.0, bound, 0.0)
    return np.minimum(bound, 0.0)


def _both_log_pvalues(
    cases: NDArray[np.int64], support: NDArray[np.int64], margins: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Return log p and log mid-p, shape (2, ...)."""
    flat = np.ascontiguousarray(support.reshape(-1, support.shape[-1]))
    a = np.array(cases, dtype=np.int64).reshape(-1)
    if side == MINLIKE:
        total, tied = no_likelier(a, flat, margins)
        both = np.stack([total, _without_half(total, tied)])
    else:
        lower, upper, point = log_tails(a, flat, margins)
        lowers = np.stack([lower, _without_half(lower, point)])
        uppers = np.stack([upper, _without_half(upper, point)])
        if side == CENTRAL:
            both = np.minimum(0.0, _LOG2 + np.minimum(lowers, uppers))
        else:
            both = uppers if side == GREATER else lowers
    return both.reshape(2, *support.shape[:-1])


def _without_half(log_sum: NDArray[np.float64], log_part: NDArray[np.float64]) -> Any:
    """Return the log of a sum less half of a part of it."""
    return log_sum + np.log1p(-0.5 * np.exp(log_part - log_sum))


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
    tables, offset = extreme_tables(n, n1)
    # A bound over all x' <= x: r_k falls up to n1_k and rises beyond, l_k up to n0_k.
    tops = (n1.astype(np.int64), (n - n1).astype(np.int64))
    up, down = (
        table[offset + (np.minimum(x, top) if bound else x)].sum(axis=-1)
        for table, top in zip(tables, tops, strict=True)
    )
    if side in (GREATER, LESS):
        evidence = up if side == GREATER else down
    else:
        evidence = np.maximum(up, down)
    if side == CENTRAL:
        evidence = np.maximum(0.0, evidence - _LOG2)
    elif side == MINLIKE and not bound:
        # The other end counts too if it is as unlikely.
        gap = evidence - np.minimum(up, down)
        both = (gap <= MINLIKE_TOLERANCE) & (evidence > 0.0)
        less = np.maximum(0.0, evidence - np.log1p(np.exp(-gap)))
        evidence = np.where(both, less, evidence)
    return np.asarray(-evidence, dtype=np.float64)


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
