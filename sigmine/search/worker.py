"""One worker of a search: its stack, its buffers, and what it remembers of what it has met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import own_tables
from ..association.scores import N_COLUMNS
from ..settings import SearchSettings
from .block_kernel import search_subtrees
from .counting import lowered, set_marks
from .layout import (
    ARENA_END,
    ARENA_SHORT,
    AT,
    BUFFER_FULL,
    CANDIDATE,
    COLLECT,
    COUNT,
    COUNTS,
    CUT,
    DEPTH,
    DONE,
    END,
    ENUMERATE,
    FINE,
    FRESH,
    GRID,
    HASH,
    HIGHEST_BUCKET,
    KEEP,
    KEY,
    LAST_ROOT,
    LEAST,
    LEVEL,
    LINE,
    MAX_LENGTH,
    MOST,
    N_CLOSED,
    N_ITEMS,
    N_LEVEL,
    N_MARKS,
    N_PATH,
    N_RECORDS,
    N_SHARES,
    N_STATE,
    N_VALUES,
    NEEDED,
    PAIR_FROM,
    PRUNE,
    PURPOSE,
    RANK,
    ROOT,
    SAMPLE_MASK,
    SCALE,
    SEGMENT_END,
    SHARE,
    STORE,
    STRATUM,
    SUMMIT,
    SUPPORT,
    TEST_KIND,
    UNIT,
    VISITED,
    WHAT,
    WIDTH,
    WINDOW,
    WORD,
    Buffer,
    Ladder,
    Shared,
    Stack,
    Tally,
)
from .linking import link
from .prepare import Prepared, rank_strata
from .testability import scale_of

__all__ = ["Goal", "Part", "Task", "Worker", "merged"]

_FIRST_HASH = 88172645463325252
_VALUES_KEPT = 2**20  # of evidence in the window, by one worker: 8 MiB
_RECORDS, _RECORD_CELLS = 2**12, 2**20  # of the buffer, and of its counts by stratum
# The sample is thinned from more than the one to at most the other, in sizes of the sample. More
# means more to write; less, that a threshold which climbs by much late leaves too small a sample.
_SAMPLE_MOST, _SAMPLE_LEFT = 2.5, 1.5
_MEAN_LENGTH = 24  # items of a path and its closure that the buffer has room for


class Task(NamedTuple):
    """A part of the search space.

    Attributes
    ----------
    first, last : int
        Root items from `first` to before `last`.
    share, n_shares : int
        Of the children of each, those whose number leaves the remainder `share` (and the root
        itself with share 0).
    """

    first: int
    last: int
    share: int = 0
    n_shares: int = 1


@dataclass(frozen=True)
class Goal:
    """What a pass is for.

    Attributes
    ----------
    purpose : int
        `COUNT`, `COLLECT`, `SUMMIT` or `ENUMERATE`.
    level : int
        Lowest bucket alive at the start (`COUNT`), or all the time.
    store : float
        Of `COLLECT`: evidence from which on hypotheses are counted; of `SUMMIT`: largest evidence
        that is known.
    keep : float
        Of `COLLECT`: evidence of a p-value from which on it may be significant. Of `ENUMERATE`:
        0 to record every row set, inf to count only.
    window : float
        Evidence below which values are kept.
    sample_mask : int
        Bits that the hash of a sampled hypothesis must not have.
    """

    purpose: int
    level: int
    store: float = 0.0
    keep: float = 0.0
    window: float = np.inf
    sample_mask: int = 0


@dataclass
class Part:
    """What was met in a part of the search space; parts add up.

    Attributes
    ----------
    level : int
        Counts are exact from this bucket upwards.
    counts : ndarray of int64, shape (n_buckets,)
        Hypotheses.
    visited : int
        Row sets.
    most : float
        Largest evidence.
    window : float
        Evidence below which every value (from the level on) is in `values`.
    values : ndarray of float64
    sample_mask : int
        As far as the sample had to be thinned out.
    evidence : ndarray of float64, shape (n_records,)
    found : ndarray of int64, shape (n_records, 6 + 2 n_strata)
    items : ndarray of int64
        The records: hypotheses that may be significant, or belong to the sample.
    """

    level: int
    counts: NDArray[np.int64]
    visited: int
    most: float
    window: float
    values: NDArray[np.float64]
    sample_mask: int
    evidence: NDArray[np.float64]
    found: NDArray[np.int64]
    items: NDArray[np.int64]


def merged(parts: list[Part]) -> Part:
    """Add parts up.

    Parameters
    ----------
    parts : list of Part
        At least one; of disjoint parts of the search space.

    Returns
    -------
    Part
        Exact from the highest of their levels.
    """
    level = max(part.level for part in parts)
    counts = np.zeros_like(parts[0].counts)
    for part in parts:
        counts[level:] += part.counts[level:]
    return Part(
        level=level,
        counts=counts,
        visited=sum(part.visited for part in parts),
        most=max(part.most for part in parts),
        window=min(part.window for part in parts),
        values=np.concatenate([part.values for part in parts]),
        sample_mask=max(part.sample_mask for part in parts),
        evidence=np.concatenate([part.evidence for part in parts]),
        found=np.concatenate([part.found for part in parts]),
        items=np.concatenate([part.items for part in parts]),
    )


class Worker:
    """Runs the kernel over tasks, with room as it needs it.

    Parameters
    ----------
    prepared : Prepared
        What is searched.
    settings : SearchSettings
        What is asked.
    ladder : Ladder
        The buckets.
    shared : Shared
        With the other workers and the watching thread.
    goal : Goal
        Which pass.
    sample_size : int
        Hypotheses of the sample that are worth keeping.
    """

    def __init__(
        self,
        prepared: Prepared,
        settings: SearchSettings,
        ladder: Ladder,
        shared: Shared,
        goal: Goal,
        sample_size: int = 0,
    ) -> None:
        self.prepared, self.ladder, self.shared, self.goal = prepared, ladder, shared, goal
        self.sample_size = sample_size
        self.tally = _new_tally(prepared, settings, ladder, goal)
        self.stack = _new_stack(prepared)
        parts, corners = own_tables(prepared.tables)
        self.data = prepared.data._replace(parts=parts, corners=corners)
        n_strata = 0 if goal.purpose == ENUMERATE else prepared.table.n_strata
        self.buffer = _new_buffer(n_strata)
        self._values: list[NDArray[np.float64]] = [np.empty(0)]
        self._n_values = self._n_sampled = 0
        link(self._arguments(), self.tally.state, exact=settings.method == "exact")
        self._records: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []

    def run(self, tasks: Iterable[Task]) -> Part:
        """Search tasks one after the other.

        Parameters
        ----------
        tasks : iterable of Task
            May be shared with other workers.

        Returns
        -------
        Part
            All that this worker has met so far.
        """
        for task in tasks:
            self._run(task)
        self._empty()
        state, marks = self.tally.state, self.tally.marks
        records = self._records or [self._nothing()]
        return Part(
            level=int(state[LEVEL]),
            counts=self.tally.counts[:, COUNTS].copy(),
            visited=int(state[VISITED]),
            most=float(marks[MOST]),
            window=float(marks[WINDOW]),
            values=np.concatenate(self._values),
            sample_mask=int(state[SAMPLE_MASK]),
            evidence=np.concatenate([record[0] for record in records]),
            found=np.concatenate([record[1] for record in records]),
            items=np.concatenate([record[2] for record in records]),
        )

    def _nothing(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        return np.empty(0), self.buffer.found[:0], np.empty(0, dtype=np.int64)

    def _run(self, task: Task) -> None:
        kernel: Any = search_subtrees  # its arguments are the arrays of the tuples, one by one
        state, levels = self.tally.state, self.stack.levels
        state[[ROOT, LAST_ROOT, SHARE, N_SHARES]] = task
        state[[DEPTH, PAIR_FROM, FRESH]] = 0, -1, 0
        levels[0, AT] = task.first
        while True:
            reason = kernel(*self._arguments())
            if reason == DONE:
                return
            if reason == BUFFER_FULL:
                self._empty_or_lengthen()
            elif reason == ARENA_SHORT:
                # What lies behind the end is of frames that are done. Room for all columns at once:
                # what is never written takes no memory, while arrays outgrown leave holes.
                used = int(self.stack.levels[state[DEPTH], ARENA_END])
                least = max(int(state[NEEDED]), len(self.stack.arena) + len(self.data.columns))
                self._lengthen(("arena",), least, used)
            else:
                self._lengthen(_CANDIDATES, 0)
                self._lengthen(("segments", "masks"), 0)
                self._lengthen(("levels",), 0)

    def _arguments(self) -> tuple[Any, ...]:
        return (
            *self.data, *self.ladder, *self.shared, *self.tally, *self.stack, *self.buffer,
        )  # fmt: skip

    def _lengthen(self, names: tuple[str, ...], least: int, used: int | None = None) -> None:
        """Double the length of some arrays of the stack, or more; keep what is used of them."""
        old = self.stack._asdict()
        for name in names:
            length = max(2 * len(old[name]), least)
            longer = np.empty((length, *old[name].shape[1:]), dtype=old[name].dtype)
            longer[: len(old[name][:used])] = old[name][:used]
            old[name] = longer
        self.stack = Stack(**old)

    def _empty_or_lengthen(self) -> None:
        """Empty the buffers; if there was hardly anything in them, they are too short."""
        state = self.tally.state
        old = self.buffer
        used = state[[N_VALUES, N_RECORDS, N_ITEMS]].copy()
        self._empty()
        half_empty = 2 * used[0] <= len(old.values) and 2 * used[2] <= len(old.items)
        if half_empty and used[1] < len(old.evidence):
            self.buffer = old._replace(
                values=np.empty(2 * len(old.values)),
                items=np.empty(2 * len(old.items), dtype=np.int64),
            )

    def _empty(self) -> None:
        """Take over what is in the buffers, as copies, and forget what cannot matter any more."""
        state, marks = self.tally.state, self.tally.marks
        n_values, n_records, n_items = state[[N_VALUES, N_RECORDS, N_ITEMS]].tolist()
        state[[N_VALUES, N_RECORDS, N_ITEMS]] = 0
        if n_values:
            values = self.buffer.values[:n_values]
            self._values.append(values[values >= marks[STORE]])
            self._n_values += len(self._values[-1])
            if self._n_values > _VALUES_KEPT and self.goal.purpose == COUNT:
                self._narrow_window()
        if n_records:
            found, evidence = self.buffer.found[:n_records], self.buffer.evidence[:n_records]
            alive = evidence >= marks[STORE]
            sampled = self._sampled(found, alive)
            kept = alive & (found[:, WHAT] & CANDIDATE > 0) | sampled
            self._records.append(_selected(evidence, found, self.buffer.items[:n_items], kept))
            self._n_sampled += int(np.count_nonzero(sampled))

    def _narrow_window(self) -> None:
        """Keep the values nearest to the threshold: it only climbs, and rarely far."""
        marks = self.tally.marks
        values = np.concatenate(self._values)
        values = values[values >= marks[STORE]]
        if len(values) > _VALUES_KEPT // 2:
            marks[WINDOW] = float(np.partition(values, _VALUES_KEPT // 2)[_VALUES_KEPT // 2])
            values = values[values < marks[WINDOW]]
        self._values, self._n_values = [values], len(values)

    def _sampled(self, found: NDArray[np.int64], alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Say which of some records belong to the sample, and thin it if it is too large.

        Then one more bit of the hash has to be zero, as often as needed; earlier records too are
        held to it.
        """
        state = self.tally.state
        key = found[:, KEY]
        sampled = alive & (key & state[SAMPLE_MASK] == 0)
        n_sampled = int(np.count_nonzero(sampled))
        most, left = _SAMPLE_MOST * self.sample_size, _SAMPLE_LEFT * self.sample_size
        if self.goal.purpose != COUNT or self._n_sampled + n_sampled <= most:
            return np.asarray(sampled)
        while self._n_sampled + n_sampled > left:
            state[SAMPLE_MASK] = 2 * state[SAMPLE_MASK] + 1
            sampled &= key & state[SAMPLE_MASK] == 0
            n_sampled = int(np.count_nonzero(sampled))
            self._n_sampled = sum(
                int(np.count_nonzero(found[:, KEY] & state[SAMPLE_MASK] == 0))
                for _, found, _ in self._records
            )
        self._thin_records()
        return np.asarray(sampled)

    def _thin_records(self) -> None:
        """Forget earlier records that are neither sampled any more nor candidates."""
        mask, store = self.tally.state[SAMPLE_MASK], self.tally.marks[STORE]
        for number, (evidence, found, items) in enumerate(self._records):
            kept = (found[:, KEY] & mask == 0) | (found[:, WHAT] & CANDIDATE > 0)
            kept &= evidence >= store
            if 2 * np.count_nonzero(kept) < len(kept):  # else the copy costs more than it saves
                self._records[number] = _selected(evidence, found, items, kept)


_CANDIDATES = (
    "cand", "score", "cells_lo", "cells_hi", "covers_lo", "covers_hi", "closed", "chosen",
    "shared_ones", "units",
)  # fmt: skip


def _selected(
    evidence: NDArray[np.float64],
    found: NDArray[np.int64],
    items: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Copy some of the records."""
    lengths = found[:, N_PATH] + found[:, N_CLOSED]
    return evidence[kept], found[kept], items[np.repeat(kept, lengths)]


def _new_tally(prepared: Prepared, settings: SearchSettings, ladder: Ladder, goal: Goal) -> Tally:
    state = np.zeros(N_STATE, dtype=np.int64)
    state[PURPOSE], state[LEVEL], state[HIGHEST_BUCKET] = goal.purpose, goal.level, goal.level
    state[GRID] = settings.grid_step is not None
    state[LEAST], state[MAX_LENGTH] = settings.min_support, settings.max_length or 0
    state[SAMPLE_MASK] = goal.sample_mask
    state[TEST_KIND : TEST_KIND + 4] = prepared.tables.choice
    state[FINE] = prepared.tables.fine
    marks = np.zeros(N_MARKS, dtype=np.float64)
    marks[UNIT] = prepared.tables.unit
    marks[WINDOW], marks[SCALE], marks[MOST] = goal.window, scale_of(ladder), -np.inf
    tally = Tally(state, marks, np.zeros((len(ladder.rungs), 2), dtype=np.int64))
    kernel: Any = set_marks
    if goal.purpose == ENUMERATE:
        marks[CUT] = marks[STORE] = marks[PRUNE] = -np.inf
        marks[KEEP] = goal.keep
        return tally
    kernel(state, marks, ladder.rungs, prepared.data.by_ones)
    if goal.purpose == COLLECT:
        marks[STORE], marks[KEEP], marks[CUT] = goal.store, goal.keep, goal.store
        marks[PRUNE] = lowered(goal.store)
    elif goal.purpose == SUMMIT:
        marks[MOST] = marks[PRUNE] = goal.store
        state[LEAST] = settings.min_support
    return tally


def _new_stack(prepared: Prepared) -> Stack:
    table, data = prepared.table, prepared.data
    n_items, n_words, n_strata = len(data.root_cand), table.n_words, table.n_strata
    n_segments = len(table.masks)
    capacity = 2 * n_items + 256
    levels = np.zeros((32, N_LEVEL), dtype=np.int64)
    levels[0, [END, WIDTH, SEGMENT_END, ARENA_END, HASH]] = (
        n_items, n_words, n_segments, n_words, _FIRST_HASH,
    )  # fmt: skip
    arena = np.zeros(max(4 * n_words + 64, 2**12), dtype=np.uint64)
    arena[:n_words] = table.cases  # levels[0, CASES_AT] is 0
    segments = np.zeros((4 * n_segments + n_words + 64, 4), dtype=np.int64)
    segments[:n_segments, WORD] = table.segments[:, 0]
    segments[:n_segments, STRATUM] = table.segments[:, 1]
    segments[:n_segments, LINE] = N_COLUMNS * prepared.tables.offset[table.segments[:, 1]]
    segments[:n_segments, RANK] = rank_strata(table)[table.segments[:, 1]]
    masks = np.zeros(len(segments), dtype=np.uint64)
    masks[:n_segments] = table.masks
    return Stack(
        levels=levels,
        cand=np.zeros((capacity, 3), dtype=np.int64),
        score=np.zeros((capacity, 2), dtype=np.float64),
        cells_lo=np.zeros(capacity, dtype=np.uint64),
        cells_hi=np.zeros(capacity, dtype=np.uint64),
        covers_lo=np.zeros(capacity, dtype=np.uint64),
        covers_hi=np.zeros(capacity, dtype=np.uint64),
        arena=arena,
        segments=segments,
        masks=masks,
        strata=np.zeros((n_strata, 4), dtype=np.int64),
        pairs=np.zeros((n_strata, 2), dtype=np.uint64),
        closed=np.zeros(capacity, dtype=np.int64),
        lines=np.zeros(n_strata + 1, dtype=np.int64),
        chosen=np.zeros(capacity, dtype=np.int64),
        shared_ones=np.zeros(capacity, dtype=np.int64),
        units=np.zeros(capacity, dtype=np.int64),
        rows=np.zeros(n_words, dtype=np.uint64),
        limits=np.zeros(len(segments), dtype=np.uint64),
        ends=np.zeros(len(segments), dtype=np.bool_),
        scratch=np.zeros((3, n_strata + 1), dtype=np.float64),
    )


def _new_buffer(n_strata: int) -> Buffer:
    n_records = max(256, min(_RECORDS, _RECORD_CELLS // (n_strata + 1)))
    return Buffer(
        values=np.empty(2**16, dtype=np.float64),
        evidence=np.empty(n_records, dtype=np.float64),
        found=np.empty((n_records, SUPPORT + 2 * n_strata), dtype=np.int64),
        items=np.empty(n_records * _MEAN_LENGTH, dtype=np.int64),
    )
