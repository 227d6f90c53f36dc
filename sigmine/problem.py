"""The validated input of one search, in its canonical layout, with the names to report it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bitset import BitTable, PackedColumns, build_bit_table, count_ones, keep_columns
from .memory import estimate_memory, require_memory
from .strata import Strata, require_informative

__all__ = ["DroppedItem", "Problem", "StratumSummary", "build_problem"]


@dataclass(frozen=True, slots=True)  # wide data have hundreds of thousands of these
class DroppedItem:
    """An item that was kept out of the search, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class StratumSummary:
    """One stratum of the data: its label, rows, cases, and whether it is searched."""

    label: str
    n: int
    n_cases: int
    informative: bool


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes
    ----------
    table : BitTable
        Items, cases and strata of the searched rows.
    item_names : tuple of str, length n_items
        Names of the rows of ``table.columns``.
    stratum_labels : tuple of str, length n_strata
        Labels of the searched strata.
    strata_names : tuple of str
        Names of the covariates; empty without one.
    strata_summary : tuple of StratumSummary
        Every stratum of the data, searched or not.
    target_name : str
        Name of the outcome.
    class_names : tuple of (str, str)
        The control class and the case class.
    n_rows : int
        Rows of the data, before those of uninformative strata are left out.
    dropped : tuple of DroppedItem
        Items kept out of the search.
    notes : tuple of str
        Sentences about how the data were prepared, for the report.
    """

    table: BitTable
    item_names: tuple[str, ...]
    stratum_labels: tuple[str, ...]
    strata_names: tuple[str, ...]
    strata_summary: tuple[StratumSummary, ...]
    target_name: str
    class_names: tuple[str, str]
    n_rows: int
    dropped: tuple[DroppedItem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_cases(self) -> int:
        """Cases among the searched rows."""
        return int(self.table.case_sizes.sum())

    def without_strata(self) -> Problem:
        """Return the same rows and items as a single stratum (no covariate)."""
        table = self.table
        size, n_cases = int(table.sizes.sum()), int(table.case_sizes.sum())
        last = size - 64 * (table.n_words - 1)
        masks = np.full(table.n_words, np.uint64(0xFFFFFFFFFFFFFFFF), dtype=np.uint64)
        masks[-1] = (1 << last) - 1
        merged = table._replace(
            segments=np.stack([np.arange(table.n_words), np.zeros(table.n_words)], axis=1).astype(
                np.int64
            ),
            masks=masks,
            sizes=np.array([size], dtype=np.int64),
            case_sizes=np.array([n_cases], dtype=np.int64),
        )
        return replace(
            self,
            table=merged,
            stratum_labels=("all rows",),
            strata_names=(),
            strata_summary=(StratumSummary("all rows", size, n_cases, True),),
        )


def build_problem(
    matrix: Any,
    y: NDArray[np.bool_],
    strata: Strata,
    *,
    item_names: Sequence[str],
    target_name: str = "y",
    class_names: tuple[str, str] = ("0", "1"),
    notes: Sequence[str] = (),
    dropped: Sequence[DroppedItem] = (),
    keep_uninformative: bool = False,
) -> Problem:
    """Bring validated data into the canonical layout.

    Rows of strata with one class only carry no information about the association (they change
    neither the statistic nor its conditional law), so they are left out of the search: itemsets
    that differ only there become one hypothesis. Items that are constant over the searched rows
    are left out too.

    Parameters
    ----------
    matrix : ndarray, scipy.sparse matrix or PackedColumns, shape (n_rows, n_items)
        The items; only zeros and ones. `sigmine.bitset.PackedColumns` are used up.
    y : ndarray of bool, shape (n_rows,)
        True for a case.
    strata : Strata
        The covariate of every row.
    item_names : sequence of str, length n_items
        Names of the columns of `matrix`.
    target_name : str, default="y"
        Name of the outcome.
    class_names : (str, str), default=("0", "1")
        The control class and the case class.
    notes : sequence of str, optional
        Sentences about the preparation of the data.
    dropped : sequence of DroppedItem, optional
        Items that were left out already.
    keep_uninformative : bool, default=False
        Keep the rows of strata with one class, as the original programs do.

    Returns
    -------
    Problem
        Ready for `sigmine.search.search_patterns`.

    Raises
    ------
    InputError
        If no stratum holds both classes.
    InsufficientMemoryError
        If a search of this size cannot fit into memory; before anything large is made.

    Notes
    -----
    Beside the packed items, `matrix` and the order of the rows it needs a few MiB.
    """
    sizes, case_sizes, informative = require_informative(strata, y)
    searched = np.ones_like(informative) if keep_uninformative else informative
    n_searched = int(sizes[searched].sum())
    if not isinstance(matrix, PackedColumns):  # whoever packed them has asked already
        require_memory(estimate_memory(n_searched, matrix.shape[1], int(searched.sum())))
    new_codes = np.where(searched, np.cumsum(searched) - 1, -1).astype(np.int64)
    labels = strata.labels
    table = build_bit_table(matrix, y, new_codes[strata.codes], int(searched.sum()))
    counts = count_ones(table.columns)
    present, everywhere = counts > 0, counts == table.n_rows
    kept = present & ~everywhere
    left_out = [
        DroppedItem(
            name,
            "constant: absent from every searched row"
            if not present[j]
            else "constant: present in every searched row",
        )
        for j, name in enumerate(item_names)
        if not kept[j]
    ]
    return Problem(
        table=table._replace(columns=keep_columns(table.columns, kept)),
        item_names=tuple(name for name, keep in zip(item_names, kept, strict=True) if keep),
        stratum_labels=tuple(labels[k] for k in np.flatnonzero(searched)),
        strata_names=strata.names,
        strata_summary=tuple(
            StratumSummary(labels[k], int(sizes[k]), int(case_sizes[k]), bool(informative[k]))
            for k in range(len(labels))
        ),
        target_name=target_name,
        class_names=class_names,
        n_rows=len(y),
        dropped=(*dropped, *left_out),
        notes=tuple(notes),
    )
