"""How a procedure did on data with known truth: error rates, power, inflation.

Patterns and planted sets are collections of items: column indices, or names, as long as both use
the same. In data from `sigmine.simulate` an itemset with an item of an *associated* set is
associated with the outcome inside the strata, and every other itemset is a true null; this is what
"false" means here.

May import: `sigmine.exceptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ._checks import one_of, open_unit, whole_number
from .exceptions import InputError, InputTypeError

__all__ = [
    "RateEstimate",
    "clopper_pearson",
    "count_false",
    "empirical_fwer",
    "genomic_inflation",
    "power",
    "precision",
]

CHI2_MEDIAN = 0.454936423119573
"""Median of the chi-squared distribution on one degree of freedom."""


@dataclass(frozen=True)
class RateEstimate:
    """A proportion with exact (Clopper-Pearson) confidence limits.

    Attributes
    ----------
    rate : float
        successes / trials.
    low, high : float
        Limits.
    successes, trials : int
        What was counted.
    level : float
        Confidence level of the limits.
    """

    rate: float
    low: float
    high: float
    successes: int
    trials: int
    level: float

    def excludes(self, value: float) -> bool:
        """Say whether a value lies outside the limits.

        Parameters
        ----------
        value : float
            A rate, such as the level that is to be refuted.

        Returns
        -------
        bool
            True below `low` and above `high`.
        """
        return not self.low <= value <= self.high


def clopper_pearson(
    successes: int, trials: int, level: float = 0.95, alternative: str = "two-sided"
) -> RateEstimate:
    """Estimate a proportion, with confidence limits that hold at any sample size.

    Parameters
    ----------
    successes : int
        From 0 to trials.
    trials : int
        At least 1.
    level : float, default=0.95
        Confidence level, in (0, 1).
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        Which limits: both; only the lower one, to show that the rate is greater than something
        (the upper one is 1); or only the upper one.

    Returns
    -------
    RateEstimate
        The share, its limits, and what was counted.

    Raises
    ------
    InputError
        Counts or a level out of range, or an unknown alternative.
    InputTypeError
        Counts that are not whole numbers, or a level that is not a number.

    References
    ----------
    .. [1] C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated
       in the case of the binomial", Biometrika 26 (1934) 404-413,
       `doi:10.1093/biomet/26.4.404 <https://doi.org/10.1093/biomet/26.4.404>`_.

    Examples
    --------
    >>> estimate = clopper_pearson(3, 100)
    >>> round(estimate.low, 4), estimate.rate, round(estimate.high, 4)
    (0.0062, 0.03, 0.0852)
    """
    from scipy.special import betaincinv

    successes, trials = whole_number("successes", successes, 0), whole_number("trials", trials, 1)
    if successes > trials:
        raise InputError(
            f"successes={successes} of trials={trials}: there cannot be more successes than "
            "trials; are they swapped?"
        )
    level = open_unit("level", level, "0.95")
    one_of("alternative", alternative, ("two-sided", "greater", "less"))
    tail = (1 - level) / (2 if alternative == "two-sided" else 1)
    low, high = 0.0, 1.0
    if successes > 0 and alternative != "less":
        low = float(betaincinv(successes, trials - successes + 1, tail))
    if successes < trials and alternative != "greater":
        high = float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return RateEstimate(successes / trials, low, high, successes, trials, level)


def empirical_fwer(
    n_false: ArrayLike, level: float = 0.95, alternative: str = "two-sided"
) -> RateEstimate:
    """Share of the runs with at least one false discovery.

    Parameters
    ----------
    n_false : array_like of int, shape (n_runs,)
        False discoveries in every run (all discoveries, on null data).
    level, alternative
        As in `clopper_pearson`.

    Returns
    -------
    RateEstimate
        A procedure at level alpha is refuted where `low` is above alpha.

    Raises
    ------
    InputError
        No runs, negative or broken counts.
    InputTypeError
        Counts that are not numbers.

    Examples
    --------
    >>> estimate = empirical_fwer([0, 0, 3, 0, 1, 0, 0, 0, 0, 0])
    >>> estimate.rate, estimate.excludes(0.05)
    (0.2, False)
    """
    try:
        counts = np.asarray(n_false, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            "n_false must hold the number of false discoveries per run."
        ) from error
    if counts.ndim != 1 or counts.size == 0:
        raise InputError(
            f"n_false has shape {counts.shape}; it must be (n_runs,) with at least one run."
        )
    if not ((counts >= 0) & (counts == np.floor(counts))).all():
        raise InputError("n_false holds a negative or broken count; counts are 0, 1, 2, ...")
    return clopper_pearson(int((counts > 0).sum()), counts.size, level, alternative)


def _as_sets(itemsets: Iterable[Collection[Hashable]], name: str) -> list[frozenset[Hashable]]:
    if isinstance(itemsets, str):
        raise InputTypeError(f"{name} is one string; give a collection of itemsets.")
    sets = []
    for itemset in itemsets:
        if isinstance(itemset, str) or not isinstance(itemset, (Iterable, np.ndarray)):
            raise InputTypeError(
                f"{name} holds {itemset!r}, which is not an itemset; give a tuple of items each, "
                "also where there is only one."
            )
        sets.append(frozenset(itemset))
    return sets


def count_false(
    patterns: Iterable[Collection[Hashable]], associated: Iterable[Collection[Hashable]]
) -> int:
    """Count the discoveries that have no item of any associated set.

    Parameters
    ----------
    patterns : iterable of itemsets
        The discoveries.
    associated : iterable of itemsets
        Sets that are associated with the outcome (`Planted.associated`); none for null data.

    Returns
    -------
    int
        Discoveries that are true nulls by construction: the others share an item with an
        associated set, and are themselves associated.

    Raises
    ------
    InputTypeError
        An itemset that is not a collection of items.

    Examples
    --------
    >>> count_false([(0, 1), (1, 7), (7, 8)], associated=[(0, 1, 2)])
    1
    """
    true_items = frozenset[Hashable]().union(*_as_sets(associated, "associated"))
    return sum(not pattern & true_items for pattern in _as_sets(patterns, "patterns"))


def precision(
    patterns: Iterable[Collection[Hashable]], associated: Iterable[Collection[Hashable]]
) -> float:
    """Share of the discoveries that are not false (see `count_false`).

    Parameters
    ----------
    patterns, associated
        As in `count_false`.

    Returns
    -------
    float
        In [0, 1]; nan without discoveries.

    Raises
    ------
    InputTypeError
        An itemset that is not a collection of items.

    Examples
    --------
    >>> precision([(0, 1), (1, 7), (7, 8), (8, 9)], associated=[(0, 1, 2)])
    0.5
    """
    found = _as_sets(patterns, "patterns")
    return 1 - count_false(found, associated) / len(found) if found else float("nan")


Itemset: TypeAlias = frozenset[Hashable]

_MATCHES: dict[str, Callable[[Itemset, Itemset], bool]] = {
    "contains": lambda found, target: found >= target,
    "exact": lambda found, target: found == target,
    "overlaps": lambda found, target: not found.isdisjoint(target),
}


def power(
    patterns: Iterable[Collection[Hashable]],
    associated: Iterable[Collection[Hashable]],
    *,
    match: str = "contains",
) -> float:
    """Share of the associated sets that were found.

    Parameters
    ----------
    patterns : iterable of itemsets
        The discoveries, as closed itemsets (the `pattern` column).
    associated : iterable of itemsets
        Sets that are associated with the outcome (`Planted.associated`).
    match : {"contains", "exact", "overlaps"}, default="contains"
        When a discovery counts: it contains the set (a closed itemset may hold further items that
        the same rows have), is the set, or shares at least one item with it.

    Returns
    -------
    float
        In [0, 1]; nan without associated sets.

    Raises
    ------
    InputError
        An unknown `match`.
    InputTypeError
        An itemset that is not a collection of items.

    Examples
    --------
    >>> power([(0, 1, 2, 9), (4, 8)], associated=[(0, 1, 2), (4, 5)])
    0.5
    """
    one_of("match", match, tuple(_MATCHES))
    found, targets = _as_sets(patterns, "patterns"), _as_sets(associated, "associated")
    if not targets:
        return float("nan")
    hits = sum(any(_MATCHES[match](pattern, target) for pattern in found) for target in targets)
    return hits / len(targets)


def genomic_inflation(statistic: ArrayLike) -> float:
    """Return the inflation factor lambda: the median statistic over its value under the null.

    Parameters
    ----------
    statistic : array_like of float, shape (n,)
        Chi-squared statistics on one degree of freedom, such as the CMH statistics of the testable
        patterns; inf is allowed.

    Returns
    -------
    float
        1 where the statistics behave as under the null hypothesis, larger where many are too
        large (as when a confounder is ignored); nan without statistics.

    Raises
    ------
    InputError
        A negative or missing statistic.
    InputTypeError
        Statistics that are not numbers.

    Notes
    -----
    median(T) / 0.4549, the median of chi-squared on one degree of freedom [1]_. With small counts
    the statistics are discrete and lambda is not exactly 1 under the null hypothesis either.

    References
    ----------
    .. [1] B. Devlin and K. Roeder, "Genomic control for association studies", Biometrics 55 (1999)
       997-1004, `doi:10.1111/j.0006-341X.1999.00997.x
       <https://doi.org/10.1111/j.0006-341X.1999.00997.x>`_.

    Examples
    --------
    >>> round(genomic_inflation([0.1, 0.455, 3.0]), 3)
    1.0
    """
    try:
        values = np.asarray(statistic, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputTypeError("statistic must hold numbers.") from error
    if not (values >= 0).all():
        raise InputError("statistic holds a negative or missing value; chi-squared is at least 0.")
    return float(np.median(values)) / CHI2_MEDIAN if values.size else float("nan")
