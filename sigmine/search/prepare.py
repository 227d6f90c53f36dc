"""From the canonical layout to what the kernel reads: distinct items by support, and tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import EvidenceTables, build_tables, minimum_evidences
from ..association.scores import DOWN_BOUND, MEAN, N_COLUMNS, UP_BOUND
from ..bitset import BitTable, count_ones, count_strata
from ..settings import SearchSettings
from .flat import Itemsets, reordered
from .layout import (
    BOUND,
    CANDIDATE,
    EVIDENCE,
    FLAG,
    ITEM,
    LIMIT,
    ONES,
    PEAK,
    UNKNOWN,
    SearchData,
)

__all__ = ["Prepared", "evidence_limit", "prepare", "rank_strata"]


_BLOCK_CELLS = 2**14  # words of columns that are worked on at a time
_BLOCK_COUNTS = 2**17  # carriers by stratum that are counted at a time


class Prepared(NamedTuple):
    """What a search starts from.

    Attributes
    ----------
    data : SearchData
        Input of the kernel.
    items : Itemsets
        For every column of `data`, the items of the table that have these rows, ascending.
    tables : EvidenceTables
        The test.
    table : BitTable
        Cases and strata.
    """

    data: SearchData
    items: Itemsets
    tables: EvidenceTables
    table: BitTable


def prepare(table: BitTable, settings: SearchSettings) -> Prepared:
    """Merge equal columns, sort by falling support and precompute what every node needs.

    Parameters
    ----------
    table : BitTable
        Items, cases, strata.
    settings : SearchSettings
        Names the test and the limits.

    Returns
    -------
    Prepared
        With one copy of the columns, and little beside that grows with the data.
    """
    items, ones = _distinct_by_support(table.columns)
    columns = _by_word(table.columns, items.flat[items.ends - items.lengths])
    tables = build_tables(table.sizes, table.case_sizes, settings)
    limit = evidence_limit(tables, table.sizes)
    by_ones = np.empty((len(limit), 2), dtype=np.float64)
    by_ones[:, LIMIT] = limit
    # The mode of an integer variable of variance v has at least (1 + 12 v)^(-1/2), and the number
    # of cases among s carriers has v <= s / 4 (see `scores.may_be_small`).
    by_ones[:, PEAK] = 0.5 * np.log1p(3.0 * np.arange(len(limit)))
    root_cand = np.empty((len(ones), 3), dtype=np.int64)
    root_cand[:, ITEM], root_cand[:, ONES] = np.arange(len(ones)), ones
    root_cand[:, FLAG] = CANDIDATE
    root_score = np.empty((len(ones), 2), dtype=np.float64)
    root_score[:, EVIDENCE], root_score[:, BOUND] = _evidences(columns, table, tables), UNKNOWN
    data = SearchData(
        columns=columns.reshape(-1),
        root_cand=root_cand,
        root_score=root_score,
        by_ones=by_ones,
        parts=tables.parts,
        corners=tables.corners,
        ceilings=tables.ceilings,
        far=tables.far,
    )
    return Prepared(data, items, tables, table)


def _by_word(columns: NDArray[np.uint64], chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Copy columns, in an order of their own, word by word."""
    n_words = columns.shape[1]
    words = np.empty((n_words, len(chosen)), dtype=np.uint64)
    height = min(n_words, _BLOCK_CELLS // 64)
    width = _BLOCK_CELLS // max(1, height)
    for first in range(0, len(chosen), width):
        items = chosen[first : first + width]
        for top in range(0, n_words, height):
            rows = slice(top, top + height)
            words[rows, first : first + width] = columns[items, rows].T
    return words


def _evidences(
    columns: NDArray[np.uint64], table: BitTable, tables: EvidenceTables
) -> NDArray[np.float64]:
    """Return the minimum evidence of every column; `columns` are word by word."""
    evidence = np.empty(columns.shape[1], dtype=np.float64)
    # Few blocks: each goes through all segments.
    step = max(1024, _BLOCK_COUNTS // table.n_strata)
    for first in range(0, len(evidence), step):
        block = columns[:, first : first + step]
        margins = count_strata(block.T, table.segments, table.masks, table.n_strata)
        evidence[first : first + step] = minimum_evidences(margins, tables)
    return evidence


def rank_strata(table: BitTable) -> NDArray[np.int64]:
    """Return the rank of every stratum by its share of cases."""
    shares = table.case_sizes / np.maximum(table.sizes, 1)
    ranks = np.empty(table.n_strata, dtype=np.int64)
    ranks[np.argsort(shares, kind="stable")] = np.arange(table.n_strata)
    return ranks


def _distinct_by_support(columns: NDArray[np.uint64]) -> tuple[Itemsets, NDArray[np.int64]]:
    """Return which items share a column, by falling support (ties: first item first), and supports.

    Columns are compared only where their support and a hash of their words are equal.
    """
    ones, keys = count_ones(columns), _hashes(columns)
    order = np.lexsort((keys, -ones))  # stable: ascending items among equal columns
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(ones[order]) != 0) | (np.diff(keys[order]) != 0)
    for start, stop in _runs_of_equals(new):
        some = order[start:stop]
        _, group = np.unique(columns[some], axis=0, return_inverse=True)
        by_group = np.argsort(group.reshape(-1), kind="stable")
        order[start:stop] = some[by_group]
        new[start + 1 : stop] = np.diff(group.reshape(-1)[by_group]) != 0
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=len(order))
    first = order[starts]
    ranks = np.lexsort((first, -ones[first]))
    flat, ends = order, np.cumsum(lengths)
    return Itemsets(*reordered(flat, ends, ranks)), ones[first[ranks]]


def _hashes(columns: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of every column, a block of columns at a time."""
    n_items, n_words = columns.shape
    # A sum of words times odd numbers that look random (steps of the golden ratio, squared).
    odd = np.arange(1, n_words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    odd = (odd | np.uint64(1)) ** np.uint64(2)
    keys = np.empty(n_items, dtype=np.uint64)
    step = max(1, _BLOCK_CELLS // max(1, n_words))
    for start in range(0, n_items, step):
        block = columns[start : start + step]
        keys[start : start + step] = ((block ^ (block >> np.uint64(29))) * odd).sum(axis=1)
    return keys


def _runs_of_equals(new: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where runs of more than one begin and end, given which entries begin a run."""
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], len(new))
    longer = stops - starts > 1
    return list(zip(starts[longer].tolist(), stops[longer].tolist(), strict=True))


def evidence_limit(tables: EvidenceTables, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bound the evidence of a row set by its number of rows alone.

    A row set with s rows has evidence at most sum_k h_k(x_k) with h_k convex up to a cap, constant
    beyond, h_k(0) = 0 and x_k <= s: -log r_k for the exact test; f_k^2 / v_k for the asymptotic one
    (Cauchy-Schwarz). Below the cap h_k(x) / x is non-decreasing, beyond it h_k(x) / x falls, so the
    sum is at most s times the largest ratio up to s.

    Parameters
    ----------
    tables : EvidenceTables
        The test.
    sizes : ndarray of int64, shape (n_strata,)
        Rows of every stratum.

    Returns
    -------
    ndarray of float64, shape (n_rows + 1,)
        Non-decreasing, from 0. Where lines are missing from the tables, for as many rows as have
        one.
    """
    most = int(sizes.sum())
    if not tables.is_whole:
        most = min(most, tables.fine)
    per_row = np.zeros(most + 1, dtype=np.float64)
    parts = tables.parts.reshape(-1, N_COLUMNS)
    # Strata with equal tables are many when there are many: one of each kind is enough.
    kinds: dict[tuple[int, float], int] = {}
    for k, size in enumerate(sizes.tolist()):
        kinds.setdefault((size, float(parts[tables.offset[k] + 1, MEAN]) if size else 0.0), k)
    _, _, excess, deficit = tables.choice.tolist()
    for (n, _), k in kinds.items():
        size = min(n, most)
        lines = parts[tables.offset[k] + 1 : tables.offset[k] + 1 + size]
        x = np.arange(1, size + 1, dtype=np.float64)
        for wanted, column in ((excess, UP_BOUND), (deficit, DOWN_BOUND)):
            if wanted:
                np.maximum(per_row[1 : size + 1], lines[:, column] / x, out=per_row[1 : size + 1])
    return np.maximum.accumulate(per_row) * np.arange(most + 1)
