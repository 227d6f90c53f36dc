r"""How strong an association is, given the strata: odds ratios, intervals, homogeneity.

All functions take counts of shape (..., n_strata, 2, 2), one 2 x 2 table a stratum,

.. code-block:: text

                 cases   controls
    carriers       a         b
    others         c         d

with n = a + b + c + d, and work on all leading axes at once.

A stratum with no rows, or with an empty row or column of its table, says nothing about the odds
ratio; each function says what it does with one, and names the source of its formula.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, ndtri

from sigmine._checks import open_unit
from sigmine.exceptions import InputError, InputTypeError

from ._arrays import fitted_cell

__all__ = [
    "BreslowDayResult",
    "breslow_day",
    "has_empty_cell",
    "is_informative",
    "pooled_odds_ratio",
    "pooled_odds_ratio_interval",
    "stratum_odds_ratios",
]

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


class BreslowDayResult(NamedTuple):
    """Outcome of the test that all strata share one odds ratio.

    Attributes
    ----------
    statistic : ndarray of float64, shape (...)
        Compared with chi-squared; nan where the test is not defined.
    pvalue : ndarray of float64, shape (...)
        nan where the statistic is nan.
    dof : ndarray of int64, shape (...)
        Informative strata less one, at least 0.
    """

    statistic: Floats
    pvalue: Floats
    dof: NDArray[np.int64]


def _as_tables(tables: ArrayLike) -> Floats:
    """Check shape and range of the counts; float64, since products of counts overflow integers."""
    try:
        counts = np.asarray(tables, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            f"tables is not an array of numbers ({error}); give counts of shape "
            "(..., n_strata, 2, 2)."
        ) from error
    if counts.ndim < 3 or counts.shape[-2:] != (2, 2):
        raise InputError(
            f"tables has shape {counts.shape}; it must be (..., n_strata, 2, 2). For one table "
            "without strata use tables[None]."
        )
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise InputError("tables holds a negative or missing count; counts are at least 0.")
    return counts


def _critical_value(level: float) -> float:
    """Return the normal quantile of a two-sided interval."""
    return float(-ndtri((1.0 - open_unit("level", level, "0.95")) / 2.0))


def _cells(counts: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return a, b, c, d and n, each of shape (..., n_strata)."""
    a, b = counts[..., 0, 0], counts[..., 0, 1]
    c, d = counts[..., 1, 0], counts[..., 1, 1]
    return a, b, c, d, a + b + c + d


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with 0 where the denominator is 0."""
    out = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape), dtype=np.float64)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def is_informative(tables: ArrayLike) -> Masks:
    """Tell which strata say something about the odds ratio.

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].

    Returns
    -------
    ndarray of bool, shape (..., n_strata)
        True where the stratum has carriers and others, cases and controls.

    Raises
    ------
    InputError
        As in `pooled_odds_ratio`.
    """
    counts = _as_tables(tables)
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    return np.asarray((rows > 0).all(axis=-1) & (columns > 0).all(axis=-1), dtype=np.bool_)


def has_empty_cell(tables: ArrayLike) -> Masks:
    """Tell where `stratum_odds_ratios` adds one half to every cell.

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].

    Returns
    -------
    ndarray of bool, shape (..., n_strata)
        True where a stratum is informative and has a cell of 0.

    Raises
    ------
    InputError
        As in `pooled_odds_ratio`.
    """
    counts = _as_tables(tables)
    return np.asarray(is_informative(counts) & (counts == 0).any(axis=(-2, -1)), dtype=np.bool_)


def pooled_odds_ratio(tables: ArrayLike) -> Floats:
    r"""Estimate the odds ratio that the strata share, after Mantel and Haenszel.

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].

    Returns
    -------
    ndarray of float64, shape (...)
        In [0, inf]. inf where the numerator alone is positive, 0 where the denominator alone is,
        nan where both are 0 (no stratum has two filled cells on a diagonal).

    Raises
    ------
    InputError
        The shape is not (..., n_strata, 2, 2), or a count is negative or missing.

    See Also
    --------
    pooled_odds_ratio_interval : confidence limits.
    breslow_day : whether one odds ratio describes all strata.

    Notes
    -----
    The estimate of Mantel and Haenszel [1]_ is

    .. math:: \hat\psi = \frac{\sum_k a_k d_k / n_k}{\sum_k b_k c_k / n_k}

    Strata with an empty row or column add nothing to either sum.

    References
    ----------
    .. [1] N. Mantel and W. Haenszel, "Statistical aspects of the analysis of data from
       retrospective studies of disease", Journal of the National Cancer Institute 22 (1959)
       719-748, `doi:10.1093/jnci/22.4.719 <https://doi.org/10.1093/jnci/22.4.719>`_.

    Examples
    --------
    Carriers against others, in two hospitals:

    >>> tables = [[[20, 14], [10, 24]], [[15, 12], [3, 15]]]
    >>> round(float(pooled_odds_ratio(tables)), 3)
    4.218
    """
    a, b, c, d, n = _cells(_as_tables(tables))
    numerator = _divide(a * d, n).sum(axis=-1)
    denominator = _divide(b * c, n).sum(axis=-1)
    return _ratio(numerator, denominator)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide two sums that are at least 0: inf and nan by the rule of `pooled_odds_ratio`."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.true_divide(numerator, denominator), dtype=np.float64)


def pooled_odds_ratio_interval(tables: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    r"""Compute limits of the Mantel-Haenszel odds ratio, after Robins, Breslow and Greenland.

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].
    level : float, default=0.95
        Confidence level, in (0, 1).

    Returns
    -------
    low, high : ndarray of float64, shape (...)
        Limits. Both are nan where the estimate is 0, inf or nan: the variance of its logarithm is
        not defined there.

    Raises
    ------
    InputError
        Shape or counts as in `pooled_odds_ratio`, or a level outside (0, 1).
    InputTypeError
        A level that is not a number.

    Notes
    -----
    With P = (a + d) / n, Q = (b + c) / n, R = a d / n and S = b c / n of every stratum, the
    variance of log psi is estimated [1]_ by

    .. math::

        \frac{\sum P R}{2 (\sum R)^2} + \frac{\sum (P S + Q R)}{2 \sum R \sum S}
        + \frac{\sum Q S}{2 (\sum S)^2}

    which is consistent both for few large strata and for many small ones; the limits are
    psi exp(+-z sqrt(variance)). With one stratum the variance is Woolf's, 1/a + 1/b + 1/c + 1/d.

    References
    ----------
    .. [1] J. Robins, N. Breslow and S. Greenland, "Estimators of the Mantel-Haenszel variance
       consistent in both sparse data and large-strata limiting models", Biometrics 42 (1986)
       311-323, `doi:10.2307/2531052 <https://doi.org/10.2307/2531052>`_.

    Examples
    --------
    >>> low, high = pooled_odds_ratio_interval([[[20, 14], [10, 24]], [[15, 12], [3, 15]]])
    >>> round(float(low), 3), round(float(high), 3)
    (1.857, 9.583)
    """
    z = _critical_value(level)
    a, b, c, d, n = _cells(_as_tables(tables))
    p, q = _divide(a + d, n), _divide(b + c, n)
    r, s = _divide(a * d, n), _divide(b * c, n)
    r_sum, s_sum = np.asarray(r.sum(axis=-1)), np.asarray(s.sum(axis=-1))
    variance = 0.5 * (
        _divide((p * r).sum(axis=-1), r_sum**2)
        + _divide((p * s + q * r).sum(axis=-1), r_sum * s_sum)
        + _divide((q * s).sum(axis=-1), s_sum**2)
    )
    defined = (r_sum > 0) & (s_sum > 0)
    log_odds = np.log(np.where(defined, _ratio(r_sum, s_sum), np.nan))
    width = z * np.sqrt(variance)
    return np.asarray(np.exp(log_odds - width)), np.asarray(np.exp(log_odds + width))


def breslow_day(tables: ArrayLike, tarone: bool = True) -> BreslowDayResult:
    r"""Test whether one odds ratio describes all strata (Breslow and Day).

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].
    tarone : bool, default=True
        Subtract Tarone's correction, without which the statistic is not quite chi-squared because
        the Mantel-Haenszel estimate is not the efficient one.

    Returns
    -------
    BreslowDayResult
        statistic, pvalue and dof, each of shape (...). Strata with an empty row or column are left
        out and are not counted in dof. Statistic and p-value are nan where fewer than two strata
        are left (nothing to compare), and where the pooled odds ratio is 0, inf or nan (no table
        has such a ratio inside its margins).

    Raises
    ------
    InputError
        The shape is not (..., n_strata, 2, 2), or a count is negative or missing.

    Notes
    -----
    In every stratum e is the expected a given the margins and the pooled odds ratio, and v its
    asymptotic variance, the inverse of the sum of the reciprocals of the four expected cells. Then

    .. math::

        \sum_k \frac{(a_k - e_k)^2}{v_k} - \frac{(\sum_k (a_k - e_k))^2}{\sum_k v_k}

    is compared with chi-squared on K - 1 degrees of freedom; the first sum is the test of Breslow
    and Day [1]_, what is subtracted is Tarone's correction [2]_. The approximation needs strata
    with expected cells that are not tiny; for sparse strata the p-value is only a hint.

    References
    ----------
    .. [1] N. E. Breslow and N. E. Day, "Statistical Methods in Cancer Research, volume I: The
       Analysis of Case-Control Studies", IARC (1980), section 4.4.
    .. [2] R. E. Tarone, "On heterogeneity tests based on efficient scores", Biometrika 72 (1985)
       91-95.

    Examples
    --------
    >>> result = breslow_day([[[20, 14], [10, 24]], [[15, 12], [3, 15]]])
    >>> round(float(result.statistic), 3), round(float(result.pvalue), 3), int(result.dof)
    (0.446, 0.504, 1)
    """
    counts = _as_tables(tables)
    used = is_informative(counts)
    odds = pooled_odds_ratio(counts)
    dof = np.maximum(used.sum(axis=-1) - 1, 0)
    defined = (dof > 0) & (odds > 0) & (odds < np.inf)

    # A stratum left out is given a table of ones: all its numbers are harmless and then masked.
    counts = np.where(used[..., None, None], counts, 1.0)
    odds = np.where(defined, odds, 1.0)[..., None]
    a, b, c, d, n = _cells(counts)
    carriers, others, cases, controls = a + b, c + d, a + c, b + d
    # Each expected cell by its own root, so that none is a difference of two near numbers.
    expected = fitted_cell(carriers, cases, n, odds)
    precision = (
        1 / expected
        + 1 / fitted_cell(carriers, controls, n, 1 / odds)
        + 1 / fitted_cell(others, cases, n, 1 / odds)
        + 1 / fitted_cell(others, controls, n, odds)
    )
    deviation = np.where(used, a - expected, 0.0)
    statistic = (deviation**2 * precision).sum(axis=-1)
    if tarone:
        variance = np.where(used, 1 / precision, 0.0).sum(axis=-1)
        statistic = statistic - _divide(deviation.sum(axis=-1) ** 2, variance)
    statistic = np.where(defined, np.maximum(statistic, 0.0), np.nan)
    pvalue = np.where(defined, chdtrc(np.maximum(dof, 1), statistic), np.nan)
    return BreslowDayResult(statistic, pvalue, np.asarray(dof, dtype=np.int64))


def stratum_odds_ratios(tables: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    r"""Estimate the odds ratio of every stratum, with Woolf's confidence limits.

    Parameters
    ----------
    tables : array_like of int, shape (..., n_strata, 2, 2)
        Counts [[carrier cases, carrier controls], [other cases, other controls]].
    level : float, default=0.95
        Confidence level, in (0, 1).

    Returns
    -------
    odds_ratio, low, high : ndarray of float64, shape (..., n_strata)
        Estimate and limits, all finite and positive; all nan in a stratum with an empty row or
        column, which says nothing about the odds ratio.

    Raises
    ------
    InputError
        Shape or counts as in `pooled_odds_ratio`, or a level outside (0, 1).
    InputTypeError
        A level that is not a number.

    See Also
    --------
    has_empty_cell : where one half was added.

    Notes
    -----
    The estimate is a d / (b c); the limits are those of log(a d / (b c)) with the variance
    1/a + 1/b + 1/c + 1/d [1]_. Where a cell is 0, one half is added to all four cells, for the
    estimate and for the limits (Haldane and Anscombe [2]_), so that a plot can show the stratum: a
    description, not a test. The pooled estimate never uses this correction.

    References
    ----------
    .. [1] B. Woolf, "On estimating the relation between blood group and disease", Annals of Human
       Genetics 19 (1955) 251-253, `doi:10.1111/j.1469-1809.1955.tb01348.x
       <https://doi.org/10.1111/j.1469-1809.1955.tb01348.x>`_.
    .. [2] J. B. S. Haldane, "The estimation and significance of the logarithm of a ratio of
       frequencies", Annals of Human Genetics 20 (1956) 309-311; F. J. Anscombe, "On estimating
       binomial response relations", Biometrika 43 (1956) 461-464.

    Examples
    --------
    >>> ratio, low, high = stratum_odds_ratios([[[3, 1], [1, 3]], [[2, 0], [1, 3]]])
    >>> ratio.round(2).tolist(), low.round(2).tolist(), high.round(2).tolist()
    ([9.0, 11.67], [0.37, 0.32], [220.93, 422.14])
    """
    z = _critical_value(level)
    counts = _as_tables(tables)
    counts = np.where(has_empty_cell(counts)[..., None, None], counts + 0.5, counts)
    counts = np.where(is_informative(counts)[..., None, None], counts, np.nan)
    a, b, c, d, _ = _cells(counts)
    log_odds = np.log(a) + np.log(d) - np.log(b) - np.log(c)
    width = z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    return np.exp(log_odds), np.exp(log_odds - width), np.exp(log_odds + width)
