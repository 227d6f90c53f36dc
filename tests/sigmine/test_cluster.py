"""Processes instead of threads: the same answer, whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from joblib.externals.loky import reusable_executor

from sigmine import parallel
from sigmine.exceptions import SearchInterrupted
from sigmine.parallel import Control, DaskPool, Pool, find_workers
from sigmine.search import Checkpoint, driver, rounds, search_patterns, testability, total
from sigmine.search.layout import BOUND, COUNT, UNKNOWN
from sigmine.search.prepare import prepare
from sigmine.search.tasks import plan_tasks
from sigmine.search.testability import build_ladder, first_level
from sigmine.search.worker import Goal, Task, merged
from sigmine.settings import SearchSettings
from tests import strategies
from tests.searches import assert_outcomes_are_identical, draw_limits, draw_table, make_problem

BUT = ("n_visited", "seconds")


def search(case, *, n_jobs=None, time_limit=None, progress=None, checkpoint=None, **options):
    return search_patterns(
        make_problem(*case),
        SearchSettings(**options),
        n_jobs=n_jobs,
        time_limit=time_limit,
        progress=progress,
        checkpoint=checkpoint,
    )


def search_here(case, **options):
    with joblib.parallel_config(backend="threading", n_jobs=1):
        return search(case, **options)


def small_case(seed=12):
    return strategies.random_case(np.random.default_rng(seed), 120, 14, 3, 0.4, 0.9, corners=False)


def frame_of(case, **options):
    settings = SearchSettings(**options)
    prepared = prepare(make_problem(*case).table, settings)
    return rounds.Frame(prepared, settings, build_ladder(settings), 4096)


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
        search(middle_case())  # kernels are loaded
        started = time.monotonic()
        outcome = search(long_case(), time_limit=1.0)
        assert time.monotonic() - started < 10.0
        assert not outcome.complete
        assert 0.0 <= outcome.searched_fraction < 1.0
        if outcome.n_testable:  # a machine that does much else may not get that far
            assert outcome.testability_threshold * outcome.n_testable <= 0.05 * (1 + 1e-9)

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
        monkeypatch.setattr(rounds, "search_batch", fail)
        with pytest.raises(ValueError, match="this worker is broken") as info:
            search(small_case())
        assert "3 times in a row" in info.value.__notes__[0]

    def test_ctrl_c(self):
        started, pids = [], []

        def press(state):
            if state.visited:
                pids[:] = reusable_executor._executor._processes
                started.append(time.monotonic())
                interrupt(state)

        with pytest.raises(SearchInterrupted, match="interrupted before its end"):
            search(long_case(), progress=press)
        assert time.monotonic() - started[0] < 3.0  # half a second, on a machine with time
        assert len(pids) == 2
        until = time.monotonic() + 20.0
        while any(map(is_alive, pids)):  # they do not work on, behind the caller's back
            assert time.monotonic() < until
            time.sleep(0.05)
        whole = search_here(small_case())
        assert_outcomes_are_identical(whole, search(small_case()), but=BUT)

    def test_workers_without_an_answer_are_not_waited_for(self, monkeypatch):
        monkeypatch.setattr(rounds, "search_batch", doze)
        monkeypatch.setattr(parallel, "_GRACE_SECONDS", 0.1)
        started = time.monotonic()
        outcome = search(small_case(), time_limit=0.1)
        assert time.monotonic() - started < 2.5
        assert outcome.searched_fraction == 0.0

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


def fail(*_):
    raise ValueError("this worker is broken")


def doze(*_):
    time.sleep(3.0)
    raise AssertionError("nobody waits for this")


def dying(folder, n_deaths):
    """Make a `search_batch` whose process is killed, the first times, with its work done."""

    def search_batch(packed, job, first):
        answer = rounds.search_batch(packed, job, first)
        for number in range(n_deaths if first else 0):  # the batch of task 0 comes back
            try:
                os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return search_batch


def watch_losses(monkeypatch):
    """Return a list that gets the tasks which never came back."""
    given_up, give_up = [], rounds._Batches.give_up

    def spy(batches):
        given_up.extend(batches.out.values())
        give_up(batches)

    monkeypatch.setattr(rounds._Batches, "give_up", spy)
    return given_up


def long_case():
    """Half a minute of work, in tasks of a fraction of a second."""
    rng = np.random.default_rng(6)
    return rng.random((1200, 100)) < 0.5, rng.random(1200) < 0.5, rng.integers(0, 2, 1200)


def middle_case():
    """Work for several rounds."""
    rng = np.random.default_rng(3)
    return rng.random((600, 34)) < 0.5, rng.random(600) < 0.5, rng.integers(0, 2, 600)


def interrupt(state):
    """Press Ctrl-C once the workers work."""
    if state.visited:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def cluster():
    """Two processes of Dask, each with one thread."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # Without a dashboard there is still a server, by default at one port for all clusters.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestDask:
    @pytest.fixture(autouse=True)
    def on_the_cluster(self, cluster):
        cluster.wait_for_workers(2, timeout=60)  # one may have been killed just before
        with joblib.parallel_config(backend="dask"):
            yield

    def assert_idle(self, cluster):
        """Require that every worker has time for something else."""
        for address in cluster.ncores():
            waiting = cluster.submit(os.getpid, workers=[address], pure=False)
            assert waiting.result(timeout=20) > 0

    def test_same_answer(self):
        case = small_case()
        assert isinstance(find_workers(None)[1], DaskPool)
        assert find_workers(None)[1].n_workers == 2
        for options in ({}, {"method": "asymptotic", "grid_step": 0.06}):
            whole = search_here(case, **options)
            assert_outcomes_are_identical(whole, search(case, **options), but=BUT)

    def test_options_of_submit(self, cluster, monkeypatch):
        submitted, submit = [], cluster.submit

        def spy(*args, **options):
            submitted.append(options["priority"])
            return submit(*args, **options)

        with joblib.parallel_config(backend="dask", client=cluster, priority=5):
            monkeypatch.setattr(cluster, "submit", spy)
            search(small_case())
        assert set(submitted) == {5}

    def test_the_workers_do_the_work(self, cluster, monkeypatch):
        # Several rounds, each a batch; data travel once.
        whole, here, sent, n_answers = search_here(middle_case()), dict(rounds._known), [], []
        send, absorb = DaskPool.send, rounds._Batches.absorb
        monkeypatch.setattr(DaskPool, "send", lambda *a: (sent.append(a), send(*a))[1])
        monkeypatch.setattr(
            rounds._Batches, "absorb", lambda *a: (n_answers.append(a[1].part), absorb(*a))
        )
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert rounds._known == here  # nothing was searched in this process
        known = cluster.run(lambda: list(rounds._known))
        (one, two) = known.values()
        assert one == two == [rounds.pack(frame_of(middle_case()))[0]]
        assert len(sent) == 1
        assert len(n_answers) > 4
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert len(sent) == 1  # known from before

    def test_in_a_task_of_the_cluster(self):
        # A search inside a task, as in cross-validation on the cluster: by its own thread.
        whole = search_here(small_case())
        (found,) = joblib.Parallel()(joblib.delayed(search)(small_case()) for _ in range(1))
        asked = joblib.Parallel()(joblib.delayed(find_workers)(n) for n in (None, 3))
        assert asked == [(1, None), (3, None)]
        assert_outcomes_are_identical(whole, found, but=BUT)

    def test_a_worker_that_is_killed_costs_time_only(self, tmp_path, monkeypatch):
        # Dask gives its work to another.
        whole = search_here(middle_case())
        monkeypatch.setattr(rounds, "search_batch", dying(tmp_path, 1))
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert len(list(tmp_path.iterdir())) == 1

    def test_work_that_dask_gives_up_is_done_again(self, cluster, tmp_path, monkeypatch):
        # A call whose worker dies too often: here, once.
        monkeypatch.setattr(cluster.cluster.scheduler, "allowed_failures", 0)
        whole = search_here(middle_case())
        monkeypatch.setattr(rounds, "search_batch", dying(tmp_path, 1))
        given_up = watch_losses(monkeypatch)
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert len(list(tmp_path.iterdir())) == 1
        assert given_up

    def test_a_worker_that_always_fails_is_heard_of(self, monkeypatch):
        monkeypatch.setattr(rounds, "search_batch", fail)
        with pytest.raises(ValueError, match="this worker is broken") as info:
            search(small_case())
        assert "3 times in a row" in info.value.__notes__[0]

    def test_ctrl_c(self, cluster):
        started = []

        def press(state):
            if state.visited:
                started.append(time.monotonic())
                interrupt(state)

        with pytest.raises(SearchInterrupted, match="interrupted before its end"):
            search(long_case(), progress=press)
        assert time.monotonic() - started[0] < 3.0  # half a second, on a machine with time
        self.assert_idle(cluster)

    def test_time_limit(self, cluster):
        search(middle_case())  # kernels are loaded
        started = time.monotonic()
        outcome = search(long_case(), time_limit=1.0)
        assert time.monotonic() - started < 10.0
        assert not outcome.complete
        assert 0.0 <= outcome.searched_fraction < 1.0
        if outcome.n_testable:  # a machine that does much else may not get that far
            assert outcome.testability_threshold * outcome.n_testable <= 0.05 * (1 + 1e-9)
        self.assert_idle(cluster)

    def test_checkpoint(self, tmp_path, monkeypatch):
        case, folder = middle_case(), Checkpoint(tmp_path, seconds=0.0)
        absorb, absorbed = rounds._Batches.absorb, []

        def crash(batches, answer):
            if len(absorbed) == 2:
                raise OSError("the calling process is lost")
            absorbed.append(len(answer.seconds))
            absorb(batches, answer)

        with monkeypatch.context() as patch:
            patch.setattr(rounds._Batches, "absorb", crash)
            with pytest.raises(OSError, match="process is lost"):
                search(case, checkpoint=folder)
        later, n_tasks = [], []

        def spy(batches, answer):
            n_tasks.append(len(batches.schedule.plan.tasks))
            later.append(len(answer.seconds))
            absorb(batches, answer)

        monkeypatch.setattr(rounds._Batches, "absorb", spy)
        outcome = search(case, checkpoint=folder)
        assert_outcomes_are_identical(search_here(case), outcome, but=BUT)
        assert 0 < sum(later) == n_tasks[0] - sum(absorbed)
        # What one kind of worker has saved, another goes on with.
        assert_outcomes_are_identical(outcome, search_here(case, checkpoint=folder), but=BUT)

    def test_workers_without_an_answer_are_not_waited_for(self, cluster, monkeypatch):
        monkeypatch.setattr(rounds, "search_batch", doze)
        monkeypatch.setattr(parallel, "_GRACE_SECONDS", 0.1)
        started = time.monotonic()
        outcome = search(small_case(), time_limit=0.1)
        assert time.monotonic() - started < 2.5
        assert outcome.searched_fraction == 0.0
        self.assert_idle(cluster)

    def test_a_worker_that_joins_gets_work(self, cluster):
        pool = find_workers(None)[1]
        seen, until = set(), time.monotonic() + 60.0

        def next_call():
            return None if len(seen) == 3 or time.monotonic() > until else (0.02,)

        for pid in pool.run(nap, next_call, Control()):
            if not seen:
                cluster.cluster.scale(3)
            seen.add(pid)
        assert len(seen) == pool.n_workers == 3
        cluster.cluster.scale(2)


def test_the_documented_example_runs(repository):
    pytest.importorskip("distributed", reason="Dask is not installed")
    done = subprocess.run(
        [sys.executable, repository / "examples" / "dask_cluster.py", "--quick"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(repository)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 workers\n")
    assert "as without the cluster" in done.stdout


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()
