"""A cluster of Dask: the same answer, whatever happens to a worker."""

import os
import subprocess
import sys
import time

import joblib
import pytest

from sigmine.parallel import Control, DaskPool, find_workers
from sigmine.search import Checkpoint, rounds
from tests.processes import (
    BUT,
    assert_ctrl_c_ends,
    assert_ctrl_c_saves,
    assert_failure_is_heard_of,
    assert_nobody_waits_for_answers,
    assert_time_limit_holds,
    dying,
    frame_of,
    middle_case,
    search,
    search_here,
    small_case,
    watch_losses,
)
from tests.searches import assert_outcomes_are_identical


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
        before = cluster.run(lambda: list(rounds._known))
        send, absorb = DaskPool.send, rounds._Batches.absorb
        monkeypatch.setattr(DaskPool, "send", lambda *a: (sent.append(a), send(*a))[1])
        monkeypatch.setattr(
            rounds._Batches, "absorb", lambda *a: (n_answers.append(a[1].part), absorb(*a))
        )
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        assert rounds._known == here  # nothing was searched in this process
        after = cluster.run(lambda: list(rounds._known))
        key, _ = rounds.pack(frame_of(middle_case()))
        assert [key] in after.values()
        # On a busy machine one worker may do everything: the other knows what it knew.
        assert all(known in ([key], before[worker]) for worker, known in after.items())
        assert len(sent) == 1
        assert len(n_answers) > 4
        assert_outcomes_are_identical(whole, search(middle_case()), but=BUT)
        if set(map(tuple, after.values())) == {(key,)}:
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
        assert_failure_is_heard_of(monkeypatch)

    def test_ctrl_c(self, cluster):
        assert_ctrl_c_ends()
        self.assert_idle(cluster)

    def test_time_limit(self, cluster):
        assert_time_limit_holds()
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

    def test_ctrl_c_saves_what_came_back(self, cluster, tmp_path, monkeypatch):
        search(middle_case())  # kernels are loaded
        assert_ctrl_c_saves(tmp_path, middle_case(), monkeypatch)
        self.assert_idle(cluster)

    def test_workers_without_an_answer_are_not_waited_for(self, cluster, monkeypatch):
        assert_nobody_waits_for_answers(monkeypatch)
        self.assert_idle(cluster)

    def test_a_worker_that_joins_gets_work(self, cluster):
        pool = find_workers(None)[1]
        seen, until = set(), time.monotonic() + 60.0

        def next_call():
            # Dask itself may give the new one a call before the pool has looked how many there are.
            done = len(seen) == pool.n_workers == 3
            return None if done or time.monotonic() > until else (0.02,)

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
