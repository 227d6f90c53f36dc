"""The functions that mine: a table of any columns, or a 0/1 matrix, to `PatternResults`.

They import neither scikit-learn nor anything that only reports need, so that a small search in a
fresh process takes a second; the estimators in `sigmine.miner` stand on the same `mine_problem`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import listed, named_series, read_column
from .exceptions import DataWarning, InputError, InputTypeError, StatisticalWarning
from .preprocessing import encode_target, make_items, validate_binary_matrix
from .problem import Problem, build_problem
from .results import PatternResults, asymptotic_concerns
from .search import ProgressCallback, SearchProgress, search_patterns
from .settings import SearchSettings
from .strata import encode_strata

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
    verbose: int = 0,
    progress: ProgressCallback | None = None,
) -> PatternResults:
    """Find the combinations of features that go with an outcome, given the strata.

    Parameters
    ----------
    frame : data frame or dict of columns
        pandas, polars or pyarrow; one row a subject, columns of any kind.
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
    verbose : int, default=0
        Above 0, show progress on stderr.
    progress : callable, optional
        Called with a `sigmine.search.SearchProgress` a few times a second.

    Returns
    -------
    PatternResults

    Raises
    ------
    InputError, InputTypeError
        If the data or a parameter cannot be used; before any search.
    SearchInterrupted
        After Ctrl-C.

    Warns
    -----
    StatisticalWarning
        If ``method="asymptotic"`` and the approximation is thin for these strata.
    DataWarning
        If columns are left out, or an item repeats the outcome.

    See Also
    --------
    sigmine.FACS : the same search as a scikit-learn estimator, for 0/1 matrices.

    Notes
    -----
    If outcome and items are independent given the strata, the probability that anything is
    reported is at most `alpha` (exactly so for ``method="exact"``).

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
    series = dict(named_series(frame))
    strata_names = [] if strata is None else [strata] if isinstance(strata, str) else list(strata)
    features = _features(list(series), target, strata_names, columns, exclude)
    complete = _complete_rows(series, [target, *strata_names], missing)
    if complete is not None:
        series = {name: _kept_rows(values, complete) for name, values in series.items()}
    items = make_items(
        {name: series[name] for name in features},
        bins=bins,
        bin_method=bin_method,
        edges=edges,
        negate=negate,
        missing=missing,
        max_levels=max_levels,
    )
    roles = {name: series[name] for name in [target, *strata_names]}
    if not items.rows_kept.all():
        roles = {name: _kept_rows(values, items.rows_kept) for name, values in roles.items()}
    y, classes = encode_target(roles[target], positive, target)
    covariates = [roles[name] for name in strata_names]
    notes = list(items.notes)
    if complete is not None:
        left_out = int((~complete).sum())
        notes.append(f"{left_out:,} rows without a value of the target or a stratum were left out.")
    problem = build_problem(
        items.matrix,
        y,
        encode_strata(covariates or None, len(y), names=strata_names or None),
        item_names=items.names,
        target_name=target,
        class_names=classes,
        notes=notes,
        dropped=items.dropped,
        keep_uninformative=grid_step is not None,
    )
    return mine_problem(problem, settings, n_jobs=n_jobs, verbose=verbose, progress=progress)


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
    n_jobs, verbose, progress
        As in `mine_patterns`.

    Returns
    -------
    PatternResults

    Raises
    ------
    InputError, InputTypeError
        If the data or a parameter cannot be used; before any search.
    SearchInterrupted
        After Ctrl-C.

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
    matrix, frame_names = validate_binary_matrix(X)
    names = _item_names(matrix.shape[1], frame_names if item_names is None else item_names)
    problem = matrix_problem(matrix, y, strata, names, positive, settings)
    return mine_problem(problem, settings, n_jobs=n_jobs, verbose=verbose, progress=progress)


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

    Raises
    ------
    InputError
        If lengths differ, the classes are not two, no stratum holds both classes, or the target is
        also an item.
    """
    name = getattr(y, "name", None)
    name = "y" if name is None else str(name)
    cases, classes = encode_target(y, positive, name)
    n_rows = matrix.shape[0]
    if len(cases) != n_rows:
        raise InputError(
            f"Found input variables with inconsistent numbers of samples: y has {len(cases):,} "
            f"rows and X {n_rows:,}; give both for the same rows."
        )
    if getattr(y, "name", None) is not None and name in item_names:
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
    n_jobs, verbose, progress
        As in `mine_patterns`.

    Returns
    -------
    PatternResults
    """
    _warn_of_leaks(problem)
    if progress is None and verbose:
        with _ProgressBar() as bar:
            outcome = search_patterns(problem, settings, n_jobs=n_jobs, progress=bar)
    else:
        outcome = search_patterns(problem, settings, n_jobs=n_jobs, progress=progress)
    results = PatternResults.from_outcome(problem, settings, outcome)
    if (concern := asymptotic_concerns(results)) is not None:
        warnings.warn(concern, StatisticalWarning, stacklevel=3)
    return results


def _features(
    names: list[str],
    target: str,
    strata: list[str],
    columns: Sequence[str] | None,
    exclude: Sequence[str],
) -> list[str]:
    """Return the columns that items are made from."""
    if not isinstance(target, str):
        raise InputTypeError(
            f"target={target!r} must be the name of a column; for arrays use mine_matrix."
        )
    for parameter, value in (("columns", columns), ("exclude", exclude)):
        if isinstance(value, str):
            raise InputTypeError(f"{parameter}={value!r} is a text; give a list of column names.")
    asked = {
        "target": [target],
        "strata": strata,
        "columns": list(columns or ()),
        "exclude": list(exclude),
    }
    for parameter, wanted in asked.items():
        if unknown := [str(name) for name in wanted if name not in names]:
            raise InputError(
                f"{parameter} names columns that the table does not have: {listed(unknown)}; "
                f"its columns are {listed(names, 20)}."
            )
    if target in strata:
        raise InputError(f"the target {target!r} cannot be a stratum too; name other strata.")
    if columns is None:
        features = [n for n in names if n not in {target, *strata, *exclude}]
    else:
        features = [name for name in columns if name not in exclude]
        if target in features:
            raise InputError(
                f"the target {target!r} is also among the features; leave it out of columns, or "
                "the search would find the outcome in itself."
            )
        if both := [name for name in features if name in strata]:
            raise InputError(
                f"{listed(both)} cannot be a stratum and a feature at once: within a stratum it is "
                "constant. Leave it out of columns or of strata."
            )
    if not features:
        raise InputError("no column is left to make items from, beside target and strata.")
    return features


def _complete_rows(
    series: Mapping[str, Any], names: Sequence[str], missing: str
) -> NDArray[np.bool_] | None:
    """Return the rows with target and strata, or None if all have them or none may be left out."""
    if missing != "drop":
        return None
    complete: NDArray[np.bool_] | None = None
    for name in names:
        column = read_column(series[name], name)
        if column.missing is not None:
            complete = ~column.missing if complete is None else complete & ~column.missing
    return complete


def _kept_rows(values: Any, keep: NDArray[np.bool_]) -> Any:
    """Return some rows of one column of a table, whatever it is made of."""
    import narwhals as nw

    if isinstance(values, np.ndarray):
        return values[keep]
    if isinstance(values, list | tuple):
        return [value for value, kept in zip(values, keep, strict=True) if kept]
    return nw.from_native(values, series_only=True, pass_through=False).filter(keep.tolist())


def _item_names(n_items: int, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(f"x{j}" for j in range(n_items))
    texts = tuple(str(name) for name in names)
    if len(texts) != n_items:
        raise InputError(f"item_names has {len(texts):,} names for {n_items:,} columns of X.")
    if len(set(texts)) != n_items:
        seen: set[str] = set()
        repeated = sorted({name for name in texts if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
        raise InputError(
            f"duplicate item names: {listed(repeated)}; give every column its own name."
        )
    return texts


def _warn_of_leaks(problem: Problem) -> None:
    """Warn of items that are the outcome, or its opposite, in another column."""
    table = problem.table
    if table.n_items == 0:
        return
    differs = np.bitwise_count(table.columns ^ table.cases).sum(axis=1)
    leaks = np.flatnonzero((differs == 0) | (differs == table.n_rows))
    if len(leaks):
        warnings.warn(
            f"{listed([problem.item_names[j] for j in leaks])} says exactly what the target "
            f"{problem.target_name!r} says, row by row; if it is the outcome under another name, "
            "exclude it.",
            DataWarning,
            stacklevel=4,
        )


class _ProgressBar:
    """Progress of a search on stderr, by tqdm; appears after a second."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(
            total=1.0, delay=1.0, bar_format="{l_bar}{bar}| {elapsed}{postfix}", leave=False
        )

    def __enter__(self) -> Callable[[SearchProgress], None]:
        return self._show

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def _show(self, progress: SearchProgress) -> None:
        half = 0.0 if progress.stage == "threshold" else 0.5
        self._bar.n = half + progress.fraction_done / 2
        self._bar.set_postfix_str(
            f"{progress.visited:,} visited, {progress.testable:,} testable, "
            f"threshold {progress.threshold:.2g}",
        )
