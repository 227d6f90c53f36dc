"""One scale for every test: *evidence*, a number that grows as the p-value falls.

The search compares evidence, never p-values: the asymptotic test's evidence is its statistic (in
the direction of the alternative), the exact test's is -log p. So the inner loops need neither an
incomplete gamma function nor a logarithm; thresholds are converted once, outside.

Kernels choose the test by a small integer (the first of `EvidenceTables.choice`), because numba
does not cache kernels that take functions as arguments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, ndtri_exp

from .._jit import njit, njit_inline, njit_leaf
from ..settings import SearchSettings
from . import cmh, cmh_exact
from .hypergeometric import plain_tails

__all__ = [
    "ASYMPTOTIC",
    "EXACT",
    "EvidenceTables",
    "build_tables",
    "evidence_of_log_pvalue",
    "log_pvalue_of_evidence",
    "may_be_below",
    "minimum_evidence",
    "minimum_evidence_bound",
    "minimum_evidences",
    "root_of_log_pvalue",
]

ASYMPTOTIC, EXACT = 0, 1
KIND, SIDE, EXCESS, DEFICIT = 0, 1, 2, 3  # entries of EvidenceTables.choice


class EvidenceTables(NamedTuple):
    """Everything about the test that kernels need, as plain arrays.

    Attributes
    ----------
    choice : ndarray of int64, shape (4,)
        Kind of test (`ASYMPTOTIC` or `EXACT`), how its p-value is put together (code of
        `cmh_exact`), and whether an excess, and a deficit, of cases counts as evidence.
    margins : ndarray of float64, shape (4, n_strata)
        n_k, n1_k, g_k, c_k: see `cmh.margins_matrix`.
    extremes : ndarray of float64, shape (2, sum of n_k + 1)
        -log r_k(x) and -log l_k(x): see `cmh_exact.extreme_tables`.
    offset : ndarray of int64, shape (n_strata,)
        Where stratum k starts in those.
    """

    choice: NDArray[np.int64]
    margins: NDArray[np.float64]
    extremes: NDArray[np.float64]
    offset: NDArray[np.int64]


def build_tables(
    sizes: ArrayLike, case_sizes: ArrayLike, settings: SearchSettings
) -> EvidenceTables:
    """Prepare the look-up tables of a test for given strata.

    Parameters
    ----------
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k >= 1 and n1_k.
    settings : SearchSettings
        Names the test and its alternative.

    Returns
    -------
    EvidenceTables
        The exact test's tables hold 2 (n + K) numbers; the asymptotic test leaves them empty.
    """
    n = np.ascontiguousarray(sizes, dtype=np.float64)
    n1 = np.ascontiguousarray(case_sizes, dtype=np.float64)
    exact = settings.method == "exact"
    if exact:
        extremes, offset = cmh_exact.extreme_tables(n, n1)
    else:
        extremes, offset = np.zeros((2, 1)), np.zeros(len(n), dtype=np.int64)
    choice = (
        EXACT if exact else ASYMPTOTIC,
        cmh_exact.sidedness(settings.alternative, settings.two_sided),
        int(settings.alternative != "less"),
        int(settings.alternative != "greater"),
    )
    return EvidenceTables(
        choice=np.array(choice, dtype=np.int64),
        margins=cmh.margins_matrix(n, n1, settings.variance),
        extremes=extremes,
        offset=offset,
    )


@njit_inline
def minimum_evidence(
    x: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
) -> float:
    """Return the evidence of the smallest p-value that the margins x can attain."""
    if choice[KIND] == ASYMPTOTIC:
        return cmh.maximum_statistic(x, margins, choice[EXCESS], choice[DEFICIT])
    return cmh_exact.minimum_evidence_exact(x, extremes, offset, choice[SIDE])


@njit_leaf
def minimum_evidence_bound(
    x: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    cut: float,
    scratch: NDArray[np.float64],
) -> float:
    """Return the largest `minimum_evidence` over all x' <= x, or anything between that and `cut`.

    A return value below `cut` proves that no superset reaches `cut`. `scratch`: (3, n_strata).
    """
    if choice[KIND] == ASYMPTOTIC:
        return cmh.maximum_statistic_bound(
            x, margins, choice[EXCESS], choice[DEFICIT], cut, scratch
        )
    return cmh_exact.minimum_evidence_bound_exact(x, margins, extremes, offset, choice[SIDE])


@njit
def _minimum_evidences(
    support: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    for i in range(support.shape[0]):
        out[i] = minimum_evidence(support[i], choice, margins, extremes, offset)


@njit
def _minimum_evidence_bounds(
    support: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    scratch = np.empty((3, margins.shape[1]), dtype=np.float64)
    for i in range(support.shape[0]):
        out[i] = minimum_evidence_bound(
            support[i], choice, margins, extremes, offset, -1.0, scratch
        )


def minimum_evidences(
    support: NDArray[np.int64], tables: EvidenceTables, *, bound: bool = False
) -> NDArray[np.float64]:
    """Return the evidence of the smallest p-value that each row of margins can attain.

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
    out = np.empty(len(support), dtype=np.float64)
    kernel = _minimum_evidence_bounds if bound else _minimum_evidences
    kernel(np.ascontiguousarray(support), *tables, out)
    return out


@njit
def _below_asymptotic(
    support: NDArray[np.int64],
    cases: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    root: float,
    out: NDArray[np.bool_],
) -> None:
    for i in range(cases.shape[0]):
        mean, variance = cmh.null_moments(support[i], margins)
        if variance <= 0.0:
            out[i] = False
            continue
        z = (cases[i] - mean) / math.sqrt(variance)
        if choice[EXCESS] and choice[DEFICIT]:
            z = abs(z)
        elif choice[DEFICIT]:
            z = -z
        out[i] = z >= root


@njit
def _below_exact(
    support: NDArray[np.int64],
    cases: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    threshold: float,
    out: NDArray[np.bool_],
) -> None:
    longest = 2
    for k in range(margins.shape[1]):
        longest += int(margins[cmh.SIZE, k])
    work = np.empty((3, longest), dtype=np.float64)
    side = choice[SIDE]
    for i in range(cases.shape[0]):
        below, above = plain_tails(
            cases[i], support[i], margins, extremes, offset, work[0], work[1], work[2]
        )
        p = min(below, above)  # minlike: at least the tail that starts at a
        if side == cmh_exact.CENTRAL:
            p *= 2.0
        elif side == cmh_exact.GREATER:
            p = above
        elif side == cmh_exact.LESS:
            p = below
        out[i] = p <= threshold


def may_be_below(
    support: NDArray[np.int64],
    cases: NDArray[np.int64],
    tables: EvidenceTables,
    log_threshold: float,
    settings: SearchSettings,
) -> NDArray[np.bool_]:
    """Pick out, fast, every pattern whose p-value is at most a threshold, and hardly any other.

    Parameters
    ----------
    support : ndarray of int64, shape (n_patterns, n_strata)
        Carriers by stratum.
    cases : ndarray of int64, shape (n_patterns,)
        Carriers that are cases.
    tables : EvidenceTables
        The test.
    log_threshold : float
        Log p-value.
    settings : SearchSettings
        The alternative.

    Returns
    -------
    ndarray of bool, shape (n_patterns,)
        True for every pattern with a p-value up to the threshold; those slightly above it, and for
        "minlike" up to twice as high, may be True as well.
    """
    out = np.empty(len(cases), dtype=np.bool_)
    choice, margins, extremes, offset = tables
    if choice[KIND] == ASYMPTOTIC:
        root = float(root_of_log_pvalue(min(log_threshold, 0.0), settings.alternative))
        root -= 1e-9 * max(1.0, abs(root))
        _below_asymptotic(support, cases, choice, margins, root, out)
        return out
    # The absolute error of the tails is far below 1e-15, so what matters is always let through.
    threshold = math.exp(log_threshold) * (1.0 + 1e-6) + 1e-15
    _below_exact(support, cases, choice, margins, extremes, offset, threshold, out)
    return out


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
