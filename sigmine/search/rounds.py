"""One pass over the tasks: by threads of this process, or in rounds by processes of a pool.

Threads share the packed data and the counts of the threshold, so each prunes with what the others
have found a moment ago. Processes share nothing: a batch of tasks goes out together with all that
is known about the threshold, and comes back as a `Part`. A batch is a pure function of these, so
that one that is lost with its worker is simply given to another.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..parallel import Control, Failures, Pool, is_called_off, run_threads
from ..settings import SearchSettings
from .flat import Itemsets
from .layout import BOUND, COUNTS, LEVEL, PUBLISHED, UNKNOWN, VISITED, Ladder, Shared
from .prepare import Prepared
from .schedule import Batch, Schedule
from .total import Total
from .worker import Goal, Part, Task, Worker

__all__ = ["Frame", "Live", "pack", "search_batch", "search_in_pool", "search_in_threads"]

_SHORTEST_SECONDS = 0.2  # of a batch: many times what it takes to send one
_LOOK_SECONDS = 0.1  # between two looks at whether a batch should end


class Frame(NamedTuple):
    """What stays the same in all passes of a search.

    Attributes
    ----------
    prepared : Prepared
        What is searched.
    settings : SearchSettings
        What is asked.
    ladder : Ladder
        The buckets.
    sample_size : int
        Hypotheses of the sample that are worth keeping.
    """

    prepared: Prepared
    settings: SearchSettings
    ladder: Ladder
    sample_size: int

    def new_worker(self, goal: Goal, shared: Shared) -> Worker:
        """Make a worker."""
        return Worker(self.prepared, self.settings, self.ladder, shared, goal, self.sample_size)


class Live:
    """A pass that is running, for who watches it: its total, and the workers that add to it.

    Parameters
    ----------
    total : Total
        What is finished.
    """

    def __init__(self, total: Total) -> None:
        self.total = total
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def begin(self, worker: Worker) -> None:
        """Note that a worker begins."""
        with self._lock:
            self._workers.append(worker)

    def end(self, worker: Worker, part: Part, finished: list[int], *, whole: bool) -> None:
        """Add what a worker has met, and note that it has ended; in one step for who watches."""
        with self._lock:
            self._workers.remove(worker)
            self.total.add(part, finished, whole=whole)

    def numbers(self) -> tuple[int, int, NDArray[np.int64]]:
        """Return row sets visited, the lowest live bucket, and hypotheses by bucket."""
        with self._lock:
            tallies = [worker.tally for worker in self._workers]
            visited, level, counts = self.total.numbers()
            level = max([level, *(int(t.state[LEVEL]) for t in tallies)])
            visited += sum(int(t.state[VISITED]) for t in tallies)
            counts = counts + sum(t.counts[:, COUNTS] for t in tallies)
            return visited, level, counts


def search_in_threads(
    frame: Frame,
    schedule: Schedule,
    live: Live,
    control: Control,
    seconds: float,
    handed_over: Callable[[], None],
) -> None:
    """Let threads search what is waiting.

    Parameters
    ----------
    frame : Frame
        The search.
    schedule : Schedule
        Its tasks, and the number of threads.
    live : Live
        Gets what they meet.
    control : Control
        Ends them.
    seconds : float
        After which a worker hands over what it has met, and goes on.
    handed_over : callable
        Called by the worker then.
    """
    # One for all: bounds of root items are the same for everybody, but hold for one pass only.
    frame.prepared.data.root_score[:, BOUND] = UNKNOWN
    shared = Shared(control.stop, live.total.counts.copy())

    def work(_: int) -> None:
        while True:
            batch = Batch(schedule, seconds)
            worker = frame.new_worker(live.total.goal(), shared)
            live.begin(worker)
            part = worker.run(batch.tasks(control.stop))
            counts = worker.tally.counts
            shared.counts[:] += counts[:, COUNTS] - counts[:, PUBLISHED]
            live.end(worker, part, batch.finished, whole=not control.stopped)
            handed_over()
            if control.stopped or not schedule.is_waiting:
                return

    run_threads(work, schedule.n_workers, control)


class Job(NamedTuple):
    """A batch of tasks for a process.

    Attributes
    ----------
    key : str
        Names the data; a process keeps the last that it has seen.
    goal : Goal
        The pass, with all that is known about the threshold.
    counts : ndarray of int64, shape (n_buckets,)
        Hypotheses that others have counted.
    tasks : tuple of Task
        One after the other.
    seconds : float
        No further task is begun after that time; at least one is.
    limit : float
        All is left in the middle after that time.
    """

    key: str
    goal: Goal
    counts: NDArray[np.int64]
    tasks: tuple[Task, ...]
    seconds: float
    limit: float


class Answer(NamedTuple):
    """What comes back from a process.

    Attributes
    ----------
    first : int
        Number of the first task.
    part : Part
        What was met.
    seconds : list of float
        Of each finished task.
    whole : bool
        Whether no task was left in the middle.
    """

    first: int
    part: Part
    seconds: list[float]
    whole: bool


class DataMissing(NamedTuple):
    """What comes back from a process that does not know the data: nothing was done."""

    first: int


def pack(frame: Frame) -> tuple[str, NDArray[np.uint8]]:
    """Pack a search for other processes.

    Parameters
    ----------
    frame : Frame
        The search.

    Returns
    -------
    key : str
        A hash of the data.
    packed : ndarray of uint8
        What `search_batch` needs: the numbers themselves, so that every machine compares the same.
    """
    prepared = frame.prepared
    table = prepared.table
    # Columns are in `data` already; who has which number is of no interest there.
    slim = prepared._replace(
        items=Itemsets(prepared.items.flat[:0], prepared.items.ends[:0]),
        table=table._replace(columns=table.columns[:0], row_order=table.row_order[:0]),
    )
    data = pickle.dumps(frame._replace(prepared=slim), protocol=pickle.HIGHEST_PROTOCOL)
    return hashlib.sha256(data).hexdigest(), np.frombuffer(data, dtype=np.uint8)


_known: dict[str, Frame] = {}
_known_lock = threading.Lock()


def _unpack(key: str, packed: NDArray[np.uint8] | None) -> Frame | None:
    """Return the search that was packed; a process unpacks it once."""
    with _known_lock:
        if key not in _known:
            if packed is None:
                return None
            _known.clear()
            _known[key] = pickle.loads(packed.data)
        return _known[key]


def search_batch(packed: NDArray[np.uint8] | None, job: Job, first: int) -> Answer | DataMissing:
    """Search a batch of tasks in a process of a pool.

    Parameters
    ----------
    packed : ndarray of uint8 or None
        From `pack`; None where it may be known from an earlier batch.
    job : Job
        What to do.
    first : int
        Number of its first task, for who gets the answer.

    Returns
    -------
    Answer or DataMissing

    Raises
    ------
    RuntimeError
        If nobody waited for it any more (see `is_called_off`).
    """
    frame = _unpack(job.key, packed)
    if frame is None:
        return DataMissing(first)
    # Workers of a pass write to it; several batches may run in one process, at different levels.
    score = frame.prepared.data.root_score.copy()
    score[:, BOUND] = UNKNOWN
    data = frame.prepared.data._replace(root_score=score)
    frame = frame._replace(prepared=frame.prepared._replace(data=data))
    control = Control()
    worker = frame.new_worker(job.goal, Shared(control.stop, np.array(job.counts)))
    seconds: list[float] = []

    def tasks() -> Iterator[Task]:
        until = time.monotonic() + job.seconds
        for task in job.tasks:
            began = time.monotonic()
            if control.stopped or (seconds and began >= until):
                return
            yield task
            if control.stop[0]:  # it may have been left in the middle
                return
            seconds.append(time.monotonic() - began)

    ended, until, called_off = threading.Event(), time.monotonic() + job.limit, is_called_off()
    unwanted = threading.Event()

    def watch() -> None:
        while not ended.wait(max(0.0, min(_LOOK_SECONDS, until - time.monotonic()))):
            if called_off():
                unwanted.set()
            if unwanted.is_set() or time.monotonic() >= until:
                control.abandon()
                return

    threading.Thread(target=watch, name="sigmine-watch", daemon=True).start()
    try:
        part = worker.run(tasks())
    finally:
        ended.set()
    if unwanted.is_set():  # should somebody ask for it again: a part of it must not be taken for it
        raise RuntimeError("the batch was called off")
    return Answer(first, part, seconds, whole=not control.stopped)


def search_in_pool(
    frame: Frame,
    schedule: Schedule,
    live: Live,
    control: Control,
    seconds: float,
    handed_over: Callable[[], None],
    pool: Pool,
) -> None:
    """Let processes search what is waiting.

    Parameters
    ----------
    frame, schedule, live, control, handed_over
        As in `search_in_threads`.
    seconds : float
        A batch lasts that long at most, about: shorter at first, while there is much to tell about
        the threshold, and in the end, so that all workers end together.
    pool : Pool
        The processes.

    Raises
    ------
    Exception
        Of the pool, if it loses its workers several times without any work done in between.
    """
    key, packed = pack(frame)
    failures = Failures()
    while schedule.is_waiting and not control.stopped:
        batches = _Batches(key, packed, schedule, live.total, control, seconds, pool)
        with closing(failures.until_lost(batches.run)) as answers:
            for answer in answers:
                batches.absorb(answer)
                handed_over()
        batches.give_up()
    if not live.total:  # no tasks, or no time: an empty part of the right shape
        shared = Shared(control.stop, live.total.counts.copy())
        live.total.add(frame.new_worker(live.total.goal(), shared).run([]), [])


class _Batches:
    """The batches of one run of a pool."""

    def __init__(
        self,
        key: str,
        packed: NDArray[np.uint8],
        schedule: Schedule,
        total: Total,
        control: Control,
        seconds: float,
        pool: Pool,
    ) -> None:
        self.key, self.packed, self.pool, self.seconds = key, packed, pool, seconds
        self.schedule, self.total, self.control = schedule, total, control
        self.out: dict[int, list[int]] = {}  # numbers of tasks, by the first of their batch
        self._n_calls = 0
        self._sent: Any = None
        self._n_asking = 0  # processes that do not know the data
        self._started = time.monotonic()

    def run(self) -> Generator[Answer, None, None]:
        """Send the batches; yield the answers as they come."""
        with closing(self.pool.run(search_batch, self._next_call, self.control)) as answers:
            for answer in answers:
                if isinstance(answer, DataMissing):
                    self.schedule.give_back(self.out.pop(answer.first))
                    self._n_asking += 1
                else:
                    yield answer

    def _next_call(self) -> tuple[Any, Job, int] | None:
        """Make a batch of waiting tasks; one round of them, if the pool returns by the round."""
        schedule, control, n_workers = self.schedule, self.control, self.pool.n_workers
        if control.stopped or not control.seconds_left:
            return None
        if self._n_calls >= n_workers and not self.pool.returns_early:
            return None
        # Half of an even share of the rest at most, so that all end at about the same time.
        weight = schedule.weight_waiting / (2 * n_workers)
        numbers = schedule.take(len(schedule.plan.tasks), weight)
        if not numbers:
            return None
        self._n_calls += 1
        self.out[numbers[0]] = numbers
        schedule.begin(*numbers)
        job = Job(
            key=self.key,
            goal=self.total.goal(),
            counts=self.total.counts.copy(),
            tasks=tuple(schedule.plan.tasks[number] for number in numbers),
            seconds=self._batch_seconds(),
            limit=control.seconds_left,
        )
        return self._data(), job, numbers[0]

    def _data(self) -> Any:
        """Return what the next call needs: the data, if some process has asked for them."""
        if self.pool.asks_for_data:
            if not self._n_asking:
                return None
            self._n_asking -= 1
        if self._sent is None:
            self._sent = self.pool.send(self.packed, self.control)
        return self._sent

    def _batch_seconds(self) -> float:
        """Return half of the time so far, or of what is left: early and late rounds are short."""
        _, left = self.schedule.estimate()
        if left is None:
            return min(self.seconds, _SHORTEST_SECONDS)
        passed = time.monotonic() - self._started
        return min(self.seconds, max(_SHORTEST_SECONDS, min(passed, left) / 2))

    def absorb(self, answer: Answer) -> None:
        """Add up what was met in a batch; what was not finished waits again."""
        numbers = self.out.pop(answer.first)
        finished = numbers[: len(answer.seconds)]
        self.total.add(answer.part, finished, whole=answer.whole)
        for number, seconds in zip(finished, answer.seconds, strict=True):
            self.schedule.end(number, seconds)
        self.schedule.give_back(numbers[len(finished) :])

    def give_up(self) -> None:
        """Let the tasks wait again that never came back."""
        for numbers in self.out.values():
            self.schedule.give_back(numbers)
