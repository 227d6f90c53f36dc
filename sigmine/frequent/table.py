"""From the kernels' output to a table of frozensets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._collector import PAUSE
from ..exceptions import InputError, InsufficientMemoryError
from ..memory import too_little_for
from ..parallel import Control
from .layout import Output
from .source import Items

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["column_labels", "make_table", "require_room"]

_CHUNK = 2**14  # itemsets that are made into Python objects at a time
_ROW_BYTES = 16  # of the table, beside the itemset itself: its support, and a pointer
# Lengths at which a frozenset that grows item by item ends up with twice the room that it needs;
# the copy of a set has just enough. (So it is in CPython; elsewhere it is no loss.)
_GROWS_TOO_FAR = frozenset([*range(5, 8), *range(19, 32), *range(77, 128)])


def column_labels(X: Any, names: tuple[str, ...] | None) -> list[Any] | None:
    """Return what the columns of a table are called.

    Parameters
    ----------
    X : data frame, ndarray or scipy.sparse
        As the caller gave it.
    names : tuple of str or None
        What `validate_binary_matrix` calls its columns.

    Returns
    -------
    list or None
        The labels themselves, where they need not be texts; None for arrays.

    Raises
    ------
    InputError
        If two columns have one name.
    """
    labels: list[Any] | None = None if names is None else list(names)
    if isinstance(X, Mapping):
        labels = list(X)
    elif hasattr(X, "iloc"):  # pandas
        labels = list(X.columns)
    if labels is not None and len(set(labels)) < len(labels):
        raise InputError(
            f"X has {len(labels) - len(set(labels)):,} columns with the name of another one; "
            "expected different names. Rename them, or use use_colnames=False."
        )
    return labels


def require_room(n_itemsets: int, length: int, closed: bool) -> None:
    """Refuse a table that cannot fit into memory.

    Parameters
    ----------
    n_itemsets : int
        How many itemsets there are, at least.
    length : int
        How many items they have, about.
    closed : bool
        Whether they are closed.

    Raises
    ------
    InsufficientMemoryError
        With what is needed, what is available and what would need less.
    """
    each = _ROW_BYTES + sys.getsizeof(_frozenset(list(range(length)))) + 4 * (length + 2)
    needed = n_itemsets * each
    if (available := too_little_for(needed)) is None:
        return
    kind, advice = ("closed", "") if closed else ("frequent", "closed=True, ")
    raise InsufficientMemoryError(
        f"there are at least {n_itemsets:,} {kind} itemsets, of about {length} items; their table "
        f"needs {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB are available. "
        f"Use {advice}a larger min_support or a smaller max_length; count_itemsets only counts. "
        "SIGMINE_MEMORY_CHECK=0 starts all the same.",
        needed=needed,
        available=available,
    )


def make_table(
    output: Output, items: Items, labels: list[Any] | None, control: Control
) -> pd.DataFrame:
    """Make the table: sorted, and with names.

    Parameters
    ----------
    output : Output
        The itemsets, as ranks.
    items : Items
        What the ranks mean.
    labels : list or None
        What the columns are called; None for their positions.
    control : Control
        Through which this is told to end.

    Returns
    -------
    pandas.DataFrame
        See `frequent_itemsets`.

    Raises
    ------
    SearchInterrupted
        If nobody waits for it any more.
    """
    import pandas as pd

    columns = [*items.columns.tolist(), *items.fixed.tolist()]
    names = np.empty(len(columns), dtype=object)
    names[:] = columns if labels is None else [labels[column] for column in columns]
    order = _by_support(output, items.n_rows)
    ends = np.cumsum(output.length, dtype=np.int64)
    itemsets: list[frozenset[Any]] = []
    with PAUSE:  # frozensets of names are in no cycle; looking took a third of the time
        for start in range(0, len(order), _CHUNK):
            control.raise_if_abandoned()
            itemsets += _frozensets(output, ends, order[start : start + _CHUNK], names)
    series = np.empty(len(itemsets), dtype=object)
    series[:] = itemsets
    return pd.DataFrame({"support": output.support[order] / items.n_rows, "itemsets": series})


def _by_support(output: Output, n_rows: int) -> NDArray[np.int64]:
    """Return the order by falling support, then by length, then as they are."""
    n = len(output.support)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    longest = int(output.length.max()) + 1
    keys = (n_rows - output.support.astype(np.int64)) * longest + output.length
    if (n_rows * longest).bit_length() + n.bit_length() > 62:
        return np.argsort(keys, kind="stable")
    # Numbers that hold the position too are different, and sorted many times as fast.
    keys = keys * n + np.arange(n)
    keys.sort()
    return np.asarray(keys % n)


def _frozensets(
    output: Output, ends: NDArray[np.int64], rows: NDArray[np.int64], names: NDArray[np.object_]
) -> list[frozenset[Any]]:
    """Make some of the itemsets."""
    lengths = output.length[rows].astype(np.int64)
    stops = np.cumsum(lengths)
    places = np.arange(int(stops[-1])) + np.repeat(ends[rows] - stops, lengths)
    flat = names[output.items[places]].tolist()
    made, start = [], 0
    for stop in stops.tolist():
        made.append(_frozenset(flat[start:stop]))
        start = stop
    return made


def _frozenset(items: list[Any]) -> frozenset[Any]:
    """Make one that takes no more memory than it needs."""
    return frozenset(set(items) if len(items) in _GROWS_TOO_FAR else items)
