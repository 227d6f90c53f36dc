"""The estimators: significant pattern mining in scikit-learn's contract."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._frames import as_text, named_series
from .exceptions import DataWarning, InputError, InputTypeError
from .mining import (
    _check_search,
    matrix_problem,
    mine_matrix,
    mine_patterns,
    mine_problem,
)
from .preprocessing import validate_binary_matrix
from .results import PatternResults
from .search import Checkpoint
from .settings import SearchSettings

__all__ = ["FACS", "mine_matrix", "mine_patterns"]


class FACS(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Significant combinations of features, conditional on covariates.

    Fitting finds every closed itemset of the columns of `X` that is significantly associated with
    `y` given the strata, with the family-wise error rate controlled at `alpha`. Transforming gives
    one 0/1 column per pattern.

    Parameters
    ----------
    alpha : float, default=0.05
        Level of the family-wise error rate, in (0, 1).
    method : {"exact", "asymptotic"}, default="exact"
        Exact conditional Cochran-Mantel-Haenszel test, or its chi-squared approximation (the
        published FACS).
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        "greater": carriers are cases more often than others of their stratum.
    two_sided : {"central", "minlike"}, default="central"
        Definition of the exact two-sided p-value.
    correction : {"tarone"}, default="tarone"
        Multiple-testing procedure.
    variance : {"mantel-haenszel", "cochran"}, default="mantel-haenszel"
        Variance of the asymptotic statistic.
    grid_step : float or None, default=None
        None finds the exact threshold; 0.06 walks the grid of the original programs.
    min_support : int, default=1
        Fewest carriers of a pattern.
    max_length : int or None, default=None
        Most items of a pattern's shortest description.
    n_jobs : int or None, default=None
        Threads; the answer does not depend on it.
    time_limit : float or None, default=None
        Seconds after which the search stops by itself, with a warning: `results_` is then about
        what was searched up to there (see `PatternResults.complete`). Such a model depends on the
        speed of the machine.
    checkpoint : str, path-like, sigmine.search.Checkpoint or None, default=None
        A folder that keeps what the search has found so far, so that the same `fit` goes on from
        there after Ctrl-C, a crash or a time limit. It belongs to one search of the same data: not
        for cross-validation, where every fold has its own.
    random_state : int, RandomState or None, default=None
        Not used by ``correction="tarone"``, which has no randomness.
    verbose : int, default=0
        Above 0, show progress on stderr.
    binarize : float or None, default=None
        None: `X` must hold zeros and ones, anything else is an error. A number: values above it
        count as 1 (as in scikit-learn's ``BernoulliNB``).

    Attributes
    ----------
    results_ : PatternResults
        Everything: patterns, tables, thresholds, reports.
    patterns_ : DataFrame
        One row a significant pattern, best first.
    n_testable_ : int
        Number of hypotheses that were corrected for.
    testability_threshold_ : float
        Largest minimum p-value that is testable; nan if none is.
    corrected_threshold_ : float
        ``alpha / max(1, n_testable_)``.
    n_visited_ : int
        Row sets that the search looked at.
    classes_ : ndarray of shape (2,)
        Control class and case class, as they were in `y`.
    n_features_in_ : int
        Columns of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if `X` was a data frame.

    See Also
    --------
    sigmine.mine_patterns : makes items from columns of any kind first.

    Notes
    -----
    If `y` is independent of `X` given the strata, the probability of any significant pattern is at
    most `alpha`: exactly so for ``method="exact"``, approximately for ``method="asymptotic"``
    (a `StatisticalWarning` says where that is thin). When patterns are used as features, put the
    estimator in a ``Pipeline`` so that they are chosen inside cross-validation.

    References
    ----------
    .. [1] L. Papaxanthos, F. Llinares-Lopez, D. Bodenham and K. Borgwardt, "Finding significant
       combinations of features in the presence of categorical covariates", NIPS 2016.
    .. [2] R. E. Tarone, "A modified Bonferroni method for discrete data", Biometrics 46 (1990)
       515-522.

    Examples
    --------
    >>> from sigmine import FACS, simulate
    >>> data = simulate.simulate_planted(600, 15, 3, rng=1)
    >>> miner = FACS().fit(data.X, data.y, strata=data.strata)
    >>> miner.transform(data.X).shape == (600, len(miner.patterns_))
    True
    """

    def __init__(
        self,
        alpha: float = 0.05,
        *,
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
        random_state: Any = None,
        verbose: int = 0,
        binarize: float | None = None,
    ) -> None:
        self.alpha = alpha
        self.method = method
        self.alternative = alternative
        self.two_sided = two_sided
        self.correction = correction
        self.variance = variance
        self.grid_step = grid_step
        self.min_support = min_support
        self.max_length = max_length
        self.n_jobs = n_jobs
        self.time_limit = time_limit
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose
        self.binarize = binarize

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # zeros and ones come out, whatever went in
        return tags

    def _settings(self) -> SearchSettings:
        return SearchSettings(
            alpha=self.alpha,
            method=self.method,
            alternative=self.alternative,
            two_sided=self.two_sided,
            correction=self.correction,
            variance=self.variance,
            grid_step=self.grid_step,
            min_support=self.min_support,
            max_length=self.max_length,
        )

    def _items(self, X: Any, *, reset: bool) -> Any:
        """Return X as booleans (ndarray or csc), checked, with the feature names remembered."""
        if isinstance(X, Mapping):
            raise InputTypeError(
                "X is a dict; expected a data frame, an array or a sparse matrix. Give "
                "pandas.DataFrame(X), or use mine_matrix, which takes dicts of columns."
            )
        if self.binarize is None:
            matrix, _ = validate_binary_matrix(X)
            validate_data(self, X, reset=reset, skip_check_array=True)
            return matrix
        threshold = self._threshold()
        if hasattr(X, "columns"):
            named_series(X, what="X")  # refuses repeated names
        checked = validate_data(self, X, reset=reset, accept_sparse="csc", dtype="numeric")
        if not hasattr(checked, "tocsc"):
            return checked > threshold
        if threshold < 0:
            raise InputError(
                f"binarize={threshold} is below 0, so that the zeros of a sparse X would all "
                "become ones; use a threshold of at least 0 or a dense X."
            )
        return (checked > threshold).tocsc()

    def _threshold(self) -> float:
        value: Any = self.binarize
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputTypeError(f"binarize={value!r} must be None or a number.")
        if math.isnan(value):
            raise InputError(f"binarize={value!r} is no threshold; give None or a number.")
        return float(value)

    def fit(self, X: Any, y: Any = None, strata: Any = None) -> FACS:
        """Find the significant patterns.

        Parameters
        ----------
        X : data frame, ndarray or scipy.sparse of shape (n_samples, n_features)
            Zeros and ones.
        y : array_like of shape (n_samples,)
            Two classes; the greater one is the case. Required: a default is there only because
            scikit-learn's transformers have one.
        strata : array_like of shape (n_samples,), several columns, or None, default=None
            The covariate to condition on: categories, texts, whole numbers. Routed through
            pipelines and cross-validation with ``set_fit_request(strata=True)``.

        Returns
        -------
        FACS
            Fitted.

        Raises
        ------
        InputError, InputTypeError
            If the data or a parameter cannot be used.
        InsufficientMemoryError
            If the search cannot fit into memory.
        FileFormatError
            If the checkpoint is damaged.
        SearchInterrupted
            After Ctrl-C.

        Warns
        -----
        StatisticalWarning, DataWarning
            As in `mine_patterns`.
        """
        settings = self._settings()
        _check_search(self.n_jobs, self.time_limit, self.checkpoint)
        matrix = self._items(X, reset=True)
        if hasattr(y, "__array__") and not hasattr(y, "__len__"):
            y = np.asarray(y)
        if getattr(y, "ndim", 1) == 2:
            y = column_or_1d(y, warn=True)
        names = self._feature_names()
        problem = matrix_problem(matrix, y, strata, names, None, settings)
        results = mine_problem(
            problem,
            settings,
            n_jobs=self.n_jobs,
            time_limit=self.time_limit,
            checkpoint=self.checkpoint,
            verbose=self.verbose,
        )
        self.classes_ = _classes(y, problem.class_names)
        self.results_: PatternResults = results
        self.patterns_ = results.patterns
        self.n_testable_ = results.n_testable
        self.testability_threshold_ = results.testability_threshold
        self.corrected_threshold_ = results.corrected_threshold
        self.n_visited_ = results.n_visited
        position = {name: j for j, name in enumerate(names)}
        self._itemsets = [
            np.array([position[item] for item in pattern]) for pattern in self.patterns_["pattern"]
        ]
        return self

    def _feature_names(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"x{j}" for j in range(self.n_features_in_)]
        return [str(name) for name in names]

    def transform(self, X: Any) -> NDArray[np.int8]:
        """Say which rows carry which patterns.

        Parameters
        ----------
        X : data frame, ndarray or scipy.sparse of shape (n_samples, n_features)
            The same columns as in `fit`.

        Returns
        -------
        ndarray of int8, shape (n_samples, n_patterns)
            1 where all items of the pattern are in the row; patterns in the order of `patterns_`.
        """
        check_is_fitted(self)
        matrix = self._items(X, reset=False)
        carried = np.zeros((matrix.shape[0], len(self._itemsets)), dtype=np.int8)
        if not self._itemsets:
            warnings.warn(_nothing_found(self.results_), DataWarning, stacklevel=3)
            return carried
        # Only the columns that some pattern has: a sparse X may be wide.
        used = np.unique(np.concatenate(self._itemsets))
        columns = matrix[:, used]
        if hasattr(columns, "toarray"):
            columns = columns.toarray()
        for j, items in enumerate(self._itemsets):
            carried[:, j] = columns[:, np.searchsorted(used, items)].all(axis=1)
        return carried

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the patterns: their items, joined by " & ".

        Parameters
        ----------
        input_features : array_like of str of shape (`n_features_in_`,), optional
            As everywhere in scikit-learn: must be the names that were fitted if there were any,
            and otherwise names the items.

        Returns
        -------
        ndarray of str objects, shape (n_patterns,)
            In the order of `patterns_`.

        Raises
        ------
        InputError
            If `input_features` are not the fitted names, or of another number.
        """
        check_is_fitted(self)
        names = self._feature_names()
        if input_features is not None:
            given = [str(name) for name in input_features]
            if len(given) != self.n_features_in_:
                raise InputError(
                    f"input_features should have length equal to number of features "
                    f"({self.n_features_in_}), got {len(given)}."
                )
            if hasattr(self, "feature_names_in_") and given != names:
                raise InputError("input_features is not equal to feature_names_in_")
            names = given
        return np.array(
            [" & ".join(names[j] for j in items) for items in self._itemsets], dtype=object
        )


def _classes(y: Any, class_names: tuple[str, str]) -> NDArray[Any]:
    """Return the control class and the case class with the type that they have in `y`."""
    values = np.unique(np.asarray(y))
    texts = [as_text(value) for value in values]
    return values[[texts.index(name) for name in class_names]]


def _nothing_found(results: PatternResults) -> str:
    """Say why there are no patterns to make columns of."""
    outcome, alpha = results.outcome, results.settings.alpha
    if results.coverage is not None and not outcome.n_testable:
        reason = f"nothing that was searched is testable. {results.coverage[:-1]}"
    elif outcome.n_testable:
        reason = (
            f"none of the {outcome.n_testable:,} testable patterns has a p-value of at most "
            f"{outcome.corrected_threshold:.3g} ({alpha:g} / {outcome.n_testable:,})"
        )
    elif math.isnan(outcome.smallest_minimum_pvalue):
        reason = "there is no pattern to test: no item varies, or none has min_support"
    else:
        reason = (
            "nothing is testable: the smallest attainable p-value is "
            f"{outcome.smallest_minimum_pvalue:.3g}, above alpha={alpha:g}"
        )
    return f"No significant patterns, so that the output has no columns: {reason}."
