"""Two kernels compiled at once: one here, others in a process that lives for that alone.

numba compiles one kernel at a time in a process, and the first search after installation waits for
two large ones. If numba finds the one that is asked for here missing in its cache, and there is a
second processor, a child process compiles the others meanwhile and leaves them in the cache, from
where they are loaded. Nothing depends on it: what the child has not done is compiled here.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from ._jit import CACHE, compile_for, declare_linked, watch_compiler

__all__ = ["Kernel", "compile_together", "serve"]

# The child reads all it has to know from its input, and ends when its parent does.
_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from sigmine._compilation import serve; serve(sys.stdin.buffer)"
)


class Kernel(NamedTuple):
    """A kernel and the types that it is compiled for.

    Attributes
    ----------
    function : callable
        What a decorator of `_jit` has made.
    types : tuple
        From `types_of`.
    """

    function: Callable[..., Any]
    types: tuple[Any, ...]


def compile_together(here: Kernel, others: Sequence[Kernel]) -> None:
    """Compile kernels, or load them from the cache.

    Parameters
    ----------
    here : Kernel
        The largest.
    others : sequence of Kernel
        What a child process may compile, in the order in which they are needed. Afterwards they
        are in the cache; or they are not, and will be compiled when they are needed.
    """
    child = _Child(others)
    try:
        with watch_compiler(here.function, child.start):
            compile_for(here.function, here.types)
        child.wait()
    finally:
        child.end()


def serve(orders: IO[bytes]) -> None:
    """Compile what a parent asks for, into the cache; end at once when the parent ends.

    Parameters
    ----------
    orders : binary file
        A pickled list of module, name and types of kernels; afterwards open as long as somebody
        waits.
    """
    kernels = [
        Kernel(getattr(import_module(module), name), types)
        for module, name, types in pickle.load(orders)
    ]

    def leave() -> None:
        # Not `orders.read`: Python cannot end while somebody waits inside of a buffered file.
        os.read(orders.fileno(), 1)
        os._exit(1)

    threading.Thread(target=leave, name="sigmine-parent", daemon=True).start()
    for kernel in kernels:
        declare_linked(*kernel)
    for kernel in kernels:
        compile_for(*kernel)


class _Child:
    """The process that compiles some kernels; there may be none."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._orders = [
            (kernel.function.__module__, kernel.function.__name__, kernel.types)
            for kernel in kernels
        ]
        self._process: Any = None
        self._started = 0.0

    def start(self) -> None:
        """Start it, unless it would be of no use here."""
        if self._process is not None or not _may_have_children():
            return
        import subprocess

        self._started = time.monotonic()
        with suppress(OSError, ValueError):
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            # After Ctrl-C the thread that waits for it may be left behind.
            atexit.register(self.end)
            path = [entry for entry in sys.path if isinstance(entry, str)]
            self._process.stdin.write(pickle.dumps(path) + pickle.dumps(self._orders))
            self._process.stdin.flush()

    def wait(self) -> None:
        """Wait until it is done, but no longer than was compiled here."""
        import subprocess

        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(time.monotonic() - self._started)

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        if self._process is not None:
            atexit.unregister(self.end)
            self._process.kill()
            self._process.wait()
            with suppress(OSError):  # what it has never read
                self._process.stdin.close()


def _may_have_children() -> bool:
    """Say whether another Python can be started beside this one, and would be of use.

    Not where the program is no Python (frozen, or Python inside of something else), nor in one of
    many workers, which all would do so, nor on a single processor.
    """
    import multiprocessing

    import joblib

    is_python = "python" in Path(sys.executable or "").name.lower()
    return (
        CACHE
        and is_python
        and not getattr(sys, "frozen", False)
        and multiprocessing.current_process().name == "MainProcess"
        and joblib.cpu_count() > 1
    )
