"""What a search returns: counts, thresholds and the significant row sets, still without names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ProgressCallback", "SearchOutcome", "SearchProgress"]


@dataclass(frozen=True)
class SearchProgress:
    """Where a running search stands.

    Attributes
    ----------
    stage : str
        "threshold" (first pass), "collect" (second pass) or "summit" (if nothing was testable).
    visited : int
        Row sets visited so far, in both passes.
    testable : int
        Row sets that are testable at the present threshold.
    threshold : float
        Largest minimum p-value that can still be testable; it only falls.
    fraction_done : float
        Estimated share of the work of this stage that is done, 0 to 1; it never falls. Estimates of
        what is left are corrected by how long the tasks took that are finished.
    seconds : float
        Since the start of the search; with a checkpoint, of earlier runs too.
    seconds_left : float or None
        Estimated, until the end of this stage, or until the time limit if that comes first; None
        as long as nothing is known.
    """

    stage: str
    visited: int
    testable: int
    threshold: float
    fraction_done: float
    seconds: float
    seconds_left: float | None = None

    @property
    def rate(self) -> float:
        """Row sets visited per second, on average."""
        return self.visited / self.seconds if self.seconds > 0 else 0.0


ProgressCallback = Callable[[SearchProgress], None]


@dataclass(frozen=True)
class SearchOutcome:
    """The answer of `sigmine.search.search_patterns`.

    Attributes
    ----------
    n_visited : int
        Row sets that the search visited until the threshold was known (nodes of the search tree).
        With several workers, a time limit or a checkpoint it depends on how fast the search went;
        with no time limit, nothing else does.
    n_testable : int
        How many hypotheses are testable: m(delta*).
    testability_threshold : float
        delta*, the largest attained minimum p-value that is testable (with a grid: the grid
        value); nan if nothing is testable.
    corrected_threshold : float
        alpha / max(1, n_testable); a testable pattern with a p-value of at most this is
        significant.
    smallest_minimum_pvalue : float
        Smallest minimum p-value of any pattern; nan if there was none.
    generators : sequence of ndarray of int64
        Items of one generator of every significant pattern.
    closures : sequence of ndarray of int64
        All items that hold in every row of the pattern.
    support, support_cases : ndarray of int64, shape (n_patterns, n_strata)
        Carriers, and carriers that are cases, by stratum.
    sample_support : ndarray of int64, shape (n_sample, n_strata)
        Carriers by stratum of a sample of the testable row sets, drawn by a hash of their rows
        (it depends on the data alone).
    sample_cases : ndarray of int64, shape (n_sample,)
        Their carriers that are cases.
    sample_fraction : float
        Expected share of the testable row sets in the sample; 1.0 means all of them.
    seconds : float
        Wall time of the search; with a checkpoint, of earlier runs too.
    complete : bool, default=True
        False if the search was stopped by its time limit. Then `n_testable`, the thresholds and
        the sample are about the row sets that were met, among which the error rate holds as it
        does in a complete search; about the others nothing is said. Nothing significant is missing
        among the patterns of `searched_items`; of what was met elsewhere a little may be counted
        without having been looked at. The corrected threshold may be lower than
        alpha / n_testable, so that all that meets it is known.
    searched_fraction : float, default=1.0
        Estimated share of the search space that was searched.
    searched_items : ndarray of int64 or None, default=None
        Items whose patterns were all searched: every pattern in which one of them is the rarest
        item (the last of these, if several are equally rare). With `max_length` it is the rarest
        item of the first shortest description that counts, of several as short the one with the
        commonest items. None means all items.
    log_pvalue : ndarray of float64, shape (n_patterns,), or None, default=None
        Natural logarithms of the p-values of the significant patterns, by the method of the search.
        None in an outcome that was put together by hand; who needs them then computes them.
    """

    n_visited: int
    n_testable: int
    testability_threshold: float
    corrected_threshold: float
    smallest_minimum_pvalue: float
    generators: Sequence[NDArray[np.int64]]
    closures: Sequence[NDArray[np.int64]]
    support: NDArray[np.int64]
    support_cases: NDArray[np.int64]
    sample_support: NDArray[np.int64]
    sample_cases: NDArray[np.int64]
    sample_fraction: float
    seconds: float
    complete: bool = True
    searched_fraction: float = 1.0
    searched_items: NDArray[np.int64] | None = None
    log_pvalue: NDArray[np.float64] | None = None
