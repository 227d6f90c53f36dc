"""The search below a node of at most 128 rows: two words a candidate, everything in registers.

Most nodes of a search are here. A frame is worked on as a whole: its candidates are counted and
checked for closure when the frame is made (`_admit`), so that the many that cannot be extended are
never visited one by one. The others are visited from the last to the first.

Indices are written ``array[U(i)]`` where it matters: numba makes a signed index wrap around, and
that test costs as much as what these loops do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import Int, call_linked, njit_inline, njit_leaf, njit_linked_leaf, njit_part
from ..bitset import popcount
from .counting import count_hypothesis, exchange
from .description import is_first_description
from .layout import (
    AT,
    BOUND,
    BUFFER_FULL,
    CANDIDATE,
    CARRIERS,
    CASES,
    CASES_AT,
    CLOSED_END,
    COUNT,
    DEPTH,
    DONE,
    ELSEWHERE,
    END,
    EVIDENCE,
    FLAG,
    FRESH,
    HASH,
    IS_FIRST_AT,
    ITEM,
    KEY,
    LEAST,
    MAX_LENGTH,
    MOST,
    N_CLOSED,
    N_ITEMS,
    N_OTHERS,
    N_PATH,
    N_RECORDS,
    N_SHARES,
    N_STRATA,
    N_VALUES,
    ONES,
    OTHERS,
    PAIR_FROM,
    PATH,
    PRUNE,
    PURPOSE,
    SAMPLE_MASK,
    SAMPLED,
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
    WHAT,
    WIDTH,
)
from .pair_candidates import bound_of_pair, extend_pair, inherit_covers

__all__ = ["EXCHANGE_AFTER", "hashed", "record", "search_pair"]

U = np.uint64
EXCHANGE_AFTER = 8192  # nodes: well under a millisecond


@njit_inline
def hashed(key: Int, item: Int) -> Int:
    """Return the hash of a path and one more item (xorshift steps)."""
    key ^= item
    key ^= key << 13
    key ^= key >> 7
    key ^= key << 17
    return key


@njit_leaf
def record(
    what: Int,
    evidence: float,
    cases: Int,
    ones: Int,
    key: Int,
    depth: Int,
    levels: NDArray[np.int64],
    closed: NDArray[np.int64],
    state: NDArray[np.int64],
    found_evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
) -> None:
    """Write down a hypothesis, all but its carriers by stratum; the buffers have room."""
    row, place = state[N_RECORDS], state[N_ITEMS]
    n_path = depth + 1
    n_closed = levels[depth + 1, CLOSED_END]
    if not what & CANDIDATE:  # of the sample only the counts matter
        n_path = n_closed = np.int64(0)
    found_evidence[row] = evidence
    found[row, CASES] = cases
    found[row, WHAT] = what
    found[row, CARRIERS] = ones
    found[row, KEY] = key
    found[row, N_PATH] = n_path
    found[row, N_CLOSED] = n_closed
    for d in range(n_path):
        items[place + d] = levels[d, PATH]
    place += n_path
    for i in range(n_closed):
        items[place + i] = closed[i]
    state[N_ITEMS] = place + n_closed
    state[N_RECORDS] = row + 1


@njit_part
def _admit(
    depth: Int,
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    by_ones: NDArray[np.float64],
    rungs: NDArray[np.float64],
    guide: NDArray[np.int64],
    counts: NDArray[np.int64],
    levels: NDArray[np.int64],
    cand: NDArray[np.int64],
    score: NDArray[np.float64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    covers_lo: NDArray[np.uint64],
    covers_hi: NDArray[np.uint64],
    rows: NDArray[np.uint64],
    values: NDArray[np.float64],
) -> None:
    """Count the candidates of a new frame that are hypotheses; mark those of other places.

    A candidate whose rows an item behind covers is visited with that item. The first candidate has
    none before it to be extended by, so the frame stops short of it unless it is to be recorded.
    """
    begin, end = levels[depth, START], levels[depth, END]
    others, n_others = levels[depth, OTHERS], levels[depth, N_OTHERS]
    key = levels[depth, HASH]
    limited = state[MAX_LENGTH] > 0
    n_shares = state[N_SHARES] if depth == 1 else np.int64(1)
    visited = np.int64(0)
    for j in range(begin, end):
        item = cand[U(j), U(ITEM)]
        hit = n_shares > 1 and item % n_shares != state[SHARE]
        if not limited:
            lo, hi = cells_lo[U(j)], cells_hi[U(j)]
            for i in range(n_others):
                miss = (lo & ~covers_lo[U(others + i)]) | (hi & ~covers_hi[U(others + i)])
                hit |= miss == 0
            for i in range(end - j - 1):
                miss = (lo & ~cells_lo[U(j + 1 + i)]) | (hi & ~cells_hi[U(j + 1 + i)])
                hit |= miss == 0
        if hit:
            cand[U(j), U(FLAG)] = ELSEWHERE
            continue
        visited += 1
        evidence = score[U(j), U(EVIDENCE)]
        if evidence > marks[MOST]:
            marks[MOST] = evidence
            if state[PURPOSE] == SUMMIT:
                marks[PRUNE] = evidence
        if evidence < marks[STORE] or state[PURPOSE] >= SUMMIT:
            continue
        if limited:
            levels[depth, PATH] = item
            if not call_linked(
                state[IS_FIRST_AT], is_first_description, columns, root_cand, levels, depth, rows
            ):
                cand[U(j), U(FLAG)] = 0
                continue
        count_hypothesis(evidence, state, marks, rungs, guide, counts, by_ones, values)
        if hashed(key, item) & state[SAMPLE_MASK] == 0:
            cand[U(j), U(FLAG)] |= SAMPLED
    state[VISITED] += visited
    state[SINCE] += end - begin
    levels[depth, STOP] = begin + (cand[U(begin), U(FLAG)] & (CANDIDATE | SAMPLED) == 0)
    levels[depth, AT] = end - 1


@njit_part
def _note(
    flag: Int,
    lo: Int,
    hi: Int,
    evidence: float,
    ones: Int,
    key: Int,
    depth: Int,
    case_lo: Int,
    case_hi: Int,
    state: NDArray[np.int64],
    levels: NDArray[np.int64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    closed: NDArray[np.int64],
    found_evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
) -> None:
    """Write a hypothesis down, with its carriers and cases by stratum."""
    row = state[N_RECORDS]
    for k in range(SUPPORT, found.shape[1]):
        found[row, k] = 0
    n_strata = (found.shape[1] - SUPPORT) // 2
    for s in range(state[N_STRATA] if n_strata else 0):
        column = SUPPORT + strata[s, STRATUM]
        in_lo, in_hi = lo & pairs[s, 0], hi & pairs[s, 1]
        found[row, column] = np.int64(popcount(in_lo) + popcount(in_hi))
        found[row, column + n_strata] = np.int64(
            popcount(in_lo & case_lo) + popcount(in_hi & case_hi)
        )
    a = np.int64(popcount(lo & case_lo) + popcount(hi & case_hi))
    record(
        flag, evidence, a, ones, key, depth, levels, closed, state, found_evidence, found,
        items,
    )  # fmt: skip


@njit_part
def _lacks_room(
    n_cand: Int,
    n_covers: Int,
    depth: Int,
    n_closed: Int,
    n_new: Int,
    state: NDArray[np.int64],
    levels: NDArray[np.int64],
    cand: NDArray[np.int64],
    covers_lo: NDArray[np.uint64],
    closed: NDArray[np.int64],
    values: NDArray[np.float64],
    found_evidence: NDArray[np.float64],
    items: NDArray[np.int64],
) -> Int:
    """Say which arrays are too short for what a visit may write; `DONE` if none is."""
    if (
        n_cand > cand.shape[0]
        or n_covers > covers_lo.shape[0]
        or depth + 3 > levels.shape[0]
        or n_closed > closed.shape[0]
    ):
        return STACK_SHORT
    if (
        state[N_VALUES] + n_new > values.shape[0]
        or state[N_RECORDS] >= found_evidence.shape[0]
        or state[N_ITEMS] + depth + 2 + n_closed > items.shape[0]
    ):
        return BUFFER_FULL
    return DONE


@njit_linked_leaf
def search_pair(
    stop: NDArray[np.int64],
    shared: NDArray[np.int64],
    state: NDArray[np.int64],
    marks: NDArray[np.float64],
    counts: NDArray[np.int64],
    columns: NDArray[np.uint64],
    root_cand: NDArray[np.int64],
    by_ones: NDArray[np.float64],
    parts: NDArray[np.float64],
    corners: NDArray[np.float64],
    ceilings: NDArray[np.int64],
    rungs: NDArray[np.float64],
    guide: NDArray[np.int64],
    levels: NDArray[np.int64],
    cand: NDArray[np.int64],
    score: NDArray[np.float64],
    cells_lo: NDArray[np.uint64],
    cells_hi: NDArray[np.uint64],
    covers_lo: NDArray[np.uint64],
    covers_hi: NDArray[np.uint64],
    arena: NDArray[np.uint64],
    strata: NDArray[np.int64],
    pairs: NDArray[np.uint64],
    closed: NDArray[np.int64],
    lines: NDArray[np.int64],
    chosen: NDArray[np.int64],
    shared_ones: NDArray[np.int64],
    units: NDArray[np.int64],
    rows: NDArray[np.uint64],
    scratch: NDArray[np.float64],
    values: NDArray[np.float64],
    found_evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
) -> Int:
    """Search all frames from ``state[PAIR_FROM]`` down, from where the state says it stands.

    Returns
    -------
    int
        `DONE` (also when told to stop), `STACK_SHORT` or `BUFFER_FULL`; in the last two cases the
        kernel goes on from there when it is called again.
    """
    first, depth = state[PAIR_FROM], state[DEPTH]
    case_at = levels[first, CASES_AT]
    case_lo = arena[case_at]
    case_hi = arena[case_at + 1] if levels[first, WIDTH] > 1 else U(0)
    limited = state[MAX_LENGTH] > 0
    while True:
        start, end, at = levels[depth, START], levels[depth, END], levels[depth, AT]
        closed_end = levels[depth, CLOSED_END]
        others, n_others = levels[depth, OTHERS], levels[depth, N_OTHERS]
        if stop[0]:
            return DONE
        reason = _lacks_room(
            2 * end - start,
            others + 2 * n_others + end - start,
            depth,
            closed_end + end - start,
            end - start,
            state,
            levels,
            cand,
            covers_lo,
            closed,
            values,
            found_evidence,
            items,
        )
        if reason != DONE:
            return reason
        if state[FRESH]:
            state[FRESH] = 0
            _admit(
                depth, state, marks, columns, root_cand, by_ones, rungs, guide, counts, levels,
                cand, score, cells_lo, cells_hi, covers_lo, covers_hi, rows, values,
            )  # fmt: skip
            if state[PURPOSE] == COUNT and state[SINCE] >= EXCHANGE_AFTER:
                state[SINCE] = 0
                exchange(state, marks, rungs, counts, by_ones, shared)
            at = levels[depth, AT]
        if at < levels[depth, STOP]:
            depth -= 1
            state[DEPTH] = depth
            if depth < first:
                return DONE
            levels[depth, AT] -= 1
            continue
        flag = cand[U(at), U(FLAG)]
        if flag & ELSEWHERE:
            levels[depth, AT] = at - 1
            continue
        lo, hi = cells_lo[at], cells_hi[at]
        evidence, prune = score[U(at), U(EVIDENCE)], marks[PRUNE]
        if evidence < prune:
            if score[U(at), U(BOUND)] == UNKNOWN:  # testable when made: the threshold has moved
                score[U(at), U(BOUND)] = bound_of_pair(
                    lo, hi, prune, state, parts, corners, strata, pairs, lines, scratch
                )
            if score[U(at), U(BOUND)] < prune:
                levels[depth, AT] = at - 1
                continue
        item, ones = cand[U(at), U(ITEM)], cand[U(at), U(ONES)]
        levels[depth, PATH] = item
        key = hashed(levels[depth, HASH], item)
        top = end
        if not limited or depth + 1 < state[MAX_LENGTH]:
            top, closed_end = extend_pair(
                lo, hi, ones, start, at, end, closed_end, case_lo, case_hi, state, marks, by_ones,
                parts, corners, ceilings, cand, score, cells_lo, cells_hi, strata, pairs, closed,
                lines, chosen, shared_ones, units, scratch,
            )  # fmt: skip
        levels[depth + 1, CLOSED_END] = closed_end
        if flag and evidence >= marks[STORE] and state[PURPOSE] != SUMMIT:
            _note(
                flag, lo, hi, evidence, ones, key, depth, case_lo, case_hi, state, levels, strata,
                pairs, closed, found_evidence, found, items,
            )  # fmt: skip
        if top == end:
            levels[depth, AT] = at - 1
            continue
        place = others + n_others
        n_inherited = np.int64(0)
        if not limited:
            n_inherited = inherit_covers(
                lo, hi, state[LEAST], at + 1, end, others, n_others, cells_lo, cells_hi,
                covers_lo, covers_hi,
            )  # fmt: skip
        depth += 1
        state[DEPTH], state[FRESH] = depth, 1
        levels[depth, START] = end
        levels[depth, END] = top
        levels[depth, OTHERS] = place
        levels[depth, N_OTHERS] = n_inherited
        levels[depth, HASH] = key
