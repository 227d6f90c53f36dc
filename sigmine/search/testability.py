r"""Tarone's testability threshold, on-line while the search runs and exact at its end.

A hypothesis whose minimum attainable p-value psi exceeds delta can never be rejected at level
delta, so it need not be counted: with m(delta) the number of hypotheses with psi <= delta, all
those may be tested at alpha / m(delta) if delta m(delta) <= alpha (Tarone 1990; the margins decide
m, so Bonferroni over the m testable hypotheses is valid conditionally on them). Since
delta m(delta) grows with delta, there is a largest attained value delta* that satisfies it.

*On-line*, counts are kept in buckets of evidence (see `sigmine.association.evidence`), an ascending
*ladder* of edges. A bucket is dead once even its smallest p-value times the hypotheses already
counted beyond it exceeds alpha: m only grows, so it stays dead, and the search prunes whatever
cannot reach the lowest bucket that is alive. At the end every hypothesis in a live bucket has been
counted, all but the lowest live bucket are feasible as a whole, and delta* is found among the exact
values inside that one, the *critical* bucket.

With a grid, delta takes only the values of the edges, as in the original programs.

References
----------
.. [1] R. E. Tarone, "A modified Bonferroni method for discrete data", Biometrics 46 (1990) 515-522.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from ..settings import SearchSettings
from .layout import EDGE, KEEP_FROM, ROOM, STORE_FROM, Ladder

__all__ = [
    "LOG_SAFETY",
    "MARGIN",
    "TIE_TOLERANCE",
    "Critical",
    "build_ladder",
    "climbed",
    "first_level",
    "scale_of",
    "solve_critical",
]

TIE_TOLERANCE = 1e-9  # relative: p-values closer than this are one value
MARGIN = 1e-6  # in evidence, around the critical bucket: far above rounding, far below its width
LOG_SAFETY = math.log(2.0)  # p-values up to this above the threshold are kept on the way
_STEP = 0.01  # of the exact search's ladder, in log p: how closely pruning follows the threshold
_LOG_LARGEST_COUNT = 64 * math.log(2.0)  # no search counts 2^64 hypotheses
_GRID_DECADES = 30  # the original programs' grid ends at 1e-30
_CELLS_PER_BUCKET = 16  # of the guide: a bucket is found in one or two steps


def build_ladder(settings: SearchSettings) -> Ladder:
    """Make the ladder of a search: fine steps for the exact threshold, or the original's grid."""
    grid = settings.grid_step is not None
    if settings.grid_step is None:
        depth = _LOG_LARGEST_COUNT - math.log(settings.alpha)
        log_p = -_STEP * np.arange(math.ceil(depth / _STEP) + 1, dtype=np.float64)
    else:
        n_steps = math.ceil(_GRID_DECADES / settings.grid_step - 1e-9)
        log_p = -settings.grid_step * math.log(10.0) * np.arange(n_steps + 1, dtype=np.float64)
    edges = np.maximum.accumulate(evidence_of_log_pvalue(log_p, settings))
    if grid:  # a minimum p-value that equals an edge but for rounding is testable there
        edges -= TIE_TOLERANCE * np.maximum(1.0, edges)
    # No evidence at all is p = 1, below every edge but the first, also where a one-sided test has
    # edges between one half and 1, which no other evidence falls between.
    edges = np.maximum(edges, np.finfo(np.float64).tiny)
    edges[0] = 0.0
    rungs = np.zeros((len(edges), 4), dtype=np.float64)
    rungs[:, EDGE] = edges
    rungs[:, ROOM] = np.exp(math.log(settings.alpha) - log_p)
    keep = evidence_of_log_pvalue(np.minimum(log_p + LOG_SAFETY, 0.0), settings)
    rungs[:, KEEP_FROM] = np.maximum(keep - TIE_TOLERANCE * np.maximum(1.0, keep), 0.0)
    rungs[:, STORE_FROM] = edges if grid else np.maximum(edges - MARGIN, 0.0)
    n_cells = _CELLS_PER_BUCKET * len(edges)
    # One cell lower, so that rounding in the kernel's product cannot lead past the right bucket.
    cells = (np.arange(n_cells + 1) - 1) * (edges[-1] / n_cells)
    guide = np.maximum(np.searchsorted(edges, cells, side="right") - 1, 0)
    return Ladder(rungs, guide.astype(np.int64))


def scale_of(ladder: Ladder) -> float:
    """Return the cells of the guide per unit of evidence."""
    return float((len(ladder.guide) - 1) / ladder.rungs[-1, EDGE])


def first_level(ladder: Ladder, settings: SearchSettings) -> int:
    """Return the lowest bucket that is feasible before anything is counted."""
    grid = settings.grid_step is not None  # the original starts at step 1 of its grid
    nothing = np.zeros(len(ladder.rungs), dtype=np.int64)
    return climbed(ladder, nothing, int(grid), settings)[0]


def climbed(
    ladder: Ladder, counts: NDArray[np.int64], level: int, settings: SearchSettings
) -> tuple[int, int]:
    """Return the lowest bucket that is still feasible, and the hypotheses from it upwards.

    Parameters
    ----------
    ladder : Ladder
        The buckets.
    counts : ndarray of int64, shape (n_buckets,)
        Hypotheses by bucket, exact from `level` upwards.
    level : int
        A bucket that no feasible one is below.
    settings : SearchSettings
        Says whether the threshold is one of the edges.

    Returns
    -------
    (int, int)
    """
    room = ladder.rungs[:, ROOM]
    alive = int(counts[level:].sum())
    while level < len(room) - 1:
        if settings.grid_step is not None:
            if alive <= room[level]:
                break
        # A value delta inside this bucket has delta > p(upper edge) and counts itself too.
        elif alive - counts[level] + 1 <= room[level + 1]:
            break
        alive -= int(counts[level])
        level += 1
    return level, alive


class Critical(NamedTuple):
    """The exact threshold.

    Attributes
    ----------
    n_testable : int
        m(delta*).
    log_threshold : float
        log delta*; nan if nothing is testable.
    evidence : float
        Smallest evidence that is testable; inf if nothing is.
    """

    n_testable: int
    log_threshold: float
    evidence: float


def solve_critical(
    values: NDArray[np.float64], n_beyond: int, least_beyond: float, settings: SearchSettings
) -> Critical:
    """Find delta* among the exact evidences of the critical bucket.

    Parameters
    ----------
    values : ndarray of float64, shape (n_critical,)
        Evidence of every hypothesis in the critical bucket.
    n_beyond : int
        Hypotheses with more evidence than the bucket; all of them are testable.
    least_beyond : float
        Smallest evidence among those; inf if there are none.
    settings : SearchSettings
        Level and test.

    Returns
    -------
    Critical
        The largest attained delta with delta m(delta) <= alpha, where values closer than a relative
        1e-9 are one value (the largest of them) and equality holds to the same tolerance.
    """
    ordered = np.sort(values)[::-1]  # most evidence, smallest p-value first
    log_p = log_pvalue_of_evidence(ordered, settings)
    last_of_group = np.ones(len(ordered), dtype=bool)
    last_of_group[:-1] = np.diff(log_p) > TIE_TOLERANCE
    m = n_beyond + np.arange(1, len(ordered) + 1)
    feasible = log_p + np.log(m) <= math.log(settings.alpha) + TIE_TOLERANCE
    candidates = np.flatnonzero(feasible & last_of_group)
    if len(candidates):
        best = int(candidates[-1])
        return Critical(int(m[best]), float(log_p[best]), float(ordered[best]))
    if n_beyond:
        log_threshold = float(log_pvalue_of_evidence(least_beyond, settings))
        return Critical(n_beyond, log_threshold, least_beyond)
    return Critical(0, math.nan, math.inf)
