"""The one place that names numba: decorators, and the switch of its on-disk cache.

Kernels are compiled on first call, never at import. They release the GIL (the search runs in
threads), divide like numpy, and use no fast-math: ties, infinities and bit-for-bit equal results
on every platform matter here. ``NUMBA_DISABLE_JIT=1`` runs the same lines as plain Python.

A kernel that Python calls (`njit`, `njit_entry`) is cached on disk, with all that it calls in it.
A large one that kernels call (`njit_linked`, `njit_linked_leaf`) is compiled and cached apart, and
called by its address. The others (`njit_inner`, `njit_leaf`, `njit_inline`, `njit_part`) are
compiled as parts of these only: no way in from Python, nothing on disk. That takes a quarter off
the first compilation, and most of the second start, which then loads a few kernels and not forty.
``SIGMINE_CALLABLE_KERNELS=1`` gives all of them a way in; the test suite sets it.

numba's cache is keyed by the text of the file that defines a kernel and does not notice an edit
of another file that it calls. Installed files do not change, so the cache is on by default
(``SIGMINE_NUMBA_CACHE=0`` switches it off); the test suite points ``NUMBA_CACHE_DIR`` at a folder
named by a hash of all the sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numba
from llvmlite import binding
from numba import extending, types
from numba.core import cgutils, event
from numba.core.typing import templates

from ._collector import PAUSE

__all__ = [
    "CACHE",
    "HAS_PEXT",
    "JIT_ENABLED",
    "Int",
    "address_of",
    "call_linked",
    "compile_for",
    "declare_linked",
    "njit",
    "njit_entry",
    "njit_inline",
    "njit_inner",
    "njit_leaf",
    "njit_linked",
    "njit_linked_leaf",
    "njit_part",
    "types_of",
    "watch_compiler",
]

F = TypeVar("F", bound=Callable[..., Any])
# A whole number in a kernel: an int64 for numba, whatever numpy makes of it in plain Python.
Int = Any

CACHE = os.environ.get("SIGMINE_NUMBA_CACHE", "1").strip().lower() not in {"0", "false", "no"}
_numba: Any = numba  # its type hints know neither _nrt nor config
_events: Any = event
_types: Any = types
_cgutils: Any = cgutils
_extending: Any = extending
_templates: Any = templates
JIT_ENABLED = not _numba.config.DISABLE_JIT
# Whether kernels may use the x86 instruction that gathers bits (BMI2): only if they are compiled
# for this very processor. The results are the same without.
HAS_PEXT = (
    _numba.config.CPU_NAME in (None, "", "host")
    and bool(binding.get_host_cpu_features().get("bmi2", False))
    and "SIGMINE_NO_PEXT" not in os.environ
)
_linked_types: dict[Callable[..., Any], tuple[Any, ...]] = {}
_SETTINGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "cache": CACHE,
    "no_cfunc_wrapper": True,
}
_LINKED: dict[str, Any] = {**_SETTINGS, "no_cpython_wrapper": True}
_INNER: dict[str, Any] = {**_SETTINGS, "cache": False, "no_cpython_wrapper": True}
if "SIGMINE_CALLABLE_KERNELS" in os.environ:
    _INNER = _LINKED = _SETTINGS


class _PauseListener(event.Listener):
    """Pauses Python's garbage collector while a kernel of ours is compiled.

    numba makes millions of objects that live until it is done; looking through them again and again
    takes a sixth of the time.
    """

    @staticmethod
    def _is_ours(data: Any) -> bool:
        function = getattr((data or {}).get("dispatcher"), "py_func", None)
        return getattr(function, "__module__", "").partition(".")[0] in {"sigmine", "sigmine_nn"}

    def on_start(self, event: Any) -> None:
        """Stop it when a compilation begins."""
        if self._is_ours(event.data):
            PAUSE.begin()

    def on_end(self, event: Any) -> None:
        """Let it go on when the compilation has ended."""
        if self._is_ours(event.data):
            PAUSE.end()


_events.register("numba:compile", _PauseListener())


def njit(function: F) -> F:
    """Compile a kernel that Python calls, and that may make arrays."""
    # _nrt is said in so many words because a kernel would inherit it from a caller without it.
    compiled: F = _numba.njit(**_SETTINGS, _nrt=True)(function)
    return compiled


def njit_entry(function: F) -> F:
    """Compile a kernel that Python calls, and that allocates nothing: see `njit_leaf`."""
    compiled: F = _numba.njit(**_SETTINGS, _nrt=False)(function)
    return compiled


def njit_inner(function: F) -> F:
    """Compile a kernel that only kernels call, and that may make arrays."""
    compiled: F = _numba.njit(**_INNER, _nrt=True)(function)
    return compiled


def njit_leaf(function: F) -> F:
    """Compile a kernel that only kernels call, without reference counts.

    numba counts a reference to every array argument of every call, atomically; in a search that
    makes a few small calls a node this was half of the run time. A function that neither makes
    arrays nor slices needs no counts, and numba refuses to compile one that does.
    """
    compiled: F = _numba.njit(**_INNER, _nrt=False)(function)
    return compiled


def njit_inline(function: F) -> F:
    """Compile a kernel like `njit_leaf` and put it into its callers.

    For the few that are called at every node: an array argument is passed as seven words, so a
    call with a dozen arrays costs more than what most of these do. Everything inlined is compiled
    again in every caller; compile time is what this costs.
    """
    compiled: F = _numba.njit(**_INNER, _nrt=False, forceinline=True)(function)
    return compiled


def njit_part(function: F) -> F:
    """Mark a part of one kernel: numba copies it into its caller before anything is compiled.

    `njit_inline` compiles a function by itself and once more in every caller; a long function that
    is called in one place only is compiled once like this.
    """
    compiled: F = _numba.njit(**_INNER, _nrt=False, inline="always")(function)
    return compiled


def njit_linked(function: F) -> F:
    """Compile a kernel that kernels call by its address: see `call_linked`.

    It has a file in the cache, and may make arrays. It returns a whole number.
    """
    compiled: F = _numba.njit(**_LINKED, _nrt=True)(function)
    return compiled


def njit_linked_leaf(function: F) -> F:
    """Compile a kernel like `njit_linked`, without reference counts: see `njit_leaf`."""
    compiled: F = _numba.njit(**_LINKED, _nrt=False)(function)
    return compiled


def types_of(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return numba's types of what a kernel is called with."""
    return tuple(_numba.typeof(argument) for argument in arguments)


def declare_linked(kernel: Callable[..., Any], types: tuple[Any, ...]) -> None:
    """Say with which types a linked kernel is compiled, before its callers are compiled.

    Nobody else compares them: a call goes to an address.
    """
    dispatcher: Any = kernel
    _linked_types[dispatcher.py_func] = types


def compile_for(kernel: Callable[..., Any], types: tuple[Any, ...]) -> Any:
    """Return a kernel compiled for some types; from the cache, if it is there."""
    dispatcher: Any = kernel
    dispatcher.compile(types)
    return dispatcher.overloads[types]


def address_of(kernel: Callable[..., Any], types: tuple[Any, ...]) -> int:
    """Return the address of a linked kernel, compiled for some types."""
    compiled = compile_for(kernel, types)
    if compiled.signature.return_type != _types.int64:
        raise TypeError(
            f"{kernel.__name__} returns {compiled.signature.return_type}; a linked kernel has to "
            "return int64, for nobody else looks: convert what it returns."
        )
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@contextmanager
def watch_compiler(kernel: Callable[..., Any], begins: Callable[[], None]) -> Iterator[None]:
    """Call a function when numba begins to compile a kernel, because it is not in the cache."""

    class Watch(event.Listener):
        def on_start(self, event: Any) -> None:
            if event.data.get("dispatcher") is kernel:
                begins()

        def on_end(self, event: Any) -> None:
            pass

    with _events.install_listener("numba:compile", Watch()):
        yield


def call_linked(address: int, kernel: Callable[..., Int], *arguments: Any) -> Int:
    """Call a kernel that was compiled apart (plain-Python twin of the compiled version)."""
    return kernel(*arguments)


@_templates.infer_global(call_linked)
class _TypeOfCall(_templates.AbstractTemplate):  # type: ignore[misc]
    """The type of a call: a whole number, and the kernel's own types for what is handed over."""

    key = call_linked

    def generic(self, arguments: Any, keywords: Any) -> Any:
        """Return the signature; None, so that numba refuses to compile, if types are different."""
        given = tuple(_types.unliteral(argument) for argument in arguments)
        if keywords or _linked_types.get(given[1].dispatcher.py_func, given[2:]) != given[2:]:
            return None
        return _types.int64(*given)


def _lower_call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Call numba's own way: array by array in machine words, and an error is handed on."""
    convention = context.call_conv
    kinds = signature.args[2:]
    kind = convention.get_function_type(_types.int64, kinds).as_pointer()
    function = builder.inttoptr(arguments[0], kind)
    status, result = convention.call_function(builder, function, _types.int64, kinds, arguments[2:])
    with _cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return result


_register: Any = _extending.lower_builtin(
    call_linked, _types.int64, _types.Dispatcher, _types.VarArg(_types.Any)
)
_register(_lower_call)
