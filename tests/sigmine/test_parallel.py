"""Work behind a watching thread, and pools of processes: errors and interrupts come through."""

import asyncio
import os
import signal
import threading
import time
from types import SimpleNamespace

import joblib
import numpy as np
import pytest

from sigmine import parallel as module
from sigmine.exceptions import InputTypeError, SearchInterrupted
from sigmine.parallel import (
    Control,
    DaskPool,
    Failures,
    count_workers,
    find_workers,
    run_threads,
    run_watched,
)


def nothing():
    return None


def search_threads():
    return [t for t in threading.enumerate() if t.name == "sigmine-search" and t.is_alive()]


def wait_for_stop(control, seconds=20.0):
    def work(_=0):
        deadline = time.monotonic() + seconds
        while not control.stopped and time.monotonic() < deadline:
            time.sleep(0.001)
        return control.stopped

    return work


def test_number_of_workers():
    assert count_workers(None) == count_workers(1) == 1
    assert count_workers(3) == count_workers(np.int64(3)) == 3
    assert count_workers(-1) == joblib.cpu_count()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert count_workers(None) == 2
        assert count_workers(1) == 1


@pytest.mark.parametrize("n_jobs", [0, 1.0, "2", True, [1]])
def test_number_of_workers_that_is_none(n_jobs):
    with pytest.raises(InputTypeError, match=r"n_jobs=.* must be None or a whole number"):
        count_workers(n_jobs)


class TestRunWatched:
    def test_returns_what_the_work_returns(self):
        calls = []
        main = threading.current_thread()
        threads = []

        def work():
            threads.append(threading.current_thread())
            time.sleep(0.02)
            return "answer"

        def watch():
            calls.append(threading.current_thread())

        assert run_watched(work, Control(), watch) == "answer"
        assert len(calls) >= 2
        assert set(calls) == {main}
        assert threads != [main]
        assert not search_threads()

    def test_the_work_sees_the_context_of_the_caller(self):
        with np.errstate(divide="raise"):
            assert run_watched(np.geterr, Control(), nothing)["divide"] == "raise"

    def test_ctrl_c_ends_the_work(self):
        control, raised = Control(), []

        def watch():
            raised.append(time.monotonic())
            raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted, match="run it again") as info:
            run_watched(wait_for_stop(control), control, watch)
        assert time.monotonic() - raised[0] < 1.0
        assert isinstance(info.value, KeyboardInterrupt)  # so that it passes `except Exception`
        assert info.value.__suppress_context__
        assert control.stopped
        with pytest.raises(SearchInterrupted, match="nobody waits"):
            control.raise_if_abandoned()
        assert not search_threads()

    def test_ctrl_c_during_work_that_cannot_be_stopped(self):
        # Numpy sorting, or a kernel that is being compiled: left alone after half a second.
        control, go_on = Control(), threading.Event()

        def work():
            go_on.wait(20.0)
            control.raise_if_abandoned()

        def watch():
            raise KeyboardInterrupt

        started = time.monotonic()
        with pytest.raises(SearchInterrupted):
            run_watched(work, control, watch)
        assert 0.4 < time.monotonic() - started < 1.0
        go_on.set()
        for thread in search_threads():
            thread.join(5.0)
        assert not search_threads()

    def test_ctrl_c_waits_for_what_is_being_saved(self):
        control, saved = Control(), []

        def work():
            wait_for_stop(control)()
            control.is_saving = True
            time.sleep(1.0)  # longer than anybody waits otherwise
            saved.append("everything")
            control.is_saving = False

        def watch():
            raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted):
            run_watched(work, control, watch)
        assert saved == ["everything"]
        assert not search_threads()

    def test_a_signal_while_waiting(self):
        # A thread that is waited for by join counts as ended when Ctrl-C comes, though it runs on.
        control, ended = Control(), []

        def work():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            wait_for_stop(control)()
            time.sleep(0.2)
            ended.append("work")

        with pytest.raises(SearchInterrupted):
            run_watched(work, control, nothing)
        assert ended == ["work"]
        assert not search_threads()

    def test_an_error_of_the_work_is_raised(self):
        def work():
            raise MemoryError("no room")

        with pytest.raises(MemoryError, match="no room"):
            run_watched(work, Control(), nothing)
        assert not search_threads()

    def test_an_error_of_the_watcher_stops_the_work(self):
        # A progress callback that fails must not leave a search running behind the caller's back.
        control = Control()

        def watch():
            raise RuntimeError("no terminal")

        with pytest.raises(RuntimeError, match="no terminal"):
            run_watched(wait_for_stop(control, seconds=3.0), control, watch)
        assert control.stopped
        assert not search_threads()

    def test_short_work_is_not_slowed_down(self):
        def seconds():
            started = time.perf_counter()
            run_watched(nothing, Control(), nothing)
            return time.perf_counter() - started

        assert min(seconds() for _ in range(5)) < 0.04  # a poll of 0.05 s would be seen


class TestControl:
    def test_without_a_limit(self):
        control = Control()
        control.check_time()
        assert control.seconds_left == np.inf
        assert not control.stopped
        control.raise_if_abandoned()

    def test_time_is_up(self):
        control = Control(0.03)
        control.check_time()
        assert 0.0 < control.seconds_left <= 0.03
        assert not control.stopped
        assert run_watched(wait_for_stop(control, seconds=10.0), control, nothing) is True
        assert control.seconds_left == 0.0
        control.raise_if_abandoned()  # somebody waits for the answer

    def test_the_flag_has_a_cache_line_of_its_own(self):
        stop = Control().stop
        assert stop.flags.c_contiguous
        assert stop.base.nbytes >= 3 * 8 + 2 * 56
        start = stop.__array_interface__["data"][0] - stop.base.__array_interface__["data"][0]
        assert start >= 56
        assert stop.base.nbytes - start - 8 >= 56


class TestRunThreads:
    @pytest.mark.parametrize("n_workers", [1, 2, 3])
    def test_results_come_in_the_order_of_the_workers(self, n_workers):
        def work(number):
            time.sleep(0.03 * (n_workers - number))
            return number

        assert run_threads(work, n_workers, Control()) == list(range(n_workers))

    def test_one_worker_is_the_present_thread(self):
        assert run_threads(lambda _: threading.current_thread(), 1, Control()) == [
            threading.current_thread()
        ]

    def test_an_error_of_one_worker_stops_the_others(self):
        control = Control()
        waiting = wait_for_stop(control, seconds=3.0)

        def work(number):
            if number == 0:
                raise MemoryError("no room")
            return waiting()

        started = time.monotonic()
        with pytest.raises(MemoryError, match="no room"):
            run_threads(work, 2, control)
        assert time.monotonic() - started < 2.0
        assert control.stopped


class TestPool:
    def test_threads_are_the_default(self):
        assert find_workers(None) == (1, None)
        assert find_workers(2) == (2, None)
        for backend in ("threading", "sequential"):
            with joblib.parallel_config(backend=backend, n_jobs=2):
                assert find_workers(None)[1] is None
        with joblib.parallel_config(n_jobs=2):
            assert find_workers(None) == (2, None)
        with pytest.raises(InputTypeError):
            find_workers(0)

    def test_processes_on_request(self):
        with joblib.parallel_config(backend="loky", n_jobs=2):
            for n_jobs, expected in ((None, 2), (3, 3)):
                n_workers, pool = find_workers(n_jobs)
                assert n_workers == pool.n_workers == expected
            assert find_workers(1) == (1, None)  # a process would do what a thread does
        with joblib.parallel_config(backend="loky"):
            assert find_workers(None) == (1, None)

    def test_processes_return_what_they_are_asked(self):
        with joblib.parallel_config(backend="loky", n_jobs=2):
            pool = find_workers(None)[1]
        assert pool.returns_early
        data = np.arange(10, dtype=np.uint8)
        assert pool.send(data, Control()) is data
        calls = iter([(7, 2), (9, 4), (5, 5), None])
        found = sorted(pool.run(divmod, calls.__next__, Control()))
        assert found == [(1, 0), (2, 1), (3, 1)]

    def test_calls_are_made_when_a_worker_is_free(self):
        with joblib.parallel_config(backend="loky", n_jobs=2):
            pool = find_workers(None)[1]
        made, out = [], []

        def next_call():
            if len(made) == 8:
                return None
            made.append(len(out))
            return (len(made) - 1,)

        for result in pool.run(abs, next_call, Control()):
            out.append(result)
        assert sorted(out) == list(range(8))
        assert made[:2] == [0, 0]  # two at first, the others later

    def test_a_backend_that_returns_by_the_round(self):
        with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
            pool = find_workers(None)[1]
        assert not pool.returns_early
        calls = iter([(-1,), (-2,), None])
        assert sorted(pool.run(abs, calls.__next__, Control())) == [1, 2]


class TestDaskPool:
    @pytest.fixture
    def pool(self):
        """Return a pool of a client that takes data after `delay` seconds."""
        running = asyncio.new_event_loop()
        thread = threading.Thread(target=running.run_forever)
        thread.start()

        class Client:
            sent, delay, error = (), 0.0, None
            loop = SimpleNamespace(asyncio_loop=running)

            async def scatter(self, data, **options):
                await asyncio.sleep(self.delay)
                if self.error is not None:
                    raise self.error
                self.sent = (*self.sent, data)
                return "future"

        yield DaskPool(SimpleNamespace(client=Client()), 4)

        async def end():
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), running).result()
        running.call_soon_threadsafe(running.stop)
        thread.join()
        running.close()

    data = np.arange(10, dtype=np.uint8)

    def test_data_are_sent_once(self, pool):
        pool.backend.client.delay = 2.5 * module._POLL_SECONDS
        assert pool.send(self.data, Control()) == "future"
        assert len(pool.backend.client.sent) == 1

    def test_a_cluster_that_takes_no_data_is_not_waited_for(self, pool, monkeypatch):
        monkeypatch.setattr(module, "_SEND_SECONDS", 0.1)
        pool.backend.client.delay = 20.0
        with pytest.raises(TimeoutError, match="did not take 10 bytes"):
            pool.send(self.data, Control())

    def test_its_own_error_is_raised(self, pool):
        pool.backend.client.error = TimeoutError("no workers")
        with pytest.raises(TimeoutError, match="no workers"):
            pool.send(self.data, Control())

    def test_ctrl_c_ends_the_waiting(self, pool):
        pool.backend.client.delay = 20.0
        control = Control()
        control.abandon()
        with pytest.raises(SearchInterrupted):
            pool.send(self.data, control)


class TestFailures:
    def lost(self, *results):
        def run():
            yield from results
            raise OSError("worker lost")

        return run

    def test_results_before_a_loss_are_not_lost(self):
        failures = Failures()
        assert list(failures.until_lost(self.lost(1, 2))) == [1, 2]

    def test_the_third_loss_in_a_row_is_raised(self):
        failures = Failures()
        for _ in range(2):
            assert list(failures.until_lost(self.lost())) == []
        with pytest.raises(OSError, match="worker lost") as info:
            list(failures.until_lost(self.lost()))
        assert "3 times in a row" in info.value.__notes__[0]

    def test_a_result_in_between_starts_the_count_anew(self):
        failures = Failures()
        for _ in range(10):
            assert list(failures.until_lost(self.lost("some work"))) == ["some work"]
            assert list(failures.until_lost(self.lost())) == []

    def test_a_start_that_fails_counts(self):
        failures = Failures()

        def run():
            raise TimeoutError("no workers")

        for _ in range(module._MOST_FAILURES - 1):
            assert list(failures.until_lost(run)) == []
        with pytest.raises(TimeoutError, match="no workers"):
            list(failures.until_lost(run))

    def test_ctrl_c_is_no_loss(self):
        failures = Failures()

        def run():
            yield "some work"
            raise SearchInterrupted("told to end")

        for _ in range(module._MOST_FAILURES + 1):
            with pytest.raises(SearchInterrupted) as info:
                list(failures.until_lost(run))
            assert not hasattr(info.value, "__notes__")

    def test_all_results_and_no_loss(self):
        assert list(Failures().until_lost(lambda: (number for number in (1, 2, 3)))) == [1, 2, 3]
