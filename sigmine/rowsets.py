"""Row sets of given itemsets: their counts by stratum, and their shortest descriptions.

Allowed imports: `_jit`, `bitset`.

Many itemsets hold in exactly the same rows. The largest of them (the closed itemset) is unique
and is what a search reports; a *generator* is an itemset with the same rows, and a shortest one
is what a reader wants. Finding it is a minimum hitting set: every row outside the pattern must
lack at least one of the chosen items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import njit
from .bitset import BitTable, count_segments, unpack_columns

__all__ = ["all_shortest_generators", "count_itemsets", "flatten", "shortest_generators"]

_MAX_FACTS = 64  # collected rows of one pattern, one bit of a word each
_MAX_NODES = 200_000  # search nodes of one pattern before its known generator is kept
_FEW = 1000  # patterns that are looked at one by one before the kernel is called
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


@njit
def _count(
    columns: NDArray[np.uint64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    items: NDArray[np.int64],
    offsets: NDArray[np.int64],
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
) -> None:
    """Fill the counts of every itemset; an empty itemset holds in every row."""
    n_words = cases.shape[0]
    rows = np.empty((2, n_words), dtype=np.uint64)  # carriers; those of them that are cases
    for i in range(offsets.shape[0] - 1):
        for w in range(n_words):
            rows[0, w] = np.uint64(0xFFFFFFFFFFFFFFFF)
        for p in range(offsets[i], offsets[i + 1]):
            for w in range(n_words):
                rows[0, w] &= columns[items[p], w]
        for w in range(n_words):
            rows[1, w] = rows[0, w] & cases[w]
        count_segments(rows, 0, segments, masks, support[i])
        count_segments(rows, 1, segments, masks, support_cases[i])


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
    items, offsets = flatten(itemsets)
    support = np.zeros((len(itemsets), table.n_strata), dtype=np.int64)
    support_cases = np.zeros_like(support)
    _count(
        table.columns,
        table.cases,
        table.segments,
        table.masks,
        items,
        offsets,
        support,
        support_cases,
    )
    return support, support_cases


@njit
def _can_hit(
    hits: NDArray[np.uint64],
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
    fewest, branch = hits.shape[0] + 1, np.uint64(0)
    for f in range(n_facts):
        fact = np.uint64(1) << np.uint64(f)
        if unhit & fact:
            candidates = 0
            for j in range(first, hits.shape[0]):
                if hits[j] & fact:
                    candidates += 1
            if candidates < fewest:
                fewest, branch = candidates, fact
    for j in range(first, hits.shape[0]):
        if hits[j] & branch and _can_hit(hits, n_facts, unhit & ~hits[j], first, depth - 1, budget):
            return True
    return False


@njit
def _first_hitting_set(
    hits: NDArray[np.uint64],
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
        for j in range(start, hits.shape[0]):
            if _can_hit(hits, n_facts, unhit & ~hits[j], j + 1, size - depth - 1, budget):
                chosen[depth] = j
                unhit &= ~hits[j]
                start = j + 1
                found = True
                break
        if not found:
            return False
    return bool(unhit == np.uint64(0))


@njit
def _add_fact(
    columns: NDArray[np.uint64],
    items: NDArray[np.int64],
    rows: NDArray[np.uint64],
    target: NDArray[np.uint64],
    n_facts: int,
    hits: NDArray[np.uint64],
) -> bool:
    """Record which items lack one row of `rows` that is not in `target`; False if there is none.

    Of the first few such rows the one that the fewest items lack is taken: it tells the most.
    """
    fewest, best_word, best_bit, seen = items.shape[0] + 1, -1, np.uint64(0), 0
    for w in range(target.shape[0]):
        extra = rows[w] & ~target[w]
        while extra and seen < _PEEK:
            bit = extra & (~extra + np.uint64(1))  # the lowest one
            extra &= ~bit
            seen += 1
            lacking = 0
            for j in range(items.shape[0]):
                if not columns[items[j], w] & bit:
                    lacking += 1
            if lacking < fewest:
                fewest, best_word, best_bit = lacking, w, bit
        if seen >= _PEEK:
            break
    if best_word < 0:
        return False
    for j in range(items.shape[0]):
        if not columns[items[j], best_word] & best_bit:
            hits[j] |= np.uint64(1) << np.uint64(n_facts)
    return True


@njit
def _shortest(
    columns: NDArray[np.uint64],
    items: NDArray[np.int64],
    upper: int,
    chosen: NDArray[np.int64],
    budget: NDArray[np.int64],
) -> int:
    """Write positions of a shortest generator of `items` into `chosen`; return its length or -1.

    Facts (rows outside the pattern) are collected only as candidates fail: the first smallest
    hitting set of the facts known so far is either a generator, and then it is the first of the
    shortest ones, or some row outside the pattern has all its items, and that row is a new fact.
    """
    n_words = columns.shape[1]
    target = np.empty(n_words, dtype=np.uint64)
    for w in range(n_words):
        target[w] = np.uint64(0xFFFFFFFFFFFFFFFF)
    for j in range(items.shape[0]):
        for w in range(n_words):
            target[w] &= columns[items[j], w]
    hits = np.zeros(items.shape[0], dtype=np.uint64)
    rows = np.empty(n_words, dtype=np.uint64)
    n_facts: Any = np.int64(0)  # not a literal: numba would compile every callee twice
    for size in range(1, upper + 1):
        while _first_hitting_set(hits, n_facts, size, chosen, budget):
            for w in range(n_words):
                rows[w] = columns[items[chosen[0]], w]
                for c in range(1, size):
                    rows[w] &= columns[items[chosen[c]], w]
            if n_facts == _MAX_FACTS or budget[0] <= 0:
                return -1
            if not _add_fact(columns, items, rows, target, n_facts, hits):
                return size
            n_facts += 1
        if budget[0] <= 0:
            return -1
    return -1


@njit
def _shortest_all(
    columns: NDArray[np.uint64],
    items: NDArray[np.int64],
    offsets: NDArray[np.int64],
    upper: NDArray[np.int64],
    positions: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Run `_shortest` on every pattern; row i of `positions` gets the positions of pattern i."""
    budget = np.empty(1, dtype=np.int64)
    for i in range(upper.shape[0]):
        budget[0] = _MAX_NODES
        lengths[i] = _shortest(
            columns, items[offsets[i] : offsets[i + 1]], upper[i], positions[i], budget
        )


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
    shortest = [np.sort(generator) for generator in generators]
    harder = list(range(len(closures)))
    if len(closures) <= _FEW:  # by numpy, so that nothing has to be compiled for the usual case
        harder = [i for i in harder if not _all_needed(columns, closures[i])]
        for i in set(range(len(closures))).difference(harder):
            shortest[i] = closures[i]
    if len(harder) == 0:
        return shortest
    items, offsets = flatten([closures[i] for i in harder])
    upper = np.array([len(generators[i]) for i in harder], dtype=np.int64)
    positions = np.zeros((len(harder), max(1, int(upper.max()))), dtype=np.int64)
    lengths = np.zeros(len(harder), dtype=np.int64)
    _shortest_all(columns, items, offsets, upper, positions, lengths)
    for row, i in enumerate(harder):
        if lengths[row] >= 0:
            shortest[i] = closures[i][positions[row, : lengths[row]]]
    return shortest


def _all_needed(columns: NDArray[np.uint64], closure: NDArray[np.int64]) -> bool:
    """Say whether without any one item more rows would be left: then no part generates the rows."""
    rows = columns[closure]  # (length, n_words)
    for j in range(len(closure)):
        others = np.bitwise_and.reduce(np.delete(rows, j, axis=0), axis=0)
        if not (others & ~rows[j]).any():
            return False
    return True


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
