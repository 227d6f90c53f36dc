"""Columns of 0/1 as 64-bit words, rows grouped by stratum.

One layout, made once: rows are sorted by stratum and packed 64 to a word, the first row in the
lowest bit. Strata are not padded to whole words (32 strata of 16 rows would quadruple the work);
a stratum is a list of *segments*, each a word with a mask of the bits that belong to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from ._jit import HAS_PEXT, njit_inline

__all__ = [
    "BitTable",
    "PackedColumns",
    "build_bit_table",
    "count_ones",
    "count_segments",
    "count_strata",
    "extract_bits",
    "is_subset",
    "keep_columns",
    "pack_columns",
    "popcount",
    "put_entries",
    "put_rows",
    "unpack_columns",
]

WORD = 64
_BLOCK_BYTES = 2**20  # of a matrix packed at a time: a block and its bits stay in the cache
_BLOCK_ENTRIES = 2**17  # entries of a sparse matrix packed at a time
_BLOCK_SEGMENTS = 2**10  # counted at a time


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
    row_order : ndarray of int32 or int64, shape (n_rows,)
        Row of the input that stands at each packed position.
    """

    columns: NDArray[np.uint64]
    cases: NDArray[np.uint64]
    segments: NDArray[np.int64]
    masks: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    case_sizes: NDArray[np.int64]
    row_order: NDArray[np.int32] | NDArray[np.int64]

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


@intrinsic
def _pext(typingctx: Any, word: Any, mask: Any) -> Any:
    """Emit the x86 instruction: three cycles."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word_type = ir.IntType(64)
        insert: Any = cgutils.get_or_insert_function  # untyped
        function = insert(
            builder.module, ir.FunctionType(word_type, [word_type] * 2), "llvm.x86.bmi.pext.64"
        )
        return builder.call(function, args)

    return types.uint64(types.uint64, types.uint64), generate


def extract_bits(word: Any, mask: Any) -> Any:
    """Move the bits of `word` that are in `mask` together, to the low end, in order.

    Parameters
    ----------
    word, mask : uint64
        Any words.

    Returns
    -------
    uint64
        With as many bits of meaning as `mask` has ones; the others are zero.
    """
    source, rest = int(word), int(mask)
    out = place = 0
    while rest:
        lowest = rest & -rest
        out |= (1 << place) if source & lowest else 0
        place += 1
        rest ^= lowest
    return np.uint64(out)


def _extract_by_steps(word: Any, mask: Any) -> Any:
    """Do the same by parallel suffix sums, for processors without the instruction.

    Every bit has to move down by the number of zeros of the mask below it. Those numbers are
    formed for all bits at once, one binary digit a round, and the bits moved by that digit.
    """
    word &= mask
    zeros = (~mask) << np.uint64(1)
    for digit in range(6):
        parity = zeros ^ (zeros << np.uint64(1))
        parity ^= parity << np.uint64(2)
        parity ^= parity << np.uint64(4)
        parity ^= parity << np.uint64(8)
        parity ^= parity << np.uint64(16)
        parity ^= parity << np.uint64(32)
        moving = parity & mask
        shift = np.uint64(1) << np.uint64(digit)
        mask = (mask ^ moving) | (moving >> shift)
        bits = word & moving
        word = (word ^ bits) | (bits >> shift)
        zeros &= ~parity
    return word


@overload(extract_bits)
def _extract_compiled(word: Any, mask: Any) -> Any:
    if not HAS_PEXT:
        return _extract_by_steps

    def extract(word: Any, mask: Any) -> Any:
        return _pext(word, mask)  # type: ignore[call-arg]  # numba passes the context itself

    return extract


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
    for start in range(0, len(masks), _BLOCK_SEGMENTS):  # as numbers of Python they are large
        some = slice(start, start + _BLOCK_SEGMENTS)
        for (word, stratum), mask in zip(segments[some].tolist(), masks[some], strict=True):
            counts[stratum] += np.bitwise_count(columns[:, word] & mask)
    return np.ascontiguousarray(counts.T)


@njit_inline
def is_subset(inner: NDArray[np.uint64], row: int, outer: NDArray[np.uint64], other: int) -> bool:
    """Say whether the ones of ``inner[row]`` are in ``outer[other]``; stops at the first miss."""
    for w in range(inner.shape[1]):
        if inner[row, w] & ~outer[other, w]:
            return False
    return True


class PackedColumns(NamedTuple):
    """Columns that are packed already, rows in the order of the data.

    What readers of large files make, in place of a matrix of bytes: `pack_columns` and whatever
    stands on it take this too, and reorder the rows in place.

    Attributes
    ----------
    words : ndarray of uint64, shape (n_items, ceil(n_rows / 64))
        C-contiguous and writable; the first row in the lowest bit, zeros behind the last. Belongs
        to whom it is given to: its content is lost.
    n_rows : int
        Rows that are packed.
    """

    words: NDArray[np.uint64]
    n_rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and items, as of a matrix."""
        return self.n_rows, len(self.words)


def pack_columns(matrix: Any, order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Pack the columns of a 0/1 matrix into words.

    Parameters
    ----------
    matrix : ndarray, scipy.sparse matrix or PackedColumns, shape (n_rows, n_items)
        Zeros and ones of any type; what is not zero counts as one.
    order : ndarray of int64, shape (n_kept,)
        Rows to keep, in packed order.

    Returns
    -------
    ndarray of uint64, shape (n_items, n_words)
        With n_words = ceil(n_kept / 64) and zeros behind the last row.

    Notes
    -----
    Beside the result it needs a few MiB, whatever the size: a dense matrix is packed in blocks that
    stay in the cache, a sparse one entry by entry (CSR and CSC as they are; other formats are
    converted first), and packed columns are reordered in place.
    """
    if isinstance(matrix, PackedColumns):
        return _reorder(matrix, order)
    n_items = int(matrix.shape[1])
    packed = np.zeros((n_items, -(-len(order) // WORD)), dtype=np.uint64)
    if packed.size == 0:
        return packed
    if hasattr(matrix, "tocsr"):
        _pack_sparse(matrix, order, packed)
        return packed
    dense = np.asarray(matrix)
    if dense.strides[0] == dense.itemsize:
        _pack_by_column(dense, order, packed)
    else:
        _pack_by_row(dense, order, packed)
    return packed


def _pack_by_row(dense: NDArray[Any], order: NDArray[np.int64], packed: NDArray[np.uint64]) -> None:
    """Pack a matrix whose rows are contiguous, in blocks of rows and columns."""
    width = min(dense.shape[1], max(WORD, _BLOCK_BYTES // (1024 * dense.itemsize)))
    height = _block_rows(width * dense.itemsize)
    for start in range(0, len(order), height):
        rows = _slice_or_rows(order[start : start + height])
        n_words = -(-min(height, len(order) - start) // WORD)
        for first in range(0, dense.shape[1], width):
            block = dense[rows, first : first + width]
            octets = (block if block.dtype == np.bool_ else block != 0).view(np.uint8)
            # Row 8 i + b of the block is bit b of byte i. Eight passes over contiguous rows: many
            # times as fast as np.packbits along the first axis.
            bits = np.zeros((n_words * 8, octets.shape[1]), dtype=np.uint8)
            for b in range(8):
                part = octets[b::8]
                bits[: len(part)] |= part << b
            words = np.ascontiguousarray(bits.T).view("<u8")
            packed[first : first + width, start // WORD : start // WORD + n_words] = words


def _pack_by_column(
    dense: NDArray[Any], order: NDArray[np.int64], packed: NDArray[np.uint64]
) -> None:
    """Pack a matrix whose columns are contiguous, a piece of a column at a time."""
    height = _block_rows(dense.itemsize)
    for start in range(0, len(order), height):
        rows = _slice_or_rows(order[start : start + height])
        for j in range(dense.shape[1]):
            put_rows(packed[j : j + 1], start, dense[None, rows, j])


def put_rows(packed: NDArray[np.uint64], start: int, block: NDArray[Any]) -> None:
    """Write consecutive rows into packed columns that are still zero there.

    Parameters
    ----------
    packed : ndarray of uint64, shape (n_items, n_words)
        Changed in place.
    start : int
        Row of the packed columns that the first row of the block becomes.
    block : ndarray of shape (n_items, n_new_rows)
        Zeros and ones, a row of this array an item.
    """
    if block.shape[1] == 0:
        return
    octets = block if block.dtype == np.bool_ else block != 0
    word, offset = divmod(start, WORD)
    n_words = -(-(offset + octets.shape[1]) // WORD)
    if offset or octets.shape[1] % WORD:
        padded = np.zeros((len(octets), n_words * WORD), dtype=np.bool_)
        padded[:, offset : offset + octets.shape[1]] = octets
        octets = padded
    words = np.ascontiguousarray(np.packbits(octets, axis=1, bitorder="little")).view("<u8")
    packed[:, word : word + n_words] |= words


def _pack_sparse(matrix: Any, order: NDArray[np.int64], packed: NDArray[np.uint64]) -> None:
    """Set one bit for every entry of a sparse matrix."""
    source = matrix if matrix.format in ("csr", "csc") else matrix.tocsr()
    if not source.has_canonical_format:
        # An entry that is stored twice would carry into the next bit.
        source = source.copy()
        source.sum_duplicates()
    position = np.full(source.shape[0], -1, dtype=np.int64)
    position[order] = np.arange(len(order))
    indptr, indices, data = source.indptr, source.indices, source.data
    for start in range(0, len(indices), _BLOCK_ENTRIES):
        stop = min(start + _BLOCK_ENTRIES, len(indices))
        # Slices of the compressed axis that have entries in start:stop, and how many each.
        first = int(np.searchsorted(indptr, start, side="right")) - 1
        last = int(np.searchsorted(indptr, stop, side="left"))
        lengths = np.diff(np.clip(indptr[first : last + 1], start, stop))
        major = np.repeat(np.arange(first, last), lengths)
        minor = indices[start:stop]
        rows, columns = (minor, major) if source.format == "csc" else (major, minor)
        place = position[rows]
        kept = (place >= 0) & (data[start:stop] != 0)
        if not kept.all():
            place, columns = place[kept], columns[kept]
        put_entries(packed, place, columns)


def put_entries(
    packed: NDArray[np.uint64], rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> None:
    """Set single bits of packed columns, each of which is still zero.

    Parameters
    ----------
    packed : ndarray of uint64, shape (n_items, n_words)
        C-contiguous; changed in place.
    rows, columns : ndarray of int, shape (n_entries,)
        Where to put the ones; no place twice.
    """
    words = columns.astype(np.int64) * packed.shape[1] + (rows >> 6)
    bits = np.uint64(1) << (rows & 63).astype(np.uint64)
    # A sum, because different bits never carry: unlike bitwise_or.at it has a fast loop.
    np.add.at(packed.reshape(-1), words, bits)


def _reorder(packed: PackedColumns, order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Bring the rows of packed columns into another order, in place, a few columns at a time."""
    words, n_rows = packed
    if len(order) == n_rows and isinstance(_slice_or_rows(order), slice):
        return words
    n_items, n_words = len(words), -(-len(order) // WORD)
    # A column that comes out is no longer than one that went in, so that writing from the front
    # never overtakes reading.
    flat = words.reshape(-1)
    step = max(1, _BLOCK_BYTES // max(1, n_rows))
    for start in range(0, n_items, step):
        stop = min(start + step, n_items)
        bits = _unpack(words[start:stop], n_rows)
        target = flat[start * n_words : stop * n_words].reshape(stop - start, n_words)
        target[:] = 0
        for first in range(0, len(order), _BLOCK_BYTES):
            rows = order[first : first + _BLOCK_BYTES]
            put_rows(target, first, bits.take(rows, axis=1).view(np.bool_))
    return flat[: n_items * n_words].reshape(n_items, n_words)


def count_ones(columns: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the ones of every packed column, a block of columns at a time.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Packed columns.

    Returns
    -------
    ndarray of int64, shape (n_items,)
    """
    counts = np.empty(len(columns), dtype=np.int64)
    step = max(1, _BLOCK_BYTES // max(8, columns.shape[1] * 8))
    for start in range(0, len(columns), step):
        block = columns[start : start + step]
        counts[start : start + step] = np.bitwise_count(block).sum(axis=1, dtype=np.int64)
    return counts


def keep_columns(columns: NDArray[np.uint64], kept: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Leave out some packed columns, within the memory of the given ones.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Its content is lost.
    kept : ndarray of bool, shape (n_items,)
        Which to keep.

    Returns
    -------
    ndarray of uint64, shape (n_kept, n_words)
        C-contiguous; a view of `columns`, or a copy where most of them went.
    """
    chosen = np.flatnonzero(kept)
    if len(chosen) == len(columns):
        return columns
    if 2 * len(chosen) < len(columns):
        return columns[chosen]  # so that the memory of the others can be freed
    step = max(1, _BLOCK_BYTES // max(8, columns.shape[1] * 8))
    for start in range(0, len(chosen), step):
        piece = chosen[start : start + step]
        columns[start : start + len(piece)] = columns[piece]
    return columns[: len(chosen)]


def _block_rows(row_bytes: int) -> int:
    """Rows of a block: whole words, and about `_BLOCK_BYTES` together."""
    return max(WORD, _BLOCK_BYTES // max(1, row_bytes) // WORD * WORD)


def _slice_or_rows(rows: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return row numbers as a slice if they are consecutive: it needs no copy."""
    ends_fit = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1  # spares most the look
    if ends_fit and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


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
    return _unpack(packed, n_rows).view(np.bool_)


def _unpack(packed: NDArray[np.uint64], n_rows: int) -> NDArray[np.uint8]:
    octets = np.ascontiguousarray(packed.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=n_rows, bitorder="little")


def build_bit_table(
    matrix: Any, y: NDArray[np.bool_], codes: NDArray[np.int64], n_strata: int
) -> BitTable:
    """Bring a 0/1 matrix, the classes and the strata into the canonical layout.

    Parameters
    ----------
    matrix : ndarray, scipy.sparse matrix or PackedColumns, shape (n_rows, n_items)
        The items, as `pack_columns` takes them.
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
    order = _by_stratum(codes, n_strata)
    # By code + 1, so that the rows that are left out have a place of their own.
    sizes = np.bincount(codes + 1, minlength=n_strata + 1)[1:].astype(np.int64)
    case_sizes = np.bincount(codes[y] + 1, minlength=n_strata + 1)[1:].astype(np.int64)
    segments, masks = _segments(sizes)
    return BitTable(
        columns=pack_columns(matrix, order),
        cases=pack_columns(y[:, None], order)[0],
        segments=segments,
        masks=masks,
        sizes=sizes,
        case_sizes=case_sizes,
        row_order=_short(order),
    )


def _short(order: NDArray[np.int64]) -> NDArray[np.int32] | NDArray[np.int64]:
    """Return row numbers in half the memory if they fit: they are kept as long as the table."""
    fits = int(order.max(initial=0)) <= np.iinfo(np.int32).max
    return order.astype(np.int32) if fits else order


def _by_stratum(codes: NDArray[np.int64], n_strata: int) -> NDArray[np.int64]:
    """Return the rows that have a stratum, sorted by it."""
    # numpy sorts 16-bit numbers by counting them.
    keys = codes.astype(np.int16) if n_strata <= np.iinfo(np.int16).max else codes
    order = np.argsort(keys, kind="stable").astype(np.int64, copy=False)
    n_left_out = int(np.count_nonzero(codes < 0))
    return order[n_left_out:].copy() if n_left_out else order


def _segments(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Cut consecutive strata of the given sizes at the borders of the words."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    first_words = starts // WORD
    lengths = np.where(sizes > 0, (ends - 1) // WORD - first_words + 1, 0)  # words it reaches into
    strata = np.repeat(np.arange(len(sizes), dtype=np.int64), lengths)
    within = np.arange(len(strata)) - (np.cumsum(lengths) - lengths)[strata]
    words = first_words[strata] + within
    low = np.maximum(starts[strata] - words * WORD, 0).astype(np.uint64)
    high = np.minimum(ends[strata] - words * WORD, WORD).astype(np.uint64)
    ones = np.uint64(2**64 - 1)
    masks = (ones >> (np.uint64(WORD) - (high - low))) << low
    return np.ascontiguousarray(np.stack([words, strata], axis=1)), masks
