"""From the canonical layout to what the kernel reads: distinct items by support, and tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import EvidenceTables, build_tables, minimum_evidences
from ..association.scores import DOWN_BOUND, MEAN, N_COLUMNS, UP_BOUND
from ..bitset import BitTable, count_strata
from ..settings import SearchSettings
from .layout import CANDIDATE, LIMIT, PEAK, UNKNOWN, SearchData

__all__ = ["Prepared", "evidence_limit", "prepare", "rank_strata"]


class Prepared(NamedTuple):
    """What a search starts from.

    Attributes
    ----------
    data : SearchData
        Input of the kernel.
    items : list of ndarray of int64
        For every column of `data`, the items of the table that have these rows, ascending.
    tables : EvidenceTables
        The test.
    table : BitTable
        Cases and strata.
    """

    data: SearchData
    items: list[NDArray[np.int64]]
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
    """
    columns, items = _distinct_by_support(table.columns)
    tables = build_tables(table.sizes, table.case_sizes, settings)
    margins = count_strata(columns, table.segments, table.masks, table.n_strata)
    evidence = minimum_evidences(margins, tables)
    ones = margins.sum(axis=1)
    by_ones = np.empty((table.n_rows + 1, 2), dtype=np.float64)
    by_ones[:, LIMIT] = evidence_limit(tables, table.sizes)
    # The mode of an integer variable of variance v has at least (1 + 12 v)^(-1/2), and the number
    # of cases among s carriers has v <= s / 4 (see `scores.may_be_small`).
    by_ones[:, PEAK] = 0.5 * np.log1p(3.0 * np.arange(table.n_rows + 1))
    data = SearchData(
        columns=np.ascontiguousarray(columns.T).reshape(-1),
        root_cand=np.stack(
            [np.arange(len(columns)), ones, np.full_like(ones, CANDIDATE)], axis=1
        ).astype(np.int64),
        root_score=np.stack([evidence, np.full_like(evidence, UNKNOWN)], axis=1),
        by_ones=by_ones,
        parts=tables.parts,
        corners=tables.corners,
        ceilings=tables.ceilings,
    )
    return Prepared(data, items, tables, table)


def rank_strata(table: BitTable) -> NDArray[np.int64]:
    """Return the rank of every stratum by its share of cases."""
    shares = table.case_sizes / np.maximum(table.sizes, 1)
    ranks = np.empty(table.n_strata, dtype=np.int64)
    ranks[np.argsort(shares, kind="stable")] = np.arange(table.n_strata)
    return ranks


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
        Non-decreasing, from 0.
    """
    n_rows = int(sizes.sum())
    per_row = np.zeros(n_rows + 1, dtype=np.float64)
    parts = tables.parts.reshape(-1, N_COLUMNS)
    # Strata with equal tables are many when there are many: one of each kind is enough.
    kinds: dict[tuple[int, float], int] = {}
    for k, size in enumerate(sizes.tolist()):
        kinds.setdefault((size, float(parts[tables.offset[k] + 1, MEAN]) if size else 0.0), k)
    _, _, excess, deficit = tables.choice.tolist()
    for (size, _), k in kinds.items():
        lines = parts[tables.offset[k] + 1 : tables.offset[k] + 1 + size]
        x = np.arange(1, size + 1, dtype=np.float64)
        for wanted, column in ((excess, UP_BOUND), (deficit, DOWN_BOUND)):
            if wanted:
                np.maximum(per_row[1 : size + 1], lines[:, column] / x, out=per_row[1 : size + 1])
    return np.maximum.accumulate(per_row) * np.arange(n_rows + 1)
