"""From a matrix of zeros and ones to what the kernels read: frequent items by falling support."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bitset import count_ones, pack_columns, unpack_columns
from .layout import Source

__all__ = ["Items", "make_source"]

# Of ones among the cells of the frequent items. Below it, going through the lists of the rows of
# an item is cheaper than counting bits.
_SPARSE_BELOW = 0.03
_BLOCK_CELLS = 2**24  # unpacked at a time


class Items(NamedTuple):
    """The items of a search.

    Attributes
    ----------
    source : Source
        Items with enough rows, but for those of `fixed`.
    columns : ndarray of int64, shape (n_items,)
        Column of the matrix of each, by rank.
    fixed : ndarray of int64
        Columns that hold in every row, where only closed itemsets are asked for: they are in each.
    n_rows : int
        Rows of the matrix.
    """

    source: Source
    columns: NDArray[np.int64]
    fixed: NDArray[np.int64]
    n_rows: int

    @property
    def n_words(self) -> int:
        """Words of a column; 0 if the source holds lists."""
        return len(self.source.columns) // max(1, len(self.columns))


def make_source(matrix: Any, least: int, closed: bool) -> Items:
    """Choose the items and bring them into the kernels' layout.

    Parameters
    ----------
    matrix : ndarray of bool or scipy.sparse.csc_array of bool, shape (n_rows, n_columns)
        As `validate_binary_matrix` returns it.
    least : int
        Fewest rows of an item.
    closed : bool
        Whether only closed itemsets are asked for.

    Returns
    -------
    Items
        Lists if few cells are ones, whatever the matrix was: a sparse matrix is not unpacked.
    """
    n_rows = int(matrix.shape[0])
    sparse = hasattr(matrix, "tocsc")
    if sparse:
        ones = np.diff(matrix.indptr).astype(np.int64)
    else:
        packed = pack_columns(matrix, np.arange(n_rows))
        ones = count_ones(packed)
    frequent = ones >= least
    fixed = frequent & (ones == n_rows) if closed else np.zeros_like(frequent)
    columns = np.flatnonzero(frequent & ~fixed)
    columns = columns[np.argsort(-ones[columns], kind="stable")]
    ones = ones[columns]
    lists = int(ones.sum()) < _SPARSE_BELOW * n_rows * len(ones)
    if sparse:
        matrix = matrix[:, columns]
        if lists:
            source = _lists(ones, matrix.indices, n_rows)
        else:
            source = _bits(ones, pack_columns(matrix, np.arange(n_rows)), np.arange(len(ones)))
    elif lists:
        source = _lists(ones, _rows_of_bits(packed, columns, n_rows), n_rows)
    else:
        source = _bits(ones, packed, columns)
    return Items(source, columns, np.flatnonzero(fixed), n_rows)


def _bits(
    ones: NDArray[np.int64], packed: NDArray[np.uint64], columns: NDArray[np.int64]
) -> Source:
    """Bring some packed columns into the order of the ranks, word by word."""
    n_words = packed.shape[1]
    words = np.empty((n_words, len(columns)), dtype=np.uint64)
    step = max(1, _BLOCK_CELLS // (64 * max(1, len(columns))))
    for start in range(0, n_words, step):
        words[start : start + step] = packed[columns, start : start + step].T
    long, short = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    return Source(ones, words.reshape(-1), long, short, long, short, short)


def _rows_of_bits(
    packed: NDArray[np.uint64], columns: NDArray[np.int64], n_rows: int
) -> NDArray[np.int32]:
    """Return the rows of some packed columns, one column behind the other."""
    step = max(1, _BLOCK_CELLS // n_rows)
    blocks = [np.empty(0, dtype=np.int32)]
    for start in range(0, len(columns), step):
        bits = unpack_columns(packed[columns[start : start + step]], n_rows)
        blocks.append(np.nonzero(bits)[1].astype(np.int32))
    return np.concatenate(blocks)


def _lists(ones: NDArray[np.int64], rows: NDArray[np.integer], n_rows: int) -> Source:
    """Make the lists of the rows from those of the items."""
    from scipy.sparse import csc_array

    starts = np.concatenate([[0], np.cumsum(ones)])
    numbers = np.arange(len(rows))
    by_row = csc_array((numbers, rows, starts), shape=(n_rows, len(ones))).tocsr()
    row_starts = by_row.indptr.astype(np.int64)
    places = np.empty(len(rows), dtype=np.int32)
    places[by_row.data] = numbers - np.repeat(row_starts[:-1], np.diff(row_starts))
    return Source(
        ones=ones,
        columns=np.empty(0, dtype=np.uint64),
        row_starts=row_starts,
        ranks=by_row.indices.astype(np.int32, copy=False),
        item_starts=starts,
        rows=rows.astype(np.int32),
        places=places,
    )
