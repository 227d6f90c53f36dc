"""What the tests of association share: checks of counts at the border, and one formula."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..settings import ALTERNATIVES, TWO_SIDED, VARIANCES

__all__ = [
    "LN10",
    "as_cases",
    "as_margins",
    "as_support",
    "check_alternative",
    "check_two_sided",
    "check_variance",
    "fitted_cell",
]

LN10 = float(np.log(10.0))


def check_alternative(alternative: str) -> None:
    """Refuse an alternative that is not known."""
    if alternative not in ALTERNATIVES:
        raise InputError(
            f"alternative={alternative!r} is not known; choose one of {', '.join(ALTERNATIVES)}."
        )


def check_variance(variance: str) -> None:
    """Refuse a variance that is not known."""
    if variance not in VARIANCES:
        raise InputError(
            f"variance={variance!r} is not known; choose one of {', '.join(VARIANCES)}."
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
    for name, values in (("sizes", n), ("case_sizes", n1)):
        if not np.isfinite(values).all() or (values != np.floor(values)).any():
            raise InputError(f"{name} must hold whole numbers; found {_first_odd(values)}.")
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
    counts = _whole(x, "support")
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
    a = _whole(np.asarray(cases), "cases")
    try:
        counts = np.broadcast_to(a, support.shape[:-1])
    except ValueError:
        raise InputError(
            f"cases has shape {a.shape}; it must fit support of shape {support.shape} without its "
            "last axis: one number per pattern."
        ) from None
    low = np.maximum(0, support - (sizes - case_sizes)).sum(axis=-1)
    high = np.minimum(support, case_sizes).sum(axis=-1)
    if ((counts < low) | (counts > high)).any():
        raise InputError(
            "cases must be attainable with these margins: at least sum max(0, x_k - n0_k) and "
            "at most sum min(x_k, n1_k)."
        )
    return counts


def _first_odd(values: NDArray[Any]) -> Any:
    """Return the first value that is not a whole number."""
    flat = np.ravel(values)
    return flat[~np.isfinite(flat) | (flat != np.floor(flat))][0]


def _whole(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return counts as int64; refuse anything that is not a whole number."""
    if values.dtype.kind in "biu":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise InputError(f"{name} must hold whole numbers; found values of type {values.dtype}.")
    if not np.isfinite(values).all() or (values != np.floor(values)).any():
        raise InputError(f"{name} must hold whole numbers; found {_first_odd(values)}.")
    return values.astype(np.int64)


def fitted_cell(
    row: NDArray[np.float64],
    column: NDArray[np.float64],
    n: NDArray[np.float64],
    odds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the first cell of the 2 x 2 table with these margins and this odds ratio.

    The cell e solves e (n - row - column + e) = odds (row - e) (column - e). The discriminant is
    written as a sum of terms that are not negative, and the root is taken in the form that adds,
    so that no digits cancel.
    """
    rest = n - row - column
    slope = rest + odds * (row + column)
    root = np.sqrt(
        rest**2
        + 2 * odds * (row * (n - row) + column * (n - column))
        + (odds * (row - column)) ** 2
    )
    # slope < 0 needs odds < 1, so that 1 - odds is safe to divide by.
    negative = slope < 0
    return np.where(
        negative,
        (root - slope) / (2 * np.where(negative, 1 - odds, 1.0)),
        2 * odds * row * column / np.where(negative, 1.0, slope + root),
    )
