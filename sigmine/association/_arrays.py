"""Checks that the tests of association share: shapes and ranges of counts, at the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..settings import ALTERNATIVES, TWO_SIDED

__all__ = [
    "LN10",
    "as_cases",
    "as_margins",
    "as_support",
    "check_alternative",
    "check_two_sided",
]

LN10 = float(np.log(10.0))


def check_alternative(alternative: str) -> None:
    """Refuse an alternative that is not known."""
    if alternative not in ALTERNATIVES:
        raise InputError(
            f"alternative={alternative!r} is not known; choose one of {', '.join(ALTERNATIVES)}."
        )


def check_two_sided(two_sided: str) -> None:
    """Refuse a two-sided definition that is not known."""
    if two_sided not in TWO_SIDED:
        raise InputError(
            f"two_sided={two_sided!r} is not known; choose one of {', '.join(TWO_SIDED)}."
        )


def as_margins(
    sizes: ArrayLike, case_sizes: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return n_k and n1_k as float64 (products of counts overflow integers)."""
    n = np.ascontiguousarray(sizes, dtype=np.float64)
    n1 = np.ascontiguousarray(case_sizes, dtype=np.float64)
    if n.ndim != 1 or n.shape != n1.shape or n.size == 0:
        raise InputError(
            f"sizes has shape {n.shape} and case_sizes {n1.shape}; both must be (n_strata,) "
            "with at least one stratum."
        )
    if (n < 0).any() or (n1 < 0).any() or (n1 > n).any():
        raise InputError("case_sizes must lie between 0 and sizes in every stratum.")
    return n, n1


def as_support(support: ArrayLike, sizes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return x_k as int64 of shape (..., n_strata), each between 0 and n_k."""
    x = np.asarray(support)
    if x.ndim == 0 or x.shape[-1] != len(sizes):
        raise InputError(
            f"support has shape {x.shape}; its last axis must have one entry per stratum "
            f"({len(sizes)})."
        )
    counts = x.astype(np.int64)
    if (counts != x).any():
        raise InputError("support must hold whole numbers.")
    if (counts < 0).any() or (counts > sizes).any():
        raise InputError("support must lie between 0 and the size of its stratum.")
    return counts


def as_cases(
    cases: ArrayLike,
    support: NDArray[np.int64],
    sizes: NDArray[np.float64],
    case_sizes: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return a as int64, broadcast against the leading axes of support and attainable."""
    a = np.asarray(cases)
    counts = np.broadcast_to(a.astype(np.int64), support.shape[:-1])
    if (counts != a).any():
        raise InputError("cases must hold whole numbers.")
    low = np.maximum(0, support - (sizes - case_sizes)).sum(axis=-1)
    high = np.minimum(support, case_sizes).sum(axis=-1)
    if ((counts < low) | (counts > high)).any():
        raise InputError(
            "cases must be attainable with these margins: at least sum max(0, x_k - n0_k) and "
            "at most sum min(x_k, n1_k)."
        )
    return counts
