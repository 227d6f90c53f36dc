"""Who gets which task, and what is said about the rest: every task once, an honest estimate."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmine.search import schedule as module
from sigmine.search.schedule import Batch, Schedule
from sigmine.search.tasks import Plan
from sigmine.search.worker import Task


def plan_of(*weights):
    weights = np.array(weights, dtype=np.float64)
    tasks = [Task(i, i + 1) for i in range(len(weights))]
    return Plan(tasks, weights / weights.sum() if len(weights) else weights)


def new_stop():
    return np.zeros(1, dtype=np.int64)


class Clock:
    """Time that passes when told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.mark.parametrize("n_threads", [1, 4])
def test_every_task_is_handed_out_once_and_in_order(n_threads):
    schedule = Schedule(plan_of(*range(1, 201)), n_threads)
    seen = []

    def work():
        mine = []
        for task in Batch(schedule, 60.0).tasks(new_stop()):
            mine.append(task.first)
            time.sleep(0.0002)
        seen.append(mine)

    threads = [threading.Thread(target=work) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in seen for number in mine) == list(range(200))
    assert all(mine == sorted(mine) for mine in seen)
    assert schedule.finished.all()
    assert not schedule.is_waiting
    assert schedule.weight_finished == pytest.approx(1.0)
    assert schedule.take() == []


def test_what_an_earlier_run_has_finished_is_not_handed_out():
    finished = np.array([True, False, True, False])
    schedule = Schedule(plan_of(1, 2, 3, 4), 1, finished)
    assert schedule.weight_finished == pytest.approx(0.4)
    assert schedule.take(10, 1.0) == [1, 3]
    finished[:] = True  # a copy
    assert schedule.finished.tolist() == [True, False, True, False]


def test_the_weight_of_what_is_handed_out_is_limited():
    schedule = Schedule(plan_of(1, 1, 1, 1, 6), 1)
    assert schedule.take(10, 0.25) == [0, 1]
    assert schedule.take(1, 1.0) == [2]
    assert schedule.take(10, 0.0) == [3]  # the first, whatever its weight
    assert schedule.weight_waiting == pytest.approx(0.6)
    assert schedule.take(10, 0.1) == [4]
    assert schedule.weight_waiting == 0.0


def test_tasks_that_come_back_are_handed_out_again():
    schedule = Schedule(plan_of(1, 1, 1, 1), 1)
    assert schedule.take(3, 1.0) == [0, 1, 2]
    schedule.end(1)
    schedule.give_back([0, 1, 2])  # number 1 is finished all the same
    assert schedule.take(10, 1.0) == [0, 2, 3]
    assert schedule.finished.tolist() == [False, True, False, False]


def test_a_batch_ends_after_its_time(monkeypatch):
    clock = Clock(monkeypatch)
    schedule = Schedule(plan_of(*[1] * 10), 1)
    batch = Batch(schedule, 5.0)
    for _ in batch.tasks(new_stop()):
        clock.now += 2.0
    assert batch.finished == [0, 1, 2]  # the third began before the time was up
    assert schedule.take() == [3]


def test_a_task_during_which_the_search_stops_is_not_finished():
    schedule, stop = Schedule(plan_of(1, 1, 1), 1), new_stop()
    batch = Batch(schedule, 60.0)
    for task in batch.tasks(stop):
        if task.first == 1:
            stop[0] = 1
    assert batch.finished == [0]
    assert schedule.finished.tolist() == [True, False, False]
    assert list(Batch(schedule, 60.0).tasks(stop)) == []


class TestEstimate:
    def run(self, clock, schedule, seconds):
        """Do all tasks one after the other; return the estimates before each and at the end."""
        estimates = []
        for number, duration in enumerate(seconds):
            assert schedule.take() == [number]
            schedule.begin(number)
            estimates.append(schedule.estimate())
            clock.now += duration
            schedule.end(number)
        return [*estimates, schedule.estimate()]

    def test_nothing_is_known_at_first(self, monkeypatch):
        clock = Clock(monkeypatch)
        schedule = Schedule(plan_of(1, 1), 1)
        assert schedule.estimate() == (0.0, None)
        schedule.take()
        schedule.begin(0)
        clock.now += 1000.0
        assert schedule.estimate() == (0.0, None)

    def test_weights_that_are_right(self, monkeypatch):
        clock = Clock(monkeypatch)
        weights = np.array([1.0, 2.0, 3.0, 4.0])
        estimates = self.run(clock, Schedule(plan_of(*weights), 1), 7 * weights)
        assert [e[0] for e in estimates] == pytest.approx([0.0, 0.1, 0.3, 0.6, 1.0])
        assert [e[1] for e in estimates[1:]] == pytest.approx([63.0, 49.0, 28.0, 0.0])

    def test_a_slow_start_is_forgotten(self, monkeypatch):
        # The first tasks take fifty times what their weight says: the rest is not valued by them.
        clock = Clock(monkeypatch)
        seconds = [50.0] * 10 + [1.0] * 90
        estimates = self.run(clock, Schedule(plan_of(*[1] * 100), 1), seconds)
        fractions = [e[0] for e in estimates]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        left = [e[1] for e in estimates]
        assert left[10] == pytest.approx(90 * 50.0)
        assert left[40] == pytest.approx(60 * 1.0)
        assert fractions[40] == pytest.approx(530 / 590)

    def test_the_share_never_falls(self, monkeypatch):
        # Tasks turn out heavier and heavier: the estimate is corrected, the share waits.
        clock = Clock(monkeypatch)
        seconds = np.arange(1.0, 60.0) ** 2
        estimates = self.run(clock, Schedule(plan_of(*[1] * 59), 1), seconds)
        fractions = [e[0] for e in estimates]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0

    def test_workers_share_the_rest(self, monkeypatch):
        clock = Clock(monkeypatch)
        schedule = Schedule(plan_of(1, 1, 1, 1, 1, 1), 2)
        for number in (0, 1):
            assert schedule.take() == [number]
            schedule.begin(number)
        clock.now += 10.0
        for number in (0, 1):
            schedule.end(number)
        assert schedule.estimate() == (pytest.approx(1 / 3), pytest.approx(20.0))

    def test_what_runs_counts(self, monkeypatch):
        clock = Clock(monkeypatch)
        schedule = Schedule(plan_of(1, 1), 1)
        self.run(clock, schedule, [10.0])
        schedule.take()
        schedule.begin(1)
        clock.now += 4.0
        assert schedule.estimate() == (pytest.approx(0.7), pytest.approx(6.0))
        clock.now += 100.0  # longer than expected: nearly done, but not more
        assert schedule.estimate() == (pytest.approx(0.95), pytest.approx(1.0))

    def test_tasks_that_went_out_together(self, monkeypatch):
        clock = Clock(monkeypatch)
        schedule = Schedule(plan_of(1, 1, 1, 1, 1), 1)
        self.run(clock, schedule, [10.0])
        schedule.begin(*schedule.take(3, 0.61))
        clock.now += 25.0  # of 30
        assert schedule.estimate() == (pytest.approx(35 / 50), pytest.approx(15.0))
        for number in (1, 2, 3):
            schedule.end(number, 10.0)
        assert schedule.estimate() == (pytest.approx(0.8), pytest.approx(10.0))

    def test_seconds_that_a_worker_reports(self, monkeypatch):
        Clock(monkeypatch)
        schedule = Schedule(plan_of(1, 1, 1, 1), 1)
        assert schedule.take(2, 0.5) == [0, 1]
        schedule.end(0, 3.0)
        schedule.end(1, 5.0)
        assert schedule.estimate() == (pytest.approx(8 / 18), pytest.approx(10.0))

    def test_an_earlier_run_counts(self, monkeypatch):
        clock = Clock(monkeypatch)
        schedule = Schedule(plan_of(5, 1, 4), 1, np.array([True, False, False]))
        assert schedule.take() == [1]
        schedule.begin(1)
        clock.now += 2.0
        schedule.end(1)
        assert schedule.estimate() == (pytest.approx(0.6), pytest.approx(8.0))

    @given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(0, 1e3)), min_size=1, max_size=30))
    def test_anything(self, tasks):
        with pytest.MonkeyPatch.context() as patched:
            clock = Clock(patched)
            schedule = Schedule(plan_of(*[weight for weight, _ in tasks]), 3)
            estimates = self.run(clock, schedule, [seconds for _, seconds in tasks])
        fractions = [fraction for fraction, _ in estimates]
        assert fractions == sorted(fractions)
        assert all(0.0 <= fraction <= 1.0 for fraction in fractions)
        assert all(left is None or left >= 0.0 for _, left in estimates)
        assert fractions[-1] == pytest.approx(1.0)
        assert estimates[-1][1] == pytest.approx(0.0, abs=1e-6)
