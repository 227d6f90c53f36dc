"""Kernels that are compiled apart: a child process helps, and nothing depends on it."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from sigmine import _compilation
from sigmine._jit import JIT_ENABLED, address_of, call_linked, declare_linked, types_of
from sigmine.search import linking

pytestmark = pytest.mark.skipif(not JIT_ENABLED, reason="nothing is compiled")

# Two kernels that call each other by address, in a module of their own: compiled in a second.
KERNELS = """
import numpy as np
from sigmine._compilation import Kernel, compile_together
from sigmine._jit import address_of, call_linked, declare_linked, njit_entry, njit_linked_leaf
from sigmine._jit import types_of

@njit_linked_leaf
def small(values, factor):
    total = np.int64(0)
    for i in range(values.shape[0]):
        total += values[i] * factor
    return total

@njit_entry
def large(address, values):
    return call_linked(address, small, values, np.int64(3)) + 1

def compiled():
    values = np.arange(5)
    kernel = Kernel(small, types_of((values, 0)))
    declare_linked(*kernel)
    compile_together(Kernel(large, types_of((0, values))), [kernel])
    return large(address_of(*kernel), values)
"""
RUN = "import sys, {before}kernels as k; assert k.compiled() == 31; print(k.small.stats.cache_hits)"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the kernels in a new process; 'hits' says who compiled them."""
    (tmp_path / "kernels.py").write_text(KERNELS)
    repository = Path(_compilation.__file__).parents[1]
    path = os.pathsep.join([str(tmp_path), str(repository)])

    def start(before: str = "", **environment: str) -> str:
        settings = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", dedent(before) + "\n" + RUN.format(before="")],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return "child" if "Signature" in done.stdout or "): 1" in done.stdout else "here"

    return start


SEVERAL = "import joblib; joblib.cpu_count = lambda: 2"


class TestTheChild:
    def test_it_compiles_into_the_cache(self, run):
        # The parent waits as long as it has compiled itself, so that a busy child may be too late.
        wait = "from sigmine import _compilation as c; c._Child.wait = lambda s: s._process.wait()"
        assert run(f"{SEVERAL}\n{wait}") == "child"

    @pytest.mark.parametrize(
        "before",
        [
            "import joblib; joblib.cpu_count = lambda: 1",
            f"{SEVERAL}\nimport sys; sys.executable = None",
            f"{SEVERAL}\nimport sys; sys.executable = '/somewhere/application'",
            f"{SEVERAL}\nimport sys; sys.executable = '/missing/python'",
            f"{SEVERAL}\nimport sys; sys.frozen = True",
            f"{SEVERAL}\nimport multiprocessing as m; m.current_process().name = 'LokyProcess-1'",
            f"{SEVERAL}\nimport sigmine._compilation as c; c._CHILD = 'raise SystemExit(3)'",
            f"{SEVERAL}\nimport sigmine._compilation as c; c._CHILD = 'while True: pass'",
        ],
        ids=["one core", "none", "application", "missing", "frozen", "worker", "fails", "hangs"],
    )
    def test_without_it_everything_is_compiled_here(self, run, before):
        assert run(before) == "here"

    def test_without_a_cache_there_is_none(self, run):
        assert run(SEVERAL, SIGMINE_NUMBA_CACHE="0") == "here"

    def test_there_is_none_when_the_cache_is_filled(self, run):
        run("import joblib; joblib.cpu_count = lambda: 1")
        never = "import sigmine._compilation as c; c._CHILD = None"
        assert run(f"{SEVERAL}\n{never}") == "child"  # as far as the cache tells

    def test_it_ends_with_its_parent(self):
        """An order that never ends, and a parent that does."""
        code = (
            "import sys, time; from sigmine import _compilation as c;"
            "c.compile_for = lambda *a: time.sleep(60); c.serve(sys.stdin.buffer)"
        )
        order = [("sigmine.search.pair_kernel", "search_pair", ())]
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            child.stdin.write(pickle.dumps(order))
            child.stdin.close()
            assert child.wait(30) == 1

    def test_nothing_is_left_of_it(self):
        child = _compilation._Child([])
        child._process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE
        )
        child.end()
        assert child._process.returncode == (-signal.SIGKILL if os.name == "posix" else 1)
        assert child._process.stdin.closed


class TestLinkedKernels:
    def test_other_types_than_declared_are_refused(self):
        from numba.core.errors import TypingError

        from sigmine._jit import njit_entry, njit_linked_leaf

        @njit_linked_leaf
        def linked(x):
            return x[0]

        @njit_entry
        def caller(address, x):
            return call_linked(address, linked, x)

        declared = types_of((np.zeros(1, dtype=np.int64),))
        declare_linked(linked, declared)
        assert caller(address_of(linked, declared), np.array([7])) == 7
        with pytest.raises(TypingError):
            caller(address_of(linked, declared), np.array([7.0]))

    def test_a_linked_kernel_returns_a_whole_number(self):
        from sigmine._jit import njit_linked_leaf

        @njit_linked_leaf
        def linked(x):
            return x / 2.0

        with pytest.raises(TypeError, match="float64; a linked kernel has to return int64"):
            address_of(linked, types_of((1.0,)))

    def test_plain_python_calls_the_kernel_itself(self):
        assert call_linked(0, lambda a, b: a - b, 5, 3) == 2

    def test_arguments_are_found_by_name(self):
        """Every array of a linked kernel is one that the large kernel has."""
        import inspect

        large = inspect.signature(linking.search_subtrees).parameters
        for kernel in linking._PLACES.values():
            for name, parameter in inspect.signature(kernel).parameters.items():
                is_array = "NDArray" in str(parameter.annotation)
                assert is_array == (name in large), name
