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
For the same reason the state of a search lives in arrays: a kernel returns when it needs a longer
stack or an empty buffer, and goes on from there when it is called again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_inline, njit_leaf
from ..association.evidence import minimum_evidence, minimum_evidence_bound
from ..bitset import count_segments, is_subset, popcount
from .description import is_first_description
from .layout import (
    ALIVE,
    AT,
    BOUND,
    BUFFER_FULL,
    CARRIER_CASES,
    COLLECT,
    COUNT,
    CUT,
    DEPTH,
    DONE,
    END,
    EVIDENCE,
    EXCLUDING_END,
    GRID,
    ITEM,
    KEY,
    LAST_ROOT,
    LEAST,
    LENGTH,
    LEVEL,
    MAX_LENGTH,
    MIN_SUPPORT,
    N_ITEMS,
    N_PATTERNS,
    PATH,
    PRUNE,
    ROOT,
    STACK_SHORT,
    START,
    SUMMIT,
    SUPPORT,
)
from .testability import bucket_of, climbed

__all__ = ["UNKNOWN", "lowered", "room_needed", "search_subtrees"]

_SLACK = 1e-9  # relative: evidence this close below a cut counts as reaching it
UNKNOWN = np.inf  # bound that was not needed yet
_THIN_FROM = 4  # children from which on it pays to thin out the list of excluding items


@njit_inline
def lowered(edge: float) -> float:
    """Return an evidence lowered by the rounding errors that evidence may carry."""
    return edge - _SLACK * max(1.0, edge)


@njit_inline
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
        bound = UNKNOWN
        if evidence < cut:
            bound = minimum_evidence_bound(counts, choice, margins, extremes, offset, cut, scratch)
            if bound < cut:
                continue
        info[top, ITEM] = parent_info[j, ITEM]
        info[top, SUPPORT] = ones
        score[top, EVIDENCE] = evidence
        score[top, BOUND] = bound
        top += 1
    return top


@njit_inline
def _shared_rows(
    parent: NDArray[np.uint64], at: int, columns: NDArray[np.uint64], item: int
) -> int:
    """Count the rows that a candidate shares with an item."""
    ones = 0
    for w in range(columns.shape[1]):
        ones += popcount(parent[at, w] & columns[item, w])
    return ones


@njit_inline
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


@njit_inline
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


@njit_leaf
def _adopt_shared_threshold(
    room: NDArray[np.float64],
    tally: NDArray[np.int64],
    state: NDArray[np.int64],
    shared: NDArray[np.int64],
) -> None:
    """Move the threshold to where the counts of all workers put it."""
    alive = np.int64(0)
    for bucket in range(state[LEVEL], room.shape[0]):
        alive += shared[bucket]
    level, _ = climbed(room, shared, state[LEVEL], alive, state[GRID])
    for bucket in range(state[LEVEL], level):
        state[ALIVE] -= tally[bucket]
    state[LEVEL] = level


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


@njit_inline
def _record(
    parent: NDArray[np.uint64],
    at: int,
    evidence: float,
    depth: int,
    levels: NDArray[np.int64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    counts: NDArray[np.int64],
    fill: NDArray[np.int64],
    found_evidence: NDArray[np.float64],
    found_support: NDArray[np.int64],
    found_info: NDArray[np.int64],
    found_items: NDArray[np.int64],
) -> None:
    """Write down one hypothesis of the second pass; the buffer has room for it."""
    row = fill[N_PATTERNS]
    count_segments(parent, at, segments, masks, counts)
    for k in range(counts.shape[0]):
        found_support[row, k] = counts[k]
    a = np.int64(0)
    for w in range(parent.shape[1]):
        a += popcount(parent[at, w] & cases[w])
    found_evidence[row] = evidence
    found_info[row, CARRIER_CASES] = a
    found_info[row, KEY] = _sample_key(parent, at)
    found_info[row, LENGTH] = depth + 1
    for d in range(depth + 1):
        found_items[fill[N_ITEMS] + d] = levels[d, PATH]
    fill[N_PATTERNS] += 1
    fill[N_ITEMS] += depth + 1


@njit_inline
def room_needed(depth: int, levels: NDArray[np.int64]) -> int:
    """Return how long the stack must be to visit the candidate that the frame stands at."""
    used = levels[depth, END] if depth else np.int64(0)
    children = levels[depth, AT] - levels[depth, START] + 1
    siblings = levels[depth, END] - levels[depth, AT]
    return max(used + children, 2 * levels[depth, EXCLUDING_END] + siblings)


@njit_inline
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
    counts: NDArray[np.int64],
    scratch: NDArray[np.float64],
    cases: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    sizes_asked: NDArray[np.int64],
    choice: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    edges: NDArray[np.float64],
    room: NDArray[np.float64],
    tally: NDArray[np.int64],
    state: NDArray[np.int64],
    visited: NDArray[np.int64],
    most: NDArray[np.float64],
    shared: NDArray[np.int64],
    purpose: int,
    marks: NDArray[np.float64],
    fill: NDArray[np.int64],
    found_evidence: NDArray[np.float64],
    found_support: NDArray[np.int64],
    found_info: NDArray[np.int64],
    found_items: NDArray[np.int64],
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
        if bound == UNKNOWN:  # a root item, or testable when it was made: the threshold has moved
            count_segments(parent, at, segments, masks, counts)
            bound = minimum_evidence_bound(counts, choice, margins, extremes, offset, cut, scratch)
            parent_score[at, BOUND] = bound
        if bound < cut:
            return False
    # Case 1: a sparser item covers these rows. This and all below is visited with that item.
    if not limited and _is_excluded(columns, parent, parent_info, at, end, excluding, begin, stop):
        return False
    visited[0] += 1
    enough = parent_info[at, SUPPORT] >= sizes_asked[MIN_SUPPORT]
    if enough and evidence > most[0]:
        most[0] = evidence
        if purpose == SUMMIT:
            marks[CUT] = evidence
            marks[PRUNE] = evidence
    # Case 2: testable so far. It is a hypothesis of its own.
    if (
        enough
        and purpose != SUMMIT
        and evidence >= (marks[CUT] if purpose == COLLECT else edges[state[LEVEL]])
        and (not limited or is_first_description(columns, root_info, parent, at, levels, depth))
    ):
        if purpose == COLLECT:
            _record(
                parent, at, evidence, depth, levels, cases, segments, masks, counts, fill,
                found_evidence, found_support, found_info, found_items,
            )  # fmt: skip
        else:
            bucket = bucket_of(edges, evidence, state[LEVEL])
            tally[bucket] += 1
            shared[bucket] += 1
            state[LEVEL], state[ALIVE] = climbed(
                room, tally, state[LEVEL], state[ALIVE] + 1, state[GRID]
            )
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


@njit_leaf
def search_subtrees(
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
    cursor: NDArray[np.int64],
    words: NDArray[np.uint64],
    info: NDArray[np.int64],
    score: NDArray[np.float64],
    excluding: NDArray[np.int64],
    levels: NDArray[np.int64],
    counts: NDArray[np.int64],
    scratch: NDArray[np.float64],
    edges: NDArray[np.float64],
    room: NDArray[np.float64],
    tally: NDArray[np.int64],
    state: NDArray[np.int64],
    stop: NDArray[np.int64],
    visited: NDArray[np.int64],
    most: NDArray[np.float64],
    shared: NDArray[np.int64],
    purpose: int,
    marks: NDArray[np.float64],
    fill: NDArray[np.int64],
    found_evidence: NDArray[np.float64],
    found_support: NDArray[np.int64],
    found_info: NDArray[np.int64],
    found_items: NDArray[np.int64],
) -> int:
    """Search the subtrees of the root items of `cursor`, from where it stands.

    The arguments are the arrays of `SearchData`, its tables, `Stack`, `Ladder`, `Control`, `Goal`
    and `Buffer`, in the order of `sigmine.search.layout`. In the first pass hypotheses are counted
    on the ladder, which moves the threshold; in the second those that reach the fixed cut are
    written to the buffer. Candidates of a frame are visited from the last to the first.

    Returns
    -------
    int
        `DONE` (also when told to stop), `STACK_SHORT` or `BUFFER_FULL`.
    """
    while cursor[ROOT] < cursor[LAST_ROOT]:
        depth = cursor[DEPTH]
        if stop[0]:
            return DONE
        if depth < 0:  # the next root item
            if purpose == COUNT:
                _adopt_shared_threshold(room, tally, state, shared)
            levels[0, START] = 0
            levels[0, END] = columns.shape[0]
            levels[0, AT] = cursor[ROOT]
            levels[0, EXCLUDING_END] = 0
            cursor[DEPTH] = 0
            continue
        at = levels[depth, AT]
        if at < levels[depth, START]:  # the frame is done, and so is the candidate it belongs to
            cursor[DEPTH] -= 1
            _step_back(cursor, levels)
            continue
        if room_needed(depth, levels) > info.shape[0] or depth + 2 > levels.shape[0]:
            return STACK_SHORT
        if purpose == COLLECT and (
            fill[N_PATTERNS] >= found_info.shape[0] or fill[N_ITEMS] + depth >= found_items.shape[0]
        ):
            return BUFFER_FULL
        parent, parent_info, parent_score = columns, root_info, root_score
        if depth:
            parent, parent_info, parent_score = words, info, score
        levels[depth, PATH] = parent_info[at, ITEM]
        cut = lowered(edges[state[LEVEL]]) if purpose == COUNT else marks[PRUNE]
        while cursor[LEAST] < limit.shape[0] and limit[cursor[LEAST]] < cut:
            cursor[LEAST] += 1
        if _visit(
            columns, root_info, parent, parent_info, parent_score, depth, cut, cursor[LEAST],
            words, info, score, excluding, levels, counts, scratch, cases, segments, masks,
            sizes_asked, choice, margins, extremes, offset, edges, room, tally, state, visited,
            most, shared, purpose, marks, fill, found_evidence, found_support, found_info,
            found_items,
        ):  # fmt: skip
            cursor[DEPTH] += 1
        else:
            _step_back(cursor, levels)
    return DONE


@njit_inline
def _step_back(cursor: NDArray[np.int64], levels: NDArray[np.int64]) -> None:
    """Go on to the candidate before; at the root, to the next root item."""
    if cursor[DEPTH] == 0:
        cursor[DEPTH] = -1
        cursor[ROOT] += 1
    else:
        levels[cursor[DEPTH], AT] -= 1
