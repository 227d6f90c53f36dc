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
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._jit import njit
from ..association.evidence import (
    TestTables,
    is_significant,
    minimum_evidence,
    minimum_evidence_bound,
)
from ..bitset import count_segments, is_subset, popcount
from .testability import Ladder, bucket_of, climb

__all__ = [
    "Collector",
    "Control",
    "SearchData",
    "Target",
    "cut_of",
    "root_evidence",
    "search_roots",
]

_SLACK = 1e-9  # relative: evidence this close below a cut counts as reaching it
_UNKNOWN = np.inf  # bound of a row set that was testable when it was made: not computed yet
_FILTER_FROM = 4  # children from which on it pays to thin out the list of excluding items


class SearchData(NamedTuple):
    """What the kernel reads; items in order of falling support.

    Attributes
    ----------
    columns : ndarray of uint64, shape (n_items, n_words)
        Distinct, none empty, none full.
    supports : ndarray of int64, shape (n_items,)
        Their ones.
    evidence, bound : ndarray of float64, shape (n_items,)
        Minimum evidence of each item, and its bound over supersets.
    cases, segment_word, segment_mask, segment_stratum
        As in `sigmine.bitset.BitTable`.
    tables : TestTables
        The test.
    limit : ndarray of float64, shape (n_rows + 1,)
        An upper bound of the evidence of any row set with that many rows; non-decreasing.
    min_support, max_length : int
        Fewest rows; most items of a description, 0 for no limit.
    """

    columns: NDArray[np.uint64]
    supports: NDArray[np.int64]
    evidence: NDArray[np.float64]
    bound: NDArray[np.float64]
    cases: NDArray[np.uint64]
    segment_word: NDArray[np.int64]
    segment_mask: NDArray[np.uint64]
    segment_stratum: NDArray[np.int64]
    tables: TestTables
    limit: NDArray[np.float64]
    min_support: int
    max_length: int


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
    shared_counts : ndarray of int64, shape (n_buckets,)
        Counts of all workers together, for pruning only. Increments are not atomic: one may get
        lost, never invented, so the bound on the threshold that they give stays valid.
    """

    stop: NDArray[np.int64]
    visited: NDArray[np.int64]
    most: NDArray[np.float64]
    shared_counts: NDArray[np.int64]


class Target(NamedTuple):
    """What the collecting pass looks for.

    Attributes
    ----------
    collect : int
        0: first pass, only count. 1: collect.
    cut, prune : float
        Evidence from which on a hypothesis is collected; the same less rounding errors, below
        which a subtree is pruned.
    critical_end : float
        Evidence below which its exact value is kept; -inf with a grid.
    root, log_threshold : float
        A p-value threshold that the final one cannot exceed: as a signed root and as log p.
    stride : int
        One testable hypothesis in so many goes into the sample.
    """

    collect: int
    cut: float
    prune: float
    critical_end: float
    root: float
    log_threshold: float
    stride: int


class Collector(NamedTuple):
    """Where the collecting pass writes. If a buffer is too short, ``fill`` says how long it must be.

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


class _Frames(NamedTuple):
    """Candidates of every node on the current path, frame behind frame, and scratch space."""

    columns: NDArray[np.uint64]  # (capacity, n_words) conditional on the path
    item: NDArray[np.int64]
    support: NDArray[np.int64]
    evidence: NDArray[np.float64]
    bound: NDArray[np.float64]
    excluding: NDArray[np.int64]  # (capacity,) items that exclude, frame behind frame
    start: NDArray[np.int64]  # (max depth,) first candidate of a frame
    end: NDArray[np.int64]
    position: NDArray[np.int64]  # candidate of the frame that is being visited
    excluding_end: NDArray[np.int64]
    path: NDArray[np.int64]
    counts: NDArray[np.int64]  # (n_strata,)
    scratch: NDArray[np.float64]  # (3, n_strata)


@njit
def cut_of(edge: float) -> float:
    """Return an edge lowered by the rounding errors that evidence may carry."""
    return edge - _SLACK * max(1.0, edge)


@njit
def _counts(column: NDArray[np.uint64], data: SearchData, counts: NDArray[np.int64]) -> int:
    return count_segments(
        column, data.segment_word, data.segment_mask, data.segment_stratum, counts
    )


@njit
def root_evidence(
    columns: NDArray[np.uint64],
    data: SearchData,
    evidence: NDArray[np.float64],
    bound: NDArray[np.float64],
) -> None:
    """Fill in evidence and bound of every item."""
    counts = np.zeros(data.tables.sizes.shape[0], dtype=np.int64)
    scratch = np.empty((3, counts.shape[0]), dtype=np.float64)
    for i in range(columns.shape[0]):
        _counts(columns[i], data, counts)
        evidence[i] = minimum_evidence(counts, data.tables)
        bound[i] = minimum_evidence_bound(counts, data.tables, -1.0, scratch)


@njit
def _least_support(data: SearchData, cut: float, start: int) -> int:
    """Return the fewest rows that a row set needs to reach the cut (from `start` upwards)."""
    support = start
    while support < data.limit.shape[0] and data.limit[support] < cut:
        support += 1
    return support


@njit
def _expand(
    data: SearchData,
    frames: _Frames,
    parent: NDArray[np.uint64],
    depth: int,
    cut: float,
    least: int,
) -> int:
    """Write the children of the node at `depth` as frame ``depth + 1``; return how many.

    `parent` holds the columns of the frame at `depth`: the root's, or ``frames.columns``.
    A ladder of filters, cheapest first: the candidate's own bound, the number of rows, the
    minimum evidence, its bound over supersets.
    """
    at = frames.position[depth]
    rows = parent[at]
    support = frames.support[at] if depth else data.supports[at]
    top = frames.end[depth] if depth else 0
    frames.start[depth + 1] = top
    n_words = rows.shape[0]
    for j in range(frames.start[depth], at):
        if (frames.bound[j] if depth else data.bound[j]) < cut:
            continue
        child = frames.columns[top]
        candidate = parent[j]
        ones = 0
        for w in range(n_words):
            word = rows[w] & candidate[w]
            child[w] = word
            ones += popcount(word)
        if ones < least or ones == support:  # too few for any threshold, or j is in the closure
            continue
        _counts(child, data, frames.counts)
        evidence = minimum_evidence(frames.counts, data.tables)
        bound = _UNKNOWN
        if evidence < cut:
            bound = minimum_evidence_bound(frames.counts, data.tables, cut, frames.scratch)
            if bound < cut:
                continue
        frames.item[top] = frames.item[j] if depth else j
        frames.support[top] = ones
        frames.evidence[top] = evidence
        frames.bound[top] = bound
        top += 1
    frames.end[depth + 1] = top
    return top - frames.start[depth + 1]


@njit
def _inherit_excluding(
    data: SearchData, frames: _Frames, rows: NDArray[np.uint64], depth: int, thin: bool, least: int
) -> None:
    """Write the items that exclude below the node at `depth`: its own list and sparser siblings.

    An item that shares fewer than `least` rows with the node cannot cover a testable row set.
    """
    begin = frames.excluding_end[depth - 1] if depth else 0
    end = frames.excluding_end[depth]
    top = end
    last = frames.end[depth]
    for source in range(2):
        low = begin if source == 0 else frames.position[depth] + 1
        high = end if source == 0 else last
        for e in range(low, high):
            if source == 0:
                item = frames.excluding[e]
            else:
                item = frames.item[e] if depth else e
            if thin:
                shared = 0
                column = data.columns[item]
                for w in range(rows.shape[0]):
                    shared += popcount(rows[w] & column[w])
                if shared < least:
                    continue
            frames.excluding[top] = item
            top += 1
    frames.excluding_end[depth + 1] = top


@njit
def _is_excluded(
    data: SearchData,
    frames: _Frames,
    parent: NDArray[np.uint64],
    depth: int,
) -> bool:
    """Say whether an item behind covers the rows of the node: it is visited elsewhere."""
    at = frames.position[depth]
    rows = parent[at]
    support = frames.support[at] if depth else data.supports[at]
    for j in range(at + 1, frames.end[depth]):
        if (frames.support[j] if depth else data.supports[j]) >= support and is_subset(
            rows, parent[j]
        ):
            return True
    begin = frames.excluding_end[depth - 1] if depth else 0
    for e in range(begin, frames.excluding_end[depth]):
        if is_subset(rows, data.columns[frames.excluding[e]]):
            return True
    return False


@njit
def _is_first_description(
    data: SearchData, frames: _Frames, rows: NDArray[np.uint64], depth: int
) -> bool:
    """Say whether the path is the first shortest itemset with these rows.

    Sets are ordered by length, then lexicographically. Only items that cover the rows can take
    part, so the combinations of the closure are tried in that order until one has these rows.
    """
    n_words = rows.shape[0]
    size = depth + 1
    path = np.empty(size, dtype=np.int64)
    for i in range(size):
        at = i
        while at > 0 and path[at - 1] > frames.path[i]:
            path[at] = path[at - 1]
            at -= 1
        path[at] = frames.path[i]
    support = 0
    for w in range(n_words):
        support += popcount(rows[w])
    closure = np.empty(data.columns.shape[0], dtype=np.int64)
    n_closure = 0
    for j in range(data.columns.shape[0]):
        if data.supports[j] >= support and is_subset(rows, data.columns[j]):
            closure[n_closure] = j
            n_closure += 1
    chosen = np.empty(size, dtype=np.int64)
    partial = np.empty((size + 1, n_words), dtype=np.uint64)
    for w in range(n_words):
        partial[0, w] = rows[w] | ~rows[w]
    for length in range(1, size + 1):
        level = 0
        chosen[0] = -1
        while level >= 0:
            chosen[level] += 1
            if chosen[level] > n_closure - (length - level):
                level -= 1
                continue
            column = data.columns[closure[chosen[level]]]
            ones = 0
            for w in range(n_words):
                partial[level + 1, w] = partial[level, w] & column[w]
                ones += popcount(partial[level + 1, w])
            if level + 1 < length:
                level += 1
                chosen[level] = chosen[level - 1]
                continue
            if ones == support:
                if length < size:
                    return False
                for i in range(size):
                    if closure[chosen[i]] != path[i]:
                        return False
                return True
    return False


@njit
def _count(ladder: Ladder, control: Control, evidence: float) -> None:
    """Count one hypothesis that is testable so far, and move the threshold."""
    bucket = bucket_of(ladder.edges, evidence, ladder.state[0])
    ladder.counts[bucket] += 1
    ladder.state[1] += 1
    control.shared_counts[bucket] += 1
    climb(ladder)


@njit
def _adopt_shared_threshold(ladder: Ladder, control: Control) -> None:
    """Move the threshold to where the counts of all workers put it."""
    level = ladder.state[0]
    last = ladder.edges.shape[0] - 1
    alive = np.int64(0)
    for bucket in range(level, last + 1):
        alive += control.shared_counts[bucket]
    while level < last:
        if ladder.grid:
            if alive * ladder.pvalues[level] <= ladder.alpha:
                break
        else:
            beyond = alive - control.shared_counts[level]
            if (beyond + 1) * ladder.pvalues[level + 1] <= ladder.alpha:
                break
        alive -= control.shared_counts[level]
        level += 1
    if level > ladder.state[0]:
        ladder.state[0] = level
        mine = np.int64(0)
        for bucket in range(level, last + 1):
            mine += ladder.counts[bucket]
        ladder.state[1] = mine


@njit
def _sample_key(rows: NDArray[np.uint64]) -> int:
    """Return a number that depends on the rows alone (xorshift steps; no overflow anywhere)."""
    key = np.uint64(88172645463325252)
    for w in range(rows.shape[0]):
        key ^= rows[w]
        key ^= key << np.uint64(13)
        key ^= key >> np.uint64(7)
        key ^= key << np.uint64(17)
    return np.int64(key >> np.uint64(2))


@njit
def _collect(
    data: SearchData,
    frames: _Frames,
    rows: NDArray[np.uint64],
    depth: int,
    evidence: float,
    target: Target,
    collector: Collector,
) -> None:
    """Record one hypothesis of the second pass."""
    fill = collector.fill
    if evidence < target.critical_end:
        if fill[2] < collector.critical.shape[0]:
            collector.critical[fill[2]] = evidence
        fill[2] += 1
    else:
        fill[4] += 1
        collector.least_beyond[0] = min(collector.least_beyond[0], evidence)
    _counts(rows, data, frames.counts)
    a = np.int64(0)
    for w in range(rows.shape[0]):
        a += popcount(rows[w] & data.cases[w])
    if _sample_key(rows) % target.stride == 0:
        if fill[3] < collector.sample_cases.shape[0]:
            for k in range(frames.counts.shape[0]):
                collector.sample_support[fill[3], k] = frames.counts[k]
            collector.sample_cases[fill[3]] = a
        fill[3] += 1
    if is_significant(a, frames.counts, data.tables, target.root, target.log_threshold):
        if fill[0] < collector.ends.shape[0] and fill[1] + depth < collector.items.shape[0]:
            for d in range(depth + 1):
                collector.items[fill[1] + d] = frames.path[d]
            collector.ends[fill[0]] = fill[1] + depth + 1
        fill[0] += 1
        fill[1] += depth + 1


@njit
def _make_frames(data: SearchData, capacity: int, depth: int) -> _Frames:
    n_strata = data.tables.sizes.shape[0]
    return _Frames(
        np.empty((capacity, data.columns.shape[1]), dtype=np.uint64),
        np.empty(capacity, dtype=np.int64),
        np.empty(capacity, dtype=np.int64),
        np.empty(capacity, dtype=np.float64),
        np.empty(capacity, dtype=np.float64),
        np.empty(capacity, dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(n_strata, dtype=np.int64),
        np.empty((3, n_strata), dtype=np.float64),
    )


@njit
def _with_room(data: SearchData, frames: _Frames, depth: int) -> _Frames:
    """Return frames that can take all children of the node at `depth`, larger if need be."""
    used = frames.end[depth] if depth else 0
    excluded = frames.excluding_end[depth]
    needed = used + (frames.position[depth] - frames.start[depth]) + 1
    needed = max(needed, 2 * excluded + (frames.end[depth] - frames.position[depth]) + 1)
    deep = depth + 2 >= frames.start.shape[0]
    if needed <= frames.item.shape[0] and not deep:
        return frames
    capacity = frames.item.shape[0]
    while capacity < needed:
        capacity *= 2
    levels = frames.start.shape[0]
    larger = _make_frames(data, capacity, 2 * levels if deep else levels)
    for i in range(used):
        for w in range(frames.columns.shape[1]):
            larger.columns[i, w] = frames.columns[i, w]
        larger.item[i] = frames.item[i]
        larger.support[i] = frames.support[i]
        larger.evidence[i] = frames.evidence[i]
        larger.bound[i] = frames.bound[i]
    for i in range(excluded):
        larger.excluding[i] = frames.excluding[i]
    for i in range(levels):
        larger.start[i] = frames.start[i]
        larger.end[i] = frames.end[i]
        larger.position[i] = frames.position[i]
        larger.excluding_end[i] = frames.excluding_end[i]
        larger.path[i] = frames.path[i]
    return larger


@njit
def _bound_at_visit(
    data: SearchData, frames: _Frames, rows: NDArray[np.uint64], depth: int, cut: float
) -> float:
    """Return the node's bound, computing it now if it was testable when it was made."""
    at = frames.position[depth]
    bound = frames.bound[at] if depth else data.bound[at]
    evidence = frames.evidence[at] if depth else data.evidence[at]
    if bound == _UNKNOWN and evidence < cut:
        _counts(rows, data, frames.counts)
        bound = minimum_evidence_bound(frames.counts, data.tables, cut, frames.scratch)
        if depth:
            frames.bound[at] = bound
    return bound


@njit
def search_roots(
    first: int,
    last: int,
    data: SearchData,
    ladder: Ladder,
    control: Control,
    target: Target,
    collector: Collector,
) -> None:
    """Search the subtrees of root items ``first`` to ``last - 1``.

    In the first pass hypotheses are counted on the ladder; in the second those that reach the
    fixed cut are collected. Ends early, leaving everything consistent, when ``control.stop`` is
    set.
    """
    frames = _make_frames(data, 1024, 32)
    least = data.min_support
    limited = data.max_length > 0
    for root in range(first, last):
        if not target.collect:
            _adopt_shared_threshold(ladder, control)
        frames.start[0] = 0
        frames.end[0] = data.columns.shape[0]
        frames.position[0] = root
        frames.excluding_end[0] = 0
        depth = np.int64(0)  # not a literal: numba would compile every callee twice
        while depth >= 0:
            if control.stop[0]:
                return
            parent = frames.columns if depth else data.columns
            at = frames.position[depth]
            if at < frames.start[depth]:  # frame exhausted: its candidates run downwards
                depth -= 1
                if depth >= 0:
                    frames.position[depth] = frames.position[depth] - 1 if depth else -1
                continue
            cut = target.prune if target.collect else cut_of(ladder.edges[ladder.state[0]])
            least = _least_support(data, cut, least)
            rows = parent[at]
            frames.path[depth] = frames.item[at] if depth else at
            entered = False
            if _bound_at_visit(data, frames, rows, depth, cut) >= cut and (
                limited or not _is_excluded(data, frames, parent, depth)
            ):
                control.visited[0] += 1
                evidence = frames.evidence[at] if depth else data.evidence[at]
                control.most[0] = max(control.most[0], evidence)
                if (
                    evidence >= (target.cut if target.collect else ladder.edges[ladder.state[0]])
                    and (frames.support[at] if depth else data.supports[at]) >= data.min_support
                    and (not limited or _is_first_description(data, frames, rows, depth))
                ):
                    if target.collect:
                        _collect(data, frames, rows, depth, evidence, target, collector)
                    else:
                        _count(ladder, control, evidence)
                if not limited or depth + 1 < data.max_length:
                    frames = _with_room(data, frames, depth)
                    parent = frames.columns if depth else data.columns
                    n_children = _expand(data, frames, parent, depth, cut, least)
                    if n_children > 0:
                        if limited:
                            frames.excluding_end[depth + 1] = frames.excluding_end[depth]
                        else:
                            thin = depth == 0 or n_children >= _FILTER_FROM
                            _inherit_excluding(data, frames, parent[at], depth, thin, least)
                        entered = True
            if entered:
                depth += 1
                frames.position[depth] = frames.end[depth] - 1
            else:
                frames.position[depth] = at - 1 if depth else -1
