"""The kernels that are compiled apart from the large one, which calls them by their address.

So two processes can compile a search the first time, nothing is optimised once more inside of its
caller, and what most searches never need (which itemset stands for its rows when the length is
limited) is compiled for those that do.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compilation import Kernel, compile_together
from .._jit import JIT_ENABLED, address_of, declare_linked, types_of
from ..association.hypergeometric import convolution
from .block_kernel import search_subtrees
from .description import is_first_description
from .layout import IS_FIRST_AT, MAX_LENGTH, SEARCH_PAIR_AT
from .pair_kernel import search_pair

__all__ = ["link"]

_PLACES: dict[int, Callable[..., int]] = {
    SEARCH_PAIR_AT: search_pair,
    IS_FIRST_AT: is_first_description,
}
_addresses: dict[tuple[Any, ...], dict[int, int]] = {}  # by the layout of the arguments
_lock = threading.Lock()


def link(arguments: tuple[Any, ...], state: NDArray[np.int64], *, exact: bool) -> None:
    """Write into the state where the linked kernels are; compile what is not compiled yet.

    Parameters
    ----------
    arguments : tuple of ndarray
        Of `search_subtrees`.
    state : ndarray of int64, shape (31,)
        Of the worker.
    exact : bool
        Whether p-values of the exact test will be needed.
    """
    if not JIT_ENABLED:
        return
    needed = [place for place in _PLACES if place != IS_FIRST_AT or state[MAX_LENGTH]]
    # In a tenth of the time that numba needs to tell the types: every worker of a search asks.
    layout = tuple((array.dtype.char, array.ndim, array.flags.carray) for array in arguments)
    with _lock:  # other workers wait until the first has compiled everything
        addresses = _addresses.setdefault(layout, {})
        missing = [place for place in needed if place not in addresses]
        if missing:
            addresses.update(_compile(missing, arguments, exact=exact))
    for place in needed:
        state[place] = addresses[place]


def _compile(places: list[int], arguments: tuple[Any, ...], *, exact: bool) -> dict[int, int]:
    """Compile the large kernel and some linked ones; return the addresses of these."""
    kernels = _linked_kernels(arguments)
    for kernel in kernels.values():
        declare_linked(*kernel)
    others = [kernels[place] for place in places]
    if exact:
        function, small = convolution()
        others.append(Kernel(function, types_of(small)))
    compile_together(Kernel(search_subtrees, types_of(arguments)), others)
    return {place: address_of(*kernels[place]) for place in places}


def _linked_kernels(arguments: tuple[Any, ...]) -> dict[int, Kernel]:
    """Return the linked kernels with their types, by the place of their address in the state."""
    named = dict(zip(inspect.signature(search_subtrees).parameters, arguments, strict=True))
    return {
        place: Kernel(
            kernel,
            types_of([named.get(name, 0) for name in inspect.signature(kernel).parameters]),
        )
        for place, kernel in _PLACES.items()
    }
