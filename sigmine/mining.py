"""The functions that mine: a table of any columns, or a 0/1 matrix, to `PatternResults`.

They import neither scikit-learn nor anything that only reports need, so that a small search in a
fresh process takes a second; the estimators in `sigmine.miner` stand on the same `mine_problem`.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import listed, named_series, read_column
from .exceptions import (
    DataWarning,
    InputError,
    InputTypeError,
    SearchInterrupted,
    StatisticalWarning,
)
from .memory import estimate_memory, require_memory
from .parallel import count_workers, find_workers
from .preprocessing import encode_target, make_items, validate_binary_matrix
from .problem import Problem, build_problem
from .report.formats import count_of
from .report.progress import how_to_go_on, show_progress
from .results import PatternResults, asymptotic_concerns
from .search import Checkpoint, ProgressCallback, SearchOutcome, checked_time_limit, search_patterns
from .settings import SearchSettings
from .strata import Strata, encode_strata, require_informative

__all__ = ["matrix_problem", "mine_matrix", "mine_patterns", "mine_problem"]


def mine_patterns(
    frame: Any,
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
    alpha: float = 0.05,
    method: str = "exact",
    alternative: str = "two-sided",
    two_sided: str = "central",
    correction: str = "tarone",
    variance: str = "mantel-haenszel",
    grid_step: float | None = None,
    min_support: int = 1,
    max_length: int | None = None,
    n_jobs: int | None = None,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    verbose: int = 0,
    progress: ProgressCallback | None = None,
) -> PatternResults:
    """Find the combinations of features that go with an outcome, given the strata.

    Parameters
    ----------
    frame : data frame, dict of columns, or ndarray of shape (n_rows, n_columns)
        pandas, polars or pyarrow; one row a subject, columns of any kind. The columns of an array
        are called x0, x1, ...
    target : str
        Column of the outcome, with two values.
    strata : str or list of str, optional
        Column or columns to adjust for (hospital, sex, age band); several are crossed. Rows are
        compared only within the same stratum.
    positive : object, optional
        Value of the target that makes a row a case; by default the greater of the two.
    columns : list of str, optional
        Columns to make items from; by default all but the target and the strata.
    exclude : list of str, default=()
        Columns to leave out.
    bins, bin_method, edges, negate, missing, max_levels
        How columns become items: see `sigmine.preprocessing.make_items`. With ``missing="drop"``
        rows without target or stratum are left out too; otherwise these are an error.
    alpha, method, alternative, two_sided, correction, variance, grid_step, min_support, max_length
        What is asked: see `sigmine.SearchSettings`.
    n_jobs : int or None, default=None
        Threads; the answer does not depend on it.
    time_limit : float or None, default=None
        Seconds after which the search stops by itself; choose it before you see what is found. The
        results are then about what was searched, and say so: see `PatternResults.complete`.
    checkpoint : str, path-like, sigmine.search.Checkpoint or None, default=None
        A folder, made if it is not there, that keeps what one search has found so far. The same
        call goes on from there after Ctrl-C, a crash or a time limit, to the same answer.
    verbose : int, default=0
        Above 0, show progress on stderr.
    progress : callable, optional
        Called with a `sigmine.search.SearchProgress` a few times a second.

    Returns
    -------
    PatternResults
        Patterns, thresholds, tables and reports.

    Raises
    ------
    InputError, InputTypeError
        If the data or a parameter cannot be used; before any search.
    InsufficientMemoryError
        If the search cannot fit into memory; before any search.
    FileFormatError
        If the checkpoint is damaged.
    SearchInterrupted
        After Ctrl-C; with a checkpoint, it says how to go on.

    Warns
    -----
    StatisticalWarning
        If ``method="asymptotic"`` and the approximation is thin for these strata; if the search was
        stopped by its time limit.
    DataWarning
        If columns are left out, or an item repeats the outcome.

    See Also
    --------
    sigmine.FACS : the same search as a scikit-learn estimator, for 0/1 matrices.

    Notes
    -----
    If outcome and items are independent given the strata, the probability that anything is
    reported is at most `alpha` (exactly so for ``method="exact"``). With a `time_limit` that is
    chosen beforehand the same holds for what was searched.

    Examples
    --------
    >>> from sigmine import datasets, mine_patterns
    >>> smoking = datasets.load_china_smoking()
    >>> results = mine_patterns(smoking.frame, target=smoking.target, strata=smoking.strata)
    >>> len(results)
    1
    """
    settings = SearchSettings(
        alpha=alpha,
        method=method,
        alternative=alternative,
        two_sided=two_sided,
        correction=correction,
        variance=variance,
        grid_step=grid_step,
        min_support=min_support,
        max_length=max_length,
    )
    _check_search(n_jobs, time_limit, checkpoint)
    series = dict(named_series(frame))
    strata_names = [strata] if isinstance(strata, str) else _names("strata", strata)
    features = _features(list(series), target, strata_names, columns, exclude)
    roles = [target, *strata_names]
    if len(series[target]) == 0:
        raise InputError(
            "the table has no rows (0 samples); expected cases and controls. Check the file, and "
            "any filter on the rows."
        )
    series, notes = _with_roles(series, roles, missing)
    # Outcome and covariates first: they are quick to read, and can be wrong for the whole search.
    y, classes, covariate = _read_roles(series, roles, positive)
    items = make_items(
        {name: series[name] for name in features},
        bins=bins,
        bin_method=bin_method,
        edges=edges,
        negate=negate,
        missing=missing,
        max_levels=max_levels,
    )
    if not items.rows_kept.all():
        kept = {name: _kept_rows(series[name], items.rows_kept) for name in roles}
        try:
            y, classes, covariate = _read_roles(kept, roles, positive)
        except InputError as error:
            raise InputError(f"after rows with missing values were left out: {error}") from None
    problem = build_problem(
        items.matrix,
        y,
        covariate,
        item_names=items.names,
        target_name=target,
        class_names=classes,
        notes=[*notes, *items.notes],
        dropped=items.dropped,
        keep_uninformative=grid_step is not None,
    )
    return mine_problem(
        problem,
        settings,
        n_jobs=n_jobs,
        time_limit=time_limit,
        checkpoint=checkpoint,
        verbose=verbose,
        progress=progress,
    )


def mine_matrix(
    X: Any,
    y: Any,
    *,
    strata: Any = None,
    item_names: Sequence[str] | None = None,
    positive: Any = None,
    alpha: float = 0.05,
    method: str = "exact",
    alternative: str = "two-sided",
    two_sided: str = "central",
    correction: str = "tarone",
    variance: str = "mantel-haenszel",
    grid_step: float | None = None,
    min_support: int = 1,
    max_length: int | None = None,
    n_jobs: int | None = None,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    verbose: int = 0,
    progress: ProgressCallback | None = None,
) -> PatternResults:
    """Mine a matrix of zeros and ones.

    Parameters
    ----------
    X : data frame, ndarray or scipy.sparse of shape (n_rows, n_items)
        Zeros and ones (or booleans) only.
    y : array_like of shape (n_rows,)
        Two classes.
    strata : array_like of shape (n_rows,), or several columns, optional
        The covariate: see `sigmine.strata.encode_strata`.
    item_names : sequence of str, length n_items, optional
        Names of the items; by default the columns of a data frame, or x0, x1, ...
    positive : object, optional
        Value of `y` that makes a row a case; by default the greater of the two.
    alpha, method, alternative, two_sided, correction, variance, grid_step, min_support, max_length
        What is asked: see `sigmine.SearchSettings`.
    n_jobs, time_limit, checkpoint, verbose, progress
        As in `mine_patterns`.

    Returns
    -------
    PatternResults
        Patterns, thresholds, tables and reports.

    Raises
    ------
    InputError, InputTypeError, InsufficientMemoryError, FileFormatError, SearchInterrupted
        As in `mine_patterns`.

    Warns
    -----
    StatisticalWarning, DataWarning
        As in `mine_patterns`.

    Examples
    --------
    >>> from sigmine import mine_matrix, simulate
    >>> data = simulate.simulate_planted(400, 20, 3, rng=0)
    >>> results = mine_matrix(data.X, data.y, strata=data.strata)
    >>> results.corrected_threshold < 0.05
    True
    """
    settings = SearchSettings(
        alpha=alpha,
        method=method,
        alternative=alternative,
        two_sided=two_sided,
        correction=correction,
        variance=variance,
        grid_step=grid_step,
        min_support=min_support,
        max_length=max_length,
    )
    _check_search(n_jobs, time_limit, checkpoint)
    matrix, frame_names = validate_binary_matrix(X, packed=True)
    if item_names is None:
        names = frame_names or [f"x{j}" for j in range(matrix.shape[1])]
    else:
        names = _names("item_names", item_names)
    problem = matrix_problem(matrix, y, strata, names, positive, settings)
    return mine_problem(
        problem,
        settings,
        n_jobs=n_jobs,
        time_limit=time_limit,
        checkpoint=checkpoint,
        verbose=verbose,
        progress=progress,
    )


def matrix_problem(
    matrix: Any,
    y: Any,
    strata: Any,
    item_names: Sequence[str],
    positive: Any,
    settings: SearchSettings,
) -> Problem:
    """Check outcome and covariate against a matrix of items and make the problem.

    Parameters
    ----------
    matrix : ndarray of bool or scipy.sparse, shape (n_rows, n_items)
        Checked by `validate_binary_matrix`.
    y, strata, positive
        As in `mine_matrix`.
    item_names : sequence of str, length n_items
        Names of the items.
    settings : SearchSettings
        With a grid, uninformative strata are kept, as the original programs do.

    Returns
    -------
    Problem
        Ready for `mine_problem`.

    Raises
    ------
    InputError
        If lengths differ, two items have one name, the classes are not two, no stratum holds both
        classes, or the target is also an item.
    """
    n_rows, n_items = matrix.shape
    _require_names(item_names, n_items)
    given = getattr(y, "name", None)
    name = "y" if given is None else str(given)
    cases, classes = encode_target(y, positive, name)
    if len(cases) != n_rows:
        raise InputError(
            f"Found input variables with inconsistent numbers of samples: y has {len(cases):,} "
            f"rows and X {n_rows:,}; give both for the same rows."
        )
    if given is not None and name in item_names:
        raise InputError(
            f"the target {name!r} is also a column of X; leave it out of X, or the search would "
            "find the outcome in itself."
        )
    return build_problem(
        matrix,
        cases,
        encode_strata(strata, n_rows),
        item_names=item_names,
        target_name=name,
        class_names=classes,
        keep_uninformative=settings.grid_step is not None,
    )


def mine_problem(
    problem: Problem,
    settings: SearchSettings,
    *,
    n_jobs: int | None = None,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    verbose: int = 0,
    progress: ProgressCallback | None = None,
) -> PatternResults:
    """Search a problem and describe what was found, with the warnings that belong to it.

    Parameters
    ----------
    problem : Problem
        Validated data.
    settings : SearchSettings
        What is asked.
    n_jobs, time_limit, checkpoint, verbose, progress
        As in `mine_patterns`.

    Returns
    -------
    PatternResults
        Patterns, thresholds, tables and reports.

    Raises
    ------
    InputError, InputTypeError, InsufficientMemoryError, FileFormatError, SearchInterrupted
        As in `mine_patterns`.

    Warns
    -----
    StatisticalWarning, DataWarning
        As in `mine_patterns`.
    """
    _check_search(n_jobs, time_limit, checkpoint)
    _require_room(problem, n_jobs)
    _warn_of_leaks(problem)
    with show_progress(progress, verbose) as told:
        options = {"n_jobs": n_jobs, "time_limit": time_limit, "progress": told}
        outcome = _search(problem, settings, checkpoint, **options)
    results = PatternResults(problem, settings, outcome, time_limit, verbose)
    if (concern := asymptotic_concerns(results)) is not None:
        warnings.warn(concern, StatisticalWarning, stacklevel=3)
    if (coverage := results.coverage) is not None:
        # No DataWarning: the data are all there, it is the promise that is weaker.
        go_on = " The same search with the same checkpoint goes on from there."
        warnings.warn(coverage + go_on * (checkpoint is not None), StatisticalWarning, stacklevel=3)
    return results


def _check_search(
    n_jobs: int | None,
    time_limit: float | None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
) -> None:
    """Say now, not after the items are made, that one of these cannot be used."""
    count_workers(n_jobs)
    checked_time_limit(time_limit)
    if checkpoint is not None:
        Checkpoint.of(checkpoint)


def _require_room(problem: Problem, n_jobs: int | None) -> None:
    """Refuse a search that cannot fit into memory; the packed items are there already."""
    n_workers, pool = find_workers(n_jobs)
    # Processes of a pool may be on machines of their own: only what is here is asked for.
    here = n_workers if pool is None else 1
    sizes = problem.table.n_rows, problem.table.n_items, problem.table.n_strata
    require_memory(estimate_memory(*sizes, packed=True, n_jobs=here))


def _search(
    problem: Problem,
    settings: SearchSettings,
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
    **options: Any,
) -> SearchOutcome:
    """Search; after Ctrl-C, say what the checkpoint holds and how to go on."""
    began = time.time()
    try:
        return search_patterns(problem, settings, checkpoint=checkpoint, **options)
    except SearchInterrupted:
        if checkpoint is None:
            raise
        raise SearchInterrupted(how_to_go_on(Checkpoint.of(checkpoint), began)) from None


def _names(parameter: str, value: Any) -> list[str]:
    """Return names as a list; a single text would be taken for a list of letters."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InputTypeError(
            f"{parameter}={value!r} is of type {type(value).__name__}; give a list of names."
        )
    names = list(value)
    if others := [name for name in names if not isinstance(name, str)]:
        raise InputTypeError(
            f"{parameter} holds {others[0]!r}, which is no text; give a list of names (for arrays "
            "of values use mine_matrix)."
        )
    return names


def _features(
    names: list[str], target: str, strata: list[str], columns: Any, exclude: Any
) -> list[str]:
    """Return the columns that items are made from."""
    if not isinstance(target, str):
        raise InputTypeError(
            f"target={target!r} must be the name of a column; for arrays use mine_matrix."
        )
    asked = {
        "target": [target],
        "strata": strata,
        "columns": _names("columns", columns),
        "exclude": _names("exclude", exclude),
    }
    for parameter, wanted in asked.items():
        if unknown := [name for name in wanted if name not in names]:
            raise InputError(
                f"{parameter} names columns that the table does not have: {listed(unknown)}; "
                f"its columns are {listed(names, 20)}."
            )
    if target in strata:
        raise InputError(f"the target {target!r} cannot be a stratum too; name other strata.")
    if len(set(strata)) < len(strata):
        raise InputError(f"strata names a column twice ({listed(strata)}); name each once.")
    left_out = set(asked["exclude"])
    if columns is None:
        features = [name for name in names if name not in left_out.union(strata, [target])]
    else:
        features = [name for name in asked["columns"] if name not in left_out]
        _require_no_roles(features, target, strata)
    if not features:
        raise InputError(
            "no column is left to make items from, beside the target and the strata; the table "
            f"has {listed(names, 20)}. Add columns, or exclude fewer."
        )
    return features


def _require_no_roles(features: list[str], target: str, strata: list[str]) -> None:
    if target in features:
        raise InputError(
            f"the target {target!r} is also among the features; leave it out of columns, or the "
            "search would find the outcome in itself."
        )
    if both := [name for name in features if name in strata]:
        raise InputError(
            f"{listed(both)} cannot be a stratum and a feature at once: within a stratum it is "
            "constant. Leave it out of columns or of strata."
        )


def _with_roles(
    series: dict[str, Any], roles: Sequence[str], missing: str
) -> tuple[dict[str, Any], list[str]]:
    """Leave out rows without target or stratum if asked to; return the columns and a note."""
    if missing != "drop":
        return series, []
    columns = [read_column(series[name], name) for name in roles]
    holes = [column.missing for column in columns if column.missing is not None]
    if not holes:
        return series, []
    complete = ~np.logical_or.reduce(holes)
    found = listed(
        [f"{column.name} ({column.n_missing:,})" for column in columns if column.n_missing]
    )
    if not complete.any():
        raise InputError(
            f"no row of {len(complete):,} has a value of the target and of every stratum: missing "
            f"in {found}. Choose other columns, or fill them."
        )
    n_left_out = count_of(int((~complete).sum()), "row")
    note = f"{n_left_out} left out because target or stratum is missing: {found}."
    return {name: _kept_rows(values, complete) for name, values in series.items()}, [note]


def _kept_rows(values: Any, keep: NDArray[np.bool_]) -> Any:
    """Return some rows of one column of a table, whatever it is made of."""
    import narwhals as nw

    if isinstance(values, list | tuple):
        return [value for value, kept in zip(values, keep, strict=True) if kept]
    series = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return series.filter(keep.tolist())
    if hasattr(values, "isna"):  # a categorical or another array of pandas
        return values[keep]
    return np.asanyarray(values)[keep]


def _read_roles(
    series: Mapping[str, Any], roles: Sequence[str], positive: Any
) -> tuple[NDArray[np.bool_], tuple[str, str], Strata]:
    """Return cases, class names and strata; `roles` are the target and then the strata."""
    target, *strata = roles
    y, classes = encode_target(series[target], positive, target)
    covariates = [series[name] for name in strata]
    covariate = encode_strata(covariates or None, len(y), names=strata or None)
    require_informative(covariate, y)
    return y, classes, covariate


def _require_names(names: Sequence[str], n_items: int) -> None:
    if len(names) != n_items:
        raise InputError(
            f"item_names has {count_of(len(names), 'name')} for {count_of(n_items, 'column')} of "
            "X; give one name a column."
        )
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"duplicate item names: {listed(repeated)}; give every column of X its own name."
        )


def _warn_of_leaks(problem: Problem) -> None:
    """Warn of items that are the outcome, or its opposite, in another column."""
    table = problem.table
    counts = np.bitwise_count(table.columns).sum(axis=1, dtype=np.int64)
    n_cases = problem.n_cases
    alike = np.flatnonzero((counts == n_cases) | (counts == table.n_rows - n_cases))
    differs = np.bitwise_count(table.columns[alike] ^ table.cases).sum(axis=1, dtype=np.int64)
    leaks = alike[(differs == 0) | (differs == table.n_rows)]
    if len(leaks) == 0:
        return
    warnings.warn(
        f"{listed([problem.item_names[j] for j in leaks])}: row by row the same as the target "
        f"{problem.target_name!r}, or its opposite. If this is the outcome under another name, "
        "exclude it.",
        DataWarning,
        stacklevel=4,
    )
