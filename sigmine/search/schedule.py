"""Which tasks of a pass are waiting, out with a worker, or finished; and how long it will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from .tasks import Plan
from .worker import Task

__all__ = ["Batch", "Schedule"]

WAITING, OUT, FINISHED = 0, 1, 2
_MOST_OF_A_TASK = 0.9  # that can be taken for done while it runs


class Schedule:
    """Hands out the tasks of a plan, in its order, to workers of any kind.

    Parameters
    ----------
    plan : Plan
        Tasks and their weights.
    n_workers : int
        How many take from it at a time.
    finished : ndarray of bool, shape (n_tasks,), optional
        Tasks that need not be done.
    """

    def __init__(
        self, plan: Plan, n_workers: int, finished: NDArray[np.bool_] | None = None
    ) -> None:
        self.plan, self.n_workers = plan, n_workers
        self._status = np.full(len(plan.tasks), WAITING, dtype=np.int8)
        if finished is not None:
            self._status[finished] = FINISHED
        self._lock = threading.Lock()
        self._next = 0  # no task before it is waiting
        # Of what is out with a worker: when it began, and its weight.
        self._running: dict[int, tuple[float, float]] = {}
        # Cumulated weight and worker seconds of the tasks that were finished here.
        self._weight_done, self._seconds_done = [0.0], [0.0]
        self._fraction = 0.0

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which tasks are finished, a copy."""
        with self._lock:
            return np.asarray(self._status == FINISHED)

    @property
    def weight_finished(self) -> float:
        """Share of the work that is finished, by the weights of the plan."""
        return float(min(1.0, self.plan.weights[self.finished].sum()))

    @property
    def is_waiting(self) -> bool:
        """Whether there is a task that nobody has taken."""
        return bool((self._status == WAITING).any())

    @property
    def weight_waiting(self) -> float:
        """Share of the work that nobody has taken."""
        with self._lock:
            return float(self.plan.weights[self._status == WAITING].sum())

    def take(self, n_most: int = 1, weight_most: float = 0.0) -> list[int]:
        """Hand out the next tasks.

        Parameters
        ----------
        n_most : int, default=1
            Most tasks.
        weight_most : float, default=0.0
            Their weight, but for the first, which is handed out whatever its weight.

        Returns
        -------
        list of int
            Their numbers; empty if none is waiting.
        """
        taken: list[int] = []
        weight = 0.0
        with self._lock:
            while self._next < len(self._status) and len(taken) < n_most:
                number = self._next
                if self._status[number] == WAITING:
                    weight += float(self.plan.weights[number])
                    if taken and weight > weight_most:
                        break
                    self._status[number] = OUT
                    taken.append(number)
                self._next += 1
        return taken

    def begin(self, *numbers: int) -> None:
        """Note that a worker begins now with tasks, one after the other."""
        weight = float(self.plan.weights[list(numbers)].sum())
        with self._lock:
            self._running[numbers[0]] = (time.monotonic(), weight)

    def end(self, number: int, seconds: float | None = None) -> None:
        """Note that a task is finished.

        Parameters
        ----------
        number : int
            The task.
        seconds : float, optional
            Time it took; since `begin` if not given.
        """
        now = time.monotonic()
        with self._lock:
            began, _ = self._running.pop(number, (now, 0.0))
            self._status[number] = FINISHED
            weight = float(self.plan.weights[number])
            self._weight_done.append(self._weight_done[-1] + weight)
            self._seconds_done.append(
                self._seconds_done[-1] + (now - began if seconds is None else seconds)
            )

    def give_back(self, numbers: Iterable[int]) -> None:
        """Note that tasks that were handed out have not been done."""
        with self._lock:
            for number in numbers:
                self._running.pop(number, None)
                if self._status[number] == OUT:
                    self._status[number] = WAITING
                    self._next = min(self._next, number)

    def estimate(self) -> tuple[float, float | None]:
        """Estimate how much is done, and how long the rest will take.

        Returns
        -------
        fraction : float
            Share of the work, 0 to 1; never less than the time before.
        seconds : float or None
            Until the end of the pass; None as long as nothing is finished.

        Notes
        -----
        Weights are estimates, and early tasks cost far more than theirs: the threshold is not known
        yet. So the rest is valued at the seconds per weight of the later half of what is finished,
        and the share is that of the seconds, not of the weights.
        """
        now = time.monotonic()
        with self._lock:
            if (self._status == FINISHED).all():
                self._fraction = 1.0
                return 1.0, 0.0
            rest = float(self.plan.weights[self._status != FINISHED].sum())
            weight, seconds = self._weight_done[-1], self._seconds_done[-1]
            if weight <= 0.0:
                return self._fraction, None
            half = int(np.searchsorted(self._weight_done, weight / 2))
            half = min(half, len(self._weight_done) - 2)
            rate = (seconds - self._seconds_done[half]) / (weight - self._weight_done[half])
            before = max(0.0, 1.0 - weight - rest)  # finished by an earlier run
            done, left = seconds + before * rate, rest * rate
            for began, size in self._running.values():
                # One that takes longer than expected is never as good as finished.
                share = min(now - began, _MOST_OF_A_TASK * size * rate)
                done, left = done + share, left - share
            left = max(left, 0.0)
            if done + left > 0.0:
                self._fraction = max(self._fraction, min(1.0, done / (done + left)))
            return self._fraction, left / self.n_workers


class Batch:
    """Tasks that one worker does before it hands over what it has met.

    Parameters
    ----------
    schedule : Schedule
        Where they come from.
    seconds : float
        No further task is begun after that time; at least one is.

    Attributes
    ----------
    finished : list of int
        Numbers of the tasks that are done.
    """

    def __init__(self, schedule: Schedule, seconds: float) -> None:
        self._schedule = schedule
        self._until = time.monotonic() + seconds
        self.finished: list[int] = []

    def tasks(self, stop: NDArray[np.int64]) -> Iterator[Task]:
        """Hand out tasks one by one.

        Parameters
        ----------
        stop : ndarray of int64, shape (1,)
            Once it is 1, no further task is handed out, and the last one counts as not done.

        Yields
        ------
        Task
        """
        schedule = self._schedule
        while not stop[0]:
            taken = schedule.take()
            if not taken:
                return
            (number,) = taken
            schedule.begin(number)
            yield schedule.plan.tasks[number]
            if stop[0]:  # it may have been left in the middle
                schedule.give_back(taken)
                return
            schedule.end(number)
            self.finished.append(number)
            if time.monotonic() >= self._until:
                return
