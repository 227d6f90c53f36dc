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
import os
import threading
import time
from collections import deque
from dataclasses import replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from ..association.evidence import evidence_of_log_pvalue, log_pvalue_of_evidence
from ..exceptions import InputError, InputTypeError, SearchInterrupted
from ..parallel import Control, Pool, find_workers, run_watched
from ..problem import Problem
from ..settings import SearchSettings
from .answer import make_outcome
from .checkpoint import Checkpoint, SavedPass, SavedSearch
from .layout import COLLECT, COUNT, EDGE, KEEP_FROM, ROOM, STORE_FROM, SUMMIT
from .outcome import ProgressCallback, SearchOutcome, SearchProgress
from .prepare import prepare
from .rounds import Frame, Live, search_in_pool, search_in_threads
from .schedule import Schedule
from .tasks import plan_tasks, predict_least
from .testability import (
    MARGIN,
    TIE_TOLERANCE,
    Critical,
    build_ladder,
    climbed,
    first_level,
    solve_critical,
)
from .total import Total
from .worker import Goal, Part

__all__ = ["checked_time_limit", "search_patterns"]

_SAMPLE_SIZE, _SAMPLE_CELLS = 4_096, 4_000_000  # row sets, and counts by stratum, of the sample
_ROUND_SECONDS = 4.0  # of a batch in a process of a pool, or in a thread if there is a checkpoint
_SLACK = 1e-6  # in log p: below what is kept, whatever rounding does
_WATCHED_PARTS = 12  # tasks for so many workers, where somebody wants to know how much is done


def search_patterns(
    problem: Problem,
    settings: SearchSettings,
    *,
    n_jobs: int | None = None,
    progress: ProgressCallback | None = None,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
) -> SearchOutcome:
    """Find every significant closed itemset and the exact threshold.

    Parameters
    ----------
    problem : Problem
        Items, cases and strata in canonical layout.
    settings : SearchSettings
        What is asked.
    n_jobs : int or None, default=None
        Threads; the answer does not depend on it. Inside ``joblib.parallel_config(backend=...)``
        with a backend of processes ("dask", "loky", "ray"), its workers.
    progress : callable or None, default=None
        Called a few times a second with a `SearchProgress`.
    time_limit : float or None, default=None
        Seconds after which the search stops. The outcome is then about what was searched up to
        there, and says so: see `SearchOutcome.complete`.
    checkpoint : str, path-like, Checkpoint or None, default=None
        A folder that keeps what was found so far: the same call goes on from there after a crash,
        an interrupt or a time limit, with the answer of a search that was never interrupted.

    Returns
    -------
    SearchOutcome
        Patterns in a fixed order that depends on the data alone.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, within a second. The checkpoint then holds all but the last few seconds.
    InputError
        If `time_limit` is not a positive number, or the folder cannot be used or holds the
        checkpoint of another search.
    FileFormatError
        If the checkpoint is damaged.

    Notes
    -----
    Under the null hypothesis that items and outcome are independent given the strata, the
    probability of any significant pattern is at most alpha: exactly so for ``method="exact"``,
    approximately for ``method="asymptotic"``. No pattern that is testable at delta* with a p-value
    of at most alpha / m(delta*) is missing. After a `time_limit` the same holds for the patterns
    that were searched, with delta* and m(delta*) counted among these.
    """
    # Looked up here: the context of joblib belongs to this thread.
    n_workers, pool = find_workers(n_jobs)
    folder = None if checkpoint is None else Checkpoint.of(checkpoint)
    control = Control(checked_time_limit(time_limit))
    search = _Search(problem, settings, n_workers, pool, control, folder, progress)
    return run_watched(search.run, control, search.watch)


def checked_time_limit(time_limit: object) -> float | None:
    """Return a time limit as a float.

    Parameters
    ----------
    time_limit : object
        What the user gave.

    Returns
    -------
    float or None
        Seconds; None for no limit.

    Raises
    ------
    InputError, InputTypeError
        If it is not a positive, finite number or None.
    """
    if time_limit is None:
        return None
    if isinstance(time_limit, bool) or not isinstance(time_limit, Real):
        raise InputTypeError(f"time_limit={time_limit!r} must be None or a number of seconds.")
    if not 0 < float(time_limit) < math.inf:
        raise InputError(f"time_limit={time_limit!r} must be above 0 seconds, and finite, or None.")
    return float(time_limit)


class _Search:
    """One search: the data in the kernel's order, the workers and the clock."""

    def __init__(
        self,
        problem: Problem,
        settings: SearchSettings,
        n_workers: int,
        pool: Pool | None,
        control: Control,
        checkpoint: Checkpoint | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.started = time.perf_counter()
        self.problem, self.settings, self.progress = problem, settings, progress
        self.n_workers, self.pool, self.control = n_workers, pool, control
        self.checkpoint = checkpoint
        self.visited = 0  # by the passes that have ended
        self.n_passes = 0
        self._running: tuple[str, Goal, Live, Schedule] | None = None
        self._ended: deque[SearchProgress] = deque()

    def run(self) -> SearchOutcome:
        """Search, and put the answer together."""
        self._prepare()
        settings = self.settings
        level = first_level(self.ladder, settings)
        first = self._pass("threshold", Goal(COUNT, level, window=self._window()))
        complete, fraction, items = self._searched()
        level, alive = climbed(self.ladder, first.counts, first.level, settings)
        part, solution = first, self._solve(first, level, alive)
        if solution is None or not self._is_complete(part, level, solution):
            part = first if self.control.stopped else self._collect(level, alive)
            if self.control.stopped:
                # No time for it: what the first pass knows for certain has to do.
                complete, part = False, first
                solution = solution or self._solve_above(part, level, alive)
            else:
                solution = self._solve(part, level, alive)
        if solution is None:
            raise AssertionError("a pass at a fixed threshold keeps every value")
        if complete and solution.n_testable == 0:
            part.most = self._pass("summit", Goal(SUMMIT, level, store=part.most)).most
            complete = not self.control.stopped
        corrected = settings.alpha / max(1, solution.n_testable)
        mask = self._final_mask(solution.n_testable)
        if not complete:
            kept = float(log_pvalue_of_evidence(self.ladder.rungs[level, KEEP_FROM], settings))
            corrected = min(corrected, math.exp(kept - _SLACK))
            mask |= part.sample_mask
        outcome = make_outcome(
            self.prepared, settings, part, solution,
            corrected=corrected, sample_mask=mask, visited=first.visited,
        )  # fmt: skip
        return replace(
            outcome,
            complete=complete,
            searched_fraction=fraction,
            searched_items=items,
            seconds=time.perf_counter() - self.started,
        )

    def _searched(self) -> tuple[bool, float, NDArray[np.int64] | None]:
        """Return whether the first pass is done, its share, and the items that are done."""
        finished, tasks = self.schedule.finished, self.schedule.plan.tasks
        if finished.all():
            return True, 1.0, None
        done = np.ones(len(self.prepared.items), dtype=bool)
        for number in np.flatnonzero(~finished).tolist():
            done[tasks[number].first : tasks[number].last] = False
        items = [self.prepared.items[i] for i in np.flatnonzero(done).tolist()]
        found = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *items]))
        return False, self.schedule.weight_finished, found

    def _prepare(self) -> None:
        """Bring the data into the kernel's order, and look for what an earlier run has left."""
        settings, table = self.settings, self.problem.table
        self.prepared = prepare(table, settings)
        self.ladder = build_ladder(settings)
        self.sample_size = min(_SAMPLE_SIZE, _SAMPLE_CELLS // table.n_strata + 1)
        self.frame = Frame(self.prepared, settings, self.ladder, self.sample_size)
        self.saved: SavedSearch | None = None
        if self.checkpoint is not None:
            self.saved = SavedSearch(self.checkpoint, self.frame)
            self.started -= self.saved.seconds
        # A search by one worker that nobody watches needs no weights; one that can be left in the
        # middle is cut into small tasks; with one worker, being watched changes nothing else.
        may_be_left = self.saved is not None or self.control.seconds_left < math.inf
        n_parts, least = self.n_workers, 1
        if may_be_left or self.progress is not None:
            n_parts = max(n_parts, _WATCHED_PARTS)
        if n_parts > 1:
            least = predict_least(self.prepared, settings)
        split = may_be_left or self.n_workers > 1 or self.pool is not None
        self.plan = plan_tasks(self.prepared, n_parts, least, split=split)

    def _window(self) -> float:
        return math.inf if self.settings.grid_step is None else -math.inf

    def _pass(self, stage: str, goal: Goal) -> Part:
        """Run one pass over all tasks, or the rest of it that an earlier run has left."""
        number, self.n_passes = self.n_passes, self.n_passes + 1
        plan, part, finished = self.plan, None, None
        if self.saved is not None and number < len(self.saved.passes):
            earlier = self.saved.of_stage(number, stage)
            plan, part, finished = earlier.plan, earlier.part, earlier.finished
        total = Total(
            goal, self.ladder, self.settings, self.sample_size, len(plan.tasks), part, finished
        )
        live = Live(total)
        n_workers = self.n_workers
        if self.pool is None:
            n_workers = max(1, min(n_workers, len(plan.tasks)))
        self.schedule = Schedule(plan, n_workers, finished)
        if part is None or self.schedule.is_waiting:
            self._running = (stage, goal, live, self.schedule)
            self._search(number, stage, live)
            self._ended.append(self._progress(*self._running))
            self._running = None
        part = total.everything()
        self.visited += part.visited
        return part

    def _search(self, number: int, stage: str, live: Live) -> None:
        """Let the workers search what is left of a pass, and save what they hand over."""
        schedule, saved, lock = self.schedule, self.saved, threading.Lock()

        def save() -> None:
            if saved is not None and live.total.has_whole:
                part, secured = live.total.snapshot()
                saved.save(number, SavedPass(stage, schedule.plan, secured, part))

        def save_at_last() -> None:
            self.control.is_saving = True
            try:
                with lock:  # another worker may be saving
                    save()
            finally:
                self.control.is_saving = False

        def handed_over() -> None:
            self.control.raise_if_abandoned()
            if saved is not None and saved.is_due and lock.acquire(blocking=False):
                try:
                    save()
                finally:
                    lock.release()

        everything = (self.frame, schedule, live, self.control)
        try:
            if self.pool is not None:
                search_in_pool(*everything, _ROUND_SECONDS, handed_over, self.pool)
            else:
                search_in_threads(*everything, self._batch_seconds(), handed_over)
        except SearchInterrupted:  # only whole batches count, so nothing has to be waited for
            save_at_last()
            raise
        save_at_last()
        self.control.raise_if_abandoned()

    def _batch_seconds(self) -> float:
        """Return how long a thread searches before it hands over what it has met.

        A batch that is left in the middle cannot be saved: when the search is stopped, it is lost.
        """
        if self.checkpoint is None:
            return math.inf
        return min(self.checkpoint.seconds, _ROUND_SECONDS)

    def watch(self) -> None:
        """Report progress; called by the thread that waits for the search."""
        if self.progress is None:
            return
        while self._ended:
            self.progress(self._ended.popleft())
        running = self._running
        if running is not None:
            state = self._progress(*running)
            if not self._ended:  # it has ended just now: its last state comes next time
                self.progress(state)

    def _progress(self, stage: str, goal: Goal, live: Live, schedule: Schedule) -> SearchProgress:
        """Look at a pass that is running, or has just ended."""
        visited, level, counts = live.numbers()
        fraction, seconds_left = schedule.estimate()
        if seconds_left is not None:
            seconds_left = min(seconds_left, self.control.seconds_left)
        return SearchProgress(
            stage=stage,
            visited=self.visited + visited,
            testable=int(counts[level:].sum()),
            threshold=float(self.settings.alpha / self.ladder.rungs[level, ROOM]),
            fraction_done=fraction,
            seconds=time.perf_counter() - self.started,
            seconds_left=seconds_left,
        )

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

    def _solve_above(self, part: Part, level: int, alive: int) -> Critical:
        """Return a threshold that needs no values: only what lies above the critical bucket."""
        n_testable = alive - int(part.counts[level])
        if n_testable == 0:
            return Critical(0, math.nan, math.inf)
        edge = float(self.ladder.rungs[level + 1, EDGE])
        # A little lower, so that no value of the bucket counts as equal to its edge.
        log_threshold = float(log_pvalue_of_evidence(edge, self.settings)) - 2.0 * TIE_TOLERANCE
        return Critical(n_testable, log_threshold, edge)

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
