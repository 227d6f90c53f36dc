"""Threads over a shared queue of chunks: everything once, errors and interrupts come through."""

import threading
import time

import joblib
import numpy as np
import pytest

from sigmine.exceptions import InputTypeError, SearchInterrupted
from sigmine.parallel import count_workers, run_watched


def nothing(fraction):
    return None


def some_chunks(n):
    """Return n tasks; what they are is up to the worker."""
    return [(i, i + 1) for i in range(n)]


def run(work, chunks, n_workers, stop, watch):
    """Run tasks of equal weight."""
    return run_watched(
        work, chunks, np.full(len(chunks), 1 / max(1, len(chunks))), n_workers, stop, watch
    )


def new_stop():
    return np.zeros(1, dtype=np.int64)


def search_threads():
    return [t for t in threading.enumerate() if t.name == "sigmine-search" and t.is_alive()]


def test_number_of_workers():
    assert count_workers(None) == count_workers(1) == 1
    assert count_workers(3) == count_workers(np.int64(3)) == 3
    assert count_workers(-1) == joblib.cpu_count()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert count_workers(None) == 2
        assert count_workers(1) == 1


@pytest.mark.parametrize("bad", [0, True, False, 1.0, "2", [1]])
def test_bad_number_of_workers(bad):
    with pytest.raises(InputTypeError, match="n_jobs="):
        count_workers(bad)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_every_chunk_is_worked_on_once(n_workers):
    chunks = some_chunks(500)
    seen = []

    def work(number, queue):
        mine = []
        for chunk in queue:
            mine.append(chunk)
            time.sleep(0.0005)
        seen.append(number)
        return mine

    fractions = []
    results = run(work, chunks, n_workers, new_stop(), fractions.append)
    assert len(results) == n_workers
    assert sorted(chunk for part in results for chunk in part) == chunks
    assert sorted(seen) == list(range(n_workers))
    for part in results:  # the queue is handed out in order
        assert part == sorted(part)
    assert fractions
    assert all(0.0 <= f <= 1.0 for f in fractions)
    assert fractions == sorted(fractions)
    assert not search_threads()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_results_come_in_the_order_of_the_workers(n_workers):
    def work(number, queue):
        time.sleep(0.05 * (n_workers - number))
        list(queue)
        return number

    assert run(work, [(0, 1)], n_workers, new_stop(), nothing) == list(range(n_workers))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_no_chunks(n_workers):
    results = run(lambda number, queue: list(queue), [], n_workers, new_stop(), nothing)
    assert results == [[]] * n_workers


def wait_for_stop(stop, seconds=20.0):
    def work(number, queue):
        for _ in queue:
            deadline = time.monotonic() + seconds
            while not stop[0] and time.monotonic() < deadline:
                time.sleep(0.001)
        return bool(stop[0])

    return work


@pytest.mark.parametrize("n_workers", [1, 2])
def test_keyboard_interrupt_stops_the_workers(n_workers):
    stop = new_stop()
    raised = []

    def watch(fraction):
        raised.append(time.monotonic())
        raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted, match="run it again") as info:
        run(wait_for_stop(stop), [(0, 1), (1, 2), (2, 3)], n_workers, stop, watch)
    assert time.monotonic() - raised[0] < 1.0
    assert isinstance(info.value, KeyboardInterrupt)  # so that it passes `except Exception`
    assert info.value.__suppress_context__
    assert stop[0] == 1
    assert not search_threads()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_of_a_worker_is_raised(n_workers):
    def work(number, queue):
        for chunk in queue:
            if chunk == (3, 4):
                raise MemoryError("no room")
        return number

    with pytest.raises(MemoryError, match="no room"):
        run(work, some_chunks(10), n_workers, new_stop(), nothing)
    assert not search_threads()


def test_an_error_of_one_worker_stops_the_others():
    stop = new_stop()
    waiting = wait_for_stop(stop, seconds=3.0)

    def work(number, queue):
        if number == 0:
            raise MemoryError("no room")
        return waiting(number, queue)

    started = time.monotonic()
    with pytest.raises(MemoryError, match="no room"):
        run(work, [(0, 1)], 2, stop, nothing)
    assert time.monotonic() - started < 2.0
    assert stop[0] == 1


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_of_the_watcher_stops_the_workers(n_workers):
    # A progress callback that fails must not leave a search running behind the caller's back.
    stop = new_stop()

    def watch(fraction):
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        run(wait_for_stop(stop, seconds=3.0), [(0, 1)], n_workers, stop, watch)
    assert stop[0] == 1
    assert not search_threads()


def test_short_work_is_not_slowed_down():
    run(lambda number, queue: list(queue), [(0, 1)], 1, new_stop(), nothing)
    best = min(time_of_an_empty_run() for _ in range(5))
    assert best < 0.04  # a poll of 0.05 s would be seen


def time_of_an_empty_run():
    started = time.perf_counter()
    run(lambda number, queue: list(queue), [(0, 1)], 1, new_stop(), nothing)
    return time.perf_counter() - started
