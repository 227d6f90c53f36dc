"""Columns of 0/1 as 64-bit words, rows grouped by stratum.

One layout, made once: rows are sorted by stratum and packed 64 to a word, the first row in the
lowest bit. Strata are not padded to whole words (32 strata of 16 rows would quadruple the work);
a stratum is a list of *segments*, each a word with a mask of the bits that belong to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from ._jit import njit_inline

__all__ = [
    "BitTable",
    "build_bit_table",
    "count_segments",
    "count_strata",
    "is_subset",
    "pack_columns",
    "popcount",
    "unpack_columns",
]

WORD = 64
_CHUNK = 4096  # columns densified at a time: bounds the memory of packing a sparse matrix


class BitTable(NamedTuple):
    """Bit-packed data in canonical order, the only form that kernels see.

    Every array is C-contiguous and writable: numba compiles a kernel anew for each layout.

    Attributes
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        One bit a row; the bits behind the last row are zero.
    cases : ndarray of uint64, shape (n_words,)
        The rows of class 1.
    segments : ndarray of int64, shape (n_segments, 2)
        Word and stratum of every segment, ordered by stratum.
    masks : ndarray of uint64, shape (n_segments,)
        The bits of the word that belong to the stratum.
    sizes, case_sizes : ndarray of int64, shape (n_strata,)
        Rows and cases of every stratum (n_k and n1_k).
    row_order : ndarray of int64, shape (n_rows,)
        Row of the input that stands at each packed position.
    """

    columns: NDArray[np.uint64]
    cases: NDArray[np.uint64]
    segments: NDArray[np.int64]
    masks: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    case_sizes: NDArray[np.int64]
    row_order: NDArray[np.int64]

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[0])

    @property
    def n_words(self) -> int:
        """Words of a column."""
        return int(self.cases.shape[0])

    @property
    def n_strata(self) -> int:
        """Number of strata."""
        return int(self.sizes.shape[0])

    @property
    def n_rows(self) -> int:
        """Rows that are packed."""
        return int(self.row_order.shape[0])


@intrinsic
def _ctpop(typingctx: Any, word: Any) -> Any:
    """LLVM's ctpop: one instruction, and vectorised where the processor can."""
    return types.uint64(types.uint64), lambda context, builder, sig, args: builder.ctpop(args[0])


def popcount(word: Any) -> int:
    """Count the ones of a 64-bit word (plain-Python twin of the compiled version).

    Parameters
    ----------
    word : uint64
        Any word.

    Returns
    -------
    int
        Between 0 and 64.
    """
    return int(word).bit_count()


@overload(popcount)
def _popcount_compiled(word: Any) -> Any:
    if not isinstance(word, types.Integer):
        return None

    def count(word: Any) -> Any:  # numba wants the very same signature, annotations included
        return _ctpop(word)  # type: ignore[call-arg]  # numba passes the context itself

    return count


@njit_inline
def count_segments(
    columns: NDArray[np.uint64],
    row: int,
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    counts: NDArray[np.int64],
) -> int:
    """Count the ones of ``columns[row]`` in every stratum into `counts`; return their sum.

    Kernels take a matrix and a row number rather than a slice: making a slice touches a reference
    count, atomically, which costs more than counting the bits.
    """
    for k in range(counts.shape[0]):
        counts[k] = 0
    total = 0
    for s in range(masks.shape[0]):
        ones = popcount(columns[row, segments[s, 0]] & masks[s])
        counts[segments[s, 1]] += ones
        total += ones
    return total


def count_strata(
    columns: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    n_strata: int,
) -> NDArray[np.int64]:
    """Count the ones of every column in every stratum.

    By numpy, a segment at a time: it runs once a search, and is not worth a kernel that would have
    to be compiled before the first result.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_columns, n_words)
        Packed columns.
    segments, masks
        As in `BitTable`.
    n_strata : int
        Number of strata.

    Returns
    -------
    ndarray of int64, shape (n_columns, n_strata)
    """
    counts = np.zeros((n_strata, len(columns)), dtype=np.int64)
    for (word, stratum), mask in zip(segments.tolist(), masks, strict=True):
        counts[stratum] += np.bitwise_count(columns[:, word] & mask)
    return np.ascontiguousarray(counts.T)


@njit_inline
def is_subset(inner: NDArray[np.uint64], row: int, outer: NDArray[np.uint64], other: int) -> bool:
    """Say whether the ones of ``inner[row]`` are in ``outer[other]``; stops at the first miss."""
    for w in range(inner.shape[1]):
        if inner[row, w] & ~outer[other, w]:
            return False
    return True


def pack_columns(matrix: Any, order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Pack the columns of a 0/1 matrix into words.

    Parameters
    ----------
    matrix : ndarray of bool or scipy.sparse matrix, shape (n_rows, n_items)
        Sparse input is densified a few thousand columns at a time.
    order : ndarray of int64, shape (n_kept,)
        Rows to keep, in packed order.

    Returns
    -------
    ndarray of uint64, shape (n_items, n_words)
        With n_words = ceil(n_kept / 64) and zeros behind the last row.
    """
    n_items = int(matrix.shape[1])
    n_words = -(-len(order) // WORD)
    packed = np.zeros((n_items, n_words * 8), dtype=np.uint8)
    sparse = hasattr(matrix, "tocsc")
    source = matrix.tocsc() if sparse else matrix
    for start in range(0, n_items, _CHUNK):
        block = source[:, start : start + _CHUNK]
        dense = block.toarray() if sparse else np.asarray(block)
        bits = np.packbits(dense.astype(bool)[order].T, axis=1, bitorder="little")
        packed[start : start + _CHUNK, : bits.shape[1]] = bits
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack_columns(packed: NDArray[np.uint64], n_rows: int) -> NDArray[np.bool_]:
    """Undo `pack_columns`.

    Parameters
    ----------
    packed : ndarray of uint64, shape (..., n_words)
        Packed columns.
    n_rows : int
        Rows that were packed.

    Returns
    -------
    ndarray of bool, shape (..., n_rows)
        In packed order.
    """
    octets = np.ascontiguousarray(packed.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=n_rows, bitorder="little").astype(bool)


def build_bit_table(
    matrix: Any, y: NDArray[np.bool_], codes: NDArray[np.int64], n_strata: int
) -> BitTable:
    """Bring a 0/1 matrix, the classes and the strata into the canonical layout.

    Parameters
    ----------
    matrix : ndarray of bool or scipy.sparse matrix, shape (n_rows, n_items)
        The items.
    y : ndarray of bool, shape (n_rows,)
        True for a case.
    codes : ndarray of int64, shape (n_rows,)
        Stratum of every row, 0 to n_strata - 1; rows with a negative code are left out.
    n_strata : int
        Number of strata.

    Returns
    -------
    BitTable
        Rows sorted by stratum; within a stratum in the order of the input.
    """
    order = np.argsort(codes, kind="stable").astype(np.int64)
    order = order[codes[order] >= 0]
    sorted_codes = codes[order]
    sizes = np.bincount(sorted_codes, minlength=n_strata).astype(np.int64)
    case_sizes = np.bincount(sorted_codes[y[order]], minlength=n_strata).astype(np.int64)
    segments, masks = _segments(sizes)
    return BitTable(
        columns=pack_columns(matrix, order),
        cases=pack_columns(y[:, None], order)[0].copy(),
        segments=segments,
        masks=masks,
        sizes=sizes,
        case_sizes=case_sizes,
        row_order=order,
    )


def _segments(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Cut consecutive strata of the given sizes at the borders of the words."""
    segments: list[tuple[int, int]] = []
    masks: list[int] = []
    start = 0
    for k, size in enumerate(sizes.tolist()):
        position, end = start, start + size
        while position < end:
            word = position // WORD
            stop = min(end, (word + 1) * WORD)
            low, high = position - word * WORD, stop - word * WORD
            segments.append((word, k))
            masks.append((1 << high) - (1 << low))
            position = stop
        start = end
    return (
        np.array(segments, dtype=np.int64).reshape(-1, 2),
        np.array(masks, dtype=np.uint64),
    )
