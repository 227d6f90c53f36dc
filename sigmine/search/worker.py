"""One worker of a search: its stack, its buffer, and what the second pass makes of the buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import EvidenceTables, may_be_below
from ..settings import SearchSettings
from .itemsets import room_needed, search_subtrees
from .layout import (
    BUFFER_FULL,
    CARRIER_CASES,
    COLLECT,
    DEPTH,
    DONE,
    KEY,
    LAST_ROOT,
    LENGTH,
    ROOT,
    STACK_SHORT,
    Buffer,
    Control,
    Goal,
    Ladder,
    SearchData,
    Stack,
)

__all__ = ["Findings", "Worker", "new_buffer"]

_BUFFER_CELLS = 2**21  # of a worker's buffer, whatever the number of strata
_MEAN_LENGTH = 16  # of the paths that the buffer has room for


class Worker:
    """Runs the kernel over ranges of root items, with room as it needs it.

    Parameters
    ----------
    data : SearchData
        What is searched.
    ladder : Ladder
        Where the first pass counts; of its own.
    control : Control
        Shared with the watching thread.
    goal : Goal
        Which pass.
    """

    def __init__(self, data: SearchData, ladder: Ladder, control: Control, goal: Goal) -> None:
        n_strata = data.tables.margins.shape[1]
        self.data, self.ladder, self.control, self.goal = data, ladder, control, goal
        self.stack = _new_stack(data.columns.shape[1], n_strata, 256, 16)
        self.stack.cursor[:] = 0, 0, -1, data.sizes_asked[0]
        self.buffer = new_buffer(n_strata if goal.purpose == COLLECT else 0)

    def run(self, first: int, last: int, empty: Callable[[Buffer], None] | None = None) -> None:
        """Search the subtrees of root items ``first`` to ``last - 1``.

        Parameters
        ----------
        first, last : int
            Root items.
        empty : callable, optional
            Of the second pass: takes what is in the buffer.
        """
        *arrays, tables = self.data
        kernel: Any = search_subtrees  # its arguments are the arrays of the tuples, one by one
        cursor = self.stack.cursor
        cursor[ROOT], cursor[LAST_ROOT], cursor[DEPTH] = first, last, -1
        while True:
            reason = kernel(
                *arrays,
                *tables,
                *self.stack,
                *self.ladder,
                *self.control,
                *self.goal,
                *self.buffer,
            )
            if empty is not None and reason in (BUFFER_FULL, DONE):
                empty(self.buffer)
                self.buffer.fill[:] = 0
            if reason == DONE:
                return
            if reason == STACK_SHORT:
                self._lengthen_stack()
            elif int(self.stack.cursor[DEPTH]) + 1 >= len(self.buffer.items):
                # The path alone is as long as the empty buffer.
                items = np.empty(2 * len(self.buffer.items), dtype=np.int64)
                self.buffer = self.buffer._replace(items=items)

    def _lengthen_stack(self) -> None:
        old = self.stack
        depth = int(old.cursor[DEPTH])
        capacity, levels = len(old.info), len(old.levels)
        while capacity < room_needed(depth, old.levels):
            capacity *= 2
        while levels < depth + 2:
            levels *= 2
        new = _new_stack(old.words.shape[1], len(old.counts), capacity, levels)
        for source, target in zip(old, new, strict=True):
            target[: len(source)] = source
        self.stack = new


def _new_stack(n_words: int, n_strata: int, capacity: int, levels: int) -> Stack:
    return Stack(
        cursor=np.zeros(4, dtype=np.int64),
        words=np.empty((capacity, n_words), dtype=np.uint64),
        info=np.empty((capacity, 2), dtype=np.int64),
        score=np.empty((capacity, 2), dtype=np.float64),
        excluding=np.empty(capacity, dtype=np.int64),
        levels=np.zeros((levels, 5), dtype=np.int64),
        counts=np.zeros(n_strata, dtype=np.int64),
        scratch=np.empty((3, n_strata), dtype=np.float64),
    )


def new_buffer(n_strata: int) -> Buffer:
    """Make a buffer for the second pass; of no length for 0 strata.

    Parameters
    ----------
    n_strata : int
        Columns of its support.

    Returns
    -------
    Buffer
    """
    rows = max(256, _BUFFER_CELLS // (n_strata + _MEAN_LENGTH)) if n_strata else 0
    return Buffer(
        fill=np.zeros(2, dtype=np.int64),
        evidence=np.empty(rows, dtype=np.float64),
        support=np.empty((rows, n_strata), dtype=np.int64),
        info=np.empty((rows, 3), dtype=np.int64),
        items=np.empty(rows * _MEAN_LENGTH, dtype=np.int64),
    )


class Findings:
    """What the second pass keeps of the testable hypotheses.

    Parameters
    ----------
    tables : EvidenceTables
        The test.
    settings : SearchSettings
        The alternative.
    critical_end : float
        Evidence below which the exact value is kept.
    log_threshold : float
        Log p-value that the final threshold cannot exceed.
    stride : int
        One hypothesis in so many, by its key, goes into the sample.

    Attributes
    ----------
    n_beyond : int
        Hypotheses with more evidence than the critical bucket has.
    least_beyond : float
        Smallest evidence among them.
    """

    def __init__(
        self,
        tables: EvidenceTables,
        settings: SearchSettings,
        critical_end: float,
        log_threshold: float,
        stride: int,
    ) -> None:
        self.tables, self.settings = tables, settings
        self.critical_end, self.log_threshold, self.stride = critical_end, log_threshold, stride
        self.n_beyond = 0
        self.least_beyond = np.inf
        self._critical: list[NDArray[np.float64]] = [np.empty(0)]
        n_strata = tables.margins.shape[1]
        self._sample_support = [np.empty((0, n_strata), dtype=np.int64)]
        self._sample_cases = [np.empty(0, dtype=np.int64)]
        self._sample_evidence: list[NDArray[np.float64]] = [np.empty(0)]
        self._paths = [np.empty(0, dtype=np.int64)]
        self._lengths = [np.empty(0, dtype=np.int64)]

    def take(self, buffer: Buffer) -> None:
        """Look through a buffer and keep what is needed, as copies."""
        n, n_items = buffer.fill.tolist()
        evidence, support, info = buffer.evidence[:n], buffer.support[:n], buffer.info[:n]
        cases = np.ascontiguousarray(info[:, CARRIER_CASES])
        is_critical = evidence < self.critical_end
        self._critical.append(evidence[is_critical])
        beyond = evidence[~is_critical]
        self.n_beyond += len(beyond)
        self.least_beyond = min(self.least_beyond, float(beyond.min(initial=np.inf)))
        sampled = info[:, KEY] % self.stride == 0
        self._sample_support.append(support[sampled])
        self._sample_cases.append(cases[sampled])
        self._sample_evidence.append(evidence[sampled])
        kept = may_be_below(support, cases, self.tables, self.log_threshold, self.settings)
        lengths = info[:, LENGTH]
        self._paths.append(buffer.items[:n_items][np.repeat(kept, lengths)])
        self._lengths.append(lengths[kept])

    @property
    def critical(self) -> NDArray[np.float64]:
        """Evidence of every hypothesis of the critical bucket."""
        return np.concatenate(self._critical)

    def sample(self, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return carriers by stratum, and carriers that are cases, of the sample.

        Parameters
        ----------
        least : float
            Smallest evidence that is testable in the end.

        Returns
        -------
        support : ndarray of int64, shape (n_sample, n_strata)
        cases : ndarray of int64, shape (n_sample,)
        """
        testable = np.concatenate(self._sample_evidence) >= least
        return (
            np.concatenate(self._sample_support)[testable],
            np.concatenate(self._sample_cases)[testable],
        )

    @property
    def paths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns of the patterns that may be significant, one behind the other, and lengths."""
        return np.concatenate(self._paths), np.concatenate(self._lengths)
