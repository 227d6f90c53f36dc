"""The search from the root down to nodes of at most 128 rows, which `pair_kernel` takes over.

The candidates of a frame are a *block*: the same word of all of them is contiguous, so that the
loops run over candidates and vectorise. A node costs one pass over the candidates before it (its
extensions), one over those behind it and over the items that exclude in its frame (is it visited
elsewhere, and what can exclude below), and the projection of what is left onto its rows.

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
tuple or making a slice touches its reference count, atomically. For the same reason the state of a
search lives in arrays: a kernel returns when it needs more room or an empty buffer, and goes on
from there when it is called again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, call_linked, njit_entry, njit_part
from ..bitset import popcount
from .block_candidates import bound_of_lines, choose_covers, extend_block, find_lines, flag_of
from .counting import count_hypothesis, exchange
from .description import is_first_description
from .layout import (
    ARENA_END,
    ARENA_SHORT,
    AT,
    BLOCK,
    BOUND,
    BUFFER_FULL,
    CANDIDATE,
    CASES_AT,
    CLOSED_END,
    COUNT,
    DEPTH,
    DONE,
    END,
    ENUMERATE,
    EVIDENCE,
    FLAG,
    FRESH,
    HASH,
    IS_FIRST_AT,
    ITEM,
    KEEP,
    LAST_ROOT,
    LEAST,
    LINE,
    MAX_LENGTH,
    MOST,
    N_ITEMS,
    N_OTHERS,
    N_RECORDS,
    N_SHARES,
    N_VALUES,
    NEEDED,
    ONES,
    OTHERS,
    PAIR_FROM,
    PAIR_ROWS,
    PATH,
    PRUNE,
    PURPOSE,
    ROOT,
    SAMPLE_MASK,
    SAMPLED,
    SEARCH_PAIR_AT,
    SEGMENT,
    SEGMENT_END,
    SHARE,
    SINCE,
    STACK_SHORT,
    START,
    STOP,
    STORE,
    STRATUM,
    SUMMIT,
    SUPPORT,
    UNKNOWN,
    VISITED,
    WIDTH,
    WORD,
    ZERO,
)
from .pair_kernel import EXCHANGE_AFTER, hashed, record, search_pair
from .projection import project, project_pair, project_segments, strata_of_pair

__all__ = ["search_subtrees"]

U = np.uint64
_NODE_WEIGHT = 16  # a node of many rows, in nodes of few: for how often workers exchange counts


@njit_part
def _open_rows(
    parent: NDArray[np.uint64],
    base: Int,
    stride: Int,
    me: Int,
    n_words: Int,
    begin: Int,
    segment_end: Int,
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    rows: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
) -> Int:
    """Copy the rows of column `me`, as a whole and by segment; return how many words have any."""
    used = np.int64(0)
    for w in range(n_words):
        rows[w] = parent[base + w * stride + me]
        used += rows[w] != 0
    for s in range(begin, segment_end):
        limits[s - begin] = rows[segments[s, WORD]] & masks[s]
        ends[s - begin] = s + 1 == segment_end or segments[s + 1, LINE] != segments[s, LINE]
    return used


@njit_part
def _note(
    depth: Int,
    evidence: float,
    ones: Int,
    flag: Int,
    n_words: Int,
    cases_at: Int,
    begin: Int,
    segment_end: Int,
    key: Int,
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    far: NDArray[np.float64],
    levels: NDArray[np.int64],
    arena: NDArray[np.uint64],
    segments: NDArray[np.int64],
    closed: NDArray[np.int64],
    lines: NDArray[np.int64],
    rows: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    found_evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
) -> None:
    """Write a hypothesis down if it may be significant or belongs to the sample."""
    a = np.int64(0)
    for w in range(n_words):
        a += np.int64(popcount(rows[w] & arena[cases_at + w]))
    if state[PURPOSE] == ENUMERATE:
        flag = np.int64(CANDIDATE if marks[KEEP] <= 0.0 else 0)
    else:
        if depth == 0:
            n = find_lines(
                rows, np.int64(0), np.int64(0), np.int64(0), begin, segment_end, segments, limits,
                ends, state, far, parts, corners, lines,
            )  # fmt: skip
            flag = flag_of(a, ones, n, lines, marks[KEEP], state, by_ones, parts)
        if key & state[SAMPLE_MASK] == 0:
            flag |= SAMPLED
    if flag == 0:
        return
    row = state[N_RECORDS]
    for k in range(SUPPORT, found.shape[1]):
        found[row, k] = 0
    n_strata = (found.shape[1] - SUPPORT) // 2
    for s in range(begin, segment_end if n_strata else begin):
        column, mask = SUPPORT + segments[s, STRATUM], limits[s - begin]
        found[row, column] += np.int64(popcount(mask))
        mask &= arena[cases_at + segments[s, WORD]]
        found[row, column + n_strata] += np.int64(popcount(mask))
    record(flag, evidence, a, ones, key, depth, levels, closed, state, found_evidence, found, items)


@njit_part
def _descend(
    parent: NDArray[np.uint64],
    depth: Int,
    first_child: Int,
    top: Int,
    n_near: Int,
    n_far: Int,
    packed: bool,
    width: Int,
    key: Int,
    state: NDArray[np.int64],
    parts: NDArray[np.float64],
    levels: NDArray[np.int64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    covers_lo: NDArray[np.uint64],
    covers_hi: NDArray[np.uint64],
    arena: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    chosen: NDArray[np.int64],
    rows: NDArray[np.uint64],
) -> None:
    """Make the frame of a node: its cases, its children and what excludes, on its rows only."""
    base, n_words = levels[depth, BLOCK], levels[depth, WIDTH]
    stride = levels[depth, END] - levels[depth, START]
    others, n_others = levels[depth, OTHERS], levels[depth, N_OTHERS]
    begin, segment_end = levels[depth, SEGMENT], levels[depth, SEGMENT_END]
    n_chosen, n_covers = top - first_child, n_near + n_far
    far = n_chosen + n_near
    zero, one = np.int64(0), np.int64(1)
    place = levels[depth, ARENA_END]
    project(
        arena, levels[depth, CASES_AT], one, state, np.int64(ZERO), one, rows, n_words, packed,
        arena, place, one,
    )  # fmt: skip
    down = depth + 1
    state[DEPTH] = down
    levels[down, START] = levels[down, STOP] = first_child
    levels[down, END] = top
    levels[down, AT] = top - 1
    levels[down, HASH] = key
    levels[down, CASES_AT] = place
    levels[down, WIDTH] = width
    levels[down, SEGMENT] = segment_end
    levels[down, SEGMENT_END] = project_segments(segments, masks, begin, segment_end, rows, packed)
    place += max(width, np.int64(2))
    levels[down, ARENA_END] = place
    levels[down, N_OTHERS] = n_covers
    if width > 2:
        levels[down, BLOCK] = place
        project(
            parent, base, stride, chosen, zero, n_chosen, rows, n_words, packed, arena, place,
            n_chosen,
        )  # fmt: skip
        place += width * n_chosen
        levels[down, OTHERS] = place
        project(
            parent, base, stride, chosen, n_chosen, n_near, rows, n_words, packed, arena, place,
            n_covers,
        )  # fmt: skip
        project(
            arena, others, n_others, chosen, far, n_far, rows, n_words, packed, arena,
            place + n_near, n_covers,
        )  # fmt: skip
        levels[down, ARENA_END] = place + width * n_covers
        return
    levels[down, OTHERS] = 0
    project_pair(
        parent, base, stride, chosen, zero, n_chosen, rows, n_words, packed, cells_lo, cells_hi,
        first_child,
    )  # fmt: skip
    project_pair(
        parent, base, stride, chosen, n_chosen, n_near, rows, n_words, packed, covers_lo,
        covers_hi, zero,
    )  # fmt: skip
    project_pair(
        arena, others, n_others, chosen, far, n_far, rows, n_words, packed, covers_lo, covers_hi,
        n_near,
    )  # fmt: skip
    strata_of_pair(
        segments, masks, segment_end, levels[down, SEGMENT_END], parts, strata, pairs, state
    )
    state[PAIR_FROM], state[FRESH] = down, 1


@njit_part
def _visit(
    depth: Int,
    data: tuple[Any, ...],
    tally: tuple[Any, ...],
    stack: tuple[Any, ...],
    buffer: tuple[Any, ...],
) -> Int:
    """Visit the candidate that a frame stands at; leave the state at what comes next.

    Until it is known that there is room for everything, nothing is counted: the kernel may return
    and visit again.
    """
    columns, root_cand, root_score, by_ones, parts, corners, ceilings, far, rungs, guide = data
    state, marks, counts, levels, cand, score, cells_lo, cells_hi, covers_lo, covers_hi = tally
    (
        arena, segments, masks, strata, pairs, closed, lines, chosen, shared_ones, units, rows,
        limits, ends, scratch,
    ) = stack  # fmt: skip
    values, found_evidence, found, items = buffer
    start, at = levels[depth, START], levels[depth, AT]
    stride, me = levels[depth, END] - start, at - start
    parent, parent_cand, parent_score, top = columns, root_cand, root_score, np.int64(0)
    if depth:
        parent, parent_cand, parent_score, top = arena, cand, score, levels[depth, END]
    item, ones = parent_cand[at, ITEM], parent_cand[at, ONES]
    evidence, prune = parent_score[at, EVIDENCE], marks[PRUNE]
    levels[depth, AT] = at - 1  # taken back where the kernel has to return
    if ones < state[LEAST] or (evidence < prune and parent_score[at, BOUND] < prune):
        return DONE
    others, n_others = levels[depth, OTHERS], levels[depth, N_OTHERS]
    base, n_words = levels[depth, BLOCK], levels[depth, WIDTH]
    begin, segment_end = levels[depth, SEGMENT], levels[depth, SEGMENT_END]
    cases_at, closed_end = levels[depth, CASES_AT], levels[depth, CLOSED_END]
    used = _open_rows(
        parent, base, stride, me, n_words, begin, segment_end, segments, masks, rows, limits, ends
    )
    if evidence < prune and parent_score[at, BOUND] == UNKNOWN:
        n = find_lines(
            parent, base, np.int64(0), me, begin, segment_end, segments, limits, ends, state, far,
            parts, corners, lines,
        )  # fmt: skip
        parent_score[at, BOUND] = bound_of_lines(n, lines, prune, state, parts, corners, scratch)
        if parent_score[at, BOUND] < prune:
            return DONE
    levels[depth, PATH] = item
    key = hashed(levels[depth, HASH], item)
    limited, here = state[MAX_LENGTH] > 0, depth > 0 or state[SHARE] == 0
    testable = here and evidence >= marks[STORE] and state[PURPOSE] != SUMMIT
    if testable and limited:
        first = call_linked(
            state[IS_FIRST_AT], is_first_description, columns, root_cand, levels, depth, rows
        )
        testable = first == 1
    first_child = top
    if not limited or depth + 1 < state[MAX_LENGTH]:
        top, closed_end = extend_block(
            parent, base, stride, parent_cand, parent_score, start, me, top, ones, n_words,
            cases_at, begin, segment_end, closed_end, state, marks, by_ones, parts, corners,
            ceilings, far, cand, score, arena, segments, closed, lines, chosen, shared_ones, units,
            rows, limits, ends, scratch,
        )  # fmt: skip
    n_chosen = top - first_child
    n_near = n_far = np.int64(0)
    if not limited and (n_chosen or (testable and depth)):
        n_near = choose_covers(
            parent, base, stride, me + 1, stride - me - 1, rows, n_words, ones, state[LEAST],
            chosen, n_chosen, shared_ones,
        )  # fmt: skip
        if n_near >= 0 and n_others:
            n_far = choose_covers(
                arena, others, n_others, np.int64(0), n_others, rows, n_words, ones, state[LEAST],
                chosen, n_chosen + n_near, shared_ones,
            )  # fmt: skip
        if n_near < 0 or n_far < 0:  # a sparser item covers these rows: visited with that item
            return DONE
    needed = (ones + 63) >> 6
    packed = used > 2 and (ones <= PAIR_ROWS or 2 * needed <= used)
    width = needed if packed else used
    if n_chosen:
        end = levels[depth, ARENA_END] + max(width, np.int64(2))
        end += width * (n_chosen + n_near + n_far) if width > 2 else np.int64(0)
        if end > arena.shape[0] or (width <= 2 and n_near + n_far > covers_lo.shape[0]):
            levels[depth, AT] = at
            state[NEEDED] = end
            return ARENA_SHORT if end > arena.shape[0] else STACK_SHORT
    state[SINCE] += _NODE_WEIGHT
    levels[depth + 1, CLOSED_END] = closed_end
    if here:
        state[VISITED] += 1
        if evidence > marks[MOST]:
            marks[MOST] = evidence
            if state[PURPOSE] == SUMMIT:
                marks[PRUNE] = evidence
    if testable:
        _note(
            depth, evidence, ones, parent_cand[at, FLAG], n_words, cases_at, begin, segment_end,
            key, state, marks, by_ones, parts, corners, far, levels, arena, segments, closed, lines,
            rows, limits, ends, found_evidence, found, items,
        )  # fmt: skip
        if state[PURPOSE] != ENUMERATE:
            count_hypothesis(evidence, state, marks, rungs, guide, counts, by_ones, values)
    if n_chosen:
        levels[depth, AT] = at  # its frame stands there until it is done
        _descend(
            parent, depth, first_child, top, n_near, n_far, packed, width, key, state, parts,
            levels, cells_lo, cells_hi, covers_lo, covers_hi, arena, segments, masks, strata,
            pairs, chosen, rows,
        )  # fmt: skip
    return DONE


@njit_entry
def search_subtrees(
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    root_score: NDArray[np.float64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    ceilings: NDArray[np.int64],
    far: NDArray[np.float64],
    rungs: NDArray[np.float64],
    guide: NDArray[np.int64],
    stop: NDArray[np.int64],
    shared: NDArray[np.int64],
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    counts: NDArray[np.int64],
    levels: NDArray[np.int64],
    cand: NDArray[np.int64],
    score: NDArray[np.float64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    covers_lo: NDArray[np.uint64],
    covers_hi: NDArray[np.uint64],
    arena: NDArray[np.uint64],
    segments: NDArray[np.int64],
    masks: NDArray[np.uint64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    closed: NDArray[np.int64],
    lines: NDArray[np.int64],
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
    rows: NDArray[np.uint64],
    limits: NDArray[np.uint64],
    ends: NDArray[np.bool_],
    scratch: NDArray[np.float64],
    values: NDArray[np.float64],
    found_evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
) -> Int:
    """Search the subtrees of the root items of a task, from where the state says it stands.

    The arguments are the arrays of `SearchData`, `Ladder`, `Shared`, `Tally`, `Stack` and `Buffer`.

    Returns
    -------
    int
        `DONE` (also when told to stop), `STACK_SHORT`, `ARENA_SHORT` or `BUFFER_FULL`.
    """
    # Calls of more than thirty arguments cannot be merged by numba.
    data = (columns, root_cand, root_score, by_ones, parts, corners, ceilings, far, rungs, guide)
    tally = (state, marks, counts, levels, cand, score, cells_lo, cells_hi, covers_lo, covers_hi)
    stack = (
        arena, segments, masks, strata, pairs, closed, lines, chosen, shared_ones, units, rows,
        limits, ends, scratch,
    )  # fmt: skip
    buffer = (values, found_evidence, found, items)
    while not stop[0]:
        if state[PAIR_FROM] >= 0:
            code = call_linked(
                state[SEARCH_PAIR_AT], search_pair,
                stop, shared, state, marks, counts, columns, root_cand, by_ones, parts, corners,
                ceilings, rungs, guide, levels, cand, score, cells_lo, cells_hi, covers_lo,
                covers_hi, arena, strata, pairs, closed, lines, chosen, shared_ones, units, rows,
                scratch, values, found_evidence, found, items,
            )  # fmt: skip
            if code != DONE or stop[0]:
                return code
            state[PAIR_FROM] = -1
            levels[state[DEPTH], AT] -= 1
            continue
        if state[PURPOSE] == COUNT and state[SINCE] >= EXCHANGE_AFTER:
            state[SINCE] = 0
            exchange(state, marks, rungs, counts, by_ones, shared)
        depth = state[DEPTH]
        start, end, at = levels[depth, START], levels[depth, END], levels[depth, AT]
        if depth == 0 and at != state[ROOT]:  # its subtree is done
            state[ROOT] += 1
            levels[0, AT] = state[ROOT]
            if state[ROOT] >= state[LAST_ROOT]:
                return DONE
            continue
        if depth and at < start:  # the frame is done, and so is the candidate it belongs to
            state[DEPTH] = depth - 1
            levels[depth - 1, AT] -= 1
            continue
        if depth == 1 and state[N_SHARES] > 1 and cand[at, ITEM] % state[N_SHARES] != state[SHARE]:
            levels[1, AT] -= 1
            continue
        me, closed_end = at - start, levels[depth, CLOSED_END]
        first, last = levels[depth, SEGMENT], levels[depth, SEGMENT_END]
        if (
            (end if depth else 0) + me > cand.shape[0]
            or depth + 3 > levels.shape[0]
            or 2 * last - first + levels[depth, WIDTH] > masks.shape[0]
            or closed_end + me > closed.shape[0]
            or end - start + levels[depth, N_OTHERS] > chosen.shape[0]
        ):
            return STACK_SHORT
        if (
            state[N_VALUES] >= values.shape[0]
            or state[N_RECORDS] >= found_evidence.shape[0]
            or state[N_ITEMS] + depth + 2 + closed_end + me > items.shape[0]
        ):
            return BUFFER_FULL
        code = _visit(depth, data, tally, stack, buffer)
        if code != DONE:
            return code
    return DONE
