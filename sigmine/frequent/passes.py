"""Two passes over the search: one counts the itemsets, the other writes them where they belong.

Counting is so fast that it pays to know first how many there are: memory is asked for once, and
refused before anything large is made; every task writes to a place of its own, so that the order
does not depend on who did what; and a kernel that runs out of room just starts its root item anew.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..parallel import Control, run_threads
from .lattice import LATTICE_ITEMS
from .layout import (
    CLOSED,
    COLUMNS,
    DONE,
    FIXED,
    LEAST,
    LIMIT,
    N_ITEMS,
    N_LEVEL,
    N_SETS,
    N_SHARES,
    N_STATE,
    NARROW,
    NARROW_SHORT,
    NEEDED,
    ROOT,
    WIDE_SHORT,
    WIDTH,
    WORDS,
    WRITE,
    Output,
    Room,
)
from .roots import mine_roots
from .source import Items

__all__ = ["Counts", "Miner", "MiningProgress"]

_FIRST_ROWS, _FIRST_WORDS = 2**14, 2**16  # room that a worker starts with
_NO_LIMIT = 2**60
_TASKS = 64  # about as many as the roots are cut into
_SPLIT_FROM = 16  # candidates from which on a root item is worth more than one task


@dataclass(frozen=True)
class MiningProgress:
    """Where a running search for frequent itemsets stands.

    Attributes
    ----------
    stage : str
        "prepare", "count" (the first pass), "write" (the second) or "table".
    n_itemsets : int
        Itemsets met so far in this pass.
    fraction_done : float
        Share of the tasks of this pass that are finished, 0 to 1.
    seconds : float
        Since the start.
    """

    stage: str
    n_itemsets: int
    fraction_done: float
    seconds: float


class _Task(NamedTuple):
    """Root items from `first` to before `last`, and which of their shares."""

    first: int
    last: int
    share: int = 0
    last_share: int = N_SHARES


class Counts(NamedTuple):
    """How many itemsets there are, and items in them, by task.

    Attributes
    ----------
    itemsets, items : ndarray of int64, shape (n_tasks,)
    """

    itemsets: NDArray[np.int64]
    items: NDArray[np.int64]


class Miner:
    """The search for frequent itemsets of one matrix.

    Parameters
    ----------
    items : Items
        The data.
    least : int
        Fewest rows of an itemset.
    closed : bool
        Whether only closed itemsets count.
    max_length : int or None
        Most items of an itemset.
    n_workers : int
        Threads.
    control : Control
        Through which the search is told to end.

    Attributes
    ----------
    n_finished : int
        Tasks of this pass that are finished.
    """

    def __init__(
        self,
        items: Items,
        least: int,
        *,
        closed: bool,
        max_length: int | None,
        n_workers: int,
        control: Control,
    ) -> None:
        self.items, self.control = items, control
        self.tasks = _cut(len(items.columns), n_workers)
        self.n_workers = max(1, min(n_workers, len(self.tasks)))
        self.state = np.zeros(N_STATE, dtype=np.int64)
        limit = _NO_LIMIT if max_length is None else max_length
        self.state[[LEAST, LIMIT, CLOSED]] = least, limit, closed
        self.state[[WORDS, FIXED]] = items.n_words, len(items.fixed)
        self.n_finished = 0
        self._met = 0  # itemsets of the tasks that are finished
        self._running: dict[int, tuple[NDArray[np.int64], int]] = {}  # states of workers
        self._lock = threading.Lock()

    @property
    def n_met(self) -> int:
        """Itemsets met so far in the present pass, of unfinished tasks too."""
        with self._lock:
            running = self._running.values()
            return self._met + sum(int(state[N_SETS]) - first for state, first in running)

    def count(self) -> Counts:
        """Count the itemsets; the one of the items that are in every row is not among them.

        Returns
        -------
        Counts

        Raises
        ------
        SearchInterrupted
            If nobody waits for it any more.
        """
        nothing = Output(*(np.empty(0, dtype=np.int32) for _ in range(3)))
        return self._run_tasks(False, Counts(*np.zeros((2, len(self.tasks)), np.int64)), nothing)

    def write(self, counts: Counts) -> Output:
        """Write the itemsets, in the order of the search, which depends on the data alone.

        Parameters
        ----------
        counts : Counts
            From `count`.

        Returns
        -------
        Output

        Raises
        ------
        SearchInterrupted
            If nobody waits for it any more.
        """
        n_sets, n_items = (int(n.sum()) for n in counts)
        output = Output(*(np.empty(n, dtype=np.int32) for n in (n_sets, n_sets, n_items)))
        self._run_tasks(True, Counts(*(np.cumsum(n) - n for n in counts)), output)
        return output

    def _run_tasks(self, write: bool, starts: Counts, output: Output) -> Counts:
        """Run all tasks of a pass, from the given ends of the output on; return what each met."""
        ends = Counts(*np.zeros_like(starts))
        queue = iter(reversed(range(len(self.tasks))))  # those with most candidates first
        self.n_finished, self._met = 0, 0

        def work(worker: int) -> None:
            state, room = self.state.copy(), _new_room(self.items)
            state[WRITE] = write
            while not self.control.stopped:
                with self._lock:
                    number = next(queue, None)
                    if number is None:
                        return
                    first = starts.itemsets[number]
                    state[[N_SETS, N_ITEMS]] = first, starts.items[number]
                    self._running[worker] = state, int(first)
                room = self._run_task(number, state, room, output)
                with self._lock:
                    ends.itemsets[number], ends.items[number] = state[[N_SETS, N_ITEMS]]
                    self._met += int(ends.itemsets[number] - first)
                    del self._running[worker]
                    self.n_finished += 1

        run_threads(work, self.n_workers, self.control)
        self.control.raise_if_abandoned()
        return Counts(*(end - start for end, start in zip(ends, starts, strict=True)))

    def _run_task(self, number: int, state: NDArray[np.int64], room: Room, output: Output) -> Room:
        """Run one task; return the room, which may have grown."""
        kernel: Any = mine_roots  # its arguments are the arrays of the tuples, one by one
        stop, source = self.control.stop, self.items.source
        state[ROOT : ROOT + 4] = self.tasks[number]
        while (reason := kernel(stop, state, *source, *room, *output)) != DONE:
            room = _enlarged(room, _GROWING[reason], int(state[NEEDED]))
        return room


_GROWING = {NARROW_SHORT: ("keys", "weights", "slots"), WIDE_SHORT: ("blocks", "ids", "wide")}


def _cut(n_items: int, n_workers: int) -> list[_Task]:
    """Cut the root items into tasks, in the order in which their itemsets are written.

    That is by root item, and for one of them by share, so that the order of the itemsets is the
    same however many tasks there are. Many items are cut into pieces, a few into their shares.
    """
    n_tasks = _TASKS * n_workers
    n_shares = 1
    while n_workers > 1 and n_shares < N_SHARES and 2 * n_shares * n_items <= n_tasks:
        n_shares *= 2
    step, width = -(-n_items // n_tasks), N_SHARES // n_shares
    tasks = []
    for first in range(0, n_items, max(1, step)):
        last = min(n_items, first + step)
        if n_shares == 1 or first < _SPLIT_FROM:
            tasks.append(_Task(first, last))
        else:
            tasks += [_Task(first, last, s, s + width) for s in range(0, N_SHARES, width)]
    return tasks


def _enlarged(room: Room, names: tuple[str, ...], needed: int) -> Room:
    """Make some arrays twice as long, and the first of them at least as long as needed."""
    old = room._asdict()
    factor = max(2, -(-needed // len(old[names[0]])))
    for name in names:
        longer = np.zeros((factor * len(old[name]), *old[name].shape[1:]), dtype=old[name].dtype)
        longer[: len(old[name])] = old[name]
        old[name] = longer
    return Room(**old)


def _new_room(items: Items) -> Room:
    n_items, n_lattice = len(items.columns), 2**LATTICE_ITEMS
    n_fixed = len(items.fixed)
    ids = np.arange(2 * n_items + 256, dtype=np.int32)  # those of the root first
    prefix = np.empty(n_fixed + n_items + 1, dtype=np.int32)
    prefix[:n_fixed] = n_items + np.arange(n_fixed)
    wide = np.zeros((8, N_LEVEL), dtype=np.int64)
    wide[0, [WIDTH, COLUMNS]] = items.n_words, n_items
    return Room(
        keys=np.zeros(_FIRST_ROWS, dtype=np.uint64),
        weights=np.zeros(_FIRST_ROWS, dtype=np.int64),
        slots=np.zeros(4 * _FIRST_ROWS, dtype=np.int32),
        names=np.zeros((NARROW + 2, NARROW), dtype=np.int32),
        levels=np.zeros((NARROW + 2, N_LEVEL), dtype=np.int64),
        totals=np.zeros(n_lattice, dtype=np.int64),
        common=np.zeros(n_lattice, dtype=np.uint64),
        tile=np.zeros(2 * NARROW, dtype=np.uint64),
        prefix=prefix,
        blocks=np.zeros(_FIRST_WORDS, dtype=np.uint64),
        ids=ids,
        wide=wide,
        carriers=np.zeros(items.n_rows // 64 + 2, dtype=np.uint64),
        counts=np.zeros(max(n_items, NARROW), dtype=np.int64),
        tally=np.zeros(n_items + 1, dtype=np.int64),
        chosen=np.zeros(n_items + NARROW, dtype=np.int64),
    )
