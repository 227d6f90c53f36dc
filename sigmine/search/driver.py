"""From tasks to the answer: one pass over the search space, and the threshold that follows from it.

The pass counts hypotheses on the ladder and prunes with a threshold that falls as it goes. On the
way it remembers what may be needed in the end: the exact values near the threshold, from which
delta* follows, and every hypothesis whose p-value is below twice the threshold of that moment.

That is enough unless ties are heavy: the corrected threshold alpha / m(delta*) may end up above
twice the last threshold of the pass, and then a hypothesis could be missing. It is known at the end
whether that is so, and a second pass at the fixed final threshold collects what is needed. Original
programs keep what is significant at the threshold of the moment, and lose some.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from ..parallel import count_workers, run_watched
from ..problem import Problem
from ..settings import SearchSettings
from .describe import close_paths
from .flat import Itemsets, lexicographic_order, reordered, sorted_within, spread
from .layout import (
    BOUND,
    CANDIDATE,
    CASES,
    COLLECT,
    COUNT,
    COUNTS,
    EDGE,
    KEEP_FROM,
    KEY,
    LEVEL,
    N_CLOSED,
    N_PATH,
    ROOM,
    STORE_FROM,
    SUMMIT,
    SUPPORT,
    UNKNOWN,
    VISITED,
    WHAT,
    Shared,
)
from .outcome import ProgressCallback, SearchOutcome, SearchProgress
from .prepare import prepare
from .pvalues import log_pvalues
from .tasks import plan_tasks
from .testability import (
    MARGIN,
    TIE_TOLERANCE,
    Critical,
    build_ladder,
    climbed,
    first_level,
    solve_critical,
)
from .worker import Goal, Part, Task, Worker, merged

__all__ = ["search_patterns"]

Flat = tuple[NDArray[np.int64], NDArray[np.int64]]
_SAMPLE_SIZE, _SAMPLE_CELLS = 4_096, 4_000_000  # row sets, and counts by stratum, of the sample


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
    return _Search(problem, settings, count_workers(n_jobs), progress).run()


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
        self.settings, self.progress = settings, progress
        self.prepared = prepare(problem.table, settings)
        self.ladder = build_ladder(settings)
        self.plan = plan_tasks(self.prepared, n_workers)
        self.n_workers = max(1, min(n_workers, len(self.plan.tasks)))
        self.sample_size = min(_SAMPLE_SIZE, _SAMPLE_CELLS // problem.table.n_strata + 1)
        self.visited = 0  # by the passes that have ended

    def run(self) -> SearchOutcome:
        """Search, and put the answer together."""
        level = first_level(self.ladder, self.settings)
        part = self._pass("threshold", Goal(COUNT, level, window=self._window()))
        level, alive = climbed(self.ladder, part.counts, part.level, self.settings)
        visited = part.visited
        solution = self._solve(part, level, alive)
        if solution is None or not self._is_complete(part, level, solution):
            part = self._collect(level, alive)
            solution = self._solve(part, level, alive)
            if solution is None:
                raise AssertionError("a pass at a fixed threshold keeps every value")
        if solution.n_testable == 0:
            part.most = self._pass("summit", Goal(SUMMIT, level, store=part.most)).most
        return self._outcome(solution, part, visited)

    def _window(self) -> float:
        return math.inf if self.settings.grid_step is None else -math.inf

    def _pass(self, stage: str, goal: Goal) -> Part:
        """Run one pass over all tasks."""
        self.prepared.data.root_score[:, BOUND] = UNKNOWN  # bounds hold for one cut only
        shared = Shared(
            np.zeros(1, dtype=np.int64), np.zeros(len(self.ladder.rungs), dtype=np.int64)
        )
        workers: list[Worker] = []

        def watch(fraction: float) -> None:
            if self.progress is None:
                return
            tallies = [worker.tally for worker in list(workers)]
            level = max([goal.level, *(int(t.state[LEVEL]) for t in tallies)])
            self.progress(
                SearchProgress(
                    stage=stage,
                    visited=self.visited + sum(int(t.state[VISITED]) for t in tallies),
                    testable=sum(int(t.counts[level:, COUNTS].sum()) for t in tallies),
                    threshold=float(self.settings.alpha / self.ladder.rungs[level, ROOM]),
                    fraction_done=fraction,
                    seconds=time.perf_counter() - self.started,
                )
            )

        def work(_: int, tasks: Iterator[Task]) -> Part:
            worker = Worker(
                self.prepared, self.settings, self.ladder, shared, goal, self.sample_size
            )
            workers.append(worker)
            return worker.run(tasks)

        part = merged(
            run_watched(
                work, self.plan.tasks, self.plan.weights, self.n_workers, shared.stop, watch
            )
        )
        self.visited += part.visited
        return part

    def _collect(self, level: int, alive: int) -> Part:
        """Run a second pass at the threshold of a bucket, with everything kept that may matter."""
        # m(delta*) is at least what lies beyond the bucket after the critical one, whatever the
        # ties at its border: no threshold can come out above this one.
        beyond = self.ladder.rungs[level + 2 :, EDGE]
        surely = alive
        if self.settings.grid_step is None:
            surely = int(self._counts_beyond[2:].sum()) if len(beyond) else 0
        keep = evidence_of_log_pvalue(
            min(0.0, math.log(self.settings.alpha / max(1, surely)) + TIE_TOLERANCE), self.settings
        )
        goal = Goal(
            COLLECT,
            level,
            store=float(self.ladder.rungs[level, STORE_FROM]),
            keep=float(keep) - TIE_TOLERANCE * max(1.0, float(keep)),
            window=self._window(),
            sample_mask=self._final_mask(alive),
        )
        return self._pass("collect", goal)

    def _solve(self, part: Part, level: int, alive: int) -> Critical | None:
        """Return the final threshold; None if values are missing that it depends on."""
        rungs, settings = self.ladder.rungs, self.settings
        self._counts_beyond = part.counts[level:]
        if settings.grid_step is not None:
            log_edge = math.log(settings.alpha / rungs[level, ROOM])
            return Critical(alive, log_edge, float(rungs[level, EDGE]))
        end = float(rungs[level + 1, EDGE]) + MARGIN if level + 1 < len(rungs) else math.inf
        if part.window < end:
            return None
        in_critical = (part.values >= rungs[level, STORE_FROM]) & (part.values < end)
        critical = part.values[in_critical]
        n_critical = int(np.count_nonzero(critical >= rungs[level, EDGE]))
        rest = part.values[part.values >= end]
        n_beyond = alive - n_critical
        least_beyond = float(rest.min(initial=math.inf))
        solution = solve_critical(critical, n_beyond, least_beyond, settings)
        if solution.n_testable and not math.isfinite(solution.evidence):
            return None
        return solution

    def _is_complete(self, part: Part, level: int, solution: Critical) -> bool:
        """Say whether the pass has kept all that is significant, and a large enough sample."""
        corrected = self.settings.alpha / max(1, solution.n_testable)
        needed = float(evidence_of_log_pvalue(min(0.0, math.log(corrected)), self.settings))
        kept = float(self.ladder.rungs[level, KEEP_FROM])
        mask = self._final_mask(solution.n_testable)
        return needed >= kept and part.sample_mask & ~mask == 0

    def _final_mask(self, n_testable: int) -> int:
        """Return the bits of its hash that thin the testable hypotheses to the sample's size."""
        ratio = n_testable / self.sample_size
        return 0 if ratio <= 1.0 else 2 ** math.ceil(math.log2(ratio)) - 1

    def _outcome(self, solution: Critical, part: Part, visited: int) -> SearchOutcome:
        """Keep what is significant at the final threshold, with its rows and its closed itemset."""
        settings = self.settings
        corrected = settings.alpha / max(1, solution.n_testable)
        testable = self._testable(part.evidence, solution)
        mask = self._final_mask(solution.n_testable)
        sampled = testable & (part.found[:, KEY] & mask == 0)
        sample = part.found[sampled]
        n_strata = self.prepared.table.n_strata
        last = SUPPORT + n_strata
        sample = sample[np.lexsort((sample[:, CASES], *sample[:, SUPPORT:last].T[::-1]))]
        keep = testable & (part.found[:, WHAT] & CANDIDATE > 0)
        support = part.found[:, SUPPORT : SUPPORT + n_strata]
        log_threshold = math.log(corrected) + TIE_TOLERANCE
        log_p = log_pvalues(
            support[keep],
            part.found[keep, SUPPORT + n_strata :],
            self.prepared.table,
            settings,
            log_threshold,
        )
        keep[keep] = log_p <= log_threshold
        generators, closures = self._itemsets(part, keep)
        order = lexicographic_order(*closures)  # whatever the workers did
        rows = np.flatnonzero(keep)[order]
        return SearchOutcome(
            n_visited=visited,
            n_testable=solution.n_testable,
            testability_threshold=math.exp(solution.log_threshold)
            if solution.n_testable
            else math.nan,
            corrected_threshold=corrected,
            smallest_minimum_pvalue=float(np.exp(log_pvalue_of_evidence(part.most, settings)))
            if math.isfinite(part.most)
            else math.nan,
            generators=Itemsets(*reordered(*generators, order)),
            closures=Itemsets(*reordered(*closures, order)),
            support=support[rows],
            support_cases=part.found[rows, SUPPORT + n_strata :],
            sample_support=sample[:, SUPPORT : SUPPORT + n_strata].copy(),
            sample_cases=sample[:, CASES].copy(),
            sample_fraction=1.0 / (mask + 1),
            seconds=time.perf_counter() - self.started,
        )

    def _testable(self, evidence: NDArray[np.float64], solution: Critical) -> NDArray[np.bool_]:
        """Say which hypotheses are testable at delta*."""
        if solution.n_testable == 0:
            return np.zeros(len(evidence), dtype=bool)
        testable = evidence >= solution.evidence
        if self.settings.grid_step is None and len(evidence):
            log_minimum = log_pvalue_of_evidence(evidence, self.settings)
            testable |= log_minimum <= solution.log_threshold + TIE_TOLERANCE
        return np.asarray(testable)

    def _itemsets(self, part: Part, keep: NDArray[np.bool_]) -> tuple[Flat, Flat]:
        """Return generators and closures of some records, items ascending."""
        found = part.found
        lengths = np.stack([found[:, N_PATH], found[:, N_CLOSED]], axis=1)
        mine = np.repeat(np.repeat(keep, 2), lengths.reshape(-1))
        lengths = lengths[keep]
        items = part.items[mine]
        on_path = np.repeat(np.tile([True, False], len(lengths)), lengths.reshape(-1))
        paths, path_ends = items[on_path], np.cumsum(lengths[:, 0])
        closures, closure_ends = items, np.cumsum(lengths.sum(axis=1))
        if self.settings.max_length is not None:  # the kernel did not look for what else holds
            data, table = self.prepared.data, self.prepared.table
            columns = np.ascontiguousarray(data.columns.reshape(table.n_words, -1).T)
            closures, closure_ends = close_paths(columns, data.root_cand, paths, path_ends)
        # One item stands for the columns that were merged in a generator, all of them in a closure.
        first = np.array([items[0] for items in self.prepared.items], dtype=np.int64)
        generators = sorted_within(first[paths], path_ends)
        closures, closure_ends = spread(closures, closure_ends, self.prepared.items)
        return (generators, path_ends), (sorted_within(closures, closure_ends), closure_ends)
