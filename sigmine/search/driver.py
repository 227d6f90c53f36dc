"""The two passes of a search: first the threshold, then everything at that threshold.

The first pass counts hypotheses on the ladder and prunes with a threshold that falls as it goes;
at its end the bucket that holds delta* is known. The second pass runs at that fixed threshold: it
collects the exact values inside the critical bucket, from which delta* follows, and the p-values of
what is testable. Keeping significant patterns during the first pass instead would lose some: the
corrected threshold alpha / m(delta*) may end up above what it was when a pattern was met.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..association import cmh, cmh_exact
from ..association.evidence import (
    log_pvalue_of_evidence,
    minimum_evidences,
)
from ..parallel import count_workers, root_chunks, run_watched
from ..problem import Problem
from ..settings import SearchSettings
from .describe import describe_patterns
from .itemsets import lowered
from .layout import ALIVE, COLLECT, COUNT, GRID, LEVEL, SUMMIT, Control, Goal, Ladder
from .outcome import ProgressCallback, SearchOutcome, SearchProgress
from .prepare import prepare
from .testability import (
    TIE_TOLERANCE,
    Critical,
    build_ladder,
    climb,
    solve_critical,
)
from .worker import Findings, Worker

__all__ = ["search_patterns"]

T = TypeVar("T")

_MARGIN = 1e-6  # in evidence, around the critical bucket: far above rounding, far below its width
_SAMPLE_SIZE, _SAMPLE_CELLS = 20_000, 4_000_000  # row sets, and counts by stratum, of the sample
_COUNTING = Goal(COUNT, np.zeros(2))


def search_patterns(
    problem: Problem,
    settings: SearchSettings,
    *,
    n_jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> SearchOutcome:
    """Find every significant closed itemset and the exact threshold.

    Parameters
    ----------
    problem : Problem
        Items, cases and strata in canonical layout.
    settings : SearchSettings
        What is asked.
    n_jobs : int or None, default=None
        Threads; the answer does not depend on it.
    progress : callable or None, default=None
        Called a few times a second with a `SearchProgress`.

    Returns
    -------
    SearchOutcome
        Patterns in a fixed order that depends on the data alone.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, within a second.

    Notes
    -----
    Under the null hypothesis that items and outcome are independent given the strata, the
    probability of any significant pattern is at most alpha: exactly so for ``method="exact"``,
    approximately for ``method="asymptotic"``. No pattern that is testable at delta* with a p-value
    of at most alpha / m(delta*) is missing.
    """
    search = _Search(problem, settings, count_workers(n_jobs), progress)
    ladder = search.find_threshold()
    return search.collect(ladder)


class _Search:
    """One search: the data in the kernel's order, the workers and the clock."""

    def __init__(
        self,
        problem: Problem,
        settings: SearchSettings,
        n_workers: int,
        progress: ProgressCallback | None,
    ) -> None:
        self.started = time.perf_counter()
        self.table = problem.table
        self.settings = settings
        self.data, self.items = prepare(problem.table, settings)
        self.chunks = root_chunks(len(self.items), n_workers)
        self.n_workers = max(1, min(n_workers, len(self.chunks)))
        self.progress = progress
        self.visited = 0  # by the passes that have ended
        enough = self.data.info[:, 1] >= settings.min_support
        self.most = float(self.data.score[enough, 0].max(initial=-math.inf))

    def _run_pass(
        self,
        stage: str,
        work: Callable[[Control, Ladder, Iterator[tuple[int, int]]], T],
        ladders: list[Ladder],
    ) -> tuple[list[T], int]:
        """Run one pass over all root items; return what the workers return and nodes visited."""
        stop = np.zeros(1, dtype=np.int64)
        shared = np.zeros(len(ladders[0].edges), dtype=np.int64)
        controls = [
            Control(stop, np.zeros(1, np.int64), np.full(1, -np.inf), shared) for _ in ladders
        ]

        def watch(fraction: float) -> None:
            if self.progress is None:
                return
            level = max(int(ladder.state[LEVEL]) for ladder in ladders)
            counts = shared if stage == "threshold" else ladders[0].counts
            self.progress(
                SearchProgress(
                    stage=stage,
                    visited=self.visited + sum(int(c.visited[0]) for c in controls),
                    testable=int(counts[level:].sum()),
                    threshold=float(self.settings.alpha / ladders[0].room[level]),
                    fraction_done=min(1.0, fraction),
                    seconds=time.perf_counter() - self.started,
                )
            )

        def start(number: int, chunks: Iterator[tuple[int, int]]) -> T:
            return work(controls[number], ladders[number], chunks)

        results = run_watched(start, self.chunks, self.n_workers, stop, watch)
        visited = sum(int(c.visited[0]) for c in controls)
        self.visited += visited
        self.most = max(self.most, *(float(c.most[0]) for c in controls))
        return results, visited

    def find_threshold(self) -> Ladder:
        """Run the first pass; return the ladder with the counts of all workers."""

        def work(control: Control, ladder: Ladder, chunks: Iterator[tuple[int, int]]) -> None:
            worker = Worker(self.data, ladder, control, _COUNTING)
            for first, last in chunks:
                worker.run(first, last)

        ladders = [build_ladder(self.settings) for _ in range(self.n_workers)]
        self._run_pass("threshold", work, ladders)
        total = build_ladder(self.settings)
        # A worker's counts are exact from its own level upwards, and its level is never above
        # that of all counts together.
        level = max(int(ladder.state[LEVEL]) for ladder in ladders)
        for ladder in ladders:
            total.counts[level:] += ladder.counts[level:]
        total.state[LEVEL], total.state[ALIVE] = level, total.counts.sum()
        climb(total)
        return total

    def collect(self, ladder: Ladder) -> SearchOutcome:
        """Run the second pass at the threshold of `ladder` and put the answer together."""
        level, alive, grid = ladder.state.tolist()
        edges, counts = ladder.edges, ladder.counts
        cut = float(edges[level]) - (0.0 if grid else _MARGIN)
        end = -math.inf if grid else math.inf
        if not grid and level + 1 < len(edges):
            end = float(edges[level + 1]) + _MARGIN
        # m(delta*) is at least what lies beyond the bucket after the critical one, whatever the
        # ties at its border: no threshold can come out above this one.
        surely = alive if grid else int(counts[level + 2 :].sum())
        log_threshold = math.log(self.settings.alpha / max(1, surely)) + TIE_TOLERANCE
        stride = max(1, -(-alive // min(_SAMPLE_SIZE, _SAMPLE_CELLS // self.table.n_strata + 1)))
        goal = Goal(COLLECT, np.array([cut, lowered(cut)]))
        tables = self.data.tables

        def work(control: Control, ladder: Ladder, chunks: Iterator[tuple[int, int]]) -> Findings:
            findings = Findings(tables, self.settings, end, log_threshold, stride)
            worker = Worker(self.data, ladder, control, goal)
            for first, last in chunks:
                worker.run(first, last, findings.take)
            return findings

        parts, visited = self._run_pass("collect", work, [ladder] * self.n_workers)
        solution = self._solve(ladder, parts)
        if solution.n_testable == 0:
            self._climb_to_summit(ladder)
        return self._outcome(solution, parts, visited, 1.0 / stride)

    def _climb_to_summit(self, ladder: Ladder) -> None:
        """Find the smallest minimum p-value of all, to say how far from testable anything was."""

        def work(control: Control, ladder: Ladder, chunks: Iterator[tuple[int, int]]) -> None:
            goal = Goal(SUMMIT, np.full(2, self.most))
            control.most[0] = self.most
            worker = Worker(self.data, ladder, control, goal)
            for first, last in chunks:
                worker.run(first, last)

        self._run_pass("summit", work, [ladder] * self.n_workers)

    def _solve(self, ladder: Ladder, parts: list[Findings]) -> Critical:
        """Return the final threshold."""
        n_beyond = sum(part.n_beyond for part in parts)
        if ladder.state[GRID]:
            level = int(ladder.state[LEVEL])
            log_edge = math.log(self.settings.alpha / ladder.room[level])
            return Critical(n_beyond, log_edge, float(ladder.edges[level]))
        values = np.concatenate([part.critical for part in parts])
        least = min(part.least_beyond for part in parts)
        return solve_critical(values, n_beyond, least, self.settings)

    def _outcome(
        self, solution: Critical, parts: list[Findings], visited: int, fraction: float
    ) -> SearchOutcome:
        """Keep what is significant at the final threshold, with its rows and its closed itemset."""
        corrected = self.settings.alpha / max(1, solution.n_testable)
        found = [part.paths for part in parts]
        paths = np.concatenate([path for path, _ in found])
        ends = np.cumsum(np.concatenate([lengths for _, lengths in found]))
        support, cases, closures, closure_ends = describe_patterns(
            self.data.columns, self.data.info, self.table, paths, ends
        )
        keep = self._significant(support, cases, solution, corrected)
        paths, ends = _selected(paths, ends, keep)
        closures, closure_ends = _selected(closures, closure_ends, keep)
        support, cases = support[keep], cases[keep]
        # One item stands for the columns that were merged in a generator, all of them in a closure.
        first = np.array([items[0] for items in self.items], dtype=np.int64)
        generators = _sorted_within(first[paths], ends)
        closures, closure_ends = _spread(closures, closure_ends, self.items)
        closures = _sorted_within(closures, closure_ends)
        order = _lexicographic(closures, closure_ends)  # whatever the workers did
        generators_of = _pieces(generators, ends)
        closures_of = _pieces(closures, closure_ends)
        samples = [part.sample(solution.evidence) for part in parts]
        sample = np.concatenate([rows for rows, _ in samples])
        sample_cases = np.concatenate([counts for _, counts in samples])
        sample_order = np.lexsort((sample_cases, *sample.T[::-1]))
        return SearchOutcome(
            n_visited=visited,
            n_testable=solution.n_testable,
            testability_threshold=math.exp(solution.log_threshold)
            if solution.n_testable
            else math.nan,
            corrected_threshold=corrected,
            smallest_minimum_pvalue=float(np.exp(log_pvalue_of_evidence(self.most, self.settings)))
            if math.isfinite(self.most)
            else math.nan,
            generators=[generators_of[i] for i in order],
            closures=[closures_of[i] for i in order],
            support=support[order],
            support_cases=cases[order],
            sample_support=sample[sample_order],
            sample_cases=sample_cases[sample_order],
            sample_fraction=fraction,
            seconds=time.perf_counter() - self.started,
        )

    def _significant(
        self,
        support: NDArray[np.int64],
        cases: NDArray[np.int64],
        solution: Critical,
        corrected: float,
    ) -> NDArray[np.bool_]:
        """Say which patterns are testable at delta* and have a p-value at most alpha / m."""
        settings = self.settings
        if len(support) == 0 or solution.n_testable == 0:
            return np.zeros(len(support), dtype=bool)
        evidence = minimum_evidences(support, self.data.tables)
        testable = evidence >= solution.evidence
        if settings.grid_step is None:
            log_minimum = log_pvalue_of_evidence(evidence, settings)
            testable |= log_minimum <= solution.log_threshold + TIE_TOLERANCE
        margins = (support, cases.sum(axis=1), self.table.sizes, self.table.case_sizes)
        if settings.method == "exact":
            log_p = cmh_exact.log_pvalue(
                *margins, alternative=settings.alternative, two_sided=settings.two_sided
            )
        else:
            log_p = cmh.log_pvalue(
                *margins, alternative=settings.alternative, variance=settings.variance
            )
        return np.asarray(testable & (log_p <= math.log(corrected) + TIE_TOLERANCE))


# Lists of itemsets are kept flat here: all items, one itemset behind the other, and each one's end.


def _lengths(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.diff(ends, prepend=0)


def _pieces(flat: NDArray[np.int64], ends: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut a flat list behind each end."""
    borders = [0, *ends.tolist()]
    return [flat[a:b] for a, b in pairwise(borders)]


def _selected(
    flat: NDArray[np.int64], ends: NDArray[np.int64], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the flat list of some of the itemsets."""
    lengths = _lengths(ends)
    return flat[np.repeat(keep, lengths)], np.cumsum(lengths[keep])


def _sorted_within(flat: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort each itemset."""
    owner = np.repeat(np.arange(len(ends)), _lengths(ends))
    return flat[np.lexsort((flat, owner))]


def _spread(
    flat: NDArray[np.int64], ends: NDArray[np.int64], members: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Replace every entry by its members."""
    sizes = np.array([len(m) for m in members], dtype=np.int64)
    everything = np.concatenate([np.empty(0, dtype=np.int64), *members])
    starts = np.cumsum(sizes) - sizes
    counts = sizes[flat]
    new_ends = np.cumsum(counts)
    within = np.arange(int(counts.sum())) - np.repeat(new_ends - counts, counts)
    return (
        everything[np.repeat(starts[flat], counts) + within],
        np.concatenate([[0], new_ends])[ends],
    )


def _lexicographic(flat: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the order of the itemsets as words in a dictionary (items ascending in each)."""
    if len(ends) == 0:
        return np.empty(0, dtype=np.int64)
    lengths = _lengths(ends)
    table = np.full((len(ends), int(lengths.max())), -1, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = flat
    return np.lexsort(table.T[::-1])
