r"""The Cochran-Mantel-Haenszel test with its chi-squared approximation.

Notation, per stratum k of K: n_k rows, n1_k cases, n0_k = n_k - n1_k, g_k = n1_k / n_k, x_k
carriers of the itemset; a is the number of carriers that are cases, over all strata.

.. math::

    T = \frac{\bigl(a - \sum_k g_k x_k\bigr)^2}{\sum_k c_k x_k (1 - x_k / n_k)},
    \qquad c_k = g_k (1 - g_k) \cdot \begin{cases} n_k / (n_k - 1) & \text{Mantel-Haenszel}\\
    1 & \text{Cochran (FACS)}\end{cases}

without continuity correction; T is compared with chi-squared on one degree of freedom. With one
stratum the Cochran form is Pearson's chi-squared.

References
----------
.. [1] W. G. Cochran, "Some methods for strengthening the common chi-squared tests", Biometrics
   10 (1954) 417-451.
.. [2] N. Mantel and W. Haenszel, "Statistical aspects of the analysis of data from retrospective
   studies of disease", JNCI 22 (1959) 719-748.
.. [3] L. Papaxanthos, F. Llinares-Lopez, D. Bodenham and K. Borgwardt, "Finding significant
   combinations of features in the presence of categorical covariates", NIPS 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr

from .._jit import njit, njit_inline, njit_leaf
from ._arrays import LN10, as_cases, as_margins, as_support, check_alternative, check_variance

__all__ = [
    "log10_pvalue",
    "log_pvalue",
    "margins_matrix",
    "minimum_log_pvalue",
    "minimum_log_pvalue_bound",
    "minimum_pvalue",
    "minimum_pvalue_bound",
    "pvalue",
    "signed_root",
    "spread",
    "statistic",
]

_LOG2 = float(np.log(2.0))


def spread(
    sizes: NDArray[np.float64], case_sizes: NDArray[np.float64], variance: str
) -> NDArray[np.float64]:
    """Return c_k, the part of the variance that does not depend on the itemset.

    Parameters
    ----------
    sizes, case_sizes : ndarray of float64, shape (n_strata,)
        n_k and n1_k.
    variance : {"mantel-haenszel", "cochran"}
        Denominator n_k - 1 or n_k.

    Returns
    -------
    ndarray of float64, shape (n_strata,)
        Zero where a stratum has one class or one row only.
    """
    check_variance(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(sizes > 0, case_sizes / sizes, 0.0)
        c = share * (1.0 - share)
        if variance == "mantel-haenszel":
            c = np.where(sizes > 1, c * sizes / (sizes - 1.0), 0.0)
    return np.ascontiguousarray(c, dtype=np.float64)


# Rows of the matrix of margins that kernels take: n_k, n1_k, g_k, c_k.
SIZE, CASES, SHARE, SPREAD = 0, 1, 2, 3


def margins_matrix(
    sizes: NDArray[np.float64], case_sizes: NDArray[np.float64], variance: str
) -> NDArray[np.float64]:
    """Return what kernels need of the strata: rows n_k, n1_k, g_k, c_k.

    Parameters
    ----------
    sizes, case_sizes : ndarray of float64, shape (n_strata,)
        n_k and n1_k.
    variance : {"mantel-haenszel", "cochran"}
        Decides c_k.

    Returns
    -------
    ndarray of float64, shape (4, n_strata)
        An empty stratum is written as one control row, which adds nothing to anything.
    """
    size = np.maximum(sizes, 1.0)
    return np.ascontiguousarray(
        np.stack([size, case_sizes, case_sizes / size, spread(sizes, case_sizes, variance)])
    )


@njit_leaf
def null_moments(x: NDArray[np.int64], margins: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and variance of a under the null hypothesis."""
    mean = 0.0
    variance = 0.0
    for k in range(x.shape[0]):
        mean += margins[SHARE, k] * x[k]
        variance += margins[SPREAD, k] * x[k] * (1.0 - x[k] / margins[SIZE, k])
    return mean, variance


@njit_inline
def maximum_statistic(
    x: NDArray[np.int64], margins: NDArray[np.float64], up: int, down: int
) -> float:
    """Return the largest statistic that these margins can attain (0 where the variance is 0).

    The statistic is a square of a linear function of a, so it is largest with every stratum pushed
    to the same end; `up` and `down` say which ends the alternative counts.
    """
    highest = 0.0
    lowest = 0.0
    variance = 0.0
    for k in range(x.shape[0]):
        carriers = float(x[k])
        expected = margins[SHARE, k] * carriers
        controls = margins[SIZE, k] - margins[CASES, k]
        highest += min(carriers, margins[CASES, k]) - expected
        lowest += max(0.0, carriers - controls) - expected
        variance += margins[SPREAD, k] * carriers * (1.0 - carriers / margins[SIZE, k])
    if variance <= 0.0:
        return 0.0
    best = 0.0
    if up:
        best = highest * highest
    if down:
        best = max(best, lowest * lowest)
    return best / variance


# Rows of the scratch space of the bound.
F, V, RATIO = 0, 1, 2


@njit_leaf
def _best_prefix(scratch: NDArray[np.float64], count: int) -> float:
    """Return the maximum over prefixes, in ascending v / f, of (sum f)^2 / sum v.

    Sorts the columns of `scratch` in place by Shell's method with Ciura's gaps: few strata (the
    usual case) cost an insertion sort, a thousand stay far from quadratic, and it compiles fast.
    """
    for gap in (701, 301, 132, 57, 23, 10, 4, 1):
        for i in range(gap, count):
            f, v, ratio = scratch[F, i], scratch[V, i], scratch[RATIO, i]
            j = i - gap
            while j >= 0 and scratch[RATIO, j] > ratio:
                scratch[F, j + gap] = scratch[F, j]
                scratch[V, j + gap] = scratch[V, j]
                scratch[RATIO, j + gap] = scratch[RATIO, j]
                j -= gap
            scratch[F, j + gap], scratch[V, j + gap], scratch[RATIO, j + gap] = f, v, ratio
    best = 0.0
    total_f = 0.0
    total_v = 0.0
    for i in range(count):
        total_f += scratch[F, i]
        total_v += scratch[V, i]
        best = max(best, total_f * total_f / total_v)
    return best


@njit_leaf
def maximum_statistic_bound(
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
    up: int,
    down: int,
    cut: float,
    scratch: NDArray[np.float64],
) -> float:
    """Return the largest `maximum_statistic` over all margins x' <= x.

    Theorem (see the documentation, "The mathematics"): pushed upwards, the maximum over the box is
    attained with every stratum at 0 or at m_k = min(x_k, n1_k), and among those 2^K corners at a
    prefix of the strata sorted by v_k / f_k, where f_k = (1 - g_k) m_k and
    v_k = c_k m_k (1 - m_k / n_k); downwards with m_k = min(x_k, n0_k) and f_k = g_k m_k.

    If even sum f_k^2 / v_k is below `cut`, that sum is returned: it is never below the maximum
    (Cauchy-Schwarz), so the comparison with `cut` comes out the same, without a sort.

    `scratch` has shape (3, n_strata).
    """
    best = 0.0
    for side in range(2):
        if (side == 0 and not up) or (side == 1 and not down):
            continue
        count = 0
        ceiling = 0.0
        for k in range(x.shape[0]):
            size = margins[SIZE, k]
            room = margins[CASES, k] if side == 0 else size - margins[CASES, k]
            weight = 1.0 - margins[SHARE, k] if side == 0 else margins[SHARE, k]
            m = min(float(x[k]), room)
            c = margins[SPREAD, k]
            if m <= 0.0 or c <= 0.0:  # f_k = 0: the stratum cannot raise this side
                continue
            f = weight * m
            v = c * m * (1.0 - m / size)
            scratch[F, count] = f
            scratch[V, count] = v
            scratch[RATIO, count] = v / f
            ceiling += f * f / v
            count += 1
        if ceiling < cut:
            best = max(best, ceiling)
        else:
            best = max(best, _best_prefix(scratch, count))
    return best


@njit
def _maximum_statistics(
    support: NDArray[np.int64],
    margins: NDArray[np.float64],
    up: int,
    down: int,
    bound: bool,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` with the maximum statistic, or its bound, of every row of `support`."""
    scratch = np.empty((3, margins.shape[1]), dtype=np.float64)
    for i in range(support.shape[0]):
        if bound:
            out[i] = maximum_statistic_bound(support[i], margins, up, down, -1.0, scratch)
        else:
            out[i] = maximum_statistic(support[i], margins, up, down)


def signed_root(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    variance: str = "mantel-haenszel",
) -> NDArray[np.float64]:
    """Return the signed root of the statistic: positive if carriers are cases more often.

    Parameters
    ----------
    support : array_like of int, shape (..., n_strata)
        Carriers in every stratum, x_k, 0 to n_k.
    cases : array_like of int, shape (...)
        Carriers that are cases, over all strata, a.
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k and n1_k.
    variance : {"mantel-haenszel", "cochran"}, default="mantel-haenszel"
        Denominator n_k - 1 or n_k in the variance.

    Returns
    -------
    ndarray of float64, shape (...)
        Approximately standard normal under the null; nan where the variance is zero.

    Raises
    ------
    InputError
        If the shapes do not fit or a count is outside its range.
    """
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    a = as_cases(cases, x, n, n1)
    share = np.divide(n1, n, out=np.zeros_like(n), where=n > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(n > 0, x / n, 0.0)
        var = (spread(n, n1, variance) * x * (1.0 - part)).sum(axis=-1)
        z = (a - (share * x).sum(axis=-1)) / np.sqrt(var)
    return np.asarray(np.where(var > 0, z, np.nan), dtype=np.float64)


def statistic(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    variance: str = "mantel-haenszel",
) -> NDArray[np.float64]:
    """Return the Cochran-Mantel-Haenszel statistic, without continuity correction.

    Parameters
    ----------
    support, cases, sizes, case_sizes, variance
        As in `signed_root`.

    Returns
    -------
    ndarray of float64, shape (...)
        T >= 0; 0 where the variance is zero (no stratum says anything).

    Raises
    ------
    InputError
        As in `signed_root`.

    See Also
    --------
    sigmine.association.cmh_exact : the same conditional test without the approximation.

    Examples
    --------
    >>> float(statistic([[10]], [8], [20], [10], variance="cochran")[0].round(6))
    7.2
    """
    z = signed_root(support, cases, sizes, case_sizes, variance=variance)
    return np.asarray(np.nan_to_num(z * z, nan=0.0), dtype=np.float64)


def log_pvalue(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    variance: str = "mantel-haenszel",
    alternative: str = "two-sided",
) -> NDArray[np.float64]:
    """Return the natural logarithm of the p-value, accurate far below the smallest double.

    Parameters
    ----------
    support, cases, sizes, case_sizes, variance
        As in `signed_root`.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        "greater": carriers are cases more often than others of their stratum.

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0; 0 (p = 1) where the variance is zero.

    Raises
    ------
    InputError
        As in `signed_root`; or if the alternative is not known.
    """
    check_alternative(alternative)
    z = signed_root(support, cases, sizes, case_sizes, variance=variance)
    if alternative == "two-sided":
        logp = np.minimum(_LOG2 + log_ndtr(-np.abs(z)), 0.0)
    else:
        logp = log_ndtr(-z if alternative == "greater" else z)
    return np.asarray(np.where(np.isnan(z), 0.0, logp), dtype=np.float64)


def pvalue(
    support: ArrayLike,
    cases: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    variance: str = "mantel-haenszel",
    alternative: str = "two-sided",
) -> NDArray[np.float64]:
    """Return the p-value.

    Parameters
    ----------
    support, cases, sizes, case_sizes, variance, alternative
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
    check_alternative(alternative)
    z = signed_root(support, cases, sizes, case_sizes, variance=variance)
    if alternative == "two-sided":
        p = np.minimum(2.0 * ndtr(-np.abs(z)), 1.0)
    else:
        p = ndtr(-z if alternative == "greater" else z)
    return np.asarray(np.where(np.isnan(z), 1.0, p), dtype=np.float64)


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


def log_pvalue_of_statistic(
    value: NDArray[np.float64], alternative: str = "two-sided"
) -> NDArray[np.float64]:
    """Return log p of a statistic in the direction of the alternative; 0 for a statistic of 0."""
    root = np.sqrt(np.asarray(value, dtype=np.float64))
    one_sided = log_ndtr(-root)
    logp = one_sided + _LOG2 if alternative == "two-sided" else one_sided
    # A maximum statistic of 0 means that the variance is 0: nothing can be learnt, p = 1.
    return np.asarray(np.where(root > 0, np.minimum(logp, 0.0), 0.0), dtype=np.float64)


def _attainable(
    support: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    variance: str,
    alternative: str,
    bound: bool,
) -> NDArray[np.float64]:
    check_alternative(alternative)
    n, n1 = as_margins(sizes, case_sizes)
    x = as_support(support, n)
    flat = np.ascontiguousarray(x.reshape(-1, len(n)))
    out = np.empty(len(flat), dtype=np.float64)
    _maximum_statistics(
        flat,
        margins_matrix(n, n1, variance),
        int(alternative != "less"),
        int(alternative != "greater"),
        bound,
        out,
    )
    return log_pvalue_of_statistic(out, alternative).reshape(x.shape[:-1])


def minimum_log_pvalue(
    support: ArrayLike,
    sizes: ArrayLike,
    case_sizes: ArrayLike,
    *,
    variance: str = "mantel-haenszel",
    alternative: str = "two-sided",
) -> NDArray[np.float64]:
    """Return the log of the smallest p-value that any table with these margins can have.

    Parameters
    ----------
    support : array_like of int, shape (..., n_strata)
        Carriers in every stratum.
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k and n1_k.
    variance : {"mantel-haenszel", "cochran"}, default="mantel-haenszel"
        As in `signed_root`.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        As in `log_pvalue`.

    Returns
    -------
    ndarray of float64, shape (...)
        At most 0.

    Raises
    ------
    InputError
        If the shapes do not fit, a count is outside its range, or the alternative is not known.
    """
    return _attainable(support, sizes, case_sizes, variance, alternative, bound=False)


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
    variance: str = "mantel-haenszel",
    alternative: str = "two-sided",
) -> NDArray[np.float64]:
    """Return the least `minimum_log_pvalue` over all margins x' <= x: no superset goes below it.

    The bound is exact (attained by some x' in the box) for any margins; the published rule needs
    x_k <= min(n1_k, n0_k) in every stratum. Cost O(K log K).

    Parameters
    ----------
    support, sizes, case_sizes, variance, alternative
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
    The formula and its proof are in "The mathematics", Theorem 1.
    """
    return _attainable(support, sizes, case_sizes, variance, alternative, bound=True)


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
