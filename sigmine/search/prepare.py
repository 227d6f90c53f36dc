"""From the canonical layout to what the kernel reads: distinct items by support, and tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..association import cmh_exact
from ..association.evidence import EXACT, EvidenceTables, build_tables, minimum_evidences
from ..bitset import BitTable, count_strata
from ..settings import SearchSettings
from .itemsets import UNKNOWN
from .layout import SearchData

__all__ = ["evidence_limit", "prepare"]


def prepare(
    table: BitTable, settings: SearchSettings
) -> tuple[SearchData, list[NDArray[np.int64]]]:
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
    margins = count_strata(columns, table.segments, table.masks, table.n_strata)
    evidence = minimum_evidences(margins, tables)
    score = np.stack([evidence, np.full_like(evidence, UNKNOWN)], axis=1)
    data = SearchData(
        columns=columns,
        info=np.stack([np.arange(len(columns), dtype=np.int64), supports], axis=1),
        score=np.ascontiguousarray(score),
        cases=table.cases,
        segments=table.segments,
        masks=table.masks,
        limit=evidence_limit(tables, table.n_rows),
        sizes_asked=np.array([settings.min_support, settings.max_length or 0], dtype=np.int64),
        tables=tables,
    )
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


def evidence_limit(tables: EvidenceTables, n_rows: int) -> NDArray[np.float64]:
    """Bound the evidence of a row set by its number of rows alone.

    A row set with s rows has evidence at most sum_k h_k(x_k) with h_k convex, h_k(0) = 0 and
    x_k <= min(s, cap_k): -log r_k for the exact test; f_k^2 / v_k for the asymptotic one
    (Cauchy-Schwarz). Then h_k(x) / x is non-decreasing, so the sum is at most s times the largest
    h_k(min(s, cap_k)) / min(s, cap_k).

    Parameters
    ----------
    tables : EvidenceTables
        The test.
    n_rows : int
        Rows that are searched.

    Returns
    -------
    ndarray of float64, shape (n_rows + 1,)
        Non-decreasing, from 0.
    """
    per_row = np.zeros(n_rows + 1, dtype=np.float64)
    kind, _, excess, deficit = tables.choice.tolist()
    # Strata of the same size and cases have the same h_k: one of each kind is enough.
    _, kinds = np.unique(tables.margins[:2], axis=1, return_index=True)
    for k in kinds.tolist():
        size, n_cases, share, spread = tables.margins[:, k].tolist()
        for wanted, cap, side, weight in (
            (excess, int(n_cases), cmh_exact.UP, 1.0 - share),
            (deficit, int(size - n_cases), cmh_exact.DOWN, share),
        ):
            if not wanted or cap == 0 or cap == size or spread == 0.0:
                continue
            x = np.arange(1, cap + 1, dtype=np.float64)
            if kind == EXACT:
                start = int(tables.offset[k]) + 1
                ratio = tables.extremes[side, start : start + cap] / x
            else:
                ratio = weight**2 / (spread * (1.0 - x / size))
            np.maximum(per_row[1 : cap + 1], ratio, out=per_row[1 : cap + 1])
    return np.maximum.accumulate(per_row) * np.arange(n_rows + 1)
