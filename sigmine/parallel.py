"""Root subtrees as joblib tasks, watched by the calling thread.

The kernels release the GIL, so the workers are threads that share the packed data. The calling
thread only waits, reports progress and listens for Ctrl-C: it answers within a fraction of a
second, whatever a kernel is doing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray

from .exceptions import InputTypeError, SearchInterrupted

__all__ = ["count_workers", "run_watched"]

T = TypeVar("T")
Task = TypeVar("Task")
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 0.5


def count_workers(n_jobs: int | None) -> int:
    """Return the number of workers that joblib gives for `n_jobs` (None: 1, or its context's).

    Parameters
    ----------
    n_jobs : int or None
        As everywhere in scikit-learn; -1 means all cores.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    InputTypeError
        If `n_jobs` is not a whole number other than 0, or None.
    """
    if n_jobs is not None and (
        isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0
    ):
        raise InputTypeError(
            f"n_jobs={n_jobs!r} must be None or a whole number other than 0; -1 uses all cores."
        )
    return max(1, int(joblib.effective_n_jobs(n_jobs)))


def run_watched(
    work: Callable[[int, Iterator[Task]], T],
    tasks: Sequence[Task],
    weights: NDArray[np.float64],
    n_workers: int,
    stop: NDArray[np.int64],
    watch: Callable[[float], None],
) -> list[T]:
    """Run `work` in threads over a shared queue of tasks; return what each worker returns.

    Parameters
    ----------
    work : callable
        Called once per worker with its number and an iterator of tasks (shared and safe).
    tasks : sequence
        The queue.
    weights : ndarray of float64, shape (n_tasks,)
        What each counts for in the progress; their sum is 1.
    n_workers : int
        Threads.
    stop : ndarray of int64, shape (1,)
        Set to 1 when the search is interrupted; the kernels look at it.
    watch : callable
        Called a few times a second with the weight of the tasks that are finished, 0 to 1.

    Returns
    -------
    list
        One entry per worker, in the order of their numbers.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, once the workers have ended or half a second later.

    Notes
    -----
    An error of `watch` ends the workers too and is raised.
    """
    lock = threading.Lock()
    queue = iter(range(len(tasks)))
    finished = 0.0

    def take() -> Iterator[Task]:
        nonlocal finished
        while not stop[0]:
            with lock:
                number = next(queue, None)
            if number is None:
                return
            yield tasks[number]
            with lock:  # the worker is back for more: it is done with that one
                finished += float(weights[number])

    results: list[list[T]] = []
    errors: list[BaseException] = []

    def guarded(number: int) -> T:
        try:
            return work(number, take())
        except BaseException:
            stop[0] = 1  # the others need not go on
            raise

    def run() -> None:
        try:
            if n_workers == 1:
                results.append([guarded(0)])
            else:
                parallel = joblib.Parallel(n_jobs=n_workers, require="sharedmem")
                tasks = (joblib.delayed(guarded)(number) for number in range(n_workers))
                results.append(parallel(tasks))
        except BaseException as error:  # handed to the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name="sigmine-search", daemon=True)
    started = time.monotonic()
    try:
        thread.start()
        while thread.is_alive():
            # short waits at first, so that a search of milliseconds is not slowed down
            thread.join(min(_POLL_SECONDS, 0.001 + (time.monotonic() - started) / 10))
            watch(min(1.0, finished))
    except BaseException as error:  # Ctrl-C, or an error of the callback
        stop[0] = 1
        # A kernel stops within milliseconds. One that is still being compiled cannot be stopped:
        # it is left to its daemon thread, and ends as soon as it starts.
        thread.join(_PATIENCE_SECONDS)
        if not isinstance(error, KeyboardInterrupt):
            raise
        raise SearchInterrupted(
            "The search was interrupted before its end. The threshold depends on every testable "
            "pattern, so nothing found so far can be called significant; run it again, or ask "
            "less of it (max_length, min_support, fewer items)."
        ) from None
    if errors:
        raise errors[0]
    watch(1.0)
    return results[0]
