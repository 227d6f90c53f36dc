"""Work in the background, watched by the calling thread; workers that are threads or processes.

The kernels release the GIL, so the workers of one machine are threads that share the packed data.
Whoever asks for another backend of joblib (`joblib.parallel_config`: "dask", "loky", "ray", ...)
gets its processes, which may run on other machines.

The calling thread does none of the work. It waits, reports progress and listens for Ctrl-C, so that
it answers within a fraction of a second, whatever a kernel or numpy is doing.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

from .exceptions import InputTypeError, SearchInterrupted

__all__ = [
    "Control",
    "Failures",
    "Pool",
    "count_workers",
    "find_workers",
    "run_threads",
    "run_watched",
]

T = TypeVar("T")
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 0.5
_MOST_FAILURES = 3  # in a row, of a pool that loses workers
_CACHE_LINE = 64


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


class Control:
    """How the calling thread tells the others to end.

    Parameters
    ----------
    seconds : float or None, default=None
        From now on, until the search has to stop by itself.

    Attributes
    ----------
    stop : ndarray of int64, shape (1,)
        1 ends every kernel within a few nodes, in a cache line that nobody writes to.
    """

    def __init__(self, seconds: float | None = None) -> None:
        # The kernels read it at every node: a neighbour that is written to would slow them down.
        length = _CACHE_LINE // 8
        self.stop: NDArray[np.int64] = np.zeros(2 * length + 1, dtype=np.int64)[length : length + 1]
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._abandoned = False

    @property
    def seconds_left(self) -> float:
        """Until the search has to stop; inf without a limit, never below 0."""
        if self._deadline is None:
            return float("inf")
        return max(0.0, self._deadline - time.monotonic())

    @property
    def stopped(self) -> bool:
        """Whether the kernels were told to end."""
        return bool(self.stop[0])

    def check_time(self) -> None:
        """Tell the kernels to end if the time is up."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.stop[0] = 1

    def abandon(self) -> None:
        """Tell everybody to end; nobody will look at the result."""
        self._abandoned = True
        self.stop[0] = 1

    def raise_if_abandoned(self) -> None:
        """End the work of a thread that nobody waits for any more.

        Raises
        ------
        SearchInterrupted
            After `abandon`.
        """
        if self._abandoned:
            raise SearchInterrupted("nobody waits for this search any more")


def run_watched(work: Callable[[], T], control: Control, watch: Callable[[], None]) -> T:
    """Run `work` in a thread of its own and return what it returns.

    Parameters
    ----------
    work : callable
        Without arguments. It sees the context variables of the caller (numpy's error state).
    control : Control
        Through which `work` is told to end.
    watch : callable
        Called a few times a second by the calling thread, and once more after the end.

    Returns
    -------
    object
        What `work` returns.

    Raises
    ------
    SearchInterrupted
        After Ctrl-C, once `work` has ended or half a second later.

    Notes
    -----
    An error of `watch` ends the work too and is raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            results.append(context.run(work))
        except BaseException as error:  # handed to the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name="sigmine-search", daemon=True)
    started = time.monotonic()
    try:
        thread.start()
        while thread.is_alive():
            # short waits at first, so that a search of milliseconds is not slowed down
            wait = min(_POLL_SECONDS, 0.001 + (time.monotonic() - started) / 10)
            thread.join(max(0.0, min(wait, control.seconds_left or _POLL_SECONDS)))
            control.check_time()
            watch()
    except BaseException as error:  # Ctrl-C, or an error of the callback
        control.abandon()
        # A kernel stops within milliseconds. One that is still being compiled cannot be stopped:
        # it is left to its daemon thread, and ends as soon as it starts.
        thread.join(_PATIENCE_SECONDS)
        if not isinstance(error, KeyboardInterrupt):
            raise
        raise SearchInterrupted(
            "The search was interrupted before its end. The threshold depends on every testable "
            "pattern, so nothing found so far can be called significant; run it again, or ask "
            "less of it (max_length, min_support, fewer items). With a time_limit it stops by "
            "itself, with a statement about what it has searched."
        ) from None
    if errors:
        raise errors[0]
    watch()
    return results[0]


def run_threads(work: Callable[[int], T], n_workers: int, control: Control) -> list[T]:
    """Run `work` in threads that share memory.

    Parameters
    ----------
    work : callable
        Called once per worker with its number.
    n_workers : int
        Threads; with 1 it is called in the present one.
    control : Control
        An error of one worker ends the others through it.

    Returns
    -------
    list
        What each worker returns, in the order of their numbers.
    """

    def guarded(number: int) -> T:
        try:
            return work(number)
        except BaseException:
            control.stop[0] = 1  # the others need not go on
            raise

    if n_workers == 1:
        return [guarded(0)]
    parallel = joblib.Parallel(n_jobs=n_workers, require="sharedmem")
    return list(parallel(joblib.delayed(guarded)(number) for number in range(n_workers)))


def find_workers(n_jobs: int | None) -> tuple[int, Pool | None]:
    """Return the workers that the caller asks for, by `n_jobs` and by `joblib.parallel_config`.

    Parameters
    ----------
    n_jobs : int or None
        As in `count_workers`.

    Returns
    -------
    n_workers : int
        How many.
    pool : Pool or None
        Their processes. None where threads are meant: without a configured backend, with one of
        threads, with a single worker on this machine, and inside a task of Dask (waiting there for
        other tasks could block the cluster).

    Raises
    ------
    InputTypeError
        As in `count_workers`.
    """
    n_workers = count_workers(n_jobs)
    backend, _ = get_active_backend(prefer="threads")
    if getattr(backend, "supports_sharedmem", False) or getattr(backend, "uses_threads", False):
        return n_workers, None
    if not hasattr(backend, "client"):
        return n_workers, Pool(backend, n_workers) if n_workers > 1 else None
    if _is_dask_task():
        with joblib.parallel_config(backend="threading", n_jobs=1):
            return count_workers(n_jobs), None
    return n_workers, Pool(backend, n_workers)


def _is_dask_task() -> bool:
    from distributed import get_worker  # there is a client of it

    try:
        get_worker()
    except ValueError:
        return False
    return True


class Pool:
    """Processes of a backend of joblib.

    Parameters
    ----------
    backend : joblib backend
        From `joblib.parallel_config`.
    n_workers : int
        How many calls run at a time.
    """

    def __init__(self, backend: Any, n_workers: int) -> None:
        self.backend, self.n_workers = backend, n_workers
        # Others return the results of one round of calls all at once.
        self.returns_early = bool(getattr(backend, "supports_return_generator", False))

    def send(self, data: NDArray[np.uint8]) -> Any:
        """Send data to all workers once, where the backend has a way to do so.

        Parameters
        ----------
        data : ndarray of uint8, shape (n_bytes,)
            What every call needs.

        Returns
        -------
        object
            What to give to a call in place of the data; it gets the data.
        """
        client = getattr(self.backend, "client", None)
        if client is None:
            return data  # joblib maps large arrays into the memory of processes of this machine
        # A copy on every worker, so that one that is lost takes nothing along.
        return client.scatter(data, broadcast=True, hash=False)

    def run(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Call a function in the processes, and yield what it returns as it comes.

        Parameters
        ----------
        function : callable
            Importable on the workers.
        calls : iterable of tuple
            Arguments; asked for one by one as workers become free.

        Yields
        ------
        object
            Results, in any order.

        Raises
        ------
        Exception
            Whatever the backend raises if it loses a worker for good.
        """
        parallel = joblib.Parallel(
            n_jobs=self.n_workers,
            backend=self.backend,
            batch_size=1,
            pre_dispatch=self.n_workers,
            return_as="generator_unordered" if self.returns_early else "list",
        )
        yield from parallel(joblib.delayed(function)(*call) for call in calls)


class Failures:
    """Bears the loss of workers: some of the work comes back later, nothing comes back wrong.

    After a few losses in a row, without any result in between, it gives up.
    """

    def __init__(self) -> None:
        self._count = 0

    def until_lost(self, run: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Yield results until there are no more, or until the backend loses a worker for good.

        Parameters
        ----------
        run : callable
            Starts the work and returns its results, see `Pool.run`.

        Yields
        ------
        object
            Results.

        Raises
        ------
        Exception
            Of the backend, if it is the third in a row.
        """
        results: Iterator[T] = iter(())
        started = False
        while True:
            try:
                if not started:
                    results, started = run(), True
                result = next(results)
            except StopIteration:
                return
            except Exception as error:
                self._count += 1
                if self._count < _MOST_FAILURES:
                    return
                error.add_note(
                    f"The workers failed {self._count} times in a row, without any work done in "
                    "between. Look at their logs: they may lack memory, or a package."
                )
                raise
            self._count = 0
            yield result
