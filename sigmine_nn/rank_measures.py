"""Measures of how far two orders, or several sets, are the same.

May import: `sigmine`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sigmine._checks import open_unit
from sigmine.exceptions import InputError

__all__ = ["jaccard", "kendall", "rank_biased_overlap", "selection_stability", "spearman"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def spearman(first: Floats, second: Floats) -> float:
    """Return Spearman's rank correlation.

    Parameters
    ----------
    first, second : ndarray of float64, shape (n,)
        Scores without NaN.

    Returns
    -------
    float
        In [-1, 1]; NaN for fewer than two scores, or where all of one side are equal.
    """
    if _constant(first) or _constant(second):
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def kendall(first: Floats, second: Floats) -> float:
    """Return Kendall's tau-b.

    Parameters
    ----------
    first, second : ndarray of float64, shape (n,)
        Scores without NaN.

    Returns
    -------
    float
        In [-1, 1]; NaN as for `spearman`.
    """
    if _constant(first) or _constant(second):
        return float("nan")
    return float(stats.kendalltau(first, second).statistic)


def _constant(values: Floats) -> bool:
    return len(values) < 2 or bool((values == values[0]).all())


def jaccard(first: Bools, second: Bools) -> float:
    """Return the size of the intersection of two sets over that of their union.

    Parameters
    ----------
    first, second : ndarray of bool, shape (n,)
        The sets.

    Returns
    -------
    float
        In [0, 1]; NaN for two empty sets.
    """
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else float("nan")


def rank_biased_overlap(first: ArrayLike, second: ArrayLike, persistence: float = 0.9) -> float:
    """Return the rank-biased overlap of two orders of the same things.

    Parameters
    ----------
    first, second : array_like of int, shape (n,)
        The same numbers, most important first.
    persistence : float, default=0.9
        Of a reader who goes on to the next rank with this probability, in (0, 1): the first
        1 / (1 - persistence) ranks count most.

    Returns
    -------
    float
        In [0, 1], 1 for equal orders; NaN for empty ones.

    Raises
    ------
    InputError
        For orders of different things, or a persistence outside (0, 1).

    Notes
    -----
    RBO_EXT, equation 30 of [1]_: the overlap at the last rank is taken to go on.

    References
    ----------
    .. [1] W. Webber, A. Moffat and J. Zobel, "A similarity measure for indefinite rankings", ACM
       Transactions on Information Systems 28 (2010) 20.

    Examples
    --------
    >>> rank_biased_overlap([0, 1, 2], [0, 1, 2])
    1.0
    >>> round(rank_biased_overlap([0, 1, 2], [2, 1, 0], persistence=0.5), 4)
    0.375
    """
    p = open_unit("persistence", persistence, "0.9")
    one, other = np.asarray(first), np.asarray(second)
    n = len(one)
    distinct = len(np.unique(one)) == n
    if one.shape != other.shape or not distinct or (np.sort(one) != np.sort(other)).any():
        raise InputError(
            f"orders of shapes {one.shape} and {other.shape} do not hold the same things, each "
            "once; give two orders of one set."
        )
    if n == 0:
        return float("nan")
    place = np.argsort(one)[np.searchsorted(np.sort(one), other)]  # in first, by rank in second
    deeper = np.maximum(place, np.arange(n))  # both have met it at this depth
    overlap = np.cumsum(np.bincount(deeper, minlength=n))
    depth = np.arange(1, n + 1)
    powers = np.exp(depth * np.log(p))
    return float(overlap[-1] / n * powers[-1] + (1 - p) / p * (overlap / depth * powers).sum())


def selection_stability(sets: ArrayLike) -> float:
    """Return how far sets repeat themselves, corrected for chance.

    Parameters
    ----------
    sets : array_like of bool, shape (n_sets, n)
        At least two sets.

    Returns
    -------
    float
        1 for equal sets, 0 on average for sets drawn at random, and a little below 0 at worst; NaN
        where every set is empty or full.

    Raises
    ------
    InputError
        For fewer than two sets.

    Notes
    -----
    Definition 4 of [1]_: 1 minus the mean variance of membership over that of random sets of the
    same mean size. Unlike the Jaccard index it does not grow with the size of the sets.

    References
    ----------
    .. [1] S. Nogueira, K. Sechidis and G. Brown, "On the stability of feature selection
       algorithms", Journal of Machine Learning Research 18 (2018) 174.

    Examples
    --------
    >>> selection_stability([[True, False, False], [True, False, False]])
    1.0
    """
    members = np.asarray(sets, dtype=bool)
    if members.ndim != 2 or len(members) < 2:
        raise InputError(
            f"sets have shape {members.shape}; give (n_sets, n_units) with at least two sets."
        )
    share = members.mean()
    if members.size == 0 or share in (0.0, 1.0):
        return float("nan")
    return float(1 - members.var(axis=0, ddof=1).mean() / (share * (1 - share)))
