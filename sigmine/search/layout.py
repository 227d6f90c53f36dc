"""The arrays that search kernels read and write, as named tuples, and what their columns mean.

The tuples are for Python: kernels take their arrays one by one, in the order given here. An array
argument is seven machine words, copied at every call, so what belongs together is one array with
named columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Columns of `levels`, a row a frame on the current path: its first candidate, the place behind the
# last, the one being visited, and the lowest one that has to be; the item visited; how many items
# the closures above contribute; where its excluders start, and how many there are; in frames of
# many words, where the block of its candidates starts in the arena; the words of a candidate;
# its segments; where its case words are; the free end of the arena; a hash of the path.
START, END, AT, STOP, PATH, CLOSED_END, OTHERS, N_OTHERS = range(8)
BLOCK, WIDTH, SEGMENT, SEGMENT_END, CASES_AT, ARENA_END, HASH = range(8, 15)
N_LEVEL = 15
# Entries of `state`. The task: root items from ROOT to before LAST_ROOT, and of the subtree of each
# the share SHARE of N_SHARES. Where the kernel stands: depth, the frame in which at most 128 rows
# begin (-1: none), and whether its candidates are still to be admitted.
ROOT, LAST_ROOT, SHARE, N_SHARES, DEPTH, PAIR_FROM, FRESH = range(7)
# Fewest rows that can reach the threshold; nodes since the last exchange; bits that the hash of a
# path must not have to be sampled; the longest path (0: any).
LEAST, SINCE, SAMPLE_MASK, MAX_LENGTH = range(7, 11)
# The threshold: lowest bucket alive, hypotheses in live buckets, 1 if it walks a grid, and the
# highest bucket that ever counted.
LEVEL, ALIVE, GRID, HIGHEST_BUCKET = range(11, 15)
# What the buffers hold; nodes visited; what the pass is for; the test (`EvidenceTables.choice`).
N_VALUES, N_RECORDS, N_ITEMS, VISITED, PURPOSE = range(15, 20)
TEST_KIND, TEST_SIDE, TEST_EXCESS, TEST_DEFICIT = range(20, 24)
# Strata of the frames of at most 128 rows, and whether no row set there exhausts a class of one;
# the words that the arena lacks; a constant zero; the most carriers that have a line in the tables.
N_STRATA, PLAIN, NEEDED, ZERO, FINE = range(24, 29)
# Addresses of the kernels that are compiled apart (`call_linked`).
SEARCH_PAIR_AT, IS_FIRST_AT = range(29, 31)
N_STATE = 31
# Entries of `marks`, all evidence but SCALE and UNIT: of the lowest live bucket; from which on the
# value of a hypothesis is kept; below which a subtree is pruned; from which on a p-value may be
# significant; below which values are kept; cells of the guide per unit; the largest of all; units
# of the ceilings per unit of evidence.
CUT, STORE, PRUNE, KEEP, WINDOW, SCALE, MOST, UNIT = range(8)
N_MARKS = 8
# Columns of `cand`, `score` and `segments`, the candidates of a frame and the strata of a word.
ITEM, ONES, FLAG = 0, 1, 2
EVIDENCE, BOUND = 0, 1
WORD, LINE, STRATUM, RANK = 0, 1, 2, 3
# Columns of `by_ones` and of the ladder.
LIMIT, PEAK = 0, 1
EDGE, ROOM, KEEP_FROM, STORE_FROM = 0, 1, 2, 3
COUNTS, PUBLISHED = 0, 1
# Columns of `found`; from SUPPORT on carriers, then carriers that are cases, by stratum.
CASES, WHAT, CARRIERS, N_PATH, N_CLOSED, KEY, SUPPORT = range(7)
# Bits of FLAG and WHAT: the p-value may be significant; the row set is visited elsewhere; it
# belongs to the sample.
CANDIDATE, ELSEWHERE, SAMPLED = 1, 2, 4
# What a pass is for: `PURPOSE`.
COUNT, COLLECT, SUMMIT, ENUMERATE = 0, 1, 2, 3
# Why the kernel returned.
DONE, STACK_SHORT, ARENA_SHORT, BUFFER_FULL = 0, 1, 2, 3

UNKNOWN = np.inf  # bound that was not needed yet
PAIR_ROWS = 128  # rows that fit two words


class SearchData(NamedTuple):
    """What is searched; items in order of falling support. Shared by all workers.

    Attributes
    ----------
    columns : ndarray of uint64, shape (n_words * n_items,)
        Distinct columns, none empty, none full; word by word, so that the same word of all items
        is contiguous.
    root_cand : ndarray of int64, shape (n_items, 3)
        Number of each item, its ones, and `CANDIDATE`.
    root_score : ndarray of float64, shape (n_items, 2)
        Minimum evidence of each item, and its bound over subsets of its rows (inf until needed;
        workers write the same).
    by_ones : ndarray of float64, shape (n_rows + 1, 2)
        For a row set with that many rows: a bound of its evidence (non-decreasing), and of
        -log of the largest probability of its number of cases. Of large data its first lines.
    parts, corners : ndarray of float64
    ceilings : ndarray of int64
    far : ndarray of float64
        As in `EvidenceTables`.
    """

    columns: NDArray[np.uint64]
    root_cand: NDArray[np.int64]
    root_score: NDArray[np.float64]
    by_ones: NDArray[np.float64]
    parts: NDArray[np.float64]
    corners: NDArray[np.float64]
    ceilings: NDArray[np.int64]
    far: NDArray[np.float64]


class Ladder(NamedTuple):
    """Buckets of evidence. Shared by all workers, never written.

    Attributes
    ----------
    rungs : ndarray of float64, shape (n_buckets, 4)
        Lower evidence of each bucket, ascending from 0 (the last bucket has no upper edge); how
        many hypotheses may be tested at the p-value of that edge, alpha / p; from which evidence
        on a p-value has to be remembered while that bucket is the lowest alive; and from which on
        the value of a hypothesis has.
    guide : ndarray of int64, shape (n_cells + 1,)
        A bucket not above that of an evidence, by evidence times `scale`.
    """

    rungs: NDArray[np.float64]
    guide: NDArray[np.int64]


class Shared(NamedTuple):
    """What the workers of a pass share.

    Attributes
    ----------
    stop : ndarray of int64, shape (1,)
        Set to 1 to end the search within a few nodes.
    counts : ndarray of int64, shape (n_buckets,)
        Counts of all workers together, for pruning only. Increments are not atomic: one may get
        lost, never invented, so the bound on the threshold that they give stays valid.
    """

    stop: NDArray[np.int64]
    counts: NDArray[np.int64]


class Tally(NamedTuple):
    """The numbers of one worker.

    Attributes
    ----------
    state : ndarray of int64, shape (31,)
    marks : ndarray of float64, shape (8,)
    counts : ndarray of int64, shape (n_buckets, 2)
        Hypotheses counted, exact for every bucket from the lowest alive; and how many of them the
        others were told of.
    """

    state: NDArray[np.int64]
    marks: NDArray[np.float64]
    counts: NDArray[np.int64]


class Stack(NamedTuple):
    """The candidates of every node on the current path, frame behind frame, and working space.

    Attributes
    ----------
    levels : ndarray of int64, shape (max_depth, 15)
    cand : ndarray of int64, shape (capacity, 3)
    score : ndarray of float64, shape (capacity, 2)
        As in `SearchData`.
    cells_lo, cells_hi : ndarray of uint64, shape (capacity,)
        Rows of each candidate within the at most 128 rows of the frames from `PAIR_FROM` on.
    covers_lo, covers_hi : ndarray of uint64, shape (capacity,)
        Their excluders.
    arena : ndarray of uint64
        For frames of more rows: case words, block of candidates and block of excluders of every
        level; the same word of all candidates is contiguous.
    segments : ndarray of int64, shape (n, 4)
        Word, place in the tables, stratum and its rank by share of cases.
    masks : ndarray of uint64, shape (n,)
        The bits of the word that belong to the stratum.
    strata : ndarray of int64, shape (n_strata, 4)
    pairs : ndarray of uint64, shape (n_strata, 2)
        The same for the at most 128 rows, one entry a stratum, by rank.
    closed : ndarray of int64
        Items that the closures of the nodes on the path added.
    lines : ndarray of int64, shape (n_strata + 1,)
    chosen, shared_ones, units : ndarray of int64
    rows : ndarray of uint64, shape (n_words,)
    limits : ndarray of uint64, shape (n_segments,)
    ends : ndarray of bool, shape (n_segments,)
    scratch : ndarray of float64, shape (3, n_strata + 1)
    """

    levels: NDArray[np.int64]
    cand: NDArray[np.int64]
    score: NDArray[np.float64]
    cells_lo: NDArray[np.uint64]
    cells_hi: NDArray[np.uint64]
    covers_lo: NDArray[np.uint64]
    covers_hi: NDArray[np.uint64]
    arena: NDArray[np.uint64]
    segments: NDArray[np.int64]
    masks: NDArray[np.uint64]
    strata: NDArray[np.int64]
    pairs: NDArray[np.uint64]
    closed: NDArray[np.int64]
    lines: NDArray[np.int64]
    chosen: NDArray[np.int64]
    shared_ones: NDArray[np.int64]
    units: NDArray[np.int64]
    rows: NDArray[np.uint64]
    limits: NDArray[np.uint64]
    ends: NDArray[np.bool_]
    scratch: NDArray[np.float64]


class Buffer(NamedTuple):
    """Where a worker writes what it has to remember; emptied when it is full.

    Attributes
    ----------
    values : ndarray of float64
        Evidence of hypotheses in the window.
    evidence : ndarray of float64, shape (capacity,)
    found : ndarray of int64, shape (capacity, 6 + 2 n_strata)
        Hypotheses that may be significant, or belong to the sample.
    items : ndarray of int64
        Their paths, each followed by what its closure adds.
    """

    values: NDArray[np.float64]
    evidence: NDArray[np.float64]
    found: NDArray[np.int64]
    items: NDArray[np.int64]
