"""One scale for every test: *evidence*, a number that grows as the p-value falls.

The search compares evidence, never p-values: the asymptotic test's evidence is its statistic (in
the direction of the alternative), the exact test's is -log p. So the inner loops need neither an
incomplete gamma function nor a logarithm; thresholds are converted once, outside.

Kernels choose the test by a small integer (`TestTables.kind`), because numba does not cache
kernels that take functions as arguments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, ndtri_exp

from .._jit import njit
from ..settings import SearchSettings
from . import cmh, cmh_exact

__all__ = [
    "ASYMPTOTIC",
    "EXACT",
    "TestTables",
    "build_tables",
    "evidence_of_log_pvalue",
    "is_significant",
    "log_pvalue_of_evidence",
    "minimum_evidence",
    "minimum_evidence_bound",
    "minimum_evidences",
    "root_of_log_pvalue",
]

ASYMPTOTIC, EXACT = 0, 1


class TestTables(NamedTuple):
    """Everything about the test that kernels need; arrays are float64 unless said otherwise.

    Attributes
    ----------
    kind : int
        `ASYMPTOTIC` or `EXACT`.
    side : int
        How a p-value is put together: code of `cmh_exact`.
    up, down : int
        Whether an excess, or a deficit, of cases counts as evidence.
    sizes, case_sizes, share, spread : ndarray, shape (n_strata,)
        n_k, n1_k, g_k, c_k.
    log_up, log_down : ndarray, shape (sum of n_k + 1,)
        -log r_k(x) and -log l_k(x).
    offset : ndarray of int64, shape (n_strata,)
        Where stratum k starts in those.
    """

    __test__ = False  # not a test class, whatever its name suggests to pytest

    kind: int
    side: int
    up: int
    down: int
    sizes: NDArray[np.float64]
    case_sizes: NDArray[np.float64]
    share: NDArray[np.float64]
    spread: NDArray[np.float64]
    log_up: NDArray[np.float64]
    log_down: NDArray[np.float64]
    offset: NDArray[np.int64]


def build_tables(sizes: ArrayLike, case_sizes: ArrayLike, settings: SearchSettings) -> TestTables:
    """Prepare the look-up tables of a test for given strata.

    Parameters
    ----------
    sizes, case_sizes : array_like of int, shape (n_strata,)
        n_k >= 1 and n1_k.
    settings : SearchSettings
        Names the test and its alternative.

    Returns
    -------
    TestTables
        The exact test's tables hold 2 (n + K) numbers; the asymptotic test leaves them empty.
    """
    n = np.ascontiguousarray(sizes, dtype=np.float64)
    n1 = np.ascontiguousarray(case_sizes, dtype=np.float64)
    exact = settings.method == "exact"
    if exact:
        log_up, log_down, offset = cmh_exact.extreme_tables(n, n1)
    else:
        log_up = log_down = np.zeros(1, dtype=np.float64)
        offset = np.zeros(len(n), dtype=np.int64)
    return TestTables(
        kind=EXACT if exact else ASYMPTOTIC,
        side=cmh_exact.sidedness(settings.alternative, settings.two_sided),
        up=int(settings.alternative != "less"),
        down=int(settings.alternative != "greater"),
        sizes=n,
        case_sizes=n1,
        share=n1 / n,
        spread=cmh.spread(n, n1, settings.variance),
        log_up=log_up,
        log_down=log_down,
        offset=offset,
    )


@njit
def minimum_evidence(x: NDArray[np.int64], tables: TestTables) -> float:
    """Return the evidence of the smallest p-value that the margins x can attain."""
    if tables.kind == ASYMPTOTIC:
        return cmh.maximum_statistic(
            x,
            tables.sizes,
            tables.case_sizes,
            tables.share,
            tables.spread,
            tables.up,
            tables.down,
        )
    return cmh_exact.minimum_evidence_exact(
        x, tables.log_up, tables.log_down, tables.offset, tables.side
    )


@njit
def minimum_evidence_bound(
    x: NDArray[np.int64], tables: TestTables, cut: float, scratch: NDArray[np.float64]
) -> float:
    """Return the largest `minimum_evidence` over all x' <= x, or anything between that and `cut`.

    A return value below `cut` proves that no superset reaches `cut`. `scratch`: (3, n_strata).
    """
    if tables.kind == ASYMPTOTIC:
        return cmh.maximum_statistic_bound(
            x,
            tables.sizes,
            tables.case_sizes,
            tables.share,
            tables.spread,
            tables.up,
            tables.down,
            cut,
            scratch,
        )
    return cmh_exact.minimum_evidence_bound_exact(
        x,
        tables.sizes,
        tables.case_sizes,
        tables.log_up,
        tables.log_down,
        tables.offset,
        tables.side,
    )


@njit
def minimum_evidences(support: NDArray[np.int64], tables: TestTables) -> NDArray[np.float64]:
    """Return `minimum_evidence` of every row of `support`, shape (n_patterns, n_strata)."""
    out = np.empty(support.shape[0], dtype=np.float64)
    for i in range(support.shape[0]):
        out[i] = minimum_evidence(support[i], tables)
    return out


@njit
def is_significant(
    a: int, x: NDArray[np.int64], tables: TestTables, root: float, log_threshold: float
) -> bool:
    """Say whether the p-value of a pattern is at most the threshold.

    `root` is the threshold on the signed root of the statistic (asymptotic test),
    `log_threshold` its log p-value (exact test).
    """
    if tables.kind == ASYMPTOTIC:
        mean, variance = cmh.null_moments(x, tables.sizes, tables.share, tables.spread)
        if variance <= 0.0:
            return log_threshold >= 0.0
        z = (a - mean) / math.sqrt(variance)
        if tables.up and tables.down:
            z = abs(z)
        elif tables.down:
            z = -z
        return z >= root
    logp = cmh_exact.log_pvalue_exact(a, x, tables.sizes, tables.case_sizes, tables.side, False)
    return logp <= log_threshold


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
