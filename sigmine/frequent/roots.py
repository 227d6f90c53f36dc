"""The kernel that workers call: the subtrees of some root items, or shares of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_entry
from .layout import (
    AT,
    BASE,
    CANDIDATES,
    DONE,
    FIXED,
    LAST_ROOT,
    N_ITEMS,
    N_SETS,
    NARROW_SHORT,
    ROOT,
    SHARE,
    TO_NARROW,
    TO_WIDE,
    WIDE_SHORT,
    WORDS,
    Int,
)
from .lists import open_lists
from .narrow import mine_narrow, turn_of
from .wide import open_columns

__all__ = ["mine_roots"]


@njit_entry
def mine_roots(
    stop: NDArray[np.int64],
    state: NDArray[np.int64],
    ones: NDArray[np.int64],
    columns: NDArray[np.uint64],
    row_starts: NDArray[np.int64],
    ranks: NDArray[np.int32],
    item_starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    places: NDArray[np.int32],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    slots: NDArray[np.int32],
    names: NDArray[np.int32],
    levels: NDArray[np.int64],
    totals: NDArray[np.int64],
    common: NDArray[np.uint64],
    tile: NDArray[np.uint64],
    prefix: NDArray[np.int32],
    blocks: NDArray[np.uint64],
    ids: NDArray[np.int32],
    wide: NDArray[np.int64],
    carriers: NDArray[np.uint64],
    counts: NDArray[np.int64],
    tally: NDArray[np.int64],
    chosen: NDArray[np.int64],
    out_support: NDArray[np.int32],
    out_length: NDArray[np.int32],
    out_items: NDArray[np.int32],
) -> Int:
    """Mine the subtrees of the root items of a task.

    The arguments are the flag that stops all workers, the state, and the arrays of `Source`,
    `Room` and `Output`.

    Returns
    -------
    int
        `DONE` (also when told to stop), or `NARROW_SHORT` or `WIDE_SHORT` for want of room; when
        it is called again it goes on with the root item that it could not finish.
    """
    depth = np.int64(0)
    n_sets, n_items = state[N_SETS], state[N_ITEMS]  # met before this root item
    wide[0, AT], wide[0, BASE] = state[ROOT], state[FIXED]
    while not stop[0]:
        if depth == 0 and wide[0, AT] != state[ROOT]:  # done with that one
            state[ROOT] += 1
            n_sets, n_items = state[N_SETS], state[N_ITEMS]
            wide[0, AT] = state[ROOT]
        if depth == 0 and state[ROOT] >= state[LAST_ROOT]:
            break
        if depth and wide[depth, AT] < 0:
            depth -= 1
            continue
        if depth == 0 and state[WORDS] == 0:
            code = open_lists(
                state[ROOT], state[SHARE] == 0, ones, row_starts, ranks, item_starts, rows, places,
                state, keys, weights, slots, names, levels, prefix, blocks, ids, wide, tally,
                chosen, out_support, out_length, out_items,
            )  # fmt: skip
        else:
            parent = blocks
            if depth == 0:
                parent = columns
            code = open_columns(
                parent, depth, depth > 0 or state[SHARE] == 0, state, keys, weights, slots, names,
                levels, tile, prefix, blocks, ids, wide, carriers, counts, chosen, out_support,
                out_length, out_items,
            )  # fmt: skip
        opened = code == TO_WIDE
        if code == TO_NARROW:
            code = mine_narrow(
                stop, depth == 0, state, keys, weights, slots, names, levels, totals, common,
                prefix, counts, out_support, out_length, out_items,
            )  # fmt: skip
        if code in (NARROW_SHORT, WIDE_SHORT):
            state[N_SETS], state[N_ITEMS] = n_sets, n_items
            return code
        if depth == 1:  # the children of a root item are dealt out in shares
            wide[1, AT] = turn_of(wide[1, AT], wide[1, CANDIDATES], state, np.int64(0))
        else:
            wide[depth, AT] -= 1
        if opened:
            depth += 1
            if depth == 1:
                wide[1, AT] = turn_of(np.int64(-1), wide[1, CANDIDATES], state, np.int64(0))
    return DONE
