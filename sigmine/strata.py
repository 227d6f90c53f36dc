"""Covariates to strata: codes, labels, and which strata carry information.

A stratum holds the rows that share the levels of every covariate. The Cochran-Mantel-Haenszel
test compares carriers of a pattern with others inside each stratum, so a stratum tells
something only if it has at least one case and at least one control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import Column, factorize, listed, named_series, read_column
from .exceptions import InputError

__all__ = ["Strata", "encode_strata", "informative_strata", "require_informative"]

NO_COVARIATE_LABEL = "all rows"

# A column of fractions with more different values than this is a measurement, not a grouping.
MAX_FRACTIONAL_LEVELS = 50


@dataclass(frozen=True)
class Strata:
    """The stratum of every row.

    Parameters
    ----------
    codes : ndarray of int64 of shape (n_rows,)
        Stratum of each row, 0 .. n_levels - 1.
    labels : tuple of str of length n_levels
        What each stratum is: the level of a single covariate ("male"), or the levels of
        several ("sex=male, age=30-39"). Only combinations that occur; sorted by the levels,
        first covariate first.
    names : tuple of str
        Names of the covariates; empty when there is none.
    """

    codes: NDArray[np.int64]
    labels: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def n_levels(self) -> int:
        """Number of strata."""
        return len(self.labels)


def encode_strata(strata: Any, n_rows: int, *, names: str | Sequence[str] | None = None) -> Strata:
    """Code one or several covariates as strata.

    Parameters
    ----------
    strata : None, sequence, array, Series, list of those, 2-d array, dict or data frame
        The covariate(s), one value a row: categories, texts, whole numbers, booleans or dates;
        numbers with fractions only if they have at most 50 different values. Several
        columns are crossed. None, or a table without columns, puts all rows in one stratum. Rows
        are matched by position; the index of a pandas object is not used.
    n_rows : int
        Number of rows of the data.
    names : str or sequence of str, optional
        Names of the covariates, in place of those that the columns bring along.

    Returns
    -------
    Strata

    Raises
    ------
    InputError
        If a covariate has another length than `n_rows`, missing values, values of mixed types
        or many fractional numbers.
    InputTypeError
        If `strata` is not made of columns.

    Notes
    -----
    Levels are ordered as numbers, as dates, in the order of an ordered categorical, or by the
    text, so that the strata do not depend on the order of the rows. The work grows as
    n log n in the number of rows; there is no bound on the number of strata here, see
    `require_informative`.

    Examples
    --------
    >>> strata = encode_strata(["f", "m", "f", "f"], n_rows=4)
    >>> strata.codes, strata.labels
    (array([0, 1, 0, 0]), ('f', 'm'))
    >>> encode_strata({"sex": ["f", "m", "f"], "ward": [10, 9, 9]}, n_rows=3).labels
    ('sex=f, ward=9', 'sex=f, ward=10', 'sex=m, ward=9')
    """
    series = [] if strata is None else _covariates(strata, n_rows, names)
    if not series:
        return Strata(np.zeros(n_rows, dtype=np.int64), (NO_COVARIATE_LABEL,), ())
    coded = []
    for name, values in series:
        what = "strata" if name == "strata" else f"strata column {name!r}"
        column = read_column(values, name, what=what)
        _check_covariate(column, n_rows, what)
        coded.append(factorize(column))
    covariates = tuple(name for name, _ in series)
    if len(coded) == 1:
        codes, labels = coded[0]
        return Strata(codes, labels, covariates)
    return _cross(coded, covariates)


def _covariates(strata: Any, n_rows: int, names: Any) -> list[tuple[str, Any]]:
    """Return the covariates as (name, values), whatever they came in."""
    if isinstance(strata, list | tuple) and strata and all(map(_is_column, strata)):
        if len(strata[0]) != n_rows and len(strata) == n_rows:
            raise InputError(
                f"strata is a list of {n_rows} rows of {len(strata[0])} values; expected columns. "
                "Give a data frame, a two-dimensional array, or a list with one column each."
            )
        brought = [getattr(column, "name", None) for column in strata]
        series = [
            (f"strata{i + 1}" if name is None else str(name), column)
            for i, (name, column) in enumerate(zip(brought, strata, strict=True))
        ]
    elif isinstance(strata, Mapping) or (
        not isinstance(strata, list | tuple) and _dimensions(strata) == 2
    ):
        series = named_series(strata, what="strata")
        if isinstance(strata, np.ndarray):
            series = [(f"strata{j + 1}", values) for j, (_, values) in enumerate(series)]
    else:
        name = getattr(strata, "name", None)
        series = [("strata" if name is None else str(name), strata)]
    if names is None:
        return series
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    if len(names) != len(series):
        raise InputError(
            f"{len(names)} names ({listed(names)}) for {len(series)} strata columns; give one each."
        )
    return [(name, values) for name, (_, values) in zip(names, series, strict=True)]


def _is_column(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes | Mapping)


def _dimensions(value: Any) -> int:
    shape = getattr(value, "shape", None)
    return len(shape) if isinstance(shape, tuple) else 1


def _check_covariate(column: Column, n_rows: int, what: str) -> None:
    found = len(column.values)
    if found != n_rows:
        hint = " Pass strata=None for no covariate." if found == 0 else ""
        raise InputError(
            f"{what} has {found:,} values but the data have {n_rows:,} rows; give one value a "
            f"row.{hint}"
        )
    if column.missing is not None:
        raise InputError(
            f"{what} has {column.n_missing:,} missing values (NaN, None or null) in {found:,} "
            "rows; every row needs a stratum. Leave these rows out, or give them a level of "
            'their own, for example .fillna("unknown").'
        )
    if column.kind == "number":
        _check_fractions(column.values, what)


def _check_fractions(values: NDArray[Any], what: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{what} has infinite values; replace them or leave their rows out.")
    if (values == np.floor(values)).all():
        return
    n_levels = len(np.unique(values))
    if n_levels > MAX_FRACTIONAL_LEVELS:
        raise InputError(
            f"{what} holds {n_levels:,} different numbers with fractions; expected a grouping. "
            "Cut it into bands, for example with pandas.qcut(values, 5), or round it."
        )


def _cross(
    coded: Sequence[tuple[NDArray[np.int64], tuple[str, ...]]], names: tuple[str, ...]
) -> Strata:
    """Cross covariates; only combinations that occur, in the order of the first covariate."""
    codes, labels = coded[0]
    # Row s holds the levels of stratum s, one column a covariate. (n_strata, n_covariates)
    levels = np.arange(len(labels))[:, None]
    for more, more_labels in coded[1:]:
        width = len(more_labels)
        # Crossing one at a time and compressing keeps the products within int64.
        found, codes = np.unique(codes * width + more, return_inverse=True)
        levels = np.column_stack([levels[found // width], found % width])
    parts = [
        [f"{name}={label}" for label in column_labels]
        for name, (_, column_labels) in zip(names, coded, strict=True)
    ]
    texts = [
        ", ".join(part[i] for part, i in zip(parts, row, strict=True)) for row in levels.tolist()
    ]
    return Strata(codes.astype(np.int64, copy=False), tuple(texts), names)


def informative_strata(
    codes: NDArray[np.int64], n_levels: int, y: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Count the rows and cases of every stratum.

    Parameters
    ----------
    codes : ndarray of int64 of shape (n_rows,)
        Stratum of each row, 0 .. n_levels - 1.
    n_levels : int
        Number of strata.
    y : ndarray of bool of shape (n_rows,)
        True for cases.

    Returns
    -------
    sizes : ndarray of int64 of shape (n_levels,)
        Rows n_k of each stratum.
    case_sizes : ndarray of int64 of shape (n_levels,)
        Cases n1_k of each stratum.
    informative : ndarray of bool of shape (n_levels,)
        True where there is at least one case and at least one control. In any other stratum
        the 2 x 2 table of every pattern is fixed by its margins.

    Examples
    --------
    >>> informative_strata(np.array([0, 0, 1]), 2, np.array([True, False, True]))
    (array([2, 1]), array([1, 1]), array([ True, False]))
    """
    sizes = np.bincount(codes, minlength=n_levels).astype(np.int64)
    case_sizes = np.bincount(codes[y], minlength=n_levels).astype(np.int64)
    return sizes, case_sizes, (case_sizes > 0) & (case_sizes < sizes)


def require_informative(
    strata: Strata, y: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return what `informative_strata` counts, or raise an error if no stratum is informative.

    Parameters
    ----------
    strata : Strata
        The stratum of every row.
    y : ndarray of bool of shape (n_rows,)
        True for cases.

    Returns
    -------
    sizes, case_sizes : ndarray of int64 of shape (n_levels,)
        Rows and cases of each stratum.
    informative : ndarray of bool of shape (n_levels,)
        True where there is at least one case and at least one control; True somewhere.

    Raises
    ------
    InputError
        If no stratum has both cases and controls: says how many strata of which sizes there are.
    """
    sizes, case_sizes, informative = informative_strata(strata.codes, strata.n_levels, y)
    if informative.any():
        return sizes, case_sizes, informative
    n_strata, low, high = len(sizes), int(sizes.min()), int(sizes.max())
    if n_strata == 1:
        found = f"1 stratum of size {low:,}, all {'cases' if case_sizes[0] else 'controls'}"
    elif low == high:
        found = f"{n_strata:,} strata, all of size {low:,}"
    else:
        found = f"{n_strata:,} strata of sizes {low:,} to {high:,}"
    if high > 1 and n_strata > 1:
        all_cases = int((case_sizes == sizes).sum())
        found += f", {all_cases:,} with cases only and {n_strata - all_cases:,} with controls only"
    by = f" (covariates: {', '.join(strata.names)})" if strata.names else ""
    raise InputError(
        f"no informative stratum: {found}{by}. A stratum is informative if it has at least one "
        "case and at least one control. Use a covariate with fewer levels: bin numbers into "
        "bands (pandas.qcut), merge rare levels, leave out identifiers."
    )
