"""Processes of this machine instead of threads: the same answer, whatever happens to a worker."""

import os
import time
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from joblib.externals.loky import reusable_executor

from sigmine.parallel import Control, Pool, find_workers
from sigmine.search import driver, rounds, testability, total
from sigmine.search.layout import BOUND, COUNT, UNKNOWN
from sigmine.search.tasks import plan_tasks
from sigmine.search.testability import first_level
from sigmine.search.worker import Goal, Task, merged
from sigmine.settings import SearchSettings
from tests.processes import (
    BUT,
    assert_ctrl_c_ends,
    assert_ctrl_c_saves,
    assert_failure_is_heard_of,
    assert_nobody_waits_for_answers,
    assert_time_limit_holds,
    dying,
    frame_of,
    long_case,
    middle_case,
    search,
    search_here,
    small_case,
    watch_losses,
)
from tests.searches import assert_outcomes_are_identical, draw_limits, draw_table, make_problem


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestBatches:
    """What runs in a process, here in this one."""

    def job(self, frame, key, tasks, **changes):
        level = first_level(frame.ladder, frame.settings)
        job = rounds.Job(
            key=key,
            goal=Goal(COUNT, level),
            counts=np.zeros(len(frame.ladder.rungs), dtype=np.int64),
            tasks=tuple(tasks),
            seconds=60.0,
            limit=float("inf"),
        )
        return job._replace(**changes)

    def test_a_batch_is_a_pure_function(self):
        frame = frame_of(small_case())
        key, packed = rounds.pack(frame)
        assert rounds.pack(frame)[0] == key
        job = self.job(frame, key, [Task(0, 14)])
        one, two = (rounds.search_batch(packed, job, 3) for _ in range(2))
        assert one.first == two.first == 3
        assert len(one.seconds) == 1
        assert one.whole
        for name in ("level", "visited", "most", "window", "sample_mask"):
            assert getattr(one.part, name) == getattr(two.part, name)
        for name in ("counts", "values", "evidence", "found", "items"):
            np.testing.assert_array_equal(getattr(one.part, name), getattr(two.part, name))
        assert not job.counts.any()  # what came in is as it was

    def test_batches_add_up(self):
        frame = frame_of(small_case())
        key, packed = rounds.pack(frame)
        plan = plan_tasks(frame.prepared, 4)
        parts = [
            rounds.search_batch(packed, self.job(frame, key, tasks), 0).part
            for tasks in (plan.tasks[::2], plan.tasks[1::2])
        ]
        (whole,) = (rounds.search_batch(packed, self.job(frame, key, plan.tasks), 0).part,)
        both = merged(parts)
        level = max(both.level, whole.level)
        np.testing.assert_array_equal(both.counts[level:], whole.counts[level:])

    def test_what_others_have_counted_raises_the_threshold(self):
        frame = frame_of(small_case(), alpha=0.3)
        key, packed = rounds.pack(frame)
        job = self.job(frame, key, [Task(0, 14)])
        alone = rounds.search_batch(packed, job, 0).part
        goal = Goal(COUNT, alone.level)
        later = rounds.search_batch(packed, job._replace(goal=goal), 0).part
        assert later.visited < alone.visited
        np.testing.assert_array_equal(later.counts[alone.level :], alone.counts[alone.level :])

    def test_data_are_unpacked_once_and_stay_as_they_are(self):
        frame = frame_of(small_case())
        key, packed = rounds.pack(frame)
        job = self.job(frame, key, [Task(0, 14)])
        rounds.search_batch(packed, job, 0)
        known = rounds._known[key]
        assert rounds.search_batch(None, job, 0).whole  # not needed any more
        assert rounds._known[key] is known
        assert (known.prepared.data.root_score[:, BOUND] == UNKNOWN).all()
        other = frame_of(small_case(13))
        rounds.search_batch(rounds.pack(other)[1], self.job(other, "other", [Task(0, 1)]), 0)
        assert list(rounds._known) == ["other"]  # memory is bounded
        assert rounds.search_batch(None, job, 5) == rounds.DataMissing(5)

    def test_a_batch_ends_after_its_time(self):
        frame = frame_of(small_case())
        key, packed = rounds.pack(frame)
        tasks = [Task(i, i + 1) for i in range(14)]
        answer = rounds.search_batch(packed, self.job(frame, key, tasks, seconds=0.0), 0)
        assert len(answer.seconds) == 1  # one is done, or nothing would ever be
        assert answer.whole

    def test_a_batch_is_left_in_the_middle_when_time_is_up(self):
        rng = np.random.default_rng(6)
        case = rng.random((1200, 70)) < 0.5, rng.random(1200) < 0.5, None
        frame = frame_of(case)
        key, packed = rounds.pack(frame)
        rounds.search_batch(packed, self.job(frame, key, [Task(0, 2)]), 0)  # compiled
        started = time.monotonic()
        job = self.job(frame, key, [Task(0, 70)], limit=0.1)
        answer = rounds.search_batch(packed, job, 0)
        assert time.monotonic() - started < 2.0
        assert answer.seconds == []
        assert not answer.whole
        assert answer.part.visited > 0


def test_a_batch_that_was_called_off_has_no_answer(monkeypatch):
    # It could be taken for what was asked again.
    frame = frame_of(long_case())
    key, packed = rounds.pack(frame)
    goal = Goal(COUNT, first_level(frame.ladder, frame.settings))
    counts = np.zeros(len(frame.ladder.rungs), dtype=np.int64)
    job = rounds.Job(key, goal, counts, (Task(0, 100),), 60.0, np.inf)
    monkeypatch.setattr(rounds, "is_called_off", lambda: lambda: True)
    with pytest.raises(RuntimeError, match="called off"):
        rounds.search_batch(packed, job, 0)


class HerePool(Pool):
    """One without processes."""

    def __init__(self):
        super().__init__(None, 1)
        self.returns_early = True

    def run(self, function, next_call, control):
        while (call := next_call()) is not None:
            yield function(*call)


def test_a_long_search_puts_its_parts_together(monkeypatch):
    monkeypatch.setattr(total, "_MOST_BYTES", 0)
    monkeypatch.setattr(driver, "_ROUND_SECONDS", 0.0)
    numbers, add = [], total.Total.add

    def spy(self, *args, **options):
        add(self, *args, **options)
        numbers.append(len(self._parts))

    monkeypatch.setattr(total.Total, "add", spy)
    problem = make_problem(*middle_case())
    search = driver._Search(problem, SearchSettings(), 1, HerePool(), Control(), None, None)
    outcome = search.run()
    assert len(numbers) > 20
    assert max(numbers) == 1
    assert_outcomes_are_identical(search_here(middle_case()), outcome, but=BUT)


@pytest.mark.parametrize(
    ("passed", "left", "expected"),
    [(10.0, 100.0, 4.0), (1.0, 100.0, 0.5), (100.0, 2.0, 1.0), (0.0, 9.0, 0.2), (9.0, None, 0.2)],
)
def test_early_and_late_rounds_are_short(passed, left, expected):
    schedule = SimpleNamespace(estimate=lambda: (0.5, left))
    batches = rounds._Batches("", None, schedule, None, Control(), 4.0, HerePool())
    batches._started -= passed
    assert batches._batch_seconds() == pytest.approx(expected, abs=0.05)


class LosingPool(Pool):
    """One whose workers ask for the data, and are lost as soon as they have got them."""

    def __init__(self):
        super().__init__(None, 1)
        self.returns_early = self.asks_for_data = True
        self.n_lost = 0

    def run(self, function, next_call, control):
        packed, job, first = next_call()
        assert packed is None
        yield function(None, job._replace(key="unknown"), first)
        packed, job, first = next_call()
        assert packed is not None
        self.n_lost += 1
        raise OSError("the worker is lost")


def test_asking_for_data_is_no_work_done():
    # Or workers that die as soon as they unpack the data would be tried for ever.
    pool = LosingPool()
    problem = make_problem(*small_case())
    search = driver._Search(problem, SearchSettings(), 1, pool, Control(), None, None)
    with pytest.raises(OSError, match="worker is lost"):
        search.run()
    assert pool.n_lost == 3


class TestLoky:
    """Processes of this machine."""

    @pytest.fixture(autouse=True)
    def processes(self):
        with joblib.parallel_config(backend="loky", n_jobs=2):
            yield

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"method": "asymptotic", "variance": "cochran", "grid_step": 0.06},
            {"max_length": 2, "alternative": "greater"},
        ],
    )
    def test_same_answer(self, options):
        case = small_case()
        assert find_workers(None)[1] is not None
        whole = search(case, n_jobs=1, **options)
        assert_outcomes_are_identical(whole, search(case, **options), but=BUT)

    def test_any_table(self):
        rng = np.random.default_rng(5)
        for _ in range(8):
            case, limits = draw_table(rng), draw_limits(rng)
            whole = search(case, n_jobs=1, **limits)
            assert_outcomes_are_identical(whole, search(case, **limits), but=BUT)

    def test_all_passes(self, monkeypatch):
        monkeypatch.setattr(testability, "LOG_SAFETY", -3.0)
        case, states = small_case(), []
        whole = search(case, n_jobs=1, alpha=0.3)
        outcome = search(case, alpha=0.3, progress=states.append)
        assert_outcomes_are_identical(whole, outcome, but=BUT)
        assert [s.stage for s in states][-1] == "collect"
        rng = np.random.default_rng(2)
        case = rng.random((20, 12)) < 0.4, np.arange(20) < 10, None
        whole = search(case, n_jobs=1, alpha=1e-7)
        assert_outcomes_are_identical(whole, search(case, alpha=1e-7), but=BUT)

    def test_without_any_items(self):
        case = np.zeros((10, 3), dtype=bool), np.arange(10) < 5, None
        assert_outcomes_are_identical(search(case, n_jobs=1), search(case), but=BUT)

    def test_short_rounds(self, monkeypatch):
        monkeypatch.setattr(driver, "_ROUND_SECONDS", 0.0)
        case = small_case()
        assert_outcomes_are_identical(search(case, n_jobs=1), search(case), but=BUT)

    def test_time_limit(self):
        assert_time_limit_holds()

    def test_progress(self):
        rng = np.random.default_rng(3)
        case = rng.random((600, 34)) < 0.5, rng.random(600) < 0.5, None
        states = []
        outcome = search(case, progress=states.append)
        fractions = [state.fraction_done for state in states]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert states[-1].visited == outcome.n_visited

    def test_a_process_that_is_killed_costs_time_only(self, tmp_path, monkeypatch):
        # joblib gives up all that was going on.
        whole = search_here(middle_case())
        monkeypatch.setattr(rounds, "search_batch", dying(tmp_path, 2))
        given_up = watch_losses(monkeypatch)
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert len(list(tmp_path.iterdir())) == 2
        assert given_up

    def test_a_worker_that_always_fails_is_heard_of(self, monkeypatch):
        assert_failure_is_heard_of(monkeypatch)

    def test_ctrl_c(self):
        pids = []
        assert_ctrl_c_ends(lambda: pids.extend(reusable_executor._executor._processes))
        assert len(pids) == 2
        until = time.monotonic() + 20.0
        while any(map(is_alive, pids)):  # they do not work on, behind the caller's back
            assert time.monotonic() < until
            time.sleep(0.05)
        whole = search_here(small_case())
        assert_outcomes_are_identical(whole, search(small_case()), but=BUT)

    def test_ctrl_c_saves_what_came_back(self, tmp_path, monkeypatch):
        search(middle_case())  # kernels are loaded
        assert_ctrl_c_saves(tmp_path, middle_case(), monkeypatch)

    def test_workers_without_an_answer_are_not_waited_for(self, monkeypatch):
        assert_nobody_waits_for_answers(monkeypatch)

    def test_rounds_of_a_backend_that_returns_all_at_once(self):
        with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
            assert not find_workers(None)[1].returns_early
        case = small_case()
        whole = search(case, n_jobs=1)
        pool = find_workers(None)[1]
        pool.returns_early = False  # Ray's is one; processes of this one are started already
        problem = make_problem(*case)
        found = driver._Search(problem, SearchSettings(), 2, pool, Control(), None, None).run()
        assert_outcomes_are_identical(whole, found, but=BUT)
