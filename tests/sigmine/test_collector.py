"""The pause of the garbage collector: as long as anybody needs it, and no longer."""

import gc

import pytest

from sigmine import _jit
from sigmine._collector import PAUSE, CollectorPause


@pytest.fixture(autouse=True)
def _collector_as_before():
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was_enabled else gc.disable)()


def test_ends_with_the_last_of_several():
    pause = CollectorPause()
    with pause:
        pause.begin()  # by another thread
        assert not gc.isenabled()
    assert not gc.isenabled()
    pause.end()
    assert gc.isenabled()


def test_ends_after_an_error():
    with pytest.raises(ValueError, match="in between"), CollectorPause():
        raise ValueError("in between")
    assert gc.isenabled()


def test_leaves_a_collector_that_was_off_as_it_is():
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


@pytest.mark.skipif(not _jit.JIT_ENABLED, reason="nothing is compiled")
def test_compiling_a_kernel_of_ours_is_in_the_pause(monkeypatch):
    seen, begin = [], CollectorPause.begin

    def spy(pause):
        begin(pause)
        seen.append((pause, gc.isenabled()))

    def add(a, b):
        return a + b

    monkeypatch.setattr(CollectorPause, "begin", spy)
    _jit._numba.njit(add)(1, 2)
    assert seen == []  # not ours
    add.__module__ = "sigmine.made_up"
    assert _jit._numba.njit(add)(1, 2) == 3
    assert set(seen) == {(PAUSE, False)}  # once for every time that the module was run
    assert gc.isenabled()
