"""Work in the background, watched by the calling thread; workers that are threads or processes.

The kernels release the GIL, so the workers of one machine are threads that share the packed data.
Whoever asks for another backend of joblib (`joblib.parallel_config`: "dask", "loky", "ray", ...)
gets its processes, which may run on other machines.

The calling thread does none of the work. It waits, reports progress and listens for Ctrl-C, so that
it answers within a fraction of a second, whatever a kernel or numpy is doing.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

from .exceptions import InputTypeError, SearchInterrupted

__all__ = [
    "Control",
    "DaskPool",
    "Failures",
    "Pool",
    "count_workers",
    "find_workers",
    "is_called_off",
    "run_threads",
    "run_watched",
]

T = TypeVar("T")
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 0.5
_SAVING_SECONDS = 60.0  # how long a work that was abandoned may save what it has
_GRACE_SECONDS = 2.0  # for the answers of processes whose time is up
_LOOK_SECONDS = 1.0  # between two looks at the size of a cluster
_SEND_SECONDS, _SEND_RATE = 30.0, 1e6  # how long to wait for data to be sent, bytes a second
_ANSWER_SECONDS = 0.005  # between two looks at what has come back
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
    is_saving : bool
        Set by the work while it writes something that has to be whole: it is waited for.
    """

    def __init__(self, seconds: float | None = None) -> None:
        # The kernels read it at every node: a neighbour that is written to would slow them down.
        length = _CACHE_LINE // 8
        self.stop: NDArray[np.int64] = np.zeros(2 * length + 1, dtype=np.int64)[length : length + 1]
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._abandoned = False
        self.is_saving = False

    @property
    def seconds_left(self) -> float:
        """Until the search has to stop; inf without a limit, never below 0."""
        if self._deadline is None:
            return float("inf")
        return max(0.0, self._deadline - time.monotonic())

    @property
    def is_overdue(self) -> bool:
        """Whether the time was up a while ago, so that nobody waits for answers any more."""
        return self._deadline is not None and time.monotonic() > self._deadline + _GRACE_SECONDS

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
    # Not Thread.join: Ctrl-C in the middle of it can make Python take a running thread for ended.
    ended = threading.Event()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            results.append(context.run(work))
        except BaseException as error:  # handed to the calling thread
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="sigmine-search", daemon=True)
    started = time.monotonic()
    try:
        thread.start()
        while not ended.is_set():
            # short waits at first, so that a search of milliseconds is not slowed down
            wait = min(_POLL_SECONDS, 0.001 + (time.monotonic() - started) / 10)
            ended.wait(max(0.0, min(wait, control.seconds_left or _POLL_SECONDS)))
            control.check_time()
            watch()
        thread.join()
    except BaseException as error:  # Ctrl-C, or an error of the callback
        control.abandon()
        # A kernel stops within milliseconds. One that is still being compiled cannot be stopped:
        # it is left to its daemon thread, and ends as soon as it starts.
        ended.wait(_PATIENCE_SECONDS)
        if control.is_saving:
            ended.wait(_SAVING_SECONDS)
        if ended.is_set():
            thread.join()
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
    if _dask_worker() is not None:
        with joblib.parallel_config(backend="threading", n_jobs=1):
            return count_workers(n_jobs), None
    return n_workers, DaskPool(backend, n_workers)


def _dask_worker() -> Any:
    """Return the worker of Dask that runs the present task, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def is_called_off() -> Callable[[], bool]:
    """Return a function that says whether nobody waits for the present task any more.

    Returns
    -------
    callable
        For any thread. Always False outside a task of Dask: other backends end the process.
    """
    worker = _dask_worker()
    if worker is None:
        return lambda: False
    key = worker.get_current_task()

    def called_off() -> bool:
        # A task that runs cannot be taken away from its thread. The worker notes that it should be,
        # after `cancel` and when the client has gone.
        task = worker.state.tasks.get(key)
        return task is None or task.state in ("cancelled", "released", "forgotten")

    return called_off


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
        # Whether calls need the data only where they are not known yet.
        self.asks_for_data = False

    def send(self, data: NDArray[np.uint8], control: Control) -> Any:
        """Send data once, where the backend has a way to do so.

        Parameters
        ----------
        data : ndarray of uint8, shape (n_bytes,)
            What every call needs.
        control : Control
            Ends the waiting.

        Returns
        -------
        object
            What to give to a call in place of the data; it gets the data.
        """
        return data  # joblib maps large arrays into the memory of processes of this machine

    def run(
        self,
        function: Callable[..., T],
        next_call: Callable[[], tuple[Any, ...] | None],
        control: Control,
    ) -> Generator[T, None, None]:
        """Call a function in the processes, and yield what it returns as it comes.

        Parameters
        ----------
        function : callable
            Importable on the workers.
        next_call : callable
            Returns the arguments of the next call, None if there is none; asked when a worker is
            free.
        control : Control
            Ends it, whatever the processes do.

        Yields
        ------
        object
            Results, in any order.

        Raises
        ------
        SearchInterrupted
            If it is told to. Calls that are under way are given up.
        Exception
            Whatever the backend raises if it loses a worker for good.
        """
        results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

        def serve() -> None:
            parallel = joblib.Parallel(
                n_jobs=self.n_workers,
                backend=self.backend,
                batch_size=1,
                pre_dispatch=self.n_workers,
                return_as="generator_unordered" if self.returns_early else "list",
            )
            try:
                for result in parallel(joblib.delayed(function)(*c) for c in iter(next_call, None)):
                    results.put(("result", result))
                results.put(("end", None))
            except BaseException as error:  # handed over
                results.put(("error", error))

        # In a thread of its own, because waiting for joblib cannot be interrupted.
        threading.Thread(target=serve, name="sigmine-pool", daemon=True).start()
        is_needed = True
        try:
            while not control.is_overdue:
                control.raise_if_abandoned()
                try:
                    kind, value = results.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                if kind == "result":
                    yield value
                    continue
                is_needed = False
                if kind == "error":
                    raise value
                return
            is_needed = False  # its processes know the time, too
        finally:
            if is_needed:
                with suppress(Exception):  # it may have ended just now
                    self.backend.abort_everything(ensure_ready=False)


class DaskPool(Pool):
    """Workers of a cluster of Dask, which may come and go.

    Parameters
    ----------
    backend : joblib backend
        From ``joblib.parallel_config(backend="dask")``.
    n_workers : int
        Their threads at the moment.

    Notes
    -----
    Goes to the client itself: joblib would wait for ever for a call whose worker is lost for good,
    could not take a call back, and would not use workers that join later.
    """

    def __init__(self, backend: Any, n_workers: int) -> None:
        super().__init__(backend, n_workers)
        # The scheduler drops copies that no call is waiting for, and would fetch them for the next.
        self.returns_early = self.asks_for_data = True

    def send(self, data: NDArray[np.uint8], control: Control) -> Any:
        """Send data to a worker, from which the others get them as they need them.

        Raises
        ------
        TimeoutError
            If the cluster does not take them.
        """
        client = self.backend.client

        async def scatter() -> Any:
            # Not to all at once: that never returns if one of them is lost meanwhile.
            return await client.scatter(data, hash=False, asynchronous=True)

        sending = asyncio.run_coroutine_threadsafe(scatter(), client.loop.asyncio_loop)
        until = time.monotonic() + _SEND_SECONDS + data.nbytes / _SEND_RATE
        try:
            while time.monotonic() < until and not control.is_overdue:
                control.raise_if_abandoned()
                try:
                    return sending.result(timeout=_POLL_SECONDS)
                except TimeoutError:
                    if sending.done():  # its own
                        raise
            raise TimeoutError(f"the cluster did not take {data.nbytes:,} bytes of data")
        finally:
            sending.cancel()

    def run(
        self,
        function: Callable[..., T],
        next_call: Callable[[], tuple[Any, ...] | None],
        control: Control,
    ) -> Generator[T, None, None]:
        """Call a function on the workers, as many times at a time as they have threads."""
        import distributed

        client, options = self.backend.client, getattr(self.backend, "submit_kwargs", {})
        as_completed: Any = distributed.as_completed  # it has no types
        returned = as_completed([], loop=client.loop, with_results=True, raise_errors=False)
        out: set[Any] = set()
        looked = time.monotonic()
        try:
            while not control.is_overdue:
                control.raise_if_abandoned()
                if time.monotonic() - looked > _LOOK_SECONDS:
                    self.n_workers = max(1, sum(client.ncores().values()))
                    looked = time.monotonic()
                while len(out) < self.n_workers and (call := next_call()) is not None:
                    key = f"sigmine-{function.__name__}-{uuid4().hex}"
                    out.add(future := client.submit(function, *call, key=key, **options))
                    returned.add(future)
                if not out:
                    return
                if not returned.has_ready():
                    time.sleep(_ANSWER_SECONDS)
                    continue
                future, result = next(returned)
                out.remove(future)
                if future.status == "error":
                    raise result[1].with_traceback(result[2])
                if isinstance(result, BaseException):  # cancelled: the data were lost
                    raise RuntimeError("the cluster has lost what a call needs") from result
                yield result
        finally:
            if out:  # the workers see it, and stop (`is_called_off`)
                with suppress(Exception):  # there may be no cluster any more
                    client.cancel(list(out))


class Failures:
    """Bears the loss of workers: some of the work comes back later, nothing comes back wrong.

    After a few losses in a row, without any result in between, it gives up.
    """

    def __init__(self) -> None:
        self._count = 0

    def until_lost(self, run: Callable[[], Generator[T, None, None]]) -> Generator[T, None, None]:
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
        SearchInterrupted
            If the work was told to end.
        Exception
            Of the backend, if it is the third in a row.
        """
        results: Generator[T, None, None] | None = None
        try:
            while True:
                try:
                    if results is None:
                        results = run()
                    result = next(results)
                except StopIteration:
                    return
                except SearchInterrupted:  # by the caller: nobody is lost
                    raise
                except Exception as error:
                    self._count += 1
                    if self._count < _MOST_FAILURES:
                        return
                    error.add_note(
                        f"The workers failed {self._count} times in a row, without any work done "
                        "in between. Look at their logs: they may lack memory, or a package."
                    )
                    raise
                self._count = 0
                yield result
        finally:
            if results is not None:  # at once, not when it is collected
                results.close()
