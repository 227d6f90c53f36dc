"""The doors: from a table of zeros and ones to a table of itemsets, or to their number."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .._binary import validate_binary_matrix
from .._checks import whole_number
from ..exceptions import DataWarning, InputError, InputTypeError, SearchInterrupted
from ..parallel import Control, count_workers, run_watched
from .layout import Output
from .passes import Counts, Miner, MiningProgress
from .source import Items, make_source
from .table import column_labels, make_table, require_room

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["count_closed", "count_itemsets", "frequent_itemsets"]

T = TypeVar("T")
ProgressCallback = Callable[[MiningProgress], None]


def frequent_itemsets(
    X: Any,
    min_support: float = 0.5,
    *,
    closed: bool = True,
    use_colnames: bool = True,
    max_length: int | None = None,
    n_jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> pd.DataFrame:
    """Find the itemsets that hold in many rows.

    Parameters
    ----------
    X : data frame, ndarray or scipy.sparse of shape (n_rows, n_columns)
        Zeros and ones (or booleans) only. A sparse matrix, or a pandas frame of sparse columns, is
        never unpacked.
    min_support : float or int, default=0.5
        Fewest rows of an itemset: a float in (0, 1] is a share of the rows, an int of at least 1 a
        number of rows (so 1.0 means all rows and 1 means one).
    closed : bool, default=True
        Keep closed itemsets only: those that no other item can join without a loss of rows. Every
        other frequent itemset has the rows of a closed one that contains it, and there may be
        exponentially many of them. False gives all frequent itemsets.
    use_colnames : bool, default=True
        Name the items by the columns of a data frame; False, or an array, gives their positions.
    max_length : int or None, default=None
        Most items of an itemset.
    n_jobs : int or None, default=None
        Threads, as everywhere in scikit-learn; the answer does not depend on it.
    progress : callable, optional
        Called with a `MiningProgress` a few times a second.

    Returns
    -------
    pandas.DataFrame
        Columns ``support`` (share of the rows) and ``itemsets`` (frozenset of names or positions),
        by falling support, shorter itemsets first where it is equal, and then in an order that
        depends on the data alone. The empty itemset is left out.

    Raises
    ------
    InputError, InputTypeError
        If the data or a parameter cannot be used.
    InsufficientMemoryError
        If there are more itemsets than fit into memory; before they are made.
    SearchInterrupted
        After Ctrl-C, within a second.

    Warns
    -----
    DataWarning
        If there is no such itemset; says why.

    See Also
    --------
    count_itemsets : Their number alone.
    sigmine.mine_patterns : Itemsets that go with an outcome.

    Notes
    -----
    The table has the form of those of mlxtend, and with ``closed=False`` the same rows as that of
    its ``fpgrowth``. Its ``association_rules`` needs the table with ``closed=False``, because it
    looks up every part of an itemset.

    Items that hold in every row belong to every closed itemset. With `max_length`, closed itemsets
    of at most that many items are kept; whether an itemset is closed does not depend on it.

    No test is made here: frequent is not the same as interesting.

    Examples
    --------
    >>> import pandas as pd
    >>> from sigmine import frequent_itemsets
    >>> baskets = pd.DataFrame(
    ...     [[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0]], columns=["bread", "milk", "eggs"]
    ... )
    >>> table = frequent_itemsets(baskets, min_support=0.5)
    >>> table.assign(itemsets=table["itemsets"].map(sorted))
       support       itemsets
    0     1.00        [bread]
    1     0.75  [bread, milk]
    2     0.50  [bread, eggs]

    {milk} has the rows of {bread, milk}, so it is not closed.

    >>> len(frequent_itemsets(baskets, min_support=0.5, closed=False))
    5
    """
    job = _Job(X, min_support, closed, max_length, n_jobs, progress)
    labels = column_labels(X, job.names) if use_colnames else None
    table = job.watched(lambda: make_table(*job.write(), labels, job.control))
    if len(table) == 0:
        warnings.warn(job.why_nothing(), DataWarning, stacklevel=2)
    return table


def count_itemsets(
    X: Any,
    min_support: float = 0.5,
    *,
    closed: bool = True,
    max_length: int | None = None,
    n_jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> int:
    """Count the itemsets that hold in many rows, without making them.

    Parameters
    ----------
    X, min_support, closed, max_length, n_jobs, progress
        As in `frequent_itemsets`.

    Returns
    -------
    int
        How many rows its table would have.

    Raises
    ------
    InputError, InputTypeError
        If the data or a parameter cannot be used.
    SearchInterrupted
        After Ctrl-C, within a second.

    Examples
    --------
    >>> baskets = [[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0]]
    >>> count_itemsets(baskets, 2), count_itemsets(baskets, 2, closed=False)
    (3, 5)
    """
    job = _Job(X, min_support, closed, max_length, n_jobs, progress)
    return job.watched(job.count_all)


def count_closed(X: Any, min_support: float = 0.5, n_jobs: int | None = None) -> int:
    """Count the closed itemsets that hold in many rows.

    Parameters
    ----------
    X, min_support, n_jobs
        As in `frequent_itemsets`.

    Returns
    -------
    int
        How many there are, without the empty one.

    Examples
    --------
    >>> count_closed([[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0]], 2)
    3
    """
    return count_itemsets(X, min_support, n_jobs=n_jobs)


class _Job:
    """One call of a door: what was given, checked, and how far it is."""

    def __init__(
        self,
        X: Any,
        min_support: Any,
        closed: Any,
        max_length: Any,
        n_jobs: int | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.started, self.stage = time.perf_counter(), "prepare"
        if not isinstance(closed, bool | np.bool_):
            raise InputTypeError(f"closed={closed!r} must be True or False.")
        self.closed = bool(closed)
        if max_length is not None:
            max_length = whole_number("max_length", max_length, 1)
        self.max_length, self.n_workers = max_length, count_workers(n_jobs)
        if hasattr(X, "iloc") and hasattr(X, "sparse"):  # pandas, and every column is sparse
            X = _sparse_frame(X)
        self.matrix, self.names = validate_binary_matrix(X)
        self.n_rows = int(self.matrix.shape[0])
        self.least = _fewest_rows(min_support, self.n_rows)
        self.progress, self.control = progress, Control()
        self.miner: Miner | None = None
        self.writes = False

    def watched(self, work: Callable[[], T]) -> T:
        """Run `work` in the background, under the eyes of the calling thread."""
        try:
            return run_watched(work, self.control, self._watch)
        except SearchInterrupted:
            raise SearchInterrupted(
                "The search for frequent itemsets was interrupted before its end; nothing was "
                "kept. Ask for less: a larger min_support, a smaller max_length, fewer columns."
            ) from None

    def count_all(self) -> int:
        """Count the itemsets."""
        miner, counts = self._count()
        return int(counts.itemsets.sum()) + self._has_fixed(miner.items)

    def write(self) -> tuple[Output, Items]:
        """Find the itemsets."""
        self.writes = True
        miner, counts = self._count()
        n_itemsets, n_items = (int(n.sum()) for n in counts)
        require_room(n_itemsets, n_items // max(1, n_itemsets), self.closed)
        self.stage = "write"
        output = miner.write(counts)
        self.stage = "table"
        return self._with_fixed(output, miner.items), miner.items

    def why_nothing(self) -> str:
        """Say why there is no itemset."""
        items = None if self.miner is None else self.miner.items
        if items is not None and len(items.fixed):
            return (
                f"no itemset is left: {len(items.fixed):,} columns are 1 in every row and belong "
                f"to every closed itemset, more than max_length={self.max_length} allows; leave "
                "these columns out, or use closed=False."
            )
        if items is not None and len(items.columns):
            return (
                f"no itemset is left: every closed itemset has more items than "
                f"max_length={self.max_length} allows; choose a larger one, or use closed=False."
            )
        return (
            f"no column is 1 in {self.least:,} of {self.n_rows:,} rows, so that no itemset holds "
            "in as many; choose a smaller min_support."
        )

    def _count(self) -> tuple[Miner, Counts]:
        self.miner = miner = Miner(
            make_source(self.matrix, self.least, self.closed),
            self.least,
            closed=self.closed,
            max_length=self.max_length,
            n_workers=self.n_workers,
            control=self.control,
        )
        self.stage = "count"
        return miner, miner.count()

    def _has_fixed(self, items: Items) -> int:
        """Say whether the items that hold in every row are an itemset of their own."""
        n_fixed = len(items.fixed)
        return int(n_fixed > 0 and (self.max_length is None or n_fixed <= self.max_length))

    def _with_fixed(self, output: Output, items: Items) -> Output:
        """Put the itemset of the items that hold in every row first."""
        if not self._has_fixed(items):
            return output
        n_fixed = len(items.fixed)
        first = Output(
            np.array([items.n_rows], dtype=np.int32),
            np.array([n_fixed], dtype=np.int32),
            np.arange(len(items.columns), len(items.columns) + n_fixed, dtype=np.int32),
        )
        return Output(*(np.concatenate(pair) for pair in zip(first, output, strict=True)))

    def _watch(self) -> None:
        miner, n_itemsets, fraction = self.miner, 0, 0.0
        if miner is not None:
            n_itemsets = miner.n_met
            fraction = miner.n_finished / max(1, len(miner.tasks))
        if self.writes and self.stage == "count":
            require_room(n_itemsets, 1, self.closed)
        if self.progress is not None:
            seconds = time.perf_counter() - self.started
            self.progress(MiningProgress(self.stage, n_itemsets, fraction, seconds))


def _sparse_frame(X: Any) -> Any:
    """Return a pandas frame of sparse columns as a sparse matrix."""
    try:
        return X.sparse.to_coo()
    except ValueError:
        fills = sorted({str(dtype.fill_value) for dtype in X.dtypes})
        raise InputError(
            f"X has sparse columns that leave out {', '.join(fills)}; expected columns that leave "
            "out 0 or False. Make them with pandas.arrays.SparseArray(..., fill_value=False)."
        ) from None


def _fewest_rows(min_support: Any, n_rows: int) -> int:
    """Return a share or a number of rows as a number of rows."""
    if not isinstance(min_support, bool) and isinstance(min_support, Integral):
        return whole_number("min_support", min_support, 1)
    expected = (
        "expected a share of the rows, a float in (0, 1] such as 0.1, or a number of rows, an int "
        "of at least 1"
    )
    if isinstance(min_support, bool) or not isinstance(min_support, Real):
        raise InputTypeError(f"min_support={min_support!r} is not a number; {expected}.")
    share = float(min_support)
    if not 0.0 < share <= 1.0:
        raise InputError(f"min_support={min_support!r} is out of range; {expected}.")
    # The fewest whose share is not below it in floating point, as for one who divides and compares.
    least = max(1, math.ceil(share * n_rows) - 1)
    while least / n_rows < share:
        least += 1
    return least
