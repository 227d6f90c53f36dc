"""Kernels of the threshold: counting hypotheses on the ladder, and moving up as counts demand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_entry, njit_inline, njit_leaf
from .layout import (
    ALIVE,
    COUNT,
    COUNTS,
    CUT,
    EDGE,
    GRID,
    HIGHEST_BUCKET,
    KEEP,
    KEEP_FROM,
    LEAST,
    LEVEL,
    LIMIT,
    N_VALUES,
    PRUNE,
    PUBLISHED,
    PURPOSE,
    ROOM,
    SCALE,
    STORE,
    STORE_FROM,
    WINDOW,
)

__all__ = ["count_hypothesis", "exchange", "lowered", "raise_threshold", "set_marks"]

_SLACK = 1e-9  # relative: evidence this close below a cut counts as reaching it


def lowered(edge: float) -> float:
    """Return an evidence lowered by the rounding errors that evidence may carry."""
    return edge - _SLACK * max(1.0, edge)


_lowered = njit_inline(lowered)


@njit_entry
def set_marks(
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    rungs: NDArray[np.float64],
    by_ones: NDArray[np.float64],
) -> None:
    """Bring the marks, and the fewest rows that can reach them, to the lowest live bucket."""
    level = state[LEVEL]
    marks[CUT] = rungs[level, EDGE]
    marks[STORE] = rungs[level, STORE_FROM]
    marks[PRUNE] = _lowered(marks[STORE])
    marks[KEEP] = rungs[level, KEEP_FROM]
    least = state[LEAST]
    while least < by_ones.shape[0] and by_ones[least, LIMIT] < marks[PRUNE]:
        least += 1
    state[LEAST] = least


@njit_leaf
def raise_threshold(
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    rungs: NDArray[np.float64],
    counts: NDArray[np.int64],
    by_ones: NDArray[np.float64],
) -> None:
    """Declare dead every bucket that the worker's own counts make infeasible."""
    level, alive = state[LEVEL], state[ALIVE]
    last = rungs.shape[0] - 1
    while level < last:
        if state[GRID]:
            if alive <= rungs[level, ROOM]:
                break
        # A value delta inside this bucket has delta > p(upper edge) and counts itself too.
        elif alive - counts[level, COUNTS] + 1 <= rungs[level + 1, ROOM]:
            break
        alive -= counts[level, COUNTS]
        level += 1
    if level > state[LEVEL]:
        state[LEVEL], state[ALIVE] = level, alive
        set_marks(state, marks, rungs, by_ones)


@njit_leaf
def exchange(
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    rungs: NDArray[np.float64],
    counts: NDArray[np.int64],
    by_ones: NDArray[np.float64],
    shared: NDArray[np.int64],
) -> None:
    """Tell the other workers what was counted, and move to where all counts put the threshold."""
    level = state[LEVEL]
    for bucket in range(level, state[HIGHEST_BUCKET] + 1):
        new = counts[bucket, COUNTS] - counts[bucket, PUBLISHED]
        if new:
            shared[bucket] += new
            counts[bucket, PUBLISHED] = counts[bucket, COUNTS]
    alive = np.int64(0)
    for bucket in range(level, rungs.shape[0]):
        alive += shared[bucket]
    own = state[ALIVE]
    last = rungs.shape[0] - 1
    while level < last:
        if state[GRID]:
            if alive <= rungs[level, ROOM]:
                break
        elif alive - shared[level] + 1 <= rungs[level + 1, ROOM]:
            break
        alive -= shared[level]
        own -= counts[level, COUNTS]
        level += 1
    if level > state[LEVEL]:
        state[LEVEL], state[ALIVE] = level, own
        set_marks(state, marks, rungs, by_ones)


@njit_inline
def count_hypothesis(
    evidence: float,
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    rungs: NDArray[np.float64],
    guide: NDArray[np.int64],
    counts: NDArray[np.int64],
    by_ones: NDArray[np.float64],
    values: NDArray[np.float64],
) -> None:
    """Count a hypothesis whose evidence reaches ``marks[STORE]``; the values have room for it."""
    if evidence < marks[WINDOW]:
        values[np.uint64(state[N_VALUES])] = evidence
        state[N_VALUES] += 1
    if evidence < marks[CUT]:
        return
    cell = min(np.int64(evidence * marks[SCALE]), guide.shape[0] - 1)
    bucket = np.uint64(guide[np.uint64(cell)])
    last = np.uint64(rungs.shape[0] - 1)
    while bucket < last and rungs[bucket + np.uint64(1), EDGE] <= evidence:
        bucket += np.uint64(1)
    if np.int64(bucket) > state[HIGHEST_BUCKET]:
        state[HIGHEST_BUCKET] = np.int64(bucket)
    counts[bucket, COUNTS] += 1
    state[ALIVE] += 1
    if state[PURPOSE] == COUNT:
        level = state[LEVEL]
        if state[GRID]:
            moves = state[ALIVE] > rungs[np.uint64(level), ROOM]
        else:
            moves = (
                level < rungs.shape[0] - 1
                and state[ALIVE] - counts[np.uint64(level), COUNTS] + 1
                > rungs[np.uint64(level + 1), ROOM]
            )
        if moves:
            raise_threshold(state, marks, rungs, counts, by_ones)
