"""From what was kept to the answer: the significant row sets, their itemsets, and the sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import log_pvalue_of_evidence
from ..settings import SearchSettings
from .describe import close_paths
from .flat import Itemsets, lexicographic_order, reordered, sorted_within, spread
from .layout import CANDIDATE, CASES, KEY, N_CLOSED, N_PATH, SUPPORT, WHAT
from .outcome import SearchOutcome
from .prepare import Prepared
from .pvalues import log_pvalues
from .testability import TIE_TOLERANCE, Critical
from .worker import Part

__all__ = ["make_outcome"]

Flat = tuple[NDArray[np.int64], NDArray[np.int64]]


def make_outcome(
    prepared: Prepared,
    settings: SearchSettings,
    part: Part,
    solution: Critical,
    *,
    corrected: float,
    sample_mask: int,
    visited: int,
) -> SearchOutcome:
    """Keep what is significant at the final threshold, with its rows and its closed itemset.

    Parameters
    ----------
    prepared : Prepared
        What was searched.
    settings : SearchSettings
        What was asked.
    part : Part
        What was met; nothing that is significant, or in the sample, may be missing.
    solution : Critical
        The threshold.
    corrected : float
        Largest significant p-value.
    sample_mask : int
        Bits that the hash of a sampled hypothesis does not have.
    visited : int
        Row sets.

    Returns
    -------
    SearchOutcome
        Of a complete search, but for its seconds.
    """
    testable = _testable(part.evidence, solution, settings)
    sample = part.found[testable & (part.found[:, KEY] & sample_mask == 0)]
    n_strata = prepared.table.n_strata
    last = SUPPORT + n_strata
    sample = sample[np.lexsort((sample[:, CASES], *sample[:, SUPPORT:last].T[::-1]))]
    keep = testable & (part.found[:, WHAT] & CANDIDATE > 0)
    support, support_cases = part.found[:, SUPPORT:last], part.found[:, last:]
    log_threshold = math.log(corrected) + TIE_TOLERANCE
    log_p = log_pvalues(support[keep], support_cases[keep], prepared.table, settings, log_threshold)
    significant = log_p <= log_threshold
    keep[keep] = significant
    generators, closures = _itemsets(part, keep, prepared, settings)
    order = lexicographic_order(*closures)  # whatever the workers did
    rows = np.flatnonzero(keep)[order]
    most = log_pvalue_of_evidence(part.most, settings) if math.isfinite(part.most) else math.nan
    return SearchOutcome(
        n_visited=visited,
        n_testable=solution.n_testable,
        testability_threshold=math.exp(solution.log_threshold) if solution.n_testable else math.nan,
        corrected_threshold=corrected,
        smallest_minimum_pvalue=float(np.exp(most)),
        generators=Itemsets(*reordered(*generators, order)),
        closures=Itemsets(*reordered(*closures, order)),
        support=support[rows],
        support_cases=support_cases[rows],
        sample_support=sample[:, SUPPORT:last].copy(),
        sample_cases=sample[:, CASES].copy(),
        sample_fraction=1.0 / (sample_mask + 1),
        seconds=0.0,
        log_pvalue=log_p[significant][order],
    )


def _testable(
    evidence: NDArray[np.float64], solution: Critical, settings: SearchSettings
) -> NDArray[np.bool_]:
    """Say which hypotheses are testable at delta*."""
    if solution.n_testable == 0:
        return np.zeros(len(evidence), dtype=bool)
    testable = evidence >= solution.evidence
    if settings.grid_step is None and len(evidence):
        log_minimum = log_pvalue_of_evidence(evidence, settings)
        testable |= log_minimum <= solution.log_threshold + TIE_TOLERANCE
    return np.asarray(testable)


def _itemsets(
    part: Part, keep: NDArray[np.bool_], prepared: Prepared, settings: SearchSettings
) -> tuple[Flat, Flat]:
    """Return generators and closures of some records, items ascending."""
    found = part.found
    lengths = np.stack([found[:, N_PATH], found[:, N_CLOSED]], axis=1)
    mine = np.repeat(np.repeat(keep, 2), lengths.reshape(-1))
    lengths = lengths[keep]
    items = part.items[mine]
    on_path = np.repeat(np.tile([True, False], len(lengths)), lengths.reshape(-1))
    paths, path_ends = items[on_path], np.cumsum(lengths[:, 0])
    closures, closure_ends = items, np.cumsum(lengths.sum(axis=1))
    # One item stands for the columns that were merged in a generator, all of them in a closure.
    members = prepared.items
    first = members.flat[members.ends - members.lengths]
    # With a limit on the length the kernel did not look for what else holds.
    if settings.max_length is not None and len(paths):
        closures, closure_ends = close_paths(
            prepared.table.columns, prepared.data.root_cand, first, paths, path_ends
        )
    generators = sorted_within(first[paths], path_ends)
    closures, closure_ends = spread(closures, closure_ends, members)
    return (generators, path_ends), (sorted_within(closures, closure_ends), closure_ends)
