"""Any table to named boolean items, a 0/1 matrix checked, and a target to cases and controls.

An *item* is a statement about a row that is true or false: "smoker", "colour=red",
"35<age<=50". `make_items` turns the columns of a table into items; `validate_binary_matrix` takes
data that are items already; `encode_target` finds the two classes of the outcome.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._binary import encode_target, validate_binary_matrix
from ._bins import bin_names, given_edges, quantile_edges, width_edges
from ._frames import Column, factorize, listed, named_series, read_column
from .exceptions import DataWarning, InputError, InputTypeError
from .problem import DroppedItem

__all__ = ["Items", "encode_target", "make_items", "validate_binary_matrix"]

BIN_METHODS = ("quantile", "width")
MISSING_POLICIES = ("error", "absent", "item", "drop")

# Above this number of cells (1 GiB as bytes) the items are kept sparse.
_DENSE_CELLS = 2**30
# Distinct values are counted on this many rows first: most numeric columns show there already
# that they have too many values to be levels, without a look at the rest.
_GLANCE = 10_000


@dataclass(frozen=True)
class Items:
    """Boolean items made from a table.

    Parameters
    ----------
    matrix : ndarray of bool or scipy.sparse.csc_array of shape (n_kept_rows, n_items)
        True where the row has the item.
    names : tuple of str of length n_items
        Name of each item; no two are equal.
    sources : tuple of str of length n_items
        Column that each item was made from.
    rows_kept : ndarray of bool of shape (n_rows,)
        Rows of the table that are in the matrix; all True unless ``missing="drop"``.
    notes : tuple of str
        What was done, in sentences for the report: bins, rows left out.
    dropped : tuple of DroppedItem
        Columns and items that were left out, each with its reason.
    """

    matrix: Any
    names: tuple[str, ...]
    sources: tuple[str, ...]
    rows_kept: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    dropped: tuple[DroppedItem, ...] = ()


@dataclass(frozen=True)
class _Coded:
    """A column as small codes (0 where missing, levels from 1) and the items made of it.

    An item is a name with the codes that have it: an ndarray of bool of shape (n_levels + 1,).
    """

    source: str
    codes: NDArray[Any]
    items: list[tuple[str, NDArray[np.bool_]]]
    note: str = ""


@dataclass(frozen=True)
class _Recipe:
    """The parameters of `make_items`, checked."""

    bins: int
    bin_method: str
    edges: Mapping[str, Sequence[Any]]
    negate: bool
    missing: str


def make_items(
    frame: Any,
    *,
    exclude: Sequence[str] = (),
    bins: int = 4,
    bin_method: str = "quantile",
    edges: Mapping[str, Sequence[Any]] | None = None,
    negate: bool = False,
    missing: str = "error",
    max_levels: int = 50,
) -> Items:
    """Make boolean items from the columns of a table.

    Parameters
    ----------
    frame : data frame, dict of columns, or ndarray of shape (n_rows, n_columns)
        pandas, polars or pyarrow table.
    exclude : sequence of str, default=()
        Columns to leave alone, such as the target and the strata.
    bins : int, default=4
        Bins of a numeric column, at least 2. A numeric column with at most ``bins + 1``
        different values is not cut: each value is a level.
    bin_method : {"quantile", "width"}, default="quantile"
        Bins with about equally many rows, or of equal width. Ties are never torn apart, so
        that a column with a frequent value can have fewer or unequal bins.
    edges : mapping of str to sequence of numbers, optional
        Where to cut named numeric columns; ``{"age": [35, 50]}`` gives "age<=35", "35<age<=50"
        and "age>50". Dates are cut at dates or their texts.
    negate : bool, default=False
        Add the opposite of every item that is not there already: "not smoker", "colour!=red"
        (columns of more than two levels), "not 35<age<=50".
    missing : {"error", "absent", "item", "drop"}, default="error"
        Rows with a missing value (NaN, None, NaT, NA, null): an error; none of the column's
        items, negated ones included; the same and an item "age is missing"; or left out.
    max_levels : int, default=50
        A categorical or text column with more levels is an identifier rather than a feature: it
        is left out with a warning.

    Returns
    -------
    Items
        The matrix, the names of its columns, and what was done.

    Raises
    ------
    InputError
        If the table has no rows or no columns to use, two columns of one name, missing values
        (by default), infinite values, values of mixed types, or items of one name.
    InputTypeError
        If `frame` is not a table, or a parameter has a wrong type.

    Warns
    -----
    DataWarning
        If columns are left out because of `max_levels`.

    Notes
    -----
    Boolean columns, and numeric columns of 0 and 1 only, become one item with the name of the
    column. Categories and texts become an item a level, "colour=red". Whole numbers are cut
    at whole numbers. Edges are given with as few digits as separate the same rows.
    Items that are true in every row or in none say nothing and are left out, see
    `Items.dropped`. One pass a column; memory is a byte a row and item, or sparse above 1 GiB.

    Examples
    --------
    >>> table = {"smoker": [True, False, True], "colour": ["red", "blue", "red"]}
    >>> items = make_items(table)
    >>> items.names
    ('smoker', 'colour=blue', 'colour=red')
    >>> items.matrix.astype(int)
    array([[1, 0, 1],
           [0, 1, 0],
           [1, 0, 1]])
    """
    series = named_series(frame)
    recipe = _checked_recipe(series, bins, bin_method, edges, negate, missing, max_levels, exclude)
    columns = [read_column(values, name) for name, values in series if name not in exclude]
    if not columns:
        raise InputError("the table has no columns to make items from; give at least one feature.")
    n_rows = len(columns[0].values)
    if n_rows == 0:
        raise InputError("the table has no rows (0 samples); at least one row is needed.")
    for column in columns:
        _refuse_infinite(column)
    columns, rows_kept, notes = _treat_missing(columns, missing, n_rows)
    coded: list[_Coded] = []
    dropped: list[DroppedItem] = []
    too_many: list[str] = []
    for column in columns:
        if column.n_missing == len(column.values):
            dropped.append(DroppedItem(column.name, "no value in any row"))
        elif column.kind == "category" and len(column.levels) > max_levels:
            too_many.append(column.name)
            found = f"{len(column.levels):,} levels, more than max_levels={max_levels}"
            dropped.append(DroppedItem(column.name, found))
        else:
            coded.append(_code_column(column, recipe))
    if too_many:
        warnings.warn(
            f"left out as identifiers, with more than {max_levels} levels: {listed(too_many)}. "
            "Raise max_levels to use them, merge rare levels, or exclude them to silence this.",
            DataWarning,
            stacklevel=2,
        )
    notes += [made.note for made in coded if made.note]
    return _assemble(coded, rows_kept, notes, dropped)


def _checked_recipe(
    series: list[tuple[str, Any]],
    bins: int,
    bin_method: str,
    edges: Mapping[str, Sequence[Any]] | None,
    negate: bool,
    missing: str,
    max_levels: int,
    exclude: Sequence[str],
) -> _Recipe:
    _require_at_least_two("bins", bins)
    _require_at_least_two("max_levels", max_levels)
    for name, choice, known in (
        ("bin_method", bin_method, BIN_METHODS),
        ("missing", missing, MISSING_POLICIES),
    ):
        if choice not in known:
            raise InputError(f"{name}={choice!r} is not known; choose one of {', '.join(known)}.")
    if isinstance(exclude, str):
        raise InputTypeError(f"exclude={exclude!r} is a text; give a list of column names.")
    names = [name for name, _ in series]
    edges = {} if edges is None else edges
    for parameter, asked in (("exclude", list(exclude)), ("edges", list(edges))):
        if unknown := [str(name) for name in asked if name not in names]:
            raise InputError(
                f"{parameter} names columns that the table does not have: {listed(unknown)}; "
                f"its columns are {listed(names, 20)}."
            )
    return _Recipe(int(bins), bin_method, edges, bool(negate), missing)


def _require_at_least_two(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(f"{name}={value!r} must be a whole number of at least 2.")
    if value < 2:
        raise InputError(f"{name}={value!r} must be at least 2.")


def _refuse_infinite(column: Column) -> None:
    if column.kind == "number" and (n := int(np.isinf(column.values).sum())):
        raise InputError(
            f"column {column.name!r} has {n:,} infinite (inf) values; expected finite numbers. "
            "Replace them by numbers or by missing values."
        )


def _treat_missing(
    columns: list[Column], missing: str, n_rows: int
) -> tuple[list[Column], NDArray[np.bool_], list[str]]:
    """Apply the policy that concerns rows; return the columns, the kept rows and notes."""
    kept = np.ones(n_rows, dtype=np.bool_)
    holes = [column for column in columns if column.missing is not None]
    if not holes:
        return columns, kept, []
    counts = [f"{column.name} ({column.n_missing:,})" for column in holes]
    if missing == "error":
        raise InputError(
            f"missing values (NaN, None, null) in {len(holes)} of {len(columns)} columns: "
            f"{listed(counts)}; expected none. Fill them, or say what they mean with "
            'missing="absent" (the row has none of the column\'s items), "item" (being missing is '
            'an item of its own) or "drop" (the row is left out).'
        )
    if missing != "drop":
        meant = "has none of the column's items"
        meant += ' and the item "is missing"' if missing == "item" else ""
        return columns, kept, [f"A row with a missing value {meant}: {listed(counts)}."]
    for column in holes:
        kept &= ~column.missing if column.missing is not None else True
    if not kept.any():
        raise InputError(
            f"no row without a missing value is left of {n_rows:,}: {listed(counts)}. Exclude the "
            'emptiest columns, or use missing="absent" or missing="item".'
        )
    note = (
        f"{int((~kept).sum()):,} of {n_rows:,} rows were left out because of missing values: "
        f"{listed(counts)}."
    )
    return [column.keep(kept) for column in columns], kept, [note]


def _code_column(column: Column, recipe: _Recipe) -> _Coded:
    """Turn one column with at least one value into codes and items."""
    given = recipe.edges.get(column.name)
    numeric = column.kind in ("integer", "number", "time")
    if given is not None and not numeric:
        raise InputError(
            f"edges were given for column {column.name!r}, which is of kind {column.kind}; only "
            "numbers and dates can be cut. Remove the edges or convert the column."
        )
    note = ""
    few = _few_values(column, recipe.bins + 1) if numeric and given is None else None
    if column.kind == "boolean" or (
        few is not None and column.kind != "time" and set(few.tolist()) <= {0, 1}
    ):
        codes = (column.values != 0).astype(np.uint8) + 1
        items = [(column.name, np.array([False, False, True]))]
        if recipe.negate:
            items.append((f"not {column.name}", np.array([False, True, False])))
    elif numeric and few is None:
        codes, items, note = _cut(column, recipe)
    else:
        level_codes, labels = factorize(column)
        codes = _small(level_codes + 1, len(labels))
        items = _level_items(column.name, labels, recipe.negate)
    if column.missing is not None:
        codes = np.where(column.missing, codes.dtype.type(0), codes)
        if recipe.missing == "item":
            only_missing = np.zeros(len(items[0][1]), dtype=np.bool_)
            only_missing[0] = True
            items.append((f"{column.name} is missing", only_missing))
    return _Coded(column.name, codes, items, note)


def _few_values(column: Column, most: int) -> NDArray[Any] | None:
    """Return the different values of a column if there are at most `most`, else None."""
    values = column.present()
    if len(np.unique(values[:_GLANCE])) > most:
        return None
    found: NDArray[Any] = np.unique(values)
    return found if len(found) <= most else None


def _small(codes: NDArray[Any], largest: int) -> NDArray[Any]:
    """Codes in the smallest type that holds them: a wide table has many of these arrays."""
    return codes.astype(np.min_scalar_type(largest))


def _level_items(
    name: str, labels: Sequence[str], negate: bool
) -> list[tuple[str, NDArray[np.bool_]]]:
    is_level = np.eye(len(labels) + 1, dtype=np.bool_)[1:]  # (n_levels, n_levels + 1)
    items = [(f"{name}={label}", has) for label, has in zip(labels, is_level, strict=True)]
    if negate and len(labels) > 2:
        items += [
            (f"{name}!={label}", _opposite(has))
            for label, has in zip(labels, is_level, strict=True)
        ]
    return items


def _opposite(has: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Negate an item; code 0 (missing) has neither the item nor its opposite."""
    opposite = ~has
    opposite[0] = False
    return opposite


def _cut(
    column: Column, recipe: _Recipe
) -> tuple[NDArray[Any], list[tuple[str, NDArray[np.bool_]]], str]:
    """Cut numbers or dates into bins that are open below and closed above."""
    values = column.present()
    if column.name in recipe.edges:
        cuts, how = given_edges(values, recipe.edges[column.name], column.name), "as given"
    elif recipe.bin_method == "quantile":
        cuts, how = quantile_edges(values, recipe.bins), "quantiles"
    else:
        cuts, how = width_edges(values, recipe.bins), "equal widths"
    # side="left": a value equal to an edge belongs to the bin below it.
    codes = _small(np.searchsorted(cuts.values, column.values, side="left") + 1, len(cuts) + 1)
    names, opposites = bin_names(column.name, cuts.texts)
    is_bin = np.eye(len(names) + 1, dtype=np.bool_)[1:]
    items = list(zip(names, is_bin, strict=True))
    if recipe.negate and len(names) > 2:
        items += [(text, _opposite(has)) for text, has in zip(opposites, is_bin, strict=True)]
    return codes, items, f"{column.name} was cut at {', '.join(cuts.texts)} ({how})."


def _assemble(
    coded: list[_Coded],
    rows_kept: NDArray[np.bool_],
    notes: list[str],
    dropped: list[DroppedItem],
) -> Items:
    """Fill the matrix with the items that are neither in every row nor in none."""
    n_rows = int(rows_kept.sum())
    plan = []
    for made in coded:
        per_code = np.bincount(made.codes, minlength=len(made.items[0][1]))
        for name, has in made.items:
            count = int(per_code[has].sum())
            if 0 < count < n_rows:
                plan.append((made, name, has, count))
            else:
                where = "present in" if count else "absent from"
                dropped.append(DroppedItem(name, f"constant: {where} every row"))
    if not plan:
        reasons = listed([f"{item.name} ({item.reason})" for item in dropped])
        raise InputError(f"no items are left to search: {reasons}. Give columns that vary.")
    names = [name for _, name, _, _ in plan]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"several columns make items of one name: {listed(repeated)}; item names must differ. "
            "Rename one of the columns."
        )
    matrix: Any
    if n_rows * len(plan) <= _DENSE_CELLS:
        matrix = np.empty((n_rows, len(plan)), dtype=np.bool_, order="F")
        for j, (made, _, has, _) in enumerate(plan):
            np.take(has, made.codes, out=matrix[:, j], mode="clip")  # "raise" would make a copy
    else:
        from scipy.sparse import csc_array

        indptr = np.concatenate([[0], np.cumsum([count for *_, count in plan])])
        indices = np.concatenate([np.flatnonzero(has[made.codes]) for made, _, has, _ in plan])
        ones = np.ones(len(indices), dtype=np.bool_)
        matrix = csc_array((ones, indices, indptr), shape=(n_rows, len(plan)))
    sources = tuple(made.source for made, *_ in plan)
    return Items(matrix, tuple(names), sources, rows_kept, tuple(notes), tuple(dropped))
