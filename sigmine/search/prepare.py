"""From the canonical layout to what the kernel reads: distinct items by support, and tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import EXACT, TestTables, build_tables
from ..bitset import BitTable
from ..settings import SearchSettings
from .itemsets import SearchData, root_evidence

__all__ = ["evidence_limit", "prepare"]


def prepare(table: BitTable, settings: SearchSettings) -> tuple[SearchData, list[NDArray[np.int64]]]:
    """Merge equal columns, sort by falling support and precompute what every node needs.

    Parameters
    ----------
    table : BitTable
        Items, cases, strata.
    settings : SearchSettings
        Names the test and the limits.

    Returns
    -------
    data : SearchData
        Input of `search_roots`.
    items : list of ndarray of int64
        For every column of `data`, the items of `table` that have these rows, ascending.
    """
    columns, items = _distinct_by_support(table.columns)
    supports = np.bitwise_count(columns).sum(axis=1, dtype=np.int64)
    tables = build_tables(table.sizes, table.case_sizes, settings)
    evidence = np.zeros(len(columns), dtype=np.float64)
    bound = np.zeros(len(columns), dtype=np.float64)
    data = SearchData(
        columns=columns,
        supports=supports,
        evidence=evidence,
        bound=bound,
        cases=table.cases,
        segment_word=table.segment_word,
        segment_mask=table.segment_mask,
        segment_stratum=table.segment_stratum,
        tables=tables,
        limit=evidence_limit(tables, table.n_rows),
        min_support=int(settings.min_support),
        max_length=int(settings.max_length or 0),
    )
    root_evidence(columns, data, evidence, bound)
    return data, items


def _distinct_by_support(
    columns: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], list[NDArray[np.int64]]]:
    """Return distinct columns by falling support (ties: first item first) and their items."""
    if len(columns) == 0:
        return columns, []
    as_bytes = np.ascontiguousarray(columns).view(f"V{columns.shape[1] * 8}")[:, 0]
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    supports = np.bitwise_count(columns[first]).sum(axis=1, dtype=np.int64)
    order = np.lexsort((first, -supports))
    by_group = np.argsort(group, kind="stable")  # ascending items within a group
    borders = np.cumsum(np.bincount(group))[:-1]
    members = np.split(by_group.astype(np.int64), borders)
    return np.ascontiguousarray(columns[first[order]]), [members[g] for g in order]


def evidence_limit(tables: TestTables, n_rows: int) -> NDArray[np.float64]:
    """Bound the evidence of a row set by its number of rows alone.

    A row set with s rows has evidence at most sum_k h_k(x_k) with h_k convex, h_k(0) = 0 and
    x_k <= min(s, cap_k): -log r_k for the exact test; f_k^2 / v_k for the asymptotic one
    (Cauchy-Schwarz). Then h_k(x) / x is non-decreasing, so the sum is at most s times the largest
    h_k(min(s, cap_k)) / min(s, cap_k).

    Parameters
    ----------
    tables : TestTables
        The test.
    n_rows : int
        Rows that are searched.

    Returns
    -------
    ndarray of float64, shape (n_rows + 1,)
        Non-decreasing, from 0.
    """
    per_row = np.zeros(n_rows + 1, dtype=np.float64)
    for k in range(len(tables.sizes)):
        for wanted, cases, table, weight in (
            (tables.up, tables.case_sizes[k], tables.log_up, 1.0 - tables.share[k]),
            (
                tables.down,
                tables.sizes[k] - tables.case_sizes[k],
                tables.log_down,
                tables.share[k],
            ),
        ):
            cap = int(cases)
            if not wanted or cap == 0 or cap == tables.sizes[k]:
                continue
            x = np.arange(1, cap + 1, dtype=np.float64)
            if tables.kind == EXACT:
                start = int(tables.offset[k])
                ratio = table[start + 1 : start + cap + 1] / x
            elif tables.spread[k] > 0:
                ratio = weight**2 / (tables.spread[k] * (1.0 - x / tables.sizes[k]))
            else:
                continue
            np.maximum(per_row[1 : cap + 1], ratio, out=per_row[1 : cap + 1])
    per_row = np.maximum.accumulate(per_row)
    return per_row * np.arange(n_rows + 1)
