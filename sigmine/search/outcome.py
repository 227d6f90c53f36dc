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
        Share of the root items of this stage that are finished, 0 to 1.
    seconds : float
        Since the start of the search.
    """

    stage: str
    visited: int
    testable: int
    threshold: float
    fraction_done: float
    seconds: float


ProgressCallback = Callable[[SearchProgress], None]


@dataclass(frozen=True)
class SearchOutcome:
    """The answer of `sigmine.search.search_patterns`.

    Attributes
    ----------
    n_visited : int
        Row sets that the second pass visited, at the final threshold (nodes of the search tree); it
        does not depend on the number of workers.
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
        Wall time of the search.
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
