"""Transactions as text: whole numbers on lines, parsed many at a time by array operations.

No line and no number is looked at on its own, unless one is wrong and an error has to name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .exceptions import FileFormatError

__all__ = [
    "MAX_DIGITS",
    "Items",
    "digit_runs",
    "item_blocks",
    "numbers_at",
    "sparse_items",
    "suit_a_table",
]

MAX_DIGITS = 18  # any number of so many digits fits into int64
# Ids up to this number are looked up in a table, larger ones by bisection.
LARGEST_TABLE = 2**22
_BLOCK_BYTES = 2**18  # parsed in one go: what is made of it stays in the cache of a core

_Integers = NDArray[np.int64]
_WORD = 8  # bytes
_LOW_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
# How neighbouring lanes of a word become one: their base, their width, and the bits that stay.
_MERGES = tuple(
    (np.uint64(base), np.uint64(bits), np.uint64(lanes))
    for base, bits, lanes in (
        (10, 8, 0x00FF00FF00FF00FF),
        (100, 16, 0x0000FFFF0000FFFF),
        (10_000, 32, 0x00000000FFFFFFFF),
    )
)


class Items(NamedTuple):
    """The items of consecutive rows.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_entries,)
        As they stand in the file, one row after the other.
    in_row : ndarray of int64, shape (n_rows,)
        How many of them are in each row, repetitions included.
    """

    ids: _Integers
    in_row: _Integers


def item_blocks(path: Path, data: bytes, first_line: int = 1) -> Iterator[Items]:
    """Parse whole lines of transactions, some thousand of them at a time.

    Parameters
    ----------
    path : Path
        The file, for errors.
    data : bytes
        Not empty; UTF-8, lines ended by newline.
    first_line : int, default=1
        Line of the file that the data begin with.

    Yields
    ------
    Items
        A row for every line; what follows the last newline is one too, unless it is empty.

    Raises
    ------
    FileFormatError
        If there is something else than numbers of up to 18 digits; with the first line of it.
    """
    start = 0
    while start < len(data):
        # A block ends with a line: the one that its last byte is in.
        stop = data.find(b"\n", start + _BLOCK_BYTES - 1) + 1 or len(data)
        block = data[start:stop]
        items = _parse_block(block)
        if items is None:
            raise _not_an_id(path, block, first_line + data.count(b"\n", 0, start))
        yield items
        start = stop


def _parse_block(data: bytes) -> Items | None:
    """Parse whole lines; None if there is anything but numbers between white space."""
    octets = np.frombuffer(data, dtype=np.uint8)
    is_digit, is_end = _is_digit(octets), octets == ord("\n")
    starts, stops = digit_runs(is_digit)
    if not (is_digit | is_end | _is_blank(octets)).all():
        return None
    if (stops - starts).max(initial=0) > MAX_DIGITS:
        return None
    ends = np.flatnonzero(is_end)
    if not is_end[-1]:
        ends = np.append(ends, len(octets))
    in_row = np.diff(np.searchsorted(starts, ends), prepend=0)
    return Items(numbers_at(data, starts, stops), in_row)


def _is_digit(octets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (octets >= ord("0")) & (octets <= ord("9"))
    return found


def _is_blank(octets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (octets == ord(" ")) | (octets == ord("\t")) | (octets == ord("\r"))
    return found


def digit_runs(is_digit: NDArray[np.bool_]) -> tuple[_Integers, _Integers]:
    """Find the runs of digits.

    Parameters
    ----------
    is_digit : ndarray of bool, shape (n,)
        Which bytes are digits.

    Returns
    -------
    starts, stops : ndarray of int64, shape (n_runs,)
        Where every run begins, and the place behind its end.
    """
    padded = np.zeros(len(is_digit) + 2, dtype=np.bool_)
    padded[1:-1] = is_digit
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    return changes[::2], changes[1::2]


def numbers_at(data: bytes, starts: _Integers, stops: _Integers) -> _Integers:
    """Parse runs of digits, eight digits of all of them at a time.

    Parameters
    ----------
    data : bytes
        The text.
    starts, stops : ndarray of int64, shape (n_runs,)
        The runs are at ``data[start:stop]``; each has 1 to 18 digits.

    Returns
    -------
    ndarray of int64, shape (n_runs,)
    """
    # The word at place p holds the eight bytes before data[p], the last of them as its highest.
    words: NDArray[np.uint64] = np.ndarray(
        len(data) + 1, dtype="<u8", buffer=bytes(_WORD) + data, strides=(1,)
    )
    lengths = stops - starts
    values = _last_digits(words[stops], np.minimum(lengths, _WORD))
    for known in range(_WORD, int(lengths.max(initial=0)), _WORD):
        longer = np.flatnonzero(lengths > known)
        left = np.minimum(lengths[longer] - known, _WORD)
        values[longer] += 10**known * _last_digits(words[stops[longer] - known], left)
    return values


def _last_digits(words: NDArray[np.uint64], n_digits: _Integers) -> _Integers:
    """Return the numbers that the last 1 to 8 bytes of every word spell; the words are lost.

    The first digit is the lowest byte. Neighbours are merged in all lanes of a word at a time:
    digits to numbers of two, these to numbers of four, and these to one of eight.
    """
    words &= _LOW_NIBBLES  # "0" is 0x30
    # Bytes before the number become leading zeros.
    before = (_WORD * (_WORD - n_digits)).view(np.uint64)
    words >>= before
    words <<= before
    for base, bits, lanes in _MERGES:
        lower = words >> bits
        words *= base
        words += lower
        words &= lanes
    return words.view(np.int64)


def suit_a_table(ids: _Integers) -> bool:
    """Say whether to look ids up in a table, from 0 to the largest of them, rather than sort them.

    A table much longer than the ids would take longer to clear than these to sort.

    Parameters
    ----------
    ids : ndarray of int64, shape (n_entries,)
        At least 0.

    Returns
    -------
    bool
    """
    return bool(ids.max(initial=0) < min(LARGEST_TABLE, 64 * len(ids)))


def sparse_items(blocks: Iterable[Items]) -> tuple[Any, _Integers]:
    """Make the matrix of transactions.

    Parameters
    ----------
    blocks : iterable of Items
        All rows, at least one.

    Returns
    -------
    matrix : scipy.sparse.csc_array of bool of shape (n_rows, n_ids)
        Stored entries are all True, none is repeated; row indices ascend within a column.
    ids : ndarray of int64, shape (n_ids,)
        Those that occur, ascending.
    """
    from scipy.sparse import csr_array

    given, in_row = map(np.concatenate, zip(*blocks, strict=True))
    if suit_a_table(given):
        occurs = np.bincount(given) > 0
        ids = np.flatnonzero(occurs)
        columns = (np.cumsum(occurs, dtype=np.int32) - np.int32(1))[given]
    else:
        ids, columns = np.unique(given, return_inverse=True)
    shape = (len(in_row), len(ids))
    index = np.int32 if max(len(given), *shape) <= np.iinfo(np.int32).max else np.int64
    indptr = np.concatenate([[0], np.cumsum(in_row)]).astype(index)
    ones = np.ones(len(given), dtype=np.bool_)
    rows = csr_array((ones, columns.astype(index, copy=False), indptr), shape=shape)
    # Counts and places entries, so that nothing is sorted: rows come in their order, and
    # repetitions of an id in a row next to each other.
    matrix = rows.tocsc()
    matrix.sum_duplicates()
    return matrix, ids


def _not_an_id(path: Path, block: bytes, first_line: int) -> FileFormatError:
    """Name the first thing in whole lines that is no id."""
    octets = np.frombuffer(block, dtype=np.uint8)
    is_digit = _is_digit(octets)
    starts, stops = digit_runs(is_digit)
    wrong = ~(is_digit | _is_blank(octets) | (octets == ord("\n")))
    wrong[starts[stops - starts > MAX_DIGITS]] = True
    place = int(wrong.argmax())
    begin = block.rfind(b"\n", 0, place) + 1
    line = block[begin:].split(b"\n", 1)[0].translate(bytes.maketrans(b"\t\r", b"  "))
    word_begin = line.rfind(b" ", 0, place - begin) + 1
    word = line[word_begin:].split(b" ", 1)[0].decode("utf-8")[:30]
    return FileFormatError(
        f"{word!r} is not the id of an item; expected whole numbers of at least 0 (up to "
        f"{MAX_DIGITS} digits) separated by spaces. Read a table with columns with read_table.",
        path=str(path),
        line=first_line + block.count(b"\n", 0, place),
    )
