"""Row sets of given itemsets: their counts by stratum, and their shortest descriptions.

Allowed imports: `_jit`, `bitset`.

Many itemsets hold in exactly the same rows. The largest of them (the closed itemset) is unique
and is what a search reports; a *generator* is an itemset with the same rows, and a shortest one
is what a reader wants. Finding it is a minimum hitting set: every row outside the pattern must
lack at least one of the chosen items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import njit_entry, njit_leaf
from .bitset import BitTable, count_strata, unpack_columns

__all__ = ["all_shortest_generators", "count_itemsets", "flatten", "shortest_generators"]

TARGET, BASE, ROWS = 0, 1, 2  # rows of the work space of a search for a shortest generator
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_CELLS = 2**20  # words of row sets that are looked at together
_MAX_FACTS = 64  # collected rows of one pattern, one bit of a word each
_MAX_NODES = 200_000  # search nodes of one pattern before its known generator is kept
_FEW = 1000  # patterns up to which no kernel is called: compiling it takes longer than the work
_PEEK = 16  # uncovered rows looked at to find a telling one


def flatten(itemsets: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join itemsets of different lengths into one array.

    Parameters
    ----------
    itemsets : sequence of ndarray of int64
        Item indices.

    Returns
    -------
    items : ndarray of int64, shape (total,)
        All itemsets, one after the other.
    offsets : ndarray of int64, shape (n_itemsets + 1,)
        Itemset i is ``items[offsets[i]:offsets[i + 1]]``.
    """
    offsets = np.zeros(len(itemsets) + 1, dtype=np.int64)
    if len(itemsets) == 0:
        return np.zeros(0, dtype=np.int64), offsets
    np.cumsum([len(items) for items in itemsets], out=offsets[1:])
    return np.concatenate(itemsets).astype(np.int64, copy=False), offsets


def count_itemsets(
    table: BitTable, itemsets: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count carriers, and carriers that are cases, by stratum.

    Parameters
    ----------
    table : BitTable
        The data.
    itemsets : sequence of ndarray of int64
        Item indices (rows of ``table.columns``).

    Returns
    -------
    support, support_cases : ndarray of int64, shape (n_itemsets, n_strata)
        Counts of every itemset.
    """
    support = np.zeros((len(itemsets), table.n_strata), dtype=np.int64)
    support_cases = np.zeros_like(support)
    # Itemsets of one length at a time, by numpy: not worth a kernel that has to be compiled.
    lengths = np.array([len(items) for items in itemsets], dtype=np.int64)
    most = max(1, _CELLS // table.n_words)
    for length in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == length)
        for begin in range(0, len(members), most):
            block = members[begin : begin + most]
            rows = np.full((len(block), table.n_words), _ALL, dtype=np.uint64)
            items = np.array([itemsets[i] for i in block], dtype=np.int64)  # (n_block, length)
            for j in range(length):
                rows &= table.columns[items[:, j]]
            layout = (table.segments, table.masks, table.n_strata)
            support[block] = count_strata(rows, *layout)
            support_cases[block] = count_strata(rows & table.cases, *layout)
    return support, support_cases


@njit_leaf
def _can_hit(
    hits: NDArray[np.uint64],
    n_free: int,
    n_facts: int,
    unhit: np.uint64,
    first: int,
    depth: int,
    budget: NDArray[np.int64],
) -> bool:
    """Say whether at most `depth` items from position `first` on hit all facts in `unhit`."""
    if unhit == np.uint64(0):
        return True
    if depth == 0 or budget[0] <= 0:
        return False
    budget[0] -= 1
    # Branch on the fact with the fewest candidates: one of them must be chosen.
    fewest, branch = n_free + 1, np.uint64(0)
    for f in range(n_facts):
        fact = np.uint64(1) << np.uint64(f)
        if unhit & fact:
            candidates = 0
            for j in range(first, n_free):
                if hits[j] & fact:
                    candidates += 1
            if candidates < fewest:
                fewest, branch = candidates, fact
    for j in range(first, n_free):
        if hits[j] & branch and _can_hit(
            hits, n_free, n_facts, unhit & ~hits[j], first, depth - 1, budget
        ):
            return True
    return False


@njit_leaf
def _first_hitting_set(
    hits: NDArray[np.uint64],
    n_free: int,
    n_facts: int,
    size: int,
    chosen: NDArray[np.int64],
    budget: NDArray[np.int64],
) -> bool:
    """Write the lexicographically first `size` positions that hit all facts into `chosen`."""
    unhit = np.uint64(0)
    for f in range(n_facts):
        unhit |= np.uint64(1) << np.uint64(f)
    start = 0
    for depth in range(size):
        found = False
        for j in range(start, n_free):
            if _can_hit(hits, n_free, n_facts, unhit & ~hits[j], j + 1, size - depth - 1, budget):
                chosen[depth] = j
                unhit &= ~hits[j]
                start = j + 1
                found = True
                break
        if not found:
            return False
    return bool(unhit == np.uint64(0))


@njit_leaf
def _add_fact(
    columns: NDArray[np.uint64],
    free: NDArray[np.int64],
    n_free: int,
    words: NDArray[np.uint64],
    n_facts: int,
    hits: NDArray[np.uint64],
) -> bool:
    """Record which free items lack one row of ``words[ROWS]`` that is not in ``words[TARGET]``.

    False if there is none. Of the first few such rows the one that the fewest items lack is taken:
    it tells the most.
    """
    fewest, best_word, best_bit, seen = n_free + 1, -1, np.uint64(0), 0
    for w in range(words.shape[1]):
        extra = words[ROWS, w] & ~words[TARGET, w]
        while extra and seen < _PEEK:
            bit = extra & (~extra + np.uint64(1))  # the lowest one
            extra &= ~bit
            seen += 1
            lacking = 0
            for j in range(n_free):
                if not columns[free[j], w] & bit:
                    lacking += 1
            if lacking < fewest:
                fewest, best_word, best_bit = lacking, w, bit
        if seen >= _PEEK:
            break
    if best_word < 0:
        return False
    for j in range(n_free):
        if not columns[free[j], best_word] & best_bit:
            hits[j] |= np.uint64(1) << np.uint64(n_facts)
    return True


@njit_leaf
def _split_needed(
    columns: NDArray[np.uint64],
    items: NDArray[np.int64],
    begin: int,
    end: int,
    prefixes: NDArray[np.uint64],
    words: NDArray[np.uint64],
    free: NDArray[np.int64],
) -> int:
    """Write the items that a generator may do without to `free`; return how many these are.

    Without any one of the others more rows would be left. The rows with all of those go to
    ``words[BASE]``, the rows with all items to ``words[TARGET]``.
    """
    for w in range(words.shape[1]):
        prefixes[0, w] = _ALL
        words[ROWS, w] = _ALL  # here: the rows with all items behind the present one
        words[BASE, w] = _ALL
    for p in range(begin, end):
        for w in range(words.shape[1]):
            prefixes[p - begin + 1, w] = prefixes[p - begin, w] & columns[items[p], w]
    n_free = 0
    for p in range(end - 1, begin - 1, -1):
        others = np.uint64(0)  # rows that only this item lacks
        for w in range(words.shape[1]):
            column = columns[items[p], w]
            others |= prefixes[p - begin, w] & words[ROWS, w] & ~column
            words[ROWS, w] &= column
        if others:
            for w in range(words.shape[1]):
                words[BASE, w] &= columns[items[p], w]
        else:
            free[n_free] = items[p]
            n_free += 1
    for j in range(n_free // 2):  # they came from the last to the first
        free[j], free[n_free - 1 - j] = free[n_free - 1 - j], free[j]
    for w in range(words.shape[1]):
        words[TARGET, w] = prefixes[end - begin, w]
    return n_free


@njit_entry
def _shortest_all(
    columns: NDArray[np.uint64],
    items: NDArray[np.int64],
    offsets: NDArray[np.int64],
    upper: NDArray[np.int64],
    prefixes: NDArray[np.uint64],
    words: NDArray[np.uint64],
    free: NDArray[np.int64],
    hits: NDArray[np.uint64],
    chosen: NDArray[np.int64],
    budget: NDArray[np.int64],
    keep: NDArray[np.bool_],
    found: NDArray[np.bool_],
) -> None:
    """Mark in `keep` the items of a shortest generator of every pattern; say where one was found.

    Facts (rows outside the pattern) are collected only as candidates fail: the first smallest
    hitting set of the facts known so far is either a generator, and then it is the first of the
    shortest ones, or some row outside the pattern has all its items, and that row is a new fact.
    """
    for i in range(upper.shape[0]):
        begin, end = offsets[i], offsets[i + 1]
        n_free = _split_needed(columns, items, begin, end, prefixes, words, free)
        n_needed = end - begin - n_free
        for j in range(n_free):
            hits[j] = np.uint64(0)
        budget[0] = _MAX_NODES
        n_facts: Any = np.int64(0)  # not a literal: numba would compile every callee twice
        size: Any = np.int64(0)
        while size <= upper[i] - n_needed:
            if budget[0] <= 0 or n_facts == _MAX_FACTS:
                break
            if not _first_hitting_set(hits, n_free, n_facts, size, chosen, budget):
                size += 1
                continue
            for w in range(words.shape[1]):
                word = words[BASE, w]
                for c in range(size):
                    word &= columns[free[chosen[c]], w]
                words[ROWS, w] = word
            if not _add_fact(columns, free, n_free, words, n_facts, hits):
                found[i] = True
                break
            n_facts += 1
        if not found[i]:
            continue
        left, taken = 0, 0  # both lists ascend
        for p in range(begin, end):
            if left < n_free and items[p] == free[left]:
                keep[p] = taken < size and chosen[taken] == left
                if keep[p]:
                    taken += 1
                left += 1
            else:
                keep[p] = True


def shortest_generators(
    columns: NDArray[np.uint64],
    closures: Sequence[NDArray[np.int64]],
    generators: Sequence[NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    """Find a shortest itemset with exactly the rows of each pattern.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Packed items; bits behind the last row are zero.
    closures : sequence of ndarray of int64
        The closed itemset of every pattern, ascending.
    generators : sequence of ndarray of int64
        Some generator of every pattern, not longer than its closure; an upper bound.

    Returns
    -------
    list of ndarray of int64
        For every pattern the first, in item order, of its shortest generators. Does not depend
        on the order of the rows.

    Notes
    -----
    Minimum hitting set is NP-hard. The search is exact and takes microseconds on patterns with
    a few dozen items; a pattern that would need more than 200,000 nodes or more than 64 rows as
    reasons keeps the generator that came in (and is then at most as long as that one).
    """
    if len(closures) <= _FEW:
        return [
            _shortest_by_hand(columns, closure, generator)
            for closure, generator in zip(closures, generators, strict=True)
        ]
    items, offsets = flatten(closures)
    upper = np.array([len(generator) for generator in generators], dtype=np.int64)
    keep, found = np.zeros(len(items), dtype=np.bool_), np.zeros(len(closures), dtype=np.bool_)
    longest, n_words = int(np.diff(offsets).max()), columns.shape[1]
    work = (
        np.empty((longest + 1, n_words), dtype=np.uint64),
        np.empty((3, n_words), dtype=np.uint64),
        np.empty(longest, dtype=np.int64),
        np.empty(longest, dtype=np.uint64),
        np.empty(longest, dtype=np.int64),
        np.empty(1, dtype=np.int64),
    )
    _shortest_all(columns, items, offsets, upper, *work, keep, found)
    kept, borders = items[keep], np.append(0, np.cumsum(keep))[offsets]
    shortest = [kept[a:b] for a, b in pairwise(borders.tolist())]
    for i in np.flatnonzero(~found).tolist():
        shortest[i] = np.sort(generators[i])
    return shortest


def _shortest_by_hand(
    columns: NDArray[np.uint64], closure: NDArray[np.int64], generator: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find what the kernel finds, in Python; a fact is a whole number with a bit for each item."""
    rows = columns[closure]  # (length, n_words)
    needed = _needed(rows)
    n_needed, free = int(needed.sum()), np.flatnonzero(~needed)
    base = np.bitwise_and.reduce(rows[needed], axis=0)  # all rows if there are none
    outside = ~np.bitwise_and.reduce(rows, axis=0)
    rows = rows[free]
    facts: list[int] = []
    budget = [_MAX_NODES]
    for size in range(len(generator) - n_needed + 1):
        while (chosen := _first_hitting(facts, len(free), size, budget)) is not None:
            if len(facts) == _MAX_FACTS or budget[0] <= 0:
                return np.sort(generator)
            extra = np.bitwise_and.reduce(rows[chosen], axis=0, initial=_ALL) & base & outside
            if not extra.any():
                needed[free[chosen]] = True
                return closure[needed]
            facts.append(_telling_fact(rows, extra))
        if budget[0] <= 0:
            break
    return np.sort(generator)


def _needed(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say which items no generator can do without: without them more rows would be left."""
    others = np.full_like(rows, _ALL)  # all items but one
    np.bitwise_and.accumulate(rows[:-1], axis=0, out=others[1:])
    others[:-1] &= np.bitwise_and.accumulate(rows[:0:-1], axis=0)[::-1]
    return np.asarray((others & ~rows).any(axis=1))


def _telling_fact(rows: NDArray[np.uint64], extra: NDArray[np.uint64]) -> int:
    """Return which items lack one of the rows `extra`: of the first few, one that few lack."""
    best = -1
    seen = 0
    for w in np.flatnonzero(extra).tolist():
        bits, values = int(extra[w]), rows[:, w].tolist()
        while bits and seen < _PEEK:
            bit = bits & -bits
            bits ^= bit
            seen += 1
            lacking = sum(1 << j for j, value in enumerate(values) if not value & bit)
            if best < 0 or lacking.bit_count() < best.bit_count():
                best = lacking
        if seen == _PEEK:
            break
    return best


def _first_hitting(
    facts: Sequence[int], n_items: int, size: int, budget: list[int]
) -> list[int] | None:
    """Return the lexicographically first `size` positions that hit all facts; None without any."""

    def can_hit(unhit: Sequence[int], first: int, depth: int) -> bool:
        if not unhit:
            return True
        if depth == 0 or budget[0] <= 0:
            return False
        budget[0] -= 1
        # Branch on the fact with the fewest candidates: one of them must be chosen.
        candidates = min((fact >> first for fact in unhit), key=int.bit_count) << first
        return any(
            can_hit([fact for fact in unhit if not fact >> j & 1], first, depth - 1)
            for j in _bits(candidates)
        )

    chosen: list[int] = []
    unhit = list(facts)
    while len(chosen) < size:
        for j in range(chosen[-1] + 1 if chosen else 0, n_items):
            left = [fact for fact in unhit if not fact >> j & 1]
            if can_hit(left, j + 1, size - len(chosen) - 1):
                chosen.append(j)
                unhit = left
                break
        else:
            return None
    return None if unhit else chosen


def all_shortest_generators(
    columns: NDArray[np.uint64], closure: NDArray[np.int64], n_rows: int, *, limit: int = 100
) -> list[NDArray[np.int64]]:
    """List the shortest itemsets with exactly the rows of one pattern.

    Parameters
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Packed items.
    closure : ndarray of int64, shape (length,)
        The closed itemset, ascending.
    n_rows : int
        Rows that are packed.
    limit : int, default=100
        Most generators to return.

    Returns
    -------
    list of ndarray of int64
        In item order; the first `limit` that were found.
    """
    lacking = ~unpack_columns(columns[closure], n_rows)  # (length, n_rows)
    facts = _minimal_facts(lacking)
    for size in range(len(closure) + 1):
        found = sorted(_hitting_sets(facts, size, limit))
        if found:
            return [closure[list(positions)] for positions in found]
    raise AssertionError("the closed itemset is a generator of itself")


def _minimal_facts(lacking: NDArray[np.bool_]) -> list[int]:
    """Return the minimal non-empty sets of items (as bit masks) that some row lacks."""
    distinct = np.unique(np.packbits(lacking.T, axis=1, bitorder="little"), axis=0)
    masks = [int.from_bytes(row.tobytes(), "little") for row in distinct]
    minimal: list[int] = []
    for mask in sorted((m for m in masks if m), key=lambda m: (m.bit_count(), m)):
        if all(known & mask != known for known in minimal):
            minimal.append(mask)
    return minimal


def _hitting_sets(facts: Sequence[int], size: int, limit: int) -> Iterable[tuple[int, ...]]:
    """Return up to `limit` sets of exactly `size` positions that hit all facts, each once."""
    found: list[tuple[int, ...]] = []

    def grow(chosen: tuple[int, ...], banned: int) -> None:
        if len(found) >= limit:
            return
        taken = sum(1 << j for j in chosen)
        unhit = [fact for fact in facts if not fact & taken]
        if not unhit:
            if len(chosen) == size:
                found.append(tuple(sorted(chosen)))
            return
        if len(chosen) == size:
            return
        candidates = min((fact & ~banned for fact in unhit), key=int.bit_count)
        for j in _bits(candidates):
            grow((*chosen, j), banned)
            banned |= 1 << j  # later branches do without it, so no set is met twice

    grow((), 0)
    return found


def _bits(mask: int) -> Iterator[int]:
    """Yield the positions of the ones of `mask`, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
