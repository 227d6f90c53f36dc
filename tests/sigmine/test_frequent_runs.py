"""How a search for frequent itemsets runs: workers, Ctrl-C, progress, memory, known counts."""

import signal
import threading
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sigmine import InsufficientMemoryError, SearchInterrupted, frequent_itemsets, memory
from sigmine._jit import JIT_ENABLED
from sigmine.files import read_fimi
from sigmine.frequent import MiningProgress, count_closed, count_itemsets, passes, table

GIB = 2**30


def case(n, p, density, seed=0):
    return np.random.default_rng(seed).random((n, p)) < density


class TestWorkers:
    # Roots in pieces whose size depends on the number of workers, and roots cut into shares.
    @pytest.mark.parametrize(
        ("X", "least"),
        [
            (case(60, 330, 0.06), 2),
            (sparse.csr_array(case(60, 330, 0.02)), 2),
            (case(80, 40, 0.4), 8),
            (case(60, 18, 0.5), 3),
        ],
        ids=["many", "lists", "some", "few"],
    )
    @pytest.mark.parametrize("closed", [True, False])
    def test_the_answer_and_its_order_do_not_depend_on_them(self, X, least, closed):
        expected = frequent_itemsets(X, least, closed=closed)
        assert len(expected) > 100
        for n_jobs in (2, 3, 7):
            found = frequent_itemsets(X, least, closed=closed, n_jobs=n_jobs)
            pd.testing.assert_frame_equal(found, expected)
            assert count_itemsets(X, least, closed=closed, n_jobs=n_jobs) == len(expected)

    @pytest.mark.parametrize("n_workers", [1, 2, 5])
    @pytest.mark.parametrize("n_items", [1, 9, 40, 127, 128, 129, 1_000])
    def test_every_share_of_every_root_item_is_in_one_task(self, n_items, n_workers):
        tasks = passes._cut(n_items, n_workers)
        done = [
            (root, share)
            for task in tasks
            for root in range(task.first, task.last)
            for share in range(task.share, task.last_share)
        ]
        assert done == [(i, s) for i in range(n_items) for s in range(passes.N_SHARES)]


def raise_signal():
    signal.raise_signal(signal.SIGINT)


def raise_error():
    raise KeyboardInterrupt


class TestInterrupt:
    """Ctrl-C ends within a second; five seconds leave room for a machine that is busy."""

    def interrupt(self, how, stage, X, least, find, **options):
        find(X[:20, :6], 1)  # compiled
        called = []

        def progress(state):
            if state.stage == stage and state.seconds > 0.05 and not called:
                called.append(time.perf_counter())
                how()

        with pytest.raises(SearchInterrupted, match=r"nothing was kept.*larger min_support"):
            find(X, least, progress=progress, **options)
        assert time.perf_counter() - called[0] < 5.0
        deadline = time.monotonic() + 5.0
        while any("sigmine" in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.parametrize("how", [raise_signal, raise_error])
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_while_counting(self, how, n_jobs):
        self.interrupt(how, "count", case(1500, 60, 0.6), 2, count_itemsets, n_jobs=n_jobs)

    def test_in_lists(self):
        X = sparse.csc_array(np.tile(np.eye(100, dtype=bool), (1, 60)))  # 2 ** 60 in a row
        find = count_itemsets
        self.interrupt(raise_error, "count", X, 1, find, closed=False)

    @pytest.mark.skipif(not JIT_ENABLED, reason="a million itemsets")
    def test_while_the_table_is_made(self):
        X = np.ones((3, 20), bool)
        self.interrupt(raise_signal, "table", X, 1, frequent_itemsets, closed=False)

    def test_an_error_of_the_callback_is_raised(self):
        def progress(state):
            raise RuntimeError("no terminal")

        with pytest.raises(RuntimeError, match="no terminal"):
            frequent_itemsets(case(1500, 60, 0.6), 2, progress=progress)


class TestProgress:
    def test_stages_and_shares(self):
        seen = []
        found = frequent_itemsets(case(200, 16, 0.5), 4, progress=seen.append)
        stages = ["prepare", "count", "write", "table"]
        order = [stages.index(state.stage) for state in seen]
        assert order == sorted(order)
        assert all(isinstance(state, MiningProgress) for state in seen)
        assert seen[-1] == MiningProgress("table", len(found), 1.0, seen[-1].seconds)
        assert all(0 <= state.fraction_done <= 1 for state in seen)
        seconds = [state.seconds for state in seen]
        assert seconds == sorted(seconds)

    def test_itemsets_of_a_task_that_never_ends_are_counted(self):
        seen = []

        def progress(state):
            seen.append(state.n_itemsets)
            if sum(n > 0 for n in seen) > 3:
                raise KeyboardInterrupt

        with pytest.raises(SearchInterrupted):
            count_itemsets(np.ones((2, 60), bool), 1, closed=False, progress=progress)
        assert seen[-1] > seen[-3] > 0


class TestMemory:
    @pytest.fixture(autouse=True)
    def _little_memory(self, monkeypatch):
        monkeypatch.setattr(memory, "available_memory", lambda: GIB)
        monkeypatch.delenv("SIGMINE_MEMORY_CHECK", raising=False)

    @pytest.mark.skipif(not JIT_ENABLED, reason="30 million itemsets, until memory is short")
    def test_refused_while_counting(self):
        # 2 ** 60 itemsets: nobody would live to see the count.
        X = np.ones((2, 60), bool)
        with pytest.raises(InsufficientMemoryError, match=r"at least [\d,]+ frequent") as raised:
            frequent_itemsets(X, 1, closed=False)
        assert "Use closed=True, a larger min_support" in str(raised.value)
        assert raised.value.available == GIB
        assert raised.value.needed > GIB

    def test_refused_before_the_table_is_made(self, monkeypatch):
        monkeypatch.setattr(memory, "_SMALL", 0)
        monkeypatch.setattr(memory, "available_memory", lambda: 20_000)
        X = case(100, 12, 0.5)
        with pytest.raises(InsufficientMemoryError, match="count_itemsets only counts"):
            frequent_itemsets(X, 2)
        monkeypatch.setenv("SIGMINE_MEMORY_CHECK", "0")
        assert len(frequent_itemsets(X, 2)) == count_closed(X, 2)

    def test_unknown_memory_refuses_nothing(self, monkeypatch):
        monkeypatch.setattr(memory, "_SMALL", 0)
        monkeypatch.setattr(memory, "available_memory", lambda: None)
        assert len(frequent_itemsets(case(100, 12, 0.5), 2)) > 1_000

    @pytest.mark.skipif(not JIT_ENABLED, reason="ten thousand itemsets, traced")
    def test_the_estimate_is_about_right(self, monkeypatch):
        X = case(100, 20, 0.5)
        frequent_itemsets(X[:20, :6], 1)
        tracemalloc.start()
        try:
            found = frequent_itemsets(X, 2)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        items = int(found["itemsets"].map(len).sum())
        monkeypatch.setattr(memory, "_SMALL", 0)
        monkeypatch.setattr(memory, "available_memory", lambda: 0)
        with pytest.raises(InsufficientMemoryError) as raised:
            table.require_room(len(found), items // len(found), True)
        assert 0.5 < raised.value.needed / peak < 2


# Closed itemsets with at least so many rows, the empty one left out; several C programs agree.
KNOWN = {
    "mushroom": {812: 4_897, 81: 51_672, 8: 164_117},
    "chess": {2400: 11_336, 1600: 366_529, 1200: 1_892_002},
    "connect10k": {9000: 5_257, 4000: 231_614, 1000: 2_892_812},
    "retail": {88: 7_695, 20: 56_411, 5: 504_142},
    "T10I4D100K": {500: 1_073, 50: 46_993, 10: 283_397},
    "a9a": {3000: 2_081, 650: 26_132, 100: 303_022},
}
KNOWN_ALL = {
    "mushroom": {812: 574_513, 2031: 5_545},
    "chess": {2400: 20_582},
    "connect10k": {9500: 168_639},
    "retail": {88: 7_712},
    "T10I4D100K": {500: 1_073},
    "a9a": {3000: 2_730},
}


@pytest.mark.reference
@pytest.mark.skipif(not JIT_ENABLED, reason="millions of itemsets")
@pytest.mark.parametrize("name", KNOWN)
def test_known_counts(name, reference_data):
    path = reference_data / "data" / "peers" / "fimi" / f"{name}.dat"
    if not path.is_file():
        pytest.skip(f"no {path}")
    X, _ = read_fimi(path)
    for support, count in KNOWN[name].items():
        assert count_closed(X, support) == count
        assert count_closed(X, support, n_jobs=2) == count
    for support, count in KNOWN_ALL[name].items():
        assert count_itemsets(X, support, closed=False) == count
    support = max(KNOWN[name])
    listed = frequent_itemsets(X, support)
    assert len(listed) == KNOWN[name][support]
    assert listed["support"].min() * X.shape[0] >= support
