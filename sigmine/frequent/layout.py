"""The arrays that the kernels of this package read and write, and what their columns mean.

Items have *ranks*: 0 for the one with most rows, ties in the order of the columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int: TypeAlias = int | np.integer[Any]  # a number in a kernel; numba has the types that count
Bool: TypeAlias = bool | np.bool_

# Entries of `state`. What is asked for: fewest rows, most items, whether only closed itemsets
# count, and whether itemsets are written or only counted.
LEAST, LIMIT, CLOSED, WRITE = range(4)
# The task: root items from ROOT to before LAST_ROOT, and of the subtree of each the shares from
# SHARE to before LAST_SHARE. Itemsets met so far, and items in them: the free ends of the output.
ROOT, LAST_ROOT, SHARE, LAST_SHARE, N_SETS, N_ITEMS = range(4, 10)
# Words of a column of dense data, 0 for lists; room that was missing; items that are in every row.
WORDS, NEEDED, FIXED = range(10, 13)
N_STATE = 13
# Columns of `levels`. Of a narrow frame: its first row, the end of its rows, its candidates, the
# one being visited, and the items that its itemsets have in common.
FIRST, LAST, CANDIDATES, AT, BASE = range(5)
# Of a wide frame: where its block starts, words of a column, all columns, where their ranks are.
BLOCK, WIDTH, COLUMNS, IDS = range(5, 9)
N_LEVEL = 9
# Why a kernel returned.
DONE, NARROW_SHORT, WIDE_SHORT = 0, 1, 2
# What is below a node.
NOTHING, TO_NARROW, TO_WIDE = 10, 11, 12

NARROW = 64  # items that one word holds
# Into which the children of a root item are dealt out. Never changed by the number of workers: the
# order of the itemsets depends on it.
N_SHARES = 16


class Source(NamedTuple):
    """The data: frequent items only, by rank. Shared by all workers, never written.

    Dense data are columns of bits, sparse data lists of ranks; the other arrays are empty.

    Attributes
    ----------
    ones : ndarray of int64, shape (n_items,)
        Rows of every item.
    columns : ndarray of uint64, shape (n_words * n_items,)
        Word by word, so that the same word of all items is contiguous.
    row_starts : ndarray of int64, shape (n_rows + 1,)
        Where the list of each row starts in `ranks`.
    ranks : ndarray of int32, shape (n_entries,)
        Items of each row, ascending.
    item_starts : ndarray of int64, shape (n_items + 1,)
        Where the rows of each item start in `rows` and `places`.
    rows, places : ndarray of int32, shape (n_entries,)
        Rows of each item, ascending, and the place of the item in the list of that row.
    """

    ones: NDArray[np.int64]
    columns: NDArray[np.uint64]
    row_starts: NDArray[np.int64]
    ranks: NDArray[np.int32]
    item_starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    places: NDArray[np.int32]


class Room(NamedTuple):
    """Working space of one worker.

    Attributes
    ----------
    keys : ndarray of uint64, shape (capacity,)
        Rows of the narrow frames on the path, frame behind frame: a bit an item, candidates first.
    weights : ndarray of int64, shape (capacity,)
        How many rows each stands for.
    slots : ndarray of int32, shape (4 * capacity,)
        A table of hashes.
    names : ndarray of int32, shape (66, 64)
        Rank of every candidate of the narrow frames.
    levels : ndarray of int64, shape (66, 9)
        The narrow frames.
    totals : ndarray of int64, shape (256,)
        Rows of every subset in a lattice.
    common : ndarray of uint64, shape (256,)
        Items that these rows share.
    tile : ndarray of uint64, shape (128,)
        Bits on their way from columns to rows.
    prefix : ndarray of int32, shape (n_items + 1,)
        Items that all itemsets of a frame have in common.
    blocks : ndarray of uint64
        Columns of the wide frames on the path.
    ids : ndarray of int32
        Their ranks.
    wide : ndarray of int64, shape (n, 9)
        The wide frames.
    carriers : ndarray of uint64, shape (n_words,)
        Rows of a node.
    counts : ndarray of int64, shape (n_items,)
        Rows that a node shares with each column.
    tally : ndarray of int64, shape (n_items,)
        The same for a root item of sparse data; zeros in between.
    chosen : ndarray of int64, shape (n_items + 1,)
        Columns.
    """

    keys: NDArray[np.uint64]
    weights: NDArray[np.int64]
    slots: NDArray[np.int32]
    names: NDArray[np.int32]
    levels: NDArray[np.int64]
    totals: NDArray[np.int64]
    common: NDArray[np.uint64]
    tile: NDArray[np.uint64]
    prefix: NDArray[np.int32]
    blocks: NDArray[np.uint64]
    ids: NDArray[np.int32]
    wide: NDArray[np.int64]
    carriers: NDArray[np.uint64]
    counts: NDArray[np.int64]
    tally: NDArray[np.int64]
    chosen: NDArray[np.int64]


class Output(NamedTuple):
    """Itemsets, one behind the other; every task has a part of its own.

    Attributes
    ----------
    support, length : ndarray of int32, shape (n_itemsets,)
    items : ndarray of int32, shape (total length,)
        Ranks.
    """

    support: NDArray[np.int32]
    length: NDArray[np.int32]
    items: NDArray[np.int32]
