"""The arrays that search kernels read and write, as named tuples, and what their columns mean.

The tuples are for Python: kernels take their arrays one by one, in the order given here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import EvidenceTables

# Columns of `info` and `score`, which describe the candidates of a frame.
ITEM, SUPPORT = 0, 1
EVIDENCE, BOUND = 0, 1
# Columns of `levels`, a row a frame on the current path: its candidates on the stack, the one being
# visited and its item, and where the list of excluding items ends.
START, END, AT, EXCLUDING_END, PATH = 0, 1, 2, 3, 4
# Entries of `sizes_asked`, `cursor`, `state`, `marks`, `fill`.
MIN_SUPPORT, MAX_LENGTH = 0, 1
ROOT, LAST_ROOT, DEPTH, LEAST = 0, 1, 2, 3
LEVEL, ALIVE, GRID = 0, 1, 2
CUT, PRUNE = 0, 1
N_PATTERNS, N_ITEMS = 0, 1
# Columns of `found_info`.
CARRIER_CASES, KEY, LENGTH = 0, 1, 2
# What a pass is for: `Goal.purpose`.
COUNT, COLLECT, SUMMIT = 0, 1, 2
# Why the kernel returned.
DONE, STACK_SHORT, BUFFER_FULL = 0, 1, 2


class SearchData(NamedTuple):
    """What is searched; items in order of falling support.

    Attributes
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Distinct, none empty, none full.
    info : ndarray of int64, shape (n_items, 2)
        Number of each item and its ones.
    score : ndarray of float64, shape (n_items, 2)
        Minimum evidence of each item, and its bound over supersets (inf until it is needed).
    cases : ndarray of uint64, shape (n_words,)
    segments : ndarray of int64, shape (n_segments, 2)
    masks : ndarray of uint64, shape (n_segments,)
        As in `sigmine.bitset.BitTable`.
    limit : ndarray of float64, shape (n_rows + 1,)
        An upper bound of the evidence of any row set with that many rows; non-decreasing.
    sizes_asked : ndarray of int64, shape (2,)
        Fewest rows; most items of a description, 0 for no limit.
    tables : EvidenceTables
        The test.
    """

    columns: NDArray[np.uint64]
    info: NDArray[np.int64]
    score: NDArray[np.float64]
    cases: NDArray[np.uint64]
    segments: NDArray[np.int64]
    masks: NDArray[np.uint64]
    limit: NDArray[np.float64]
    sizes_asked: NDArray[np.int64]
    tables: EvidenceTables


class Stack(NamedTuple):
    """Where a worker stands, and the candidates of every node on its path, frame behind frame.

    Attributes
    ----------
    cursor : ndarray of int64, shape (4,)
        Root item, the one to stop before, depth (-1: not begun), and the fewest rows that can
        reach the threshold.
    words : ndarray of uint64, shape (capacity, n_words)
        Rows of each candidate within its node.
    info : ndarray of int64, shape (capacity, 2)
    score : ndarray of float64, shape (capacity, 2)
        As in `SearchData`; the bound is inf where it was not needed yet.
    excluding : ndarray of int64, shape (capacity,)
        Items that exclude, frame behind frame.
    levels : ndarray of int64, shape (max_depth, 5)
        The frames.
    counts : ndarray of int64, shape (n_strata,)
    scratch : ndarray of float64, shape (3, n_strata)
        Working space.
    """

    cursor: NDArray[np.int64]
    words: NDArray[np.uint64]
    info: NDArray[np.int64]
    score: NDArray[np.float64]
    excluding: NDArray[np.int64]
    levels: NDArray[np.int64]
    counts: NDArray[np.int64]
    scratch: NDArray[np.float64]


class Ladder(NamedTuple):
    """Buckets of evidence and the state of the threshold on them.

    Attributes
    ----------
    edges : ndarray of float64, shape (n_buckets,)
        Lower evidence of each bucket, ascending from 0; the last bucket has no upper edge.
    room : ndarray of float64, shape (n_buckets,)
        How many hypotheses may be tested at the p-value of each edge: alpha / p, ascending.
    counts : ndarray of int64, shape (n_buckets,)
        Hypotheses counted; exact for every bucket that is alive.
    state : ndarray of int64, shape (3,)
        Lowest bucket alive, the hypotheses counted in live buckets, and 1 if the threshold must be
        one of the edges (the grid).
    """

    edges: NDArray[np.float64]
    room: NDArray[np.float64]
    counts: NDArray[np.int64]
    state: NDArray[np.int64]


class Control(NamedTuple):
    """What a worker shares with the thread that watches it.

    Attributes
    ----------
    stop : ndarray of int64, shape (1,)
        Set to 1 to end the search within a few nodes.
    visited : ndarray of int64, shape (1,)
        Nodes visited by this worker.
    most : ndarray of float64, shape (1,)
        Largest evidence among them.
    shared : ndarray of int64, shape (n_buckets,)
        Counts of all workers together, for pruning only. Increments are not atomic: one may get
        lost, never invented, so the bound on the threshold that they give stays valid.
    """

    stop: NDArray[np.int64]
    visited: NDArray[np.int64]
    most: NDArray[np.float64]
    shared: NDArray[np.int64]


class Goal(NamedTuple):
    """What a pass is for.

    Attributes
    ----------
    purpose : int
        `COUNT`: the first pass; `COLLECT`: the second; `SUMMIT`: only find the largest evidence.
    marks : ndarray of float64, shape (2,)
        Not of the first pass: evidence from which on a hypothesis is collected, and the same less
        rounding errors, below which a subtree is pruned. In search of the summit both rise.
    """

    purpose: int
    marks: NDArray[np.float64]


class Buffer(NamedTuple):
    """Where the second pass writes the hypotheses that it meets.

    Attributes
    ----------
    fill : ndarray of int64, shape (2,)
        Hypotheses, and items of their paths, that it holds.
    evidence : ndarray of float64, shape (capacity,)
        Evidence of the minimum p-value.
    support : ndarray of int64, shape (capacity, n_strata)
        Carriers by stratum.
    info : ndarray of int64, shape (capacity, 3)
        Carriers that are cases, a key that depends on the rows alone, and the length of the path.
    items : ndarray of int64
        The paths, one behind the other.
    """

    fill: NDArray[np.int64]
    evidence: NDArray[np.float64]
    support: NDArray[np.int64]
    info: NDArray[np.int64]
    items: NDArray[np.int64]
