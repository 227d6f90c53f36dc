"""Depth-first enumeration of closed itemsets over bit-packed columns.

Items stand in order of falling support. A node is a row set T, reached by a path of items; it is
extended by the items of its frame that stand *before* the last item of the path (the denser ones),
and it is *excluded* if an item behind (sparser) covers T, because then the same closed itemset is
reached through that item. An item before that covers T belongs to the closure and is not extended
by. So every closed itemset is visited exactly once.

What is pruned never comes back: the threshold only tightens, and a row set inside a pruned one is
not testable. For the same reason a pruned item may be missing from the lists that exclude.

With a limit on the length, hypotheses are the row sets of itemsets of at most that many items. Then
exclusion by a sparser item could hide short descriptions behind long paths, so paths are not
excluded; a row set is counted on the path that is its first shortest description.

Kernels take plain arrays and row numbers, not tuples of arrays and slices: taking an array out of a
tuple or making a slice touches its reference count, atomically, and that was half of the run time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._jit import njit, njit_leaf
from ..association.evidence import (
    TestTables,
    is_significant,
    minimum_evidence,
    minimum_evidence_bound,
)
from ..bitset import count_segments, is_subset, popcount
from .description import is_first_description
from .testability import ALIVE, GRID, LEVEL, Ladder, bucket_of, climb

__all__ = ["Collector", "Control", "Goal", "SearchData", "lowered", "search_roots"]

_SLACK = 1e-9  # relative: evidence this close below a cut counts as reaching it
_UNKNOWN = np.inf  # bound of a row set that was testable when it was made: not computed yet
_THIN_FROM = 4  # children from which on it pays to thin out the list of excluding items

# Columns of the arrays that describe the candidates of a frame, and the frames.
ITEM, SUPPORT = 0, 1
EVIDENCE, BOUND = 0, 1
START, END, AT, EXCLUDING_END, PATH = 0, 1, 2, 3, 4
# Entries of small arrays.
MIN_SUPPORT, MAX_LENGTH = 0, 1
CUT, PRUNE, CRITICAL_END, ROOT, LOG_THRESHOLD = 0, 1, 2, 3, 4
N_PATTERNS, N_ITEMS, N_CRITICAL, N_SAMPLE, N_BEYOND = 0, 1, 2, 3, 4


class SearchData(NamedTuple):
    """What the kernel reads; items in order of falling support.

    Attributes
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Distinct, none empty, none full.
    info : ndarray of int64, shape (n_items, 2)
        Number of each item and its ones.
    score : ndarray of float64, shape (n_items, 2)
        Minimum evidence of each item, and its bound over supersets.
    cases : ndarray of uint64, shape (n_words,)
    segments : ndarray of int64, shape (n_segments, 2)
    masks : ndarray of uint64, shape (n_segments,)
        As in `sigmine.bitset.BitTable`.
    limit : ndarray of float64, shape (n_rows + 1,)
        An upper bound of the evidence of any row set with that many rows; non-decreasing.
    sizes_asked : ndarray of int64, shape (2,)
        Fewest rows; most items of a description, 0 for no limit.
    tables : TestTables
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
    tables: TestTables


class Control(NamedTuple):
    """What the kernel shares with the thread that watches it.

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
    stride : int
        0: the first pass, only count. Otherwise collect, and put one testable hypothesis in so
        many into the sample.
    marks : ndarray of float64, shape (5,)
        Of the second pass: evidence from which on a hypothesis is collected; the same less
        rounding errors, below which a subtree is pruned; evidence below which its exact value is
        kept (-inf with a grid); and a p-value threshold that the final one cannot exceed, as a
        signed root and as log p.
    """

    stride: int
    marks: NDArray[np.float64]


class Collector(NamedTuple):
    """Where the second pass writes. If a buffer is too short, `fill` says how long it must be.

    Attributes
    ----------
    fill : ndarray of int64, shape (5,)
        Patterns, items of patterns, critical values, sampled row sets, hypotheses beyond the
        critical bucket.
    items : ndarray of int64
        Paths of the patterns, one behind the other.
    ends : ndarray of int64
        Where each ends.
    critical : ndarray of float64
        Evidence of the hypotheses of the critical bucket.
    least_beyond : ndarray of float64, shape (1,)
        Smallest evidence beyond the critical bucket.
    sample_support : ndarray of int64, shape (capacity, n_strata)
    sample_cases : ndarray of int64, shape (capacity,)
        The sample.
    """

    fill: NDArray[np.int64]
    items: NDArray[np.int64]
    ends: NDArray[np.int64]
    critical: NDArray[np.float64]
    least_beyond: NDArray[np.float64]
    sample_support: NDArray[np.int64]
    sample_cases: NDArray[np.int64]


@njit_leaf
def lowered(edge: float) -> float:
    """Return an evidence lowered by the rounding errors that evidence may carry."""
    return edge - _SLACK * max(1.0, edge)


@njit_leaf
def _expand(
    parent: NDArray[np.uint64],
    parent_info: NDArray[np.int64],
    parent_score: NDArray[np.float64],
    start: int,
    at: int,
    words: NDArray[np.uint64],
    info: NDArray[np.int64],
    score: NDArray[np.float64],
    top: int,
    cut: float,
    least: int,
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    counts: NDArray[np.int64],
    scratch: NDArray[np.float64],
) -> int:
    """Write the children of candidate `at` of a frame from row `top` on; return the row behind.

    A ladder of filters, cheapest first: the candidate's own bound, the number of rows, the
    minimum evidence, its bound over supersets.
    """
    support = parent_info[at, SUPPORT]
    n_words = words.shape[1]
    for j in range(start, at):
        if parent_score[j, BOUND] < cut:
            continue
        ones = 0
        for w in range(n_words):
            word = parent[at, w] & parent[j, w]
            words[top, w] = word
            ones += popcount(word)
        if ones < least or ones == support:  # too few for any threshold, or j is in the closure
            continue
        count_segments(words, top, segments, masks, counts)
        evidence = minimum_evidence(counts, choice, margins, extremes, offset)
        bound = _UNKNOWN
        if evidence < cut:
            bound = minimum_evidence_bound(
                counts, choice, margins, extremes, offset, cut, scratch
            )
            if bound < cut:
                continue
        info[top, ITEM] = parent_info[j, ITEM]
        info[top, SUPPORT] = ones
        score[top, EVIDENCE] = evidence
        score[top, BOUND] = bound
        top += 1
    return top


@njit_leaf
def _shared_rows(
    parent: NDArray[np.uint64], at: int, columns: NDArray[np.uint64], item: int
) -> int:
    """Count the rows that a candidate shares with an item."""
    ones = 0
    for w in range(columns.shape[1]):
        ones += popcount(parent[at, w] & columns[item, w])
    return ones


@njit_leaf
def _inherit_excluding(
    columns: NDArray[np.uint64],
    parent: NDArray[np.uint64],
    parent_info: NDArray[np.int64],
    at: int,
    end: int,
    excluding: NDArray[np.int64],
    begin: int,
    stop: int,
    thin: bool,
    least: int,
) -> int:
    """Write the items that exclude below candidate `at`; return the place behind them.

    These are the items that exclude in its own frame (``begin`` to ``stop``) and its sparser
    siblings (up to ``end``), thinned out on request: an item that shares fewer than `least` rows
    with the candidate cannot cover a testable row set.
    """
    top = stop
    for e in range(begin, stop):
        item = excluding[e]
        if not thin or _shared_rows(parent, at, columns, item) >= least:
            excluding[top] = item
            top += 1
    for j in range(at + 1, end):
        item = parent_info[j, ITEM]
        if not thin or _shared_rows(parent, at, columns, item) >= least:
            excluding[top] = item
            top += 1
    return top


@njit_leaf
def _is_excluded(
    columns: NDArray[np.uint64],
    parent: NDArray[np.uint64],
    parent_info: NDArray[np.int64],
    at: int,
    end: int,
    excluding: NDArray[np.int64],
    begin: int,
    stop: int,
) -> bool:
    """Say whether an item behind covers the rows of a candidate: it is visited elsewhere."""
    support = parent_info[at, SUPPORT]
    for j in range(at + 1, end):
        if parent_info[j, SUPPORT] >= support and is_subset(parent, at, parent, j):
            return True
    for e in range(begin, stop):
        if is_subset(parent, at, columns, excluding[e]):
            return True
    return False


@njit
def _adopt_shared_threshold(
    edges: NDArray[np.float64],
    room: NDArray[np.float64],
    counts: NDArray[np.int64],
    state: NDArray[np.int64],
    shared: NDArray[np.int64],
) -> None:
    """Move the threshold to where the counts of all workers put it."""
    joint = np.empty(3, dtype=np.int64)
    joint[LEVEL] = state[LEVEL]
    joint[GRID] = state[GRID]
    joint[ALIVE] = 0
    for bucket in range(state[LEVEL], edges.shape[0]):
        joint[ALIVE] += shared[bucket]
    climb(edges, room, shared, joint)
    for bucket in range(state[LEVEL], joint[LEVEL]):
        state[ALIVE] -= counts[bucket]
    state[LEVEL] = joint[LEVEL]


@njit_leaf
def _sample_key(words: NDArray[np.uint64], at: int) -> int:
    """Return a number that depends on the rows alone (xorshift steps; no overflow anywhere)."""
    key = np.uint64(88172645463325252)
    for w in range(words.shape[1]):
        key ^= words[at, w]
        key ^= key << np.uint64(13)
        key ^= key >> np.uint64(7)
        key ^= key << np.uint64(17)
    return np.int64(key >> np.uint64(2))


@njit_leaf
def _collect(
    parent: NDArray[np.uint64],
    at: int,
    evidence: float,
    depth: int,
    levels: NDArray[np.int64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    counts: NDArray[np.int64],
    stride: int,
    marks: NDArray[np.float64],
    fill: NDArray[np.int64],
    items: NDArray[np.int64],
    ends: NDArray[np.int64],
    critical: NDArray[np.float64],
    least_beyond: NDArray[np.float64],
    sample_support: NDArray[np.int64],
    sample_cases: NDArray[np.int64],
) -> None:
    """Record one hypothesis of the second pass."""
    if evidence < marks[CRITICAL_END]:
        if fill[N_CRITICAL] < critical.shape[0]:
            critical[fill[N_CRITICAL]] = evidence
        fill[N_CRITICAL] += 1
    else:
        fill[N_BEYOND] += 1
        least_beyond[0] = min(least_beyond[0], evidence)
    count_segments(parent, at, segments, masks, counts)
    a = np.int64(0)
    for w in range(parent.shape[1]):
        a += popcount(parent[at, w] & cases[w])
    if _sample_key(parent, at) % stride == 0:
        if fill[N_SAMPLE] < sample_cases.shape[0]:
            for k in range(counts.shape[0]):
                sample_support[fill[N_SAMPLE], k] = counts[k]
            sample_cases[fill[N_SAMPLE]] = a
        fill[N_SAMPLE] += 1
    if is_significant(a, counts, choice, margins, marks[ROOT], marks[LOG_THRESHOLD]):
        begin = fill[N_ITEMS]
        if fill[N_PATTERNS] < ends.shape[0] and begin + depth < items.shape[0]:
            for d in range(depth + 1):
                items[begin + d] = levels[d, PATH]
            ends[fill[N_PATTERNS]] = begin + depth + 1
        fill[N_PATTERNS] += 1
        fill[N_ITEMS] += depth + 1


@njit
def _with_room(
    words: NDArray[np.uint64],
    info: NDArray[np.int64],
    score: NDArray[np.float64],
    excluding: NDArray[np.int64],
    levels: NDArray[np.int64],
    needed: int,
    needed_levels: int,
) -> tuple[
    NDArray[np.uint64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.int64],
]:
    """Return larger copies of the stack of frames."""
    capacity = info.shape[0]
    while capacity < needed:
        capacity *= 2
    new_words = np.empty((capacity, words.shape[1]), dtype=np.uint64)
    new_info = np.empty((capacity, 2), dtype=np.int64)
    new_score = np.empty((capacity, 2), dtype=np.float64)
    new_excluding = np.empty(capacity, dtype=np.int64)
    for i in range(info.shape[0]):
        for w in range(words.shape[1]):
            new_words[i, w] = words[i, w]
        for c in range(2):
            new_info[i, c] = info[i, c]
            new_score[i, c] = score[i, c]
        new_excluding[i] = excluding[i]
    n_levels = levels.shape[0]
    while n_levels < needed_levels:
        n_levels *= 2
    new_levels = np.zeros((n_levels, 5), dtype=np.int64)
    for i in range(levels.shape[0]):
        for c in range(5):
            new_levels[i, c] = levels[i, c]
    return new_words, new_info, new_score, new_excluding, new_levels


@njit_leaf
def _visit(
    columns: NDArray[np.uint64],
    root_info: NDArray[np.int64],
    parent: NDArray[np.uint64],
    parent_info: NDArray[np.int64],
    parent_score: NDArray[np.float64],
    depth: int,
    cut: float,
    least: int,
    words: NDArray[np.uint64],
    info: NDArray[np.int64],
    score: NDArray[np.float64],
    excluding: NDArray[np.int64],
    levels: NDArray[np.int64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    sizes_asked: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    counts: NDArray[np.int64],
    scratch: NDArray[np.float64],
    edges: NDArray[np.float64],
    room: NDArray[np.float64],
    tally: NDArray[np.int64],
    state: NDArray[np.int64],
    visited: NDArray[np.int64],
    most: NDArray[np.float64],
    shared: NDArray[np.int64],
    stride: int,
    marks: NDArray[np.float64],
    fill: NDArray[np.int64],
    items: NDArray[np.int64],
    ends: NDArray[np.int64],
    critical: NDArray[np.float64],
    least_beyond: NDArray[np.float64],
    sample_support: NDArray[np.int64],
    sample_cases: NDArray[np.int64],
) -> bool:
    """Visit the candidate that the frame at `depth` stands at; say whether it has children.

    `parent`, `parent_info` and `parent_score` hold the candidates of that frame.
    """
    start, end, at = levels[depth, START], levels[depth, END], levels[depth, AT]
    begin = levels[depth - 1, EXCLUDING_END] if depth else np.int64(0)
    stop = levels[depth, EXCLUDING_END]
    limited = sizes_asked[MAX_LENGTH] > 0
    evidence = parent_score[at, EVIDENCE]
    if evidence < cut:
        bound = parent_score[at, BOUND]
        if bound == _UNKNOWN:  # testable when it was made, but the threshold has moved since
            count_segments(parent, at, segments, masks, counts)
            bound = minimum_evidence_bound(
                counts, choice, margins, extremes, offset, cut, scratch
            )
        if bound < cut:
            return False
    # Case 1: a sparser item covers these rows. This and all below is visited with that item.
    if not limited and _is_excluded(
        columns, parent, parent_info, at, end, excluding, begin, stop
    ):
        return False
    visited[0] += 1
    most[0] = max(most[0], evidence)
    # Case 2: testable so far. It is a hypothesis of its own.
    threshold = marks[CUT] if stride else edges[state[LEVEL]]
    if (
        evidence >= threshold
        and parent_info[at, SUPPORT] >= sizes_asked[MIN_SUPPORT]
        and (not limited or is_first_description(columns, root_info, parent, at, levels, depth))
    ):
        if stride:
            _collect(
                parent, at, evidence, depth, levels, cases, segments, masks, choice, margins,
                counts, stride, marks, fill, items, ends, critical, least_beyond,
                sample_support, sample_cases,
            )  # fmt: skip
        else:
            bucket = bucket_of(edges, evidence, state[LEVEL])
            tally[bucket] += 1
            shared[bucket] += 1
            state[ALIVE] += 1
            climb(edges, room, tally, state)
    if limited and depth + 1 >= sizes_asked[MAX_LENGTH]:
        return False
    # Case 3: whatever may still be testable below.
    top = end if depth else np.int64(0)
    new_end = _expand(
        parent, parent_info, parent_score, start, at, words, info, score, top, cut, least,
        segments, masks, choice, margins, extremes, offset, counts, scratch,
    )  # fmt: skip
    if new_end == top:
        return False
    levels[depth + 1, START] = top
    levels[depth + 1, END] = new_end
    levels[depth + 1, AT] = new_end - 1
    levels[depth + 1, EXCLUDING_END] = stop
    if not limited:
        thin = depth == 0 or new_end - top >= _THIN_FROM
        levels[depth + 1, EXCLUDING_END] = _inherit_excluding(
            columns, parent, parent_info, at, end, excluding, begin, stop, thin, least
        )
    return True


@njit
def _search(
    first: int,
    last: int,
    columns: NDArray[np.uint64],
    root_info: NDArray[np.int64],
    root_score: NDArray[np.float64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    limit: NDArray[np.float64],
    sizes_asked: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    edges: NDArray[np.float64],
    room: NDArray[np.float64],
    tally: NDArray[np.int64],
    state: NDArray[np.int64],
    stop: NDArray[np.int64],
    visited: NDArray[np.int64],
    most: NDArray[np.float64],
    shared: NDArray[np.int64],
    stride: int,
    marks: NDArray[np.float64],
    fill: NDArray[np.int64],
    items: NDArray[np.int64],
    ends: NDArray[np.int64],
    critical: NDArray[np.float64],
    least_beyond: NDArray[np.float64],
    sample_support: NDArray[np.int64],
    sample_cases: NDArray[np.int64],
) -> None:
    """Run `search_roots` on plain arrays: a stack of frames, candidates from last to first."""
    capacity = 256
    words = np.empty((capacity, columns.shape[1]), dtype=np.uint64)
    info = np.empty((capacity, 2), dtype=np.int64)
    score = np.empty((capacity, 2), dtype=np.float64)
    excluding = np.empty(capacity, dtype=np.int64)
    levels = np.zeros((16, 5), dtype=np.int64)
    counts = np.zeros(margins.shape[1], dtype=np.int64)
    scratch = np.empty((3, margins.shape[1]), dtype=np.float64)
    least = sizes_asked[MIN_SUPPORT]
    for root in range(first, last):
        if not stride:
            _adopt_shared_threshold(edges, room, tally, state, shared)
        levels[0, START] = 0
        levels[0, END] = columns.shape[0]
        levels[0, AT] = root
        levels[0, EXCLUDING_END] = 0
        depth = np.int64(0)  # not a literal: numba would compile every callee twice
        while depth >= 0:
            if stop[0]:
                return
            at = levels[depth, AT]
            if depth and at < levels[depth, START]:
                depth -= 1
                levels[depth, AT] -= 1
                if depth == 0:
                    break
                continue
            levels[depth, PATH] = info[at, ITEM] if depth else at
            cut = marks[PRUNE] if stride else lowered(edges[state[LEVEL]])
            while least < limit.shape[0] and limit[least] < cut:
                least += 1
            used = levels[depth, END] if depth else np.int64(0)
            needed = used + at - levels[depth, START] + 1
            needed = max(
                needed, 2 * levels[depth, EXCLUDING_END] + levels[depth, END] - at
            )
            if needed > info.shape[0] or depth + 2 > levels.shape[0]:
                words, info, score, excluding, levels = _with_room(
                    words, info, score, excluding, levels, needed, depth + 2
                )
            if depth:
                entered = _visit(
                    columns, root_info, words, info, score, depth, cut, least,
                    words, info, score, excluding, levels, cases, segments, masks, sizes_asked,
                    choice, margins, extremes, offset, counts, scratch, edges, room, tally, state,
                    visited, most, shared, stride, marks, fill, items, ends, critical,
                    least_beyond, sample_support, sample_cases,
                )  # fmt: skip
            else:
                entered = _visit(
                    columns, root_info, columns, root_info, root_score, depth, cut, least,
                    words, info, score, excluding, levels, cases, segments, masks, sizes_asked,
                    choice, margins, extremes, offset, counts, scratch, edges, room, tally, state,
                    visited, most, shared, stride, marks, fill, items, ends, critical,
                    least_beyond, sample_support, sample_cases,
                )  # fmt: skip
            if entered:
                depth += 1
            elif depth == 0:
                break
            else:
                levels[depth, AT] -= 1


def search_roots(
    first: int,
    last: int,
    data: SearchData,
    ladder: Ladder,
    control: Control,
    goal: Goal,
    collector: Collector,
) -> None:
    """Search the subtrees of root items ``first`` to ``last - 1``.

    Parameters
    ----------
    first, last : int
        Root items.
    data : SearchData
        Items, strata, test.
    ladder : Ladder
        In the first pass, hypotheses are counted on it and it moves the threshold.
    control : Control
        Shared with the thread that watches. With ``control.stop`` set the search ends early and
        leaves everything consistent.
    goal : Goal
        Which pass, and what it looks for.
    collector : Collector
        Where the second pass writes.
    """
    *arrays, tables = data
    _search(first, last, *arrays, *tables, *ladder, *control, *goal, *collector)
