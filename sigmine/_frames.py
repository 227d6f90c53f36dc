"""Columns of any table, read once at the border.

pandas, polars and pyarrow tables, numpy arrays, dicts and plain sequences come in; out comes
one `Column` each: a numpy array of one of six kinds and a mask of the missing values. What
is done with the columns (strata, target, items) is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .exceptions import InputError, InputTypeError

__all__ = [
    "Column",
    "as_text",
    "factorize",
    "listed",
    "named_series",
    "read_column",
]

Kind = Literal["boolean", "integer", "number", "time", "category", "empty"]

# What pandas.api.types.infer_dtype says of an object array -> how it is read.
_OBJECT_KINDS: dict[str, Kind] = {
    "string": "category",
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "datetime64": "time",
    "datetime": "time",
    "date": "time",
    "empty": "empty",
}


@dataclass(frozen=True)
class Column:
    """One column of a table, as a numpy array of a known kind.

    Parameters
    ----------
    name : str
        Name of the column.
    kind : {"boolean", "integer", "number", "time", "category", "empty"}
        What the values are: bool, integers, floats, datetime64, or the codes of a categorical
        or text column; "empty" if every value is missing and the type says nothing.
    values : ndarray of shape (n_rows,)
        The values. A category holds int64 codes into `levels`, -1 where missing; elsewhere
        the entry of a missing value means nothing.
    missing : ndarray of bool of shape (n_rows,) or None
        Mask of missing values (None, NaN, NaT, NA, null); None if there are none.
    levels : tuple of str
        Texts of the levels that occur, in their order; empty unless a category.
    """

    name: str
    kind: Kind
    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    levels: tuple[str, ...] = ()

    @property
    def n_missing(self) -> int:
        """Number of missing values."""
        return 0 if self.missing is None else int(self.missing.sum())

    def present(self) -> NDArray[Any]:
        """Return the values that are not missing."""
        return self.values if self.missing is None else self.values[~self.missing]

    def keep(self, rows: NDArray[np.bool_]) -> Column:
        """Return the column at the rows marked True; levels keep their order."""
        missing = None if self.missing is None else self.missing[rows]
        missing = None if missing is None or not missing.any() else missing
        return Column(self.name, self.kind, self.values[rows], missing, self.levels)


def listed(texts: Sequence[object], most: int = 8) -> str:
    """Join texts with commas for a message; a long list ends in "and N more".

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(str(text) for text in texts[:most])
    return shown if len(texts) <= most else f"{shown} and {len(texts) - most} more"


def as_text(value: Any) -> str:
    """Return a level as text: whole numbers without a point, dates without an empty time.

    Examples
    --------
    >>> as_text(3.0), as_text(np.float32(0.1)), as_text(np.datetime64("2020-02-01T00:00"))
    ('3', '0.1', '2020-02-01')
    """
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="auto")).replace("T", " ")
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else str(value)
    return str(value)


def named_series(data: Any, *, what: str = "the table") -> list[tuple[str, Any]]:
    """Return the columns of a table as (name, values), without reading them.

    Parameters
    ----------
    data : data frame, mapping of columns, or 2-d ndarray
        pandas, polars or pyarrow table (eager), dict name -> values, or array of shape
        (n_rows, n_columns), whose columns are called x0, x1, ...
    what : str, default="the table"
        How messages call it.

    Returns
    -------
    list of (str, values)
        In the order of the table; every value can be given to `read_column`.

    Raises
    ------
    InputError
        If two columns have one name, or columns differ in length.
    InputTypeError
        If `data` is not a table.
    """
    if isinstance(data, Mapping):
        pairs = [(str(name), values) for name, values in data.items()]
        _require_unique([name for name, _ in pairs], what)
        if scalars := [name for name, values in pairs if not hasattr(values, "__len__")]:
            raise InputTypeError(
                f"{what} has no column of values for {listed(scalars)}; give one value a row."
            )
        if len(lengths := {len(values) for _, values in pairs}) > 1:
            raise InputError(
                f"{what} has columns of different lengths ({listed(sorted(lengths))}); "
                "give every column one value a row."
            )
        return pairs
    if isinstance(data, np.ndarray):
        if data.ndim != 2:
            raise InputError(
                f"{what} has shape {data.shape}; expected two dimensions (rows, columns). "
                "Reshape your data with array.reshape(-1, 1) if it is one column."
            )
        return [(f"x{j}", data[:, j]) for j in range(data.shape[1])]
    import narwhals as nw

    if hasattr(data, "collect"):  # a lazy frame: even asking for its columns may run the query
        raise InputTypeError(
            f"{what} is a lazy {type(data).__name__}; expected a table in memory. Call .collect() "
            "on it first."
        )
    # pyarrow's `columns` holds the data, its `column_names` the names.
    names = getattr(data, "column_names", getattr(data, "columns", None))
    if names is not None and not callable(names):
        _require_unique([str(name) for name in names], what)
    if nw.dependencies.is_pandas_dataframe(data):
        return [(str(name), data.iloc[:, j]) for j, name in enumerate(data.columns)]
    frame = nw.from_native(data, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return [(name, frame[name]) for name in frame.columns]
    raise InputTypeError(
        f"{what} is of type {type(data).__name__}; expected a pandas, polars or pyarrow table, "
        f"a dict of columns or a two-dimensional numpy array; convert it first."
    )


def _require_unique(names: Sequence[str], what: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"{what} has more than one column called {listed([repr(n) for n in repeated])}; "
            "column names must differ. Rename or drop the repeated ones."
        )


def read_column(values: Any, name: str, *, what: str | None = None) -> Column:
    """Read one column of any kind.

    Parameters
    ----------
    values : Series, ndarray or sequence of shape (n_rows,)
        pandas, polars or pyarrow (chunked) column, array, list or tuple.
    name : str
        Name of the column.
    what : str, optional
        How messages call it; "column 'name'" by default.

    Returns
    -------
    Column

    Raises
    ------
    InputError
        If the values are of mixed types, of a type that cannot be used (durations, complex
        numbers, bytes, lists), or not one-dimensional.
    InputTypeError
        If `values` is not a column at all.
    """
    return replace(_read(values, f"column {name!r}" if what is None else what), name=name)


def _read(values: Any, name: str) -> Column:
    """Read a column that goes by the name that messages give it."""
    if isinstance(values, np.ndarray):
        return _from_array(values, name)
    import narwhals as nw

    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise InputTypeError(
            f"{name}={values!r} is of type {type(values).__name__}; expected a column: one value "
            "a row, as a list, an array or a Series."
        )
    if not isinstance(values, nw.Series):
        module = type(values).__module__.partition(".")[0]
        if module == "pandas":
            import pandas as pd

            values = pd.Series(values)  # Categorical, Index and extension arrays too
        if isinstance(values, list | tuple):
            # As objects: numpy would turn [1, "a"] into two texts without a word.
            values = np.fromiter(values, dtype=object, count=len(values))
        else:
            values = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(values, nw.Series):
        return _from_series(values, name)
    return _from_array(np.asanyarray(values), name)


def _from_array(array: NDArray[Any], name: str) -> Column:
    if array.ndim != 1:
        raise InputError(
            f"{name} has shape {array.shape}; expected one value a row, shape (n_rows,). "
            "Select one column, or ravel an array with a single column."
        )
    masked = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    array = np.asarray(array)
    column = _from_plain(array, name)
    if masked is not None and masked.any():
        missing = masked if column.missing is None else masked | column.missing
        values = np.where(missing, -1, column.values) if column.levels else column.values
        return Column(name, column.kind, values, missing, column.levels)
    return column


def _from_plain(array: NDArray[Any], name: str) -> Column:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    letter = array.dtype.kind
    if letter == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64)
    if letter == "b":
        return Column(name, "boolean", array)
    if letter in "iu":
        return Column(name, "integer", array)
    if letter == "f":
        return Column(name, "number", array, _mask_or_none(np.isnan(array)))
    if letter == "M":
        return Column(name, "time", array, _mask_or_none(np.isnat(array)))
    if letter == "U":
        return _from_texts(array.astype(object), name)
    if letter == "O":
        return _from_objects(array, name)
    raise _unusable(name, str(array.dtype))


def _from_objects(array: NDArray[Any], name: str) -> Column:
    import pandas as pd

    if _has_arrays(array):
        raise InputError(f"{name} is a list of lists; expected one value a row.")
    inferred = pd.api.types.infer_dtype(array, skipna=True)
    missing = _mask_or_none(np.asarray(pd.isna(array), dtype=np.bool_))
    kind = _OBJECT_KINDS.get(inferred)
    if kind is None:
        types = Counter(type(v).__name__ for v in array[~pd.isna(array)])
        if len(types) > 1:
            raise InputError(
                f"{name} holds values of mixed types ("
                f"{listed([f'{n:,} {t}' for t, n in types.most_common()])}); expected one type. "
                "Convert the column, for example with .astype(str)."
            )
        raise _unusable(name, inferred if inferred != "mixed" else next(iter(types)))
    if kind == "empty":
        return Column(name, "empty", np.zeros(len(array), dtype=np.bool_), missing)
    if kind == "category":
        return _from_texts(array, name)
    filled = array if missing is None else np.where(missing, array[~missing][0], array)
    if kind == "time":
        times = pd.to_datetime(pd.Series(filled)).to_numpy(dtype="datetime64[us]")
        return Column(name, "time", times, missing)
    if kind == "integer":
        try:
            return Column(name, "integer", filled.astype(np.int64), missing)
        except OverflowError:
            kind = "number"
    return Column(name, kind, filled.astype(bool if kind == "boolean" else float), missing)


def _has_arrays(array: NDArray[Any]) -> bool:
    return bool(len(array)) and isinstance(array[0], list | tuple | np.ndarray | Mapping | set)


def _from_texts(texts: Any, name: str) -> Column:
    """Code texts in sorted order; `texts` is an object array or a pandas string Series."""
    import pandas as pd

    codes, levels = pd.factorize(texts, sort=True)
    codes = codes.astype(np.int64, copy=False)
    return Column(
        name, "category", codes, _mask_or_none(codes < 0), tuple(str(level) for level in levels)
    )


def _from_series(series: Any, name: str) -> Column:
    import narwhals as nw

    native = series.to_native()
    if series.implementation.is_pandas():
        import pandas as pd

        dtype = native.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return _from_categorical(native, name)
        if isinstance(dtype, pd.StringDtype):
            return _from_texts(native, name)
        if isinstance(dtype, pd.SparseDtype):
            return _from_plain(native.sparse.to_dense().to_numpy(), name)
        if isinstance(dtype, np.dtype) and dtype.kind != "M":
            return _from_plain(native.to_numpy(), name)
    dtype = series.dtype
    missing = _mask_or_none(series.is_null().to_numpy().astype(np.bool_))
    if missing is not None and missing.all() and dtype == nw.Unknown:
        return Column(name, "empty", np.zeros(len(series), dtype=np.bool_), missing)
    if dtype == nw.Boolean:
        values = series.fill_null(False).to_numpy().astype(np.bool_, copy=False)
        return Column(name, "boolean", values, missing)
    if dtype.is_integer():
        # Filled before the conversion: through NaN, integers above 2**53 would change.
        return Column(name, "integer", series.fill_null(0).to_numpy(), missing)
    if dtype.is_decimal() or dtype.is_float():
        numbers = series if dtype.is_float() else series.cast(nw.Float64)
        return _from_plain(numbers.fill_null(float("nan")).to_numpy(), name)
    if dtype == nw.Datetime or dtype == nw.Date:
        return _from_times(series, name)
    if dtype == nw.String:
        return _from_objects(series.to_numpy().astype(object), name)
    if dtype == nw.Categorical or dtype == nw.Enum:
        column = _from_texts(series.cast(nw.String).to_numpy().astype(object), name)
        return _reordered(column, dtype.categories) if isinstance(dtype, nw.Enum) else column
    if dtype == nw.Object:
        return _from_objects(series.to_numpy().astype(object), name)
    raise _unusable(name, str(dtype if dtype != nw.Unknown else getattr(native, "dtype", dtype)))


def _from_times(series: Any, name: str) -> Column:
    import narwhals as nw

    if series.dtype == nw.Date:
        series = series.cast(nw.Datetime("us"))
    elif series.dtype.time_zone is not None:
        series = series.dt.replace_time_zone(None)  # the local clock is what readers know
    values = series.to_numpy().astype("datetime64[us]")
    return Column(name, "time", values, _mask_or_none(np.isnat(values)))


def _from_categorical(native: Any, name: str) -> Column:
    """Read a pandas categorical: the order of its categories if ordered, else sorted."""
    categories = native.cat.categories
    codes = native.cat.codes.to_numpy().astype(np.int64)
    order = np.arange(len(categories))
    if not native.cat.ordered:
        try:
            order = np.asarray(categories.argsort())
        except TypeError:  # categories of mixed types have no order but that of their texts
            order = np.argsort(np.array([str(c) for c in categories], dtype=object))
    texts = [as_text(category) for category in categories]
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = -1
    codes = rank[codes]
    column = Column(name, "category", codes, _mask_or_none(codes < 0), ())
    return _only_occurring(column, [texts[i] for i in order])


def _reordered(column: Column, categories: Sequence[str]) -> Column:
    """Give the levels of a text column the order of its declared categories."""
    position = {level: i for i, level in enumerate(categories)}
    rank = np.array([position[level] for level in column.levels] + [-1], dtype=np.int64)
    column = Column(column.name, "category", rank[column.values], column.missing)
    return _only_occurring(column, list(categories))


def _only_occurring(column: Column, texts: Sequence[str]) -> Column:
    """Drop the levels that no row has: a declared category is not yet an observation."""
    codes = column.values
    occurs = np.bincount(codes[codes >= 0], minlength=len(texts)) > 0
    new = np.append(np.cumsum(occurs) - 1, -1)
    levels = tuple(text for text, there in zip(texts, occurs, strict=True) if there)
    return Column(column.name, "category", new[codes], column.missing, levels)


def _mask_or_none(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return mask if mask.any() else None


def _unusable(name: str, dtype: str) -> InputError:
    if "complex" in dtype:
        return InputError(f"Complex data not supported: {name} holds complex numbers.")
    advice = "convert it to numbers, texts or booleans, or leave it out"
    if "timedelta" in dtype or "duration" in dtype.lower():
        advice = "convert it to a number, for example with .dt.total_seconds() / 86400 for days"
    return InputError(
        f"{name} is of type {dtype}; expected booleans, numbers, dates, texts or categories. "
        f"What to do: {advice}."
    )


def factorize(column: Column) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Code a column by its levels in sorted order.

    Parameters
    ----------
    column : Column
        Any column.

    Returns
    -------
    codes : ndarray of int64 of shape (n_rows,)
        Index into the labels, -1 where missing.
    labels : tuple of str
        Levels that occur: numbers and dates in their order, categories in theirs, texts
        sorted by code point.
    """
    if column.kind == "category":
        return column.values, column.levels
    levels, codes = _levels(column.present())
    if column.missing is not None:
        full = np.full(len(column.values), -1, dtype=np.int64)
        full[~column.missing] = codes
        codes = full
    if column.kind == "integer":
        return codes, tuple(map(str, levels.tolist()))
    return codes, tuple(as_text(level) for level in levels)


def _levels(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different values, ascending, and the place of each value among them.

    By numpy: with arrays and lists of numbers a search does without pandas, which takes as long to
    import as a small search.
    """
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low <= 2 * len(values) and high < 2**63:  # few enough to count, without a sort
            places = values.astype(np.int64) - low
            occurs = np.bincount(places) > 0
            return np.flatnonzero(occurs) + low, (np.cumsum(occurs) - 1)[places]
    levels, codes = np.unique(values, return_inverse=True)
    return levels, codes.astype(np.int64, copy=False)
