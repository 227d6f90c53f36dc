"""What all workers of a pass have met so far: parts added up, cut down to what still matters."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..settings import SearchSettings
from .layout import (
    CANDIDATE,
    COUNT,
    KEY,
    N_CLOSED,
    N_PATH,
    SAMPLED,
    STORE_FROM,
    SUMMIT,
    WHAT,
    Ladder,
)
from .testability import climbed
from .worker import Goal, Part, merged

__all__ = ["Total"]

_VALUES_KEPT = 2**20  # of evidence in the window: 8 MiB
_MOST_BYTES = 2**26  # that may lie in parts which were not cut down yet


class Total:
    """The sum of the parts of a pass; threads may add to it.

    Parameters
    ----------
    goal : Goal
        Of the pass, at its start.
    ladder : Ladder
        The buckets.
    settings : SearchSettings
        What is asked.
    sample_size : int
        Hypotheses of the sample that are worth keeping.
    n_tasks : int
        Tasks of the pass.
    part, secured
        What an earlier run of this pass has met in which tasks, if there was one.

    Attributes
    ----------
    counts : ndarray of int64, shape (n_buckets,)
        Hypotheses met in finished batches, for pruning.
    secured : ndarray of bool, shape (n_tasks,)
        The tasks of finished batches: `part` is what was met in these, nothing else.
    """

    def __init__(
        self,
        goal: Goal,
        ladder: Ladder,
        settings: SearchSettings,
        sample_size: int,
        n_tasks: int,
        part: Part | None = None,
        secured: NDArray[np.bool_] | None = None,
    ) -> None:
        self._goal, self._ladder, self._settings = goal, ladder, settings
        self._sample_size = sample_size
        self._lock = threading.RLock()
        self._parts: list[Part] = []
        self._n_bytes = 0  # of the parts since they were last cut down
        self._unfinished: list[Part] = []
        self._level = goal.level
        self._level_met = goal.level
        self.counts: NDArray[np.int64] = np.zeros(len(ladder.rungs), dtype=np.int64)
        self.visited = 0
        self.secured = np.zeros(n_tasks, dtype=bool) if secured is None else secured.copy()
        if part is not None:
            self.add(part, [])

    def add(self, part: Part, finished: list[int], *, whole: bool = True) -> None:
        """Add what was met in a batch.

        Parameters
        ----------
        part : Part
            What was met.
        finished : list of int
            Its tasks.
        whole : bool, default=True
            Whether it is all that those tasks hold, and nothing else. If not, because the worker
            was told to stop in the middle of one, it counts for `everything` only.
        """
        with self._lock:
            self.visited += part.visited
            if not whole:
                self._unfinished.append(part)
                self._level_met = max(self._level_met, part.level)
                return
            self._parts.append(part)
            self.secured[finished] = True
            self.counts += part.counts  # those below the level are too low: never invented
            if self._goal.purpose == COUNT:
                level = max(self._level, part.level)
                self._level = climbed(self._ladder, self.counts, level, self._settings)[0]
                self._n_bytes += _n_bytes(part)
                if self._n_bytes > _MOST_BYTES:  # a long search has thousands of them
                    self._put_together()

    def goal(self) -> Goal:
        """Return what the next batch starts from, by what is known now."""
        with self._lock:
            parts = self._parts
            if not parts or self._goal.purpose not in (COUNT, SUMMIT):
                return self._goal
            if self._goal.purpose == SUMMIT:
                most = max(self._goal.store, *(part.most for part in parts))
                return replace(self._goal, store=most)
            return replace(
                self._goal,
                level=self._level,
                window=min(part.window for part in parts),
                sample_mask=max(part.sample_mask for part in parts),
            )

    def numbers(self) -> tuple[int, int, NDArray[np.int64]]:
        """Return what was met, in unfinished tasks too, as `Live.numbers` does."""
        with self._lock:
            counts = sum((part.counts for part in self._unfinished), self.counts)
            return self.visited, max(self.goal().level, self._level_met), counts

    def snapshot(self) -> tuple[Part, NDArray[np.bool_]]:
        """Return what was met in finished batches, and their tasks."""
        with self._lock:
            self._put_together()
            return self._parts[0], self.secured.copy()

    def _put_together(self) -> None:
        if len(self._parts) > 1:
            self._parts = [self._cut_down(merged(self._parts))]
        self._n_bytes = 0

    def everything(self) -> Part:
        """Return what was met, in unfinished tasks too."""
        with self._lock:
            parts = [*self._parts, *self._unfinished]
            return parts[0] if len(parts) == 1 else merged(parts)

    def __bool__(self) -> bool:
        """Say whether anything was added."""
        return bool(self._parts or self._unfinished)

    @property
    def has_whole(self) -> bool:
        """Whether there is a `snapshot`."""
        return bool(self._parts)

    def _cut_down(self, part: Part) -> Part:
        """Forget what cannot matter at the present threshold, and thin out values and sample."""
        if self._goal.purpose != COUNT:
            return part
        part.level = max(part.level, self._level)
        store = float(self._ladder.rungs[part.level, STORE_FROM])
        values = part.values[(part.values >= store) & (part.values < part.window)]
        if len(values) > _VALUES_KEPT:
            part.window = float(np.partition(values, _VALUES_KEPT // 2)[_VALUES_KEPT // 2])
            values = values[values < part.window]
        part.values = values
        what, testable = part.found[:, WHAT], part.evidence >= store
        sampled = (what & SAMPLED > 0) & testable & (part.found[:, KEY] & part.sample_mask == 0)
        if np.count_nonzero(sampled) > 4 * self._sample_size:
            while np.count_nonzero(sampled) > 2 * self._sample_size:
                part.sample_mask = 2 * part.sample_mask + 1
                sampled &= part.found[:, KEY] & part.sample_mask == 0
        kept = testable & ((what & CANDIDATE > 0) | sampled)
        lengths = part.found[:, N_PATH] + part.found[:, N_CLOSED]
        part.items = part.items[np.repeat(kept, lengths)]
        part.evidence, part.found = part.evidence[kept], part.found[kept]
        part.found[:, WHAT] = part.found[:, WHAT] & ~SAMPLED | np.where(sampled[kept], SAMPLED, 0)
        return part


def _n_bytes(part: Part) -> int:
    arrays = (part.counts, part.values, part.evidence, part.found, part.items)
    return sum(array.nbytes for array in arrays)
