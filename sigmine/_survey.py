"""The first reading of a large table: roles row by row, features by their values, items planned.

Items depend on the different values of a column and how often each occurs, not on the order of
the rows. So `make_items` is asked about a short stand-in of every column, and each value gets the
items that it has; the second reading only looks values up.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._blocks import TableSource
from ._frames import Column, listed
from ._tally import Tally, as_keys
from .bitset import pack_columns
from .exceptions import DataWarning, FileFormatError, InputError
from .files import _without_row_names
from .preprocessing import _treat_missing, make_items
from .problem import DroppedItem
from .report.formats import count_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnPlan", "Survey", "changed", "check_row_names", "plan_columns", "survey_table"]

_OTHER = "\0other"  # a column beside the one in question: one alone must not be constant
_LONG_BYTES = 2**26  # values of long columns that are in memory together


class Role:
    """The target or a covariate: its values, and which of them every row has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tally = Tally(name, most=sys.maxsize)
        self._codes: list[NDArray[np.int32]] = []
        self._values: list[pd.Series] = []

    def add(self, series: pd.Series, kept: NDArray[np.bool_] | None) -> None:
        """Note the values of a block; those of the rows that are kept row by row."""
        codes, values = self.tally.add(series)
        self._codes.append((codes if kept is None else codes[kept]).astype(np.int32))
        self._values.append(values)

    def column(self, *, as_text: bool) -> Any:
        """Return the whole column; texts as a categorical, which is small."""
        import pandas as pd

        levels = self.tally.levels(as_text=as_text)
        places = []
        for codes, values in zip(self._codes, self._values, strict=True):
            known = levels.keys.get_indexer(as_keys(values))
            places.append(np.append(known, -1)[codes])
        place = np.concatenate(places)
        if pd.api.types.infer_dtype(levels.values, skipna=True) == "string":
            return pd.Categorical.from_codes(place, categories=levels.values)
        return levels.values.reindex(place)


@dataclass
class Survey:
    """What the first reading found.

    Attributes
    ----------
    roles : list of Role
        The target, then the covariates.
    features : dict of Tally
        The other columns, by name.
    n_rows, n_kept : int
        Rows of the table, and those that are kept.
    kept : ndarray of bool of shape (n_rows,) or None
        Rows that are kept; None for all.
    as_text : set of str
        Columns that were read as text.
    n_incomplete : int
        Rows left out because a feature is missing, not target or stratum.
    notes : list of str
        What was left out, in sentences.
    row_names : list of ndarray of uint64
        Hashes of the column without a name, if there is one.
    """

    roles: list[Role]
    features: dict[str, Tally]
    as_text: set[str]
    n_rows: int = 0
    n_kept: int = 0
    kept: NDArray[np.bool_] | None = None
    n_incomplete: int = 0
    notes: list[str] = field(default_factory=list)
    row_names: list[NDArray[np.uint64]] = field(default_factory=list)

    def kept_of(self, start: int, frame: pd.DataFrame) -> NDArray[np.bool_] | None:
        """Return which rows of a block are kept that begins with row `start`; None for all."""
        return None if self.kept is None else self.kept[start : start + len(frame)]

    def role_columns(self) -> dict[str, Any]:
        """Return target and covariates as whole columns."""
        return {role.name: role.column(as_text=role.name in self.as_text) for role in self.roles}


class _Dropping:
    """Leaves out rows with missing values, and counts them."""

    def __init__(self, roles: Sequence[str], features: Sequence[str]) -> None:
        self.roles, self.features = list(roles), list(features)
        self.n_rows = self.n_with_roles = 0
        self.kept: list[NDArray[np.bool_]] = []
        self.missing = np.zeros(len(features), dtype=np.int64)  # in rows that have the roles

    def look(self, frame: pd.DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows of a block are kept, and which have target and stratum."""
        has_roles: NDArray[np.bool_] = frame[self.roles].notna().to_numpy().all(axis=1)
        holes = frame[self.features].isna().to_numpy()
        self.missing += holes[has_roles].sum(axis=0)
        kept: NDArray[np.bool_] = has_roles & ~holes.any(axis=1)
        self.n_rows += len(kept)
        self.n_with_roles += int(has_roles.sum())
        self.kept.append(kept)
        return kept, has_roles

    def notes(self, roles: Sequence[Role], n_kept: int) -> list[str]:
        """Say what was left out; raise an error if that is everything."""
        notes = []
        if self.n_with_roles < self.n_rows:
            found = listed(
                [f"{r.name} ({r.tally.n_missing:,})" for r in roles if r.tally.n_missing]
            )
            if not self.n_with_roles:
                raise InputError(
                    f"no row of {self.n_rows:,} has a value of the target and of every stratum: "
                    f"missing in {found}. Choose other columns, or fill them."
                )
            left_out = count_of(self.n_rows - self.n_with_roles, "row")
            notes.append(f"{left_out} left out because target or stratum is missing: {found}.")
        if n_kept < self.n_with_roles:
            pairs = zip(self.features, self.missing.tolist(), strict=True)
            counts = listed([f"{name} ({n:,})" for name, n in pairs if n])
            if not n_kept:
                raise InputError(
                    f"no row without a missing value is left of {self.n_with_roles:,}: {counts}. "
                    'Exclude the emptiest columns, or use missing="absent" or missing="item".'
                )
            notes.append(
                f"{self.n_with_roles - n_kept:,} of {self.n_with_roles:,} rows were left out "
                f"because of missing values: {counts}."
            )
        return notes


def survey_table(
    source: TableSource, roles: Sequence[str], features: Sequence[str], recipe: Mapping[str, Any]
) -> Survey:
    """Read a table once, or again where the types of a column were not clear.

    Parameters
    ----------
    source : TableSource
        The table.
    roles : sequence of str
        The target, then the covariates.
    features : sequence of str
        Columns to make items from.
    recipe : mapping
        Parameters of `make_items`.

    Returns
    -------
    Survey

    Raises
    ------
    InputError
        If values are missing that must not be, or no row is left.
    """
    as_text: set[str] = set()
    while True:
        survey = _read_once(source, roles, features, recipe, as_text)
        tallies = [role.tally for role in survey.roles] + list(survey.features.values())
        unclear = {tally.name for tally in tallies if tally.is_ambiguous} - as_text
        if not source.is_text or not unclear:
            return survey
        as_text |= unclear


def _read_once(
    source: TableSource,
    roles: Sequence[str],
    features: Sequence[str],
    recipe: Mapping[str, Any],
    as_text: set[str],
) -> Survey:
    import pandas as pd

    survey = Survey(
        roles=[Role(name) for name in roles],
        features={name: Tally(name, recipe["max_levels"]) for name in features},
        as_text=set(as_text),
    )
    dropping = _Dropping(roles, features) if recipe["missing"] == "drop" else None
    row_names = [name for name in source.names if not name]
    for frame in source.blocks([*row_names, *roles, *features], as_text):
        kept, seen = (None, None) if dropping is None else dropping.look(frame)
        survey.n_rows += len(frame)
        survey.n_kept += len(frame) if kept is None else int(kept.sum())
        for role in survey.roles:
            role.add(frame[role.name], kept)
        for name, tally in survey.features.items():
            tally.add(frame[name], kept, seen)
        for name in row_names:
            survey.row_names.append(pd.util.hash_pandas_object(frame[name], index=False).to_numpy())
    if dropping is not None:
        survey.kept = np.concatenate(dropping.kept)
        survey.n_incomplete = dropping.n_with_roles - survey.n_kept
        survey.notes += dropping.notes(survey.roles, survey.n_kept)
    return survey


def check_row_names(path: Any, survey: Survey) -> None:
    """Leave out the column without a name with a warning, or say that it holds no row names."""
    import pandas as pd

    hashes = np.sort(np.concatenate(survey.row_names))
    repeated = bool((hashes[1:] == hashes[:-1]).any())
    _without_row_names(path, pd.DataFrame({"": [0, 0 if repeated else 1], "other": 0}))


class ColumnPlan(NamedTuple):
    """What becomes of one column.

    Attributes
    ----------
    name : str
        The column.
    items : tuple of str
        Names of its items.
    keys : pandas.Index
        Its values.
    has : ndarray of bool, shape (n_items, n_keys + 1)
        Which value has which items; the last column is for a missing value.
    packed : ndarray of uint64, shape (n_items, n_words), or None
        The items themselves, of a long column.
    dropped : tuple of DroppedItem
        Items, or the column, left out.
    notes : tuple of str
        How it was cut.
    """

    name: str
    items: tuple[str, ...]
    keys: pd.Index
    has: NDArray[np.bool_]
    packed: NDArray[np.uint64] | None
    dropped: tuple[DroppedItem, ...]
    notes: tuple[str, ...]


def plan_columns(
    source: TableSource, survey: Survey, recipe: Mapping[str, Any]
) -> tuple[list[ColumnPlan], list[str]]:
    """Make the items of every column; long columns are read for that.

    Parameters
    ----------
    source : TableSource
        The table.
    survey : Survey
        Its values.
    recipe : mapping
        Parameters of `make_items`.

    Returns
    -------
    plans : list of ColumnPlan
        In the order of the features.
    notes : list of str
        What missing values mean.

    Raises
    ------
    InputError
        If values are missing that must not be, or a column cannot be used.
    """
    # Stand-ins that say how much is missing: the error or the note is about all columns at once.
    holes = [
        Column(name, "empty", np.empty(0), np.broadcast_to(np.True_, n) if n else None)
        for name, n in ((tally.name, tally.n_missing) for tally in survey.features.values())
    ]
    _, _, notes = _treat_missing(holes, recipe["missing"], 1)
    plans: dict[str, ColumnPlan] = {}
    long = []
    for name, tally in survey.features.items():
        n_levels = tally.n_levels  # merges what was seen, so that `is_long` is known
        if not tally.is_long:
            plans[name] = _plan_by_levels(tally, recipe, as_text=name in survey.as_text)
        elif tally.is_numeric:
            long.append(name)
        else:
            found = f"{n_levels:,} levels, more than max_levels={recipe['max_levels']}"
            plans[name] = _plan(name, dropped=(DroppedItem(name, found),))
    for plan in _plans_of_long_columns(source, survey, long, recipe):
        plans[plan.name] = plan
    return [plans[name] for name in survey.features], notes


def _plan(name: str, **parts: Any) -> ColumnPlan:
    """Make a plan of a column without items, but for the parts that are given."""
    import pandas as pd

    empty: dict[str, Any] = {
        "items": (),
        "keys": pd.Index([]),
        "has": np.zeros((0, 1), dtype=np.bool_),
        "packed": None,
        "dropped": (),
        "notes": (),
    }
    return ColumnPlan(name, **{**empty, **parts})


def _plan_by_levels(tally: Tally, recipe: Mapping[str, Any], *, as_text: bool) -> ColumnPlan:
    levels = tally.levels(as_text=as_text)
    n_levels, values = len(levels.values), levels.values
    kind = getattr(values.dtype, "kind", "O")
    infinite = kind == "f" and not np.isfinite(values).all()
    if kind in "iufM" and (infinite or n_levels > recipe["bins"] + 1):
        counts, n_missing = levels.counts, tally.n_missing  # quantiles depend on them
    else:
        # Every level twice will do, one row with and one without the other column's item.
        counts, n_missing = 2 * (levels.counts > 0), 2 * (tally.n_missing > 0)
    rows = np.append(np.repeat(np.arange(n_levels), counts), np.full(n_missing, -1))
    left_out = np.flatnonzero(levels.counts == 0)
    column = values.reindex(np.append(rows, left_out))
    matrix, parts = _items_of(tally.name, column, recipe, len(left_out))
    has = np.zeros((matrix.shape[1], n_levels + 1), dtype=np.bool_)
    has[:, rows] = matrix.T  # -1, for missing, is the last column
    return _plan(tally.name, keys=levels.keys, has=has, **parts)


def _plans_of_long_columns(
    source: TableSource, survey: Survey, names: Sequence[str], recipe: Mapping[str, Any]
) -> Iterator[ColumnPlan]:
    """Read numeric columns with many values, as many together as there is room for."""
    import pandas as pd

    together = max(1, _LONG_BYTES // (8 * survey.n_kept))
    for start in range(0, len(names), together):
        group = names[start : start + together]
        pieces: dict[str, list[pd.Series]] = {name: [] for name in group}
        start_row = 0
        for frame in source.blocks(group):
            kept = survey.kept_of(start_row, frame)
            for name in group:
                values = survey.features[name].with_type(frame[name])
                pieces[name].append(values if kept is None else values[kept])
            start_row += len(frame)
        if start_row != survey.n_rows:
            raise changed(source.path)
        for name in group:
            values = pd.concat(pieces.pop(name), ignore_index=True)
            matrix, parts = _items_of(name, values, recipe)
            yield _plan(name, packed=pack_columns(matrix, np.arange(len(values))), **parts)


def _items_of(
    name: str, values: pd.Series, recipe: Mapping[str, Any], n_left_out: int = 0
) -> tuple[Any, dict[str, Any]]:
    """Make the items of one column: their matrix, and the parts of the plan.

    The last rows are those that ``missing="drop"`` leaves out: their levels are known all the same.
    """
    other = np.arange(len(values)) % 2.0
    missing = recipe["missing"]
    if n_left_out:
        other[-n_left_out:] = np.nan
    elif missing in ("drop", "error"):
        missing = "absent"  # nothing is: that was looked at before
    edges = recipe["edges"]
    own_edges = {name: edges[name]} if name in edges else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of too many levels: for all columns at once
        items = make_items(
            {name: values, _OTHER: other}, **{**recipe, "edges": own_edges, "missing": missing}
        )
    own = [j for j, column in enumerate(items.sources) if column == name]
    # The first note is about missing values, which are none of the column's own business.
    n_about_missing = int(n_left_out > 0 or bool(values.isna().any()))
    parts = {
        "items": tuple(items.names[j] for j in own),
        "dropped": items.dropped,
        "notes": items.notes[n_about_missing:],
    }
    return items.matrix[:, own], parts


def changed(path: Any) -> FileFormatError:
    """Return the error of a file that is not the same when it is read again.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    FileFormatError
    """
    return FileFormatError(
        "the file changed while it was read: another reading found other rows than the first. "
        "Copy it to a place where nothing writes to it.",
        path=str(path),
    )
