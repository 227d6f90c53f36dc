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

from .._jit import njit_inline
from ..association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from ..settings import SearchSettings
from .layout import ALIVE, LEVEL, Ladder

__all__ = [
    "TIE_TOLERANCE",
    "Critical",
    "bucket_of",
    "build_ladder",
    "climb",
    "climbed",
    "solve_critical",
]

TIE_TOLERANCE = 1e-9  # relative: p-values closer than this are one value
_STEP = 0.01  # of the exact search's ladder, in log p: how closely pruning follows the threshold
_LOG_LARGEST_COUNT = 64 * math.log(2.0)  # no search counts 2^64 hypotheses
_GRID_DECADES = 30  # the original programs' grid ends at 1e-30


def build_ladder(settings: SearchSettings) -> Ladder:
    """Make the ladder of a search: fine steps for the exact threshold, or the original's grid."""
    if settings.grid_step is None:
        depth = _LOG_LARGEST_COUNT - math.log(settings.alpha)
        log_p = -_STEP * np.arange(math.ceil(depth / _STEP) + 1)
    else:
        n_steps = math.ceil(_GRID_DECADES / settings.grid_step - 1e-9)
        log_p = -settings.grid_step * math.log(10.0) * np.arange(n_steps + 1)
    edges = np.maximum.accumulate(evidence_of_log_pvalue(log_p.astype(np.float64), settings))
    grid = settings.grid_step is not None
    if grid:  # a minimum p-value that equals an edge but for rounding is testable there
        edges -= TIE_TOLERANCE * np.maximum(1.0, edges)
    # No evidence at all is p = 1, below every edge but the first, also where a one-sided test has
    # edges between one half and 1, which no other evidence falls between.
    edges = np.maximum(edges, np.finfo(np.float64).tiny)
    edges[0] = 0.0
    ladder = Ladder(
        edges=np.ascontiguousarray(edges, dtype=np.float64),
        room=np.exp(math.log(settings.alpha) - log_p),
        counts=np.zeros(len(edges), dtype=np.int64),
        state=np.array([int(grid), 0, int(grid)], dtype=np.int64),  # the original starts at step 1
    )
    climb(ladder)
    return ladder


@njit_inline
def bucket_of(edges: NDArray[np.float64], evidence: float, lowest: int) -> int:
    """Return the bucket of an evidence that is known to be at least ``edges[lowest]``."""
    low = lowest
    high = edges.shape[0]
    step = 1
    while low + step < high and edges[low + step] <= evidence:  # gallop: most are near the bottom
        low += step
        step *= 2
    if low + step < high:
        high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if edges[middle] <= evidence:
            low = middle
        else:
            high = middle
    return low


@njit_inline
def climbed(
    room: NDArray[np.float64], counts: NDArray[np.int64], level: int, alive: int, grid: int
) -> tuple[int, int]:
    """Return the lowest bucket that is still feasible, and the hypotheses from it upwards.

    `alive` hypotheses are in bucket `level` and beyond.
    """
    last = room.shape[0] - 1
    while level < last:
        if grid:
            if alive <= room[level]:
                break
        # A value delta inside this bucket has delta > p(upper edge) and counts itself too.
        elif alive - counts[level] + 1 <= room[level + 1]:
            break
        alive -= counts[level]
        level += 1
    return level, alive


def climb(ladder: Ladder) -> None:
    """Declare dead every bucket of a ladder that has become infeasible."""
    level, alive, grid = ladder.state.tolist()
    ladder.state[LEVEL], ladder.state[ALIVE] = climbed(
        ladder.room, ladder.counts, level, alive, grid
    )


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
