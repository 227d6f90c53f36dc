"""Searches by processes, and workers that fail, sleep or are killed."""

import os
import signal
import time

import joblib
import numpy as np
import pytest

from sigmine import parallel
from sigmine.exceptions import SearchInterrupted
from sigmine.search import Checkpoint, rounds, search_patterns
from sigmine.search.prepare import prepare
from sigmine.search.testability import build_ladder
from sigmine.search.total import Total
from sigmine.settings import SearchSettings
from tests import strategies
from tests.searches import assert_outcomes_are_identical, make_problem

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


def fail(*_):
    raise ValueError("this worker is broken")


def doze(*_):
    time.sleep(3.0)
    raise AssertionError("nobody waits for this")


def assert_failure_is_heard_of(monkeypatch):
    """Require that the error of workers that always fail is raised."""
    monkeypatch.setattr(rounds, "search_batch", fail)
    with pytest.raises(ValueError, match="this worker is broken") as info:
        search(small_case())
    assert "3 times in a row" in info.value.__notes__[0]


def assert_nobody_waits_for_answers(monkeypatch):
    """Require that a search whose time is up does not wait for workers that have no answer."""
    monkeypatch.setattr(rounds, "search_batch", doze)
    monkeypatch.setattr(parallel, "_GRACE_SECONDS", 0.1)
    started = time.monotonic()
    outcome = search(small_case(), time_limit=0.1)
    assert time.monotonic() - started < 2.5
    assert outcome.searched_fraction == 0.0


def assert_time_limit_holds():
    """Require that a search ends with its time, and says what it has found until then."""
    search(middle_case())  # kernels are loaded
    started = time.monotonic()
    outcome = search(long_case(), time_limit=1.0)
    assert time.monotonic() - started < 10.0
    assert not outcome.complete
    assert 0.0 <= outcome.searched_fraction < 1.0
    if outcome.n_testable:  # a machine that does much else may not get that far
        assert outcome.testability_threshold * outcome.n_testable <= 0.05 * (1 + 1e-9)


def assert_ctrl_c_ends(at_that_moment=lambda: None):
    """Require that Ctrl-C ends a search at once; call a function when it is pressed."""
    started = []

    def press(state):
        if state.visited:
            at_that_moment()
            started.append(time.monotonic())
            interrupt(state)

    with pytest.raises(SearchInterrupted, match="interrupted before its end"):
        search(long_case(), progress=press)
    assert time.monotonic() - started[0] < 3.0  # half a second, on a machine with time


def doze_but_first(packed, job, first):
    """Do the batch of the first task; the others have no answer for a while."""
    return doze() if first else rounds.search_batch(packed, job, first)


def assert_ctrl_c_saves(folder, case, monkeypatch):
    """Require that what came back is saved, without waiting for the rest, and gone on with."""
    started = []

    def press(state):
        if state.visited:
            started.append(time.monotonic())
            interrupt(state)

    kept = Checkpoint(folder, seconds=1000.0)  # never due
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "search_batch", doze_but_first)
        with pytest.raises(SearchInterrupted):
            search(case, checkpoint=kept, progress=press)
    assert time.monotonic() - started[0] < 2.5  # half a second, on a machine with time
    while kept.last_saved is None:  # on a machine without, it is saved a little later
        assert time.monotonic() - started[0] < 2.5
        time.sleep(0.01)
    n_finished, add = [], Total.__init__

    def spy(total, *args):
        n_finished.append(int(args[-1].sum()) if args[-1] is not None else 0)
        add(total, *args)

    monkeypatch.setattr(Total, "__init__", spy)
    outcome = search(case, checkpoint=kept)
    assert n_finished[0] > 0
    assert_outcomes_are_identical(search_here(case), outcome, but=BUT)


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
