"""A 0/1 matrix checked, and a target to cases and controls."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import Column, as_text, factorize, listed, named_series, read_column
from .bitset import WORD, PackedColumns, put_rows
from .exceptions import InputError

__all__ = ["encode_target", "validate_binary_matrix"]

_MAKE_ITEMS = (
    "mine_patterns (or sigmine.preprocessing.make_items) makes items from columns of any kind"
)


def validate_binary_matrix(X: Any, *, packed: bool = False) -> tuple[Any, tuple[str, ...] | None]:
    """Check that data are zeros and ones, and return them as booleans.

    Parameters
    ----------
    X : data frame, ndarray, nested sequence or scipy.sparse of shape (n_rows, n_items)
        Zeros and ones (or booleans) only.
    packed : bool, default=False
        Whether what would have to be copied is packed at once, for `build_problem`: an eighth of
        a byte a cell in place of a byte.

    Returns
    -------
    matrix : ndarray of bool, scipy.sparse of bool, or PackedColumns, shape (n_rows, n_items)
        Sparse if `X` is: CSC (`packed`: or CSR), with stored entries that are all True. Shares
        memory with `X` where possible.
    names : tuple of str or None
        Column names of a data frame, None for arrays.

    Raises
    ------
    InputError
        If there are no rows or no columns, a value is missing, or is neither 0 nor 1: the
        message gives the row, the column and the value.
    InputTypeError
        If `X` is not a table or an array.

    Examples
    --------
    >>> validate_binary_matrix([[0, 1], [1, 1]])
    (array([[False,  True],
           [ True,  True]]), None)
    """
    if _is_sparse(X):
        _require_size(X.shape)
        return _binary_sparse(X, packed), None
    if not isinstance(X, np.ndarray) and not _is_frame(X):
        X = _as_array(X)
    is_array = isinstance(X, np.ndarray)
    if is_array and X.ndim != 2:
        raise InputError(
            f"Expected 2D array, got X of shape {X.shape}. Reshape your data: one row a subject, "
            "one column an item."
        )
    if is_array and _is_boolean(X):
        return X.view(np.bool_), None
    series = named_series(X, what="X")
    n_rows = len(series[0][1]) if series else getattr(X, "shape", (0,))[0]
    _require_size((n_rows, len(series)))
    names = None if is_array else tuple(name for name, _ in series)
    columns = (
        _binary_column(read_column(values, name, what=what), what)
        for name, values in series
        for what in [f"column {name!r} of X"]
    )
    if packed:
        words = np.zeros((len(series), -(-n_rows // WORD)), dtype=np.uint64)
        for j, column in enumerate(columns):
            put_rows(words[j : j + 1], 0, column[None, :])
        return PackedColumns(words, n_rows), names
    matrix = np.empty((n_rows, len(series)), dtype=np.bool_, order="F")
    for j, column in enumerate(columns):
        matrix[:, j] = column
    return matrix, names


def _is_boolean(X: NDArray[Any]) -> bool:
    """Say whether an array holds zeros and ones in single bytes, so that it needs no copy."""
    if isinstance(X, np.ma.MaskedArray) or X.dtype.itemsize != 1 or X.dtype.kind not in "biu":
        return False
    _require_size(X.shape)
    return X.dtype == np.bool_ or bool(X.min() >= 0 and X.max() <= 1)


def _is_sparse(X: Any) -> bool:
    """Recognise a sparse matrix; it cannot be one where scipy.sparse was never imported."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(X))


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") or isinstance(X, Mapping)


def _as_array(X: Any) -> Any:
    """Turn nested sequences and array look-alikes into an array; leave the rest as it is."""
    if not isinstance(X, list | tuple) and not hasattr(X, "__array__"):
        return X
    try:
        return np.asarray(X)
    except ValueError:
        raise InputError(
            "X has rows of different lengths; give every row one value an item."
        ) from None


def _require_size(shape: tuple[int, ...]) -> None:
    if shape[0] == 0:
        raise InputError(f"X has 0 sample(s) (shape={shape}) while a minimum of 1 is required.")
    if shape[1] == 0:
        # scikit-learn's checks expect these words.
        raise InputError(f"X has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")


def _binary_column(column: Column, what: str) -> NDArray[np.bool_]:
    if column.missing is not None:
        row = int(np.flatnonzero(column.missing)[0])
        raise InputError(
            f"{what} has {column.n_missing:,} missing values (NaN), the first in row {row} "
            "(counted from 0); expected 0 or 1. Fill them or leave their rows out."
        )
    if column.kind not in ("boolean", "integer", "number"):
        value = column.levels[column.values[0]] if column.levels else as_text(column.values[0])
        raise InputError(
            f"{what} holds values of kind {column.kind}, such as {value!r}; expected 0 or 1; "
            f"{_MAKE_ITEMS}."
        )
    ones: NDArray[np.bool_] = column.values == 1
    others = ~(ones | (column.values == 0))
    if others.any():
        row = int(np.flatnonzero(others)[0])
        raise InputError(
            f"{what} has {int(others.sum()):,} values that are neither 0 nor 1, the first is "
            f"{as_text(column.values[row])} in row {row} (counted from 0); {_MAKE_ITEMS}."
        )
    return ones


def _binary_sparse(X: Any, packed: bool) -> Any:
    from scipy.sparse import csc_array

    if np.iscomplexobj(X):
        raise InputError("Complex data not supported: X holds complex numbers.")
    usable = X.format == "csc" or (packed and X.format == "csr")
    if usable and X.has_canonical_format and (X.data == 1).all():
        ones = X.data.view(np.bool_) if X.data.itemsize == 1 else np.ones(len(X.data), np.bool_)
        return type(X)((ones, X.indices, X.indptr), shape=X.shape)
    matrix = csc_array(X, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if matrix.dtype != np.bool_ and (bad := np.flatnonzero(matrix.data != 1)).size:
        first = int(bad[0])
        column = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
        raise InputError(
            f"X has {bad.size:,} values that are neither 0 nor 1 (such as NaN, inf or counts), the "
            f"first is {as_text(matrix.data[first])} in row {matrix.indices[first]}, column "
            f"{column} (counted from 0); expected zeros and ones. Repeated entries of one place "
            f"are added up. {_MAKE_ITEMS}."
        )
    return csc_array(
        (np.ones(len(matrix.data), dtype=np.bool_), matrix.indices, matrix.indptr),
        shape=matrix.shape,
    )


def encode_target(
    values: Any, positive: Any = None, name: str = "y"
) -> tuple[NDArray[np.bool_], tuple[str, str]]:
    """Find the cases and the controls of an outcome with two classes.

    Parameters
    ----------
    values : Series, ndarray or sequence of shape (n_rows,) or (n_rows, 1)
        Booleans, whole numbers, texts or categories, two different values in all.
    positive : object, optional
        The value that makes a row a case; its text will do ("1" for 1). By default the
        greater of the two in sorted order: True, 1, "yes" (over "no"); note that this takes
        "control" over "case".
    name : str, default="y"
        Name of the outcome, for messages.

    Returns
    -------
    cases : ndarray of bool of shape (n_rows,)
        True for cases.
    classes : tuple of (str, str)
        The control class and the case class, as text.

    Raises
    ------
    InputError
        If there are no rows, not exactly two classes, missing values, fractions or dates, or
        `positive` is not one of the classes.

    Examples
    --------
    >>> encode_target(["no", "yes", "no"])
    (array([False,  True, False]), ('no', 'yes'))
    >>> encode_target([1, 2, 2], positive="1")
    (array([ True, False, False]), ('2', '1'))
    """
    if values is None:
        raise InputError(
            f"sigmine requires y to be passed, but the target {name} is None; give one class a row."
        )
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    column = read_column(values, name, what=f"target {name!r}")
    n_rows = len(column.values)
    if n_rows == 0:
        raise InputError(f"target {name!r} has no rows (0 samples); expected two classes.")
    if column.missing is not None:
        raise InputError(
            f"target {name!r} has {column.n_missing:,} missing values (NaN, None or null) in "
            f"{n_rows:,} rows; expected a class in every row. Leave these rows out."
        )
    _refuse_continuous(column, name)
    codes, labels = factorize(column)
    if len(labels) == 1:
        raise InputError(
            f"target {name!r} has only one class, {labels[0]!r}, in all {n_rows:,} rows; expected "
            "two classes, cases and controls. Check the column and any filter on the rows."
        )
    if len(labels) > 2:
        raise InputError(
            "Unknown label type: multiclass. Only binary classification is supported. The target "
            f"{name!r} has {len(labels):,} classes ({listed(labels, 5)}); expected two. Choose "
            f"one class as the case, for example y = ({name} == {labels[-1]!r})."
        )
    case = 1 if positive is None else _position(positive, labels, name)
    return codes == case, (labels[1 - case], labels[case])


def _refuse_continuous(column: Column, name: str) -> None:
    if column.kind == "time":
        found = "dates"
    elif column.kind == "number" and not np.isfinite(column.values).all():
        found = "infinite values (inf)"
    elif column.kind == "number" and (column.values != np.floor(column.values)).any():
        found = "numbers with fractions"
    else:
        return
    raise InputError(
        f"Unknown label type: continuous. The target {name!r} holds {found}, such as "
        f"{as_text(column.values[0])}; expected two classes. Cut it in two first, for example "
        f"y = {name} > threshold."
    )


def _position(positive: Any, labels: tuple[str, ...], name: str) -> int:
    # Levels are compared as text, so that a command line can name them too.
    text = as_text(positive)
    if text not in labels:
        raise InputError(
            f"positive={positive!r} is not a class of target {name!r}; its classes are "
            f"{labels[0]!r} and {labels[1]!r}. Choose one of these."
        )
    return labels.index(text)
