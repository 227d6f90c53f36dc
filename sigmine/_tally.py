"""The different values of a column that is seen block by block, and how often each occurs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._frames import read_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Levels", "Tally", "as_keys"]

_MOST_VALUES = 2**14  # different values that are kept; a column with more is `long`
_MOST_PIECES = 16  # a Series has its price, however short it is


class Levels(NamedTuple):
    """The different values of a column.

    Attributes
    ----------
    keys : pandas.Index
        As they stand in the blocks, to look them up by `as_keys`.
    values : pandas.Series
        The same with the type that the whole column has.
    counts : ndarray of int64, shape (n_levels,)
        Rows with each of them; 0 for values that only rows left out have.
    """

    keys: pd.Index
    values: pd.Series
    counts: NDArray[np.int64]


class Tally:
    """Counts the values of one column.

    Parameters
    ----------
    name : str
        Name of the column.
    most : int, default=16384
        Different values that are kept at least.

    Attributes
    ----------
    n_missing : int
        Missing values among the rows that were counted.
    is_long : bool
        Whether there were more different values than are kept.
    """

    def __init__(self, name: str, most: int = _MOST_VALUES) -> None:
        self.name, self._most = name, max(most, _MOST_VALUES)
        self.n_missing = 0
        self.is_long = False
        self._any_missing = False  # in rows that were not counted too
        self._kinds: set[str] = set()
        self._values: list[pd.Series] = []
        self._counts: list[NDArray[np.int64]] = []
        self._hashes: list[NDArray[np.uint64]] = []  # of the levels of a long column

    def add(
        self,
        series: pd.Series,
        kept: NDArray[np.bool_] | None = None,
        seen: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], pd.Series]:
        """Count the values of a block.

        Parameters
        ----------
        series : pandas.Series
            The column in this block.
        kept : ndarray of bool, optional
            Rows to count; the type of the column depends on all of them.
        seen : ndarray of bool, optional
            Rows whose values are levels, even with a count of 0; by default those of `kept`.

        Returns
        -------
        codes : ndarray of int64
            For every row that was counted its place among the values, -1 where missing.
        values : pandas.Series
            The different values of the block.
        """
        import pandas as pd

        try:
            codes, found = pd.factorize(series)
        except TypeError:
            read_column(series, self.name)  # says what is wrong with values that are none
            raise
        values = pd.Series(found)
        self._any_missing |= bool((codes < 0).any())
        if len(values):
            self._kinds.add(_kind(values))
        counted = codes if kept is None else codes[kept]
        counts = np.bincount(counted + 1, minlength=len(values) + 1).astype(np.int64)
        self.n_missing += int(counts[0])
        present = counts[1:] > 0
        if seen is not None:
            present[codes[seen & (codes >= 0)]] = True
        self._keep(values[present], counts[1:][present])
        return counted, values

    def _keep(self, values: pd.Series, counts: NDArray[np.int64]) -> None:
        if self.is_long:
            self._hash(values)
        elif len(values):
            self._values.append(values)
            self._counts.append(counts)
            if len(self._values) > _MOST_PIECES or sum(map(len, self._values)) > 2 * self._most:
                self._merge()

    def _merge(self) -> None:
        """Make one list of the values; give it up if it is too long."""
        import pandas as pd

        if len(self._values) > 1:
            codes, found = pd.factorize(_concatenated(self._values))
            counts = np.zeros(len(found), dtype=np.int64)
            np.add.at(counts, codes, np.concatenate(self._counts))
            self._values, self._counts = [pd.Series(found)], [counts]
        if self._values and len(self._values[0]) > self._most:
            self.is_long = True
            self._hash(self._values[0])
            self._values, self._counts = [], []

    def _hash(self, values: pd.Series) -> None:
        """Of levels too many to be used, only how many there are will be asked."""
        import pandas as pd

        if not self.is_numeric:
            self._hashes.append(pd.util.hash_array(values.to_numpy(dtype=object)))
            if len(self._hashes) > _MOST_PIECES:
                self._hashes = [np.unique(np.concatenate(self._hashes))]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers or dates."""
        return self._kinds <= {"i", "u", "f", "M"}

    @property
    def is_ambiguous(self) -> bool:
        """Whether the blocks disagree on what the values are, so that their texts are needed."""
        if len(self._kinds) < 2:
            return self._kinds == {"other"}
        return self._kinds != {"i", "f"}

    @property
    def n_levels(self) -> int:
        """The number of different values; not of a long column of numbers."""
        self._merge()
        if self._hashes:
            return len(np.unique(np.concatenate(self._hashes)))
        return sum(map(len, self._values))

    def levels(self, *, as_text: bool = False) -> Levels:
        """Return the different values of a column that is not long.

        Parameters
        ----------
        as_text : bool, default=False
            Whether the values were read as text, and are to be interpreted now, all together.

        Returns
        -------
        Levels
            In no particular order.
        """
        import pandas as pd

        self._merge()
        if not self._values:
            nothing = pd.Series([], dtype=object)
            return Levels(pd.Index(nothing), nothing, np.empty(0, dtype=np.int64))
        (raw,), (counts,) = self._values, self._counts
        typed = _interpreted(raw, self._any_missing) if as_text else self.with_type(raw)
        return Levels(pd.Index(as_keys(raw)), typed.reset_index(drop=True), counts)

    def with_type(self, values: pd.Series) -> pd.Series:
        """Give values of some block the type that pandas gives the whole column.

        Parameters
        ----------
        values : pandas.Series
            Values of the column.

        Returns
        -------
        pandas.Series
            Whole numbers become floats where others are, or where a value is missing.
        """
        dtype: Any = values.dtype
        floats = "f" in self._kinds or self._any_missing
        if floats and isinstance(dtype, np.dtype) and dtype.kind in "iu":
            return values.astype(np.float64)
        return values


def as_keys(series: pd.Series) -> pd.Series:
    """Return values that are equal wherever they stand: not the codes of a block's categories.

    Parameters
    ----------
    series : pandas.Series
        A column of a block.

    Returns
    -------
    pandas.Series
    """
    import pandas as pd

    return series.astype(object) if isinstance(series.dtype, pd.CategoricalDtype) else series


def _kind(values: pd.Series) -> str:
    """Return the kind of values none of which is missing: b, i, u, f, M, text, category, other."""
    import pandas as pd

    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    if dtype.kind in "biufM":
        return str(dtype.kind)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    return {"boolean": "b", "string": "text"}.get(inferred, "other")


def _concatenated(pieces: list[pd.Series]) -> pd.Series:
    """Put values behind each other; categories in the order in which the blocks have them."""
    import pandas as pd

    if all(isinstance(piece.dtype, pd.CategoricalDtype) for piece in pieces):
        categories = list(dict.fromkeys(c for piece in pieces for c in piece.cat.categories))
        pieces = [piece.cat.set_categories(categories) for piece in pieces]
    return pd.concat(pieces, ignore_index=True)


def _interpreted(texts: pd.Series, any_missing: bool) -> pd.Series:
    """Find the type of values that were read as text, as pandas finds that of a whole column."""
    import pandas as pd

    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    # A second column, so that no line is blank; a missing value, because it has a say.
    writer.writerows([text, 0] for text in [*texts, *([""] if any_missing else [])])
    file.seek(0)
    values = pd.read_csv(file, header=None, names=["value", "_"], low_memory=False)["value"]
    return values.iloc[: len(texts)]
