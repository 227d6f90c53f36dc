"""Files larger than memory, packed as they are read: transactions and tables to a `Problem`.

A file is read twice: once to learn what there is (items, levels, cut points), once to write the
bits. Only a slice of its text is in memory at a time, and never a matrix; the answer is that of
`read_fimi` or `read_table` followed by `mine_matrix` or `mine_patterns`.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _fimi
from ._blocks import TableSource, open_table
from ._frames import listed
from ._slices import text_slices
from ._survey import ColumnPlan, Survey, changed, check_row_names, plan_columns, survey_table
from ._tally import as_keys
from .bitset import PackedColumns, put_entries, put_rows
from .exceptions import DataWarning, InputError
from .files import read_values
from .memory import estimate_memory, require_memory
from .mining import _features, _read_roles, matrix_problem
from .preprocessing import make_items
from .problem import DroppedItem, Problem, build_problem
from .settings import SearchSettings
from .strata import Strata

__all__ = ["pack_fimi", "pack_table"]

_Integers = NDArray[np.int64]


def pack_fimi(
    path: str | os.PathLike[str],
    labels: Any,
    strata: Any = None,
    *,
    positive: Any = None,
    settings: SearchSettings | None = None,
) -> Problem:
    """Read transactions straight into packed columns.

    Parameters
    ----------
    path : str or path-like
        Transactions as `sigmine.files.read_fimi` reads them; may be compressed (.dat.gz).
    labels : str, path-like or array_like of shape (n_rows,)
        The outcome, or a file of it for `sigmine.files.read_values`.
    strata : str, path-like, array_like of shape (n_rows,) or None, default=None
        The covariate, or a file of it.
    positive : object, optional
        Value of the outcome that makes a row a case; by default the greater of the two.
    settings : SearchSettings, optional
        What will be searched. With a grid, strata of one class are kept; items with fewer rows
        than ``min_support``, which can be in no pattern, are left out.

    Returns
    -------
    Problem
        For `sigmine.mining.mine_problem`.

    Raises
    ------
    FileFormatError
        If a file is not what it should be; with its name and the line.
    InputError
        If a file does not exist, lengths differ, or outcome or covariate cannot be used.
    InsufficientMemoryError
        If the search cannot fit into memory.

    See Also
    --------
    sigmine.files.read_fimi : the same file as a sparse matrix.

    Notes
    -----
    Reads the file twice: to find the ids and the number of rows, and to set the bits. Beside the
    packed items it needs about 30 bytes a row and some sixty MiB (more only for lines of many MiB).
    """
    path, settings = Path(path), settings or SearchSettings()
    labels, strata = (_values(given) for given in (labels, strata))
    counts, n_rows = _count_items(path, distinct=settings.min_support > 1)
    names = list(map(str, counts.ids.tolist()))
    # Outcome and covariate are checked before the second reading, on a matrix without items.
    empty = matrix_problem(np.zeros((n_rows, 0), np.bool_), labels, strata, (), positive, settings)
    frequent = counts.rows >= settings.min_support
    n_items = int(frequent.sum())
    require_memory(estimate_memory(n_rows, n_items, empty.table.n_strata))
    del empty
    words = np.zeros((n_items, -(-n_rows // 64)), dtype=np.uint64)
    _set_bits(path, counts.ids[frequent], words, n_rows)
    chosen = [name for name, kept in zip(names, frequent, strict=True) if kept]
    problem = matrix_problem(
        PackedColumns(words, n_rows), labels, strata, chosen, positive, settings
    )
    rare = [
        DroppedItem(name, f"in {rows:,} rows, fewer than min_support={settings.min_support}")
        for name, rows, kept in zip(names, counts.rows.tolist(), frequent, strict=True)
        if not kept
    ]
    return replace(problem, dropped=(*rare, *problem.dropped))


def pack_table(
    path: str | os.PathLike[str],
    *,
    target: str,
    strata: str | Sequence[str] | None = None,
    positive: Any = None,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    bins: int = 4,
    bin_method: str = "quantile",
    edges: Mapping[str, Sequence[Any]] | None = None,
    negate: bool = False,
    missing: str = "error",
    max_levels: int = 50,
    settings: SearchSettings | None = None,
    format: str | None = None,
) -> Problem:
    """Read a table straight into packed columns.

    Parameters
    ----------
    path : str or path-like
        CSV, TSV (which may be compressed) or Parquet, as `sigmine.files.read_table` reads them.
    target, strata, positive, columns, exclude
        What the columns are: see `sigmine.mine_patterns`.
    bins, bin_method, edges, negate, missing, max_levels
        How columns become items: see `sigmine.preprocessing.make_items`.
    settings : SearchSettings, optional
        What will be searched. With a grid, strata of one class are kept.
    format : {"csv", "tsv", "parquet"}, optional
        Format of the file, if its suffix does not say.

    Returns
    -------
    Problem
        For `sigmine.mining.mine_problem`.

    Raises
    ------
    FileFormatError
        If the file is not what it should be; with its name and the line.
    InputError, InputTypeError
        If there is no such file, or the data or a parameter cannot be used.
    InsufficientMemoryError
        If the search cannot fit into memory.

    Warns
    -----
    DataWarning
        If columns are left out because of `max_levels`, or hold row names.

    See Also
    --------
    sigmine.files.read_table : the same file as a data frame.

    Notes
    -----
    Reads the file twice: to count the different values of every column, from which its items
    follow, and to set the bits. Numeric columns with more than 16,384 different values are read
    once more, as many together as fit into 64 MiB, since quantiles need all values. Columns that
    look like numbers in one place and like texts in another are read once more as text.

    Beside the packed items it needs about 30 bytes a row and some sixty MiB.
    """
    path, settings = Path(path), settings or SearchSettings()
    asked = [strata] if isinstance(strata, str) else list(strata or ())
    recipe: dict[str, Any] = {
        "bins": bins,
        "bin_method": bin_method,
        "edges": edges or {},
        "negate": negate,
        "missing": missing,
        "max_levels": max_levels,
    }
    source = open_table(path, format)
    names = [name for name in source.names if name]
    features = _features(names, target, asked, columns, exclude)
    _check_recipe(recipe, features)
    survey = survey_table(source, [target, *asked], features, recipe)
    if survey.row_names:
        check_row_names(path, survey)
    y, classes, covariate = _roles_of(survey, positive)
    plans, notes = plan_columns(source, survey, recipe)
    dropped = _dropped_columns(plans, max_levels)
    item_names = [name for plan in plans for name in plan.items]
    _require_items(item_names, dropped)
    require_memory(estimate_memory(survey.n_kept, len(item_names), covariate.n_levels))
    words = _packed_items(source, survey, plans)
    return build_problem(
        PackedColumns(words, survey.n_kept),
        y,
        covariate,
        item_names=item_names,
        target_name=target,
        class_names=classes,
        notes=[*survey.notes, *notes, *(note for plan in plans for note in plan.notes)],
        dropped=dropped,
        keep_uninformative=settings.grid_step is not None,
    )


def _check_recipe(recipe: Mapping[str, Any], names: Sequence[str]) -> None:
    """Find out now, not after the first reading, that a parameter cannot be used."""
    if unknown := [str(name) for name in recipe["edges"] if name not in names]:
        raise InputError(
            f"edges names columns that the table does not have: {listed(unknown)}; "
            f"its columns are {listed(names, 20)}."
        )
    make_items({"column": [False, True]}, **{**recipe, "edges": None})


def _roles_of(survey: Survey, positive: Any) -> tuple[NDArray[np.bool_], tuple[str, str], Strata]:
    """Return cases, class names and strata."""
    columns = survey.role_columns()
    try:
        return _read_roles(columns, list(columns), positive)
    except InputError as error:
        if not survey.n_incomplete:
            raise
        raise InputError(f"after rows with missing values were left out: {error}") from None


def _dropped_columns(plans: Sequence[ColumnPlan], max_levels: int) -> list[DroppedItem]:
    """Gather what was left out, columns first; warn of those that have too many levels."""
    dropped = [item for plan in plans for item in plan.dropped]
    constant = [item for item in dropped if item.reason.startswith("constant")]
    others = [item for item in dropped if not item.reason.startswith("constant")]
    if too_many := [item.name for item in others if "max_levels" in item.reason]:
        warnings.warn(
            f"left out as identifiers, with more than {max_levels} levels: {listed(too_many)}. "
            "Raise max_levels to use them, merge rare levels, or exclude them to silence this.",
            DataWarning,
            stacklevel=3,
        )
    return [*others, *constant]


def _require_items(names: Sequence[str], dropped: Sequence[DroppedItem]) -> None:
    if not names:
        reasons = listed([f"{item.name} ({item.reason})" for item in dropped])
        raise InputError(f"no items are left to search: {reasons}. Give columns that vary.")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"several columns make items of one name: {listed(repeated)}; item names must differ. "
            "Rename one of the columns."
        )


def _packed_items(
    source: TableSource, survey: Survey, plans: Sequence[ColumnPlan]
) -> NDArray[np.uint64]:
    """Read the table again, and write the items of every row."""
    borders = np.cumsum([len(plan.items) for plan in plans])
    words = np.zeros((int(borders[-1]), -(-survey.n_kept // 64)), dtype=np.uint64)
    looked_up = []
    for plan, place in zip(plans, np.split(words, borders[:-1]), strict=True):
        if plan.packed is not None:
            place[:] = plan.packed
        elif plan.items:
            looked_up.append((plan, place))
    if not looked_up:
        return words
    start = start_kept = 0
    columns = [plan.name for plan, _ in looked_up]
    for frame in source.blocks(columns, survey.as_text):
        kept = survey.kept_of(start, frame)
        start += len(frame)
        if start > survey.n_rows:
            raise changed(source.path)
        for plan, place in looked_up:
            codes = plan.keys.get_indexer(as_keys(frame[plan.name]))
            put_rows(place, start_kept, plan.has[:, codes if kept is None else codes[kept]])
        start_kept += len(frame) if kept is None else int(kept.sum())
    if start < survey.n_rows:
        raise changed(source.path)
    return words


def _values(given: Any) -> Any:
    """Read a file of values; leave anything else as it is."""
    return read_values(given) if isinstance(given, str | os.PathLike) else given


class _ItemCounts(NamedTuple):
    """The ids that occur, ascending, and in how many rows (of each) they do."""

    ids: _Integers
    rows: _Integers


def _count_items(path: Path, *, distinct: bool) -> tuple[_ItemCounts, int]:
    """Find the ids, how often each occurs, and the number of rows.

    An id that is repeated in a row counts once only if `distinct`, which takes longer.
    """
    # Parts of more than twice the ids of the next one: no id is merged more than a few times.
    parts: list[_ItemCounts] = []
    n_rows = 0
    for rows, ids, n_lines in _transactions(path):
        if distinct:
            _, ids = _without_repetitions(rows, ids)
        parts.append(_counted(ids))
        while len(parts) > 1 and len(parts[-2].ids) <= 2 * len(parts[-1].ids):
            parts.append(_merged([parts.pop(), parts.pop()]))
        n_rows += n_lines
    return _merged(parts), n_rows


def _counted(ids: _Integers) -> _ItemCounts:
    if _fimi.suit_a_table(ids):
        counts = np.bincount(ids)
        present = np.flatnonzero(counts)
        return _ItemCounts(present, counts[present])
    return _ItemCounts(*np.unique(ids, return_counts=True))


def _merged(parts: Sequence[_ItemCounts]) -> _ItemCounts:
    ids, rows = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")  # merges what ascends already
    ids = ids[order]
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    return _ItemCounts(ids[first], np.add.reduceat(rows[order], first))


def _set_bits(path: Path, ids: _Integers, words: NDArray[np.uint64], n_rows: int) -> None:
    """Write the transactions into packed columns, one for each of the given ids."""
    largest = int(ids.max(initial=-1))
    table = None
    if largest < _fimi.LARGEST_TABLE:
        table = np.full(largest + 2, -1, dtype=np.int64)  # its last entry: unknown
        table[ids] = np.arange(len(ids))
    start = 0
    for rows, items, n_lines in _transactions(path):
        rows, items = _without_repetitions(rows, items)
        if table is not None:
            columns = table[np.minimum(items, largest + 1)]
            known = columns >= 0
        else:
            columns = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
            known = ids[columns] == items
        rows += start
        if not known.all():
            rows, columns = rows[known], columns[known]
        if start + n_lines > n_rows:
            raise changed(path)
        put_entries(words, rows, columns)
        start += n_lines
    if start < n_rows:
        raise changed(path)


def _transactions(path: Path) -> Iterator[tuple[_Integers, _Integers, int]]:
    """Yield, a block at a time: row within the block and id of every item, and the rows."""
    for part in text_slices(path):
        for ids, in_row in _fimi.item_blocks(path, part.data, part.first_line):
            yield np.repeat(np.arange(len(in_row)), in_row), ids, len(in_row)


def _without_repetitions(rows: _Integers, ids: _Integers) -> tuple[_Integers, _Integers]:
    """Leave out ids that a row has already; nothing is sorted where ids ascend within rows."""
    if ((np.diff(ids) > 0) | (np.diff(rows) > 0)).all():
        return rows, ids
    order = np.lexsort((ids, rows))
    rows, ids = rows[order], ids[order]
    first = np.append(True, (np.diff(ids) > 0) | (np.diff(rows) > 0))
    return rows[first], ids[first]
