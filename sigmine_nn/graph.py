"""Coupled channels of convolutional networks and vision transformers, by torch-pruning's graph.

torch-pruning traces which layers have to shrink together; ranking and removal are ours. What it is
known to get wrong is guarded here. It may not end: there is a time limit. It may miss what reads a
unit, or map the units of one layer to the wrong ones of another: every group is tested on the
network itself (`sigmine_nn.gating.read_elsewhere`) and left out if it fails. It does not know that
normalisation in groups needs the same number of channels in each of them: `UnitGroup.blocks`, or a
group that can only be masked.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.gating`, `sigmine_nn.state`.
"""

from __future__ import annotations

import ctypes
import gc
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from sigmine.exceptions import InputTypeError

from .exceptions import TracingError
from .gating import MIXING_NORMS, read_elsewhere, run, tensors_of
from .state import unchanged
from .units import Gate, Indices, Kind, Role, SizeAttribute, Slice, UnitGroup

__all__ = ["GroupProvider", "TorchPruningProvider", "within"]

Result = TypeVar("Result")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Each channel by itself.
_CHANNEL_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_ROOTS = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)


class GroupProvider(Protocol):
    """Whoever knows which parameters of a network belong to the same unit."""

    def groups(self, model: nn.Module, example_inputs: Any) -> list[UnitGroup]:
        """Return the groups of coupled channels, in the order of the layers.

        Parameters
        ----------
        model : Module
            The network; left as it was.
        example_inputs : object
            What the network takes: a tensor, a tuple of them, or a mapping.

        Returns
        -------
        list of UnitGroup

        Raises
        ------
        TracingError
            If the network cannot be traced.
        """


class TorchPruningProvider:
    """Groups of coupled channels from the dependency graph of torch-pruning.

    Parameters
    ----------
    time_limit : float, default=60.0
        Seconds after which tracing is given up: on some networks it does not end.

    Attributes
    ----------
    left_out : dict of str to str
        Of the network that was asked about last: layers whose channels are no units, and why.
    """

    def __init__(self, time_limit: float = 60.0) -> None:
        self.time_limit = time_limit
        self.left_out: dict[str, str] = {}

    def groups(self, model: nn.Module, example_inputs: Any) -> list[UnitGroup]:
        """Return the groups of coupled channels, in the order of the layers.

        Parameters
        ----------
        model : Module
            The network; left as it was.
        example_inputs : object
            What the network takes: a tensor, a tuple of them, or a mapping.

        Returns
        -------
        list of UnitGroup

        Raises
        ------
        TracingError
            If the network cannot be traced, or not in time.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about guesses, which are tested below
                with unchanged(model), _no_hooks_left(model):
                    traced = within(self.time_limit, lambda: _trace(model, example_inputs))
        except (TracingError, InputTypeError):
            raise
        except Exception as error:
            raise TracingError(
                f"the dependencies of {type(model).__name__} could not be traced "
                f"({type(error).__name__}: {error}). Check that the network runs on "
                "example_inputs; name a kind of unit that needs no tracing ('row', 'element'), or "
                "give a provider of your own."
            ) from error
        self.left_out = {}
        groups = []
        for items in traced:
            group = _as_group(model, items)
            if isinstance(group, UnitGroup):
                groups.append(group)
            elif (name := _name_of_root(model, items)) is not None:
                self.left_out[name] = group
        wrong = read_elsewhere(model, groups, example_inputs)
        self.left_out.update(wrong)
        places = {name: place for place, (name, _) in enumerate(model.named_modules())}
        kept = [group for group in groups if group.name not in wrong]
        return sorted(kept, key=lambda group: places[group.name])


def _trace(model: nn.Module, example_inputs: Any) -> list[list[Any]]:
    """Return the items of every group that torch-pruning finds."""
    try:
        import torch_pruning
    except ImportError as error:  # pragma: no cover
        raise TracingError(
            "channels of this network are found by torch-pruning, which is not installed: "
            "pip install 'sigmine[nn]'."
        ) from error

    def outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
        found = [tensor for tensor in tensors_of(run(model, inputs)) if tensor.requires_grad]
        if not found:
            raise TracingError(
                f"no output of {type(model).__name__} depends on its parameters in a way that can "
                "be differentiated; nothing can be traced. Look for detach or no_grad in forward."
            )
        return found

    with torch.enable_grad():
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        graph = torch_pruning.DependencyGraph().build_dependency(
            model, example_inputs, forward_fn=outputs, verbose=False
        )
        found = graph.get_all_groups(ignored_layers=[], root_module_types=list(_ROOTS))
        return [list(group.items) for group in found]


@contextmanager
def _no_hooks_left(model: nn.Module) -> Iterator[None]:
    """Take off the hooks that a trace which failed has left behind."""
    before = {id(module): set(module._forward_hooks) for module in model.modules()}
    try:
        yield
    finally:
        for module in model.modules():
            for key in set(module._forward_hooks) - before[id(module)]:
                del module._forward_hooks[key]


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return what a function returns, unless it takes too long.

    Parameters
    ----------
    seconds : float
        The limit.
    function : callable
        Python code; it gets an exception at the limit, which ends it at its next line.

    Returns
    -------
    object

    Raises
    ------
    TracingError
        At the limit.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise InputTypeError(f"time_limit={seconds!r} must be a positive number of seconds.")
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed over to the caller
            errors.append(error)

    thread = threading.Thread(target=run, name="sigmine-trace", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _end(thread)
        raise TracingError(
            f"the dependencies of the network were not found within {seconds:g} seconds; some "
            "networks cannot be traced. Give a larger time_limit, name a kind of unit that needs "
            "no tracing ('row', 'element', 'head', 'mlp_channel', 'state'), or give a provider of "
            "your own."
        )
    if errors:
        raise errors[0]
    return results[0]


def _end(thread: threading.Thread) -> None:
    """Raise an exception in a thread until it ends."""
    # In a callback of the garbage collector, which others may have set, it would be lost.
    collects = gc.isenabled()
    gc.disable()
    try:
        thread.join(0.01)  # a collection that runs ends first
        identity = ctypes.c_ulong(thread.ident or 0)
        for _ in range(50):  # again and again: code may catch everything
            if not thread.is_alive():
                return
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(TimeoutError))
            thread.join(0.1)
    finally:
        if collects:
            gc.enable()


def _name_of_root(model: nn.Module, items: Sequence[Any]) -> str | None:
    root = items[0].dep.target.module
    return next((name for name, module in model.named_modules() if module is root), None)


def _as_group(model: nn.Module, items: Sequence[Any]) -> UnitGroup | str:
    """Translate a group of torch-pruning; a sentence if its channels cannot be units."""
    made = _Making(model, len(items[0].idxs))
    for item in items:
        reason = made.add(item)
        if reason:
            return reason
    if not made.producers or not made.gates:
        return "nothing in the network reads its outputs: they leave it"
    return made.group()


class _Making:
    """A group of units in the making, item by item."""

    def __init__(self, model: nn.Module, n_units: int) -> None:
        self.n_units = n_units
        self.names = {module: name for name, module in model.named_modules()}
        self.parameter_names = {id(tensor): name for name, tensor in model.named_parameters()}
        self.slices: dict[tuple[str, int | None, Role], Slice] = {}
        self.gates: dict[str, Gate] = {}
        self.norms: dict[str, Gate] = {}
        self.sizes: list[SizeAttribute] = []
        self.producers: list[str] = []
        self.blocks = 1
        self.reason = ""

    def add(self, item: Any) -> str:
        """Take an item up; return why the group cannot be used, or nothing."""
        module = item.dep.target.module
        reads = item.dep.handler.__name__ == "prune_in_channels"
        index = _index(item.idxs, item.root_idxs, self.n_units)
        if isinstance(module, nn.Parameter):
            if index is None:
                return "its units have different numbers of entries in a parameter"
            name = self.parameter_names[id(module)]
            axis = item.dep.target.pruning_dim % module.ndim
            if index.max() >= module.shape[axis]:  # a guess about a layer that is not known
                return f"it is coupled with {name!r} of shape {tuple(module.shape)} in unknown ways"
            self.slices[name, axis, Role.OUT] = Slice(name, axis, Role.OUT, index)
            return ""
        if module not in self.names:  # an operation, not a layer
            return ""
        name = self.names[module]
        if index is None:
            return f"its units cannot be told apart in {name!r}"
        pieces = _slices(name, module, reads, index)
        if pieces is None:
            return f"it is coupled with {name!r}, and a {type(module).__name__} cannot be cut"
        for piece in pieces:
            self.slices[piece.parameter, piece.axis, piece.role] = piece
        if reads:
            self.gates[name] = Gate(
                name, "input", -1 if isinstance(module, nn.Linear) else 1, index
            )
        elif isinstance(module, _ROOTS):
            self.producers.append(name)
        self._take_norm(name, module, index)
        return ""

    def _take_norm(self, name: str, module: nn.Module, index: Indices) -> None:
        width = index.shape[1]
        if isinstance(module, MIXING_NORMS):
            axis = 1 if isinstance(module, nn.GroupNorm) else -1
            self.norms[name] = Gate(name, "output", axis, index)
        if isinstance(module, nn.LayerNorm) and getattr(module, "weight", None) is None:
            self.reason = f"the size of {name!r} is fixed: it has no weights to cut"
        if isinstance(module, nn.GroupNorm):
            if getattr(module, "weight", None) is None:
                self.sizes.append(SizeAttribute(name, "num_channels", width))
            if module.num_groups == module.num_channels > 1:  # a group each: groups go, too
                self.sizes.append(SizeAttribute(name, "num_groups", width))
                return
            blocks = _blocks(module, index)
            if blocks is None or self.n_units % math.lcm(self.blocks, blocks):
                self.reason = (
                    f"{name!r} normalises its channels in groups with those of other layers"
                )
            else:
                self.blocks = math.lcm(self.blocks, blocks)

    def group(self) -> UnitGroup:
        """Return the group."""
        order = {name: place for place, name in enumerate(self.names.values())}

        def ordered(there: dict[str, Gate]) -> tuple[Gate, ...]:
            return tuple(there[name] for name in sorted(there, key=order.__getitem__))

        return UnitGroup(
            min(self.producers, key=order.__getitem__),
            Kind.CHANNEL,
            self.n_units,
            tuple(self.slices.values()),
            ordered(self.gates),
            ordered(self.norms),
            tuple(self.sizes),
            removable=not self.reason,
            blocks=1 if self.reason else self.blocks,
            reason=self.reason,
        )


def _index(
    entries: Iterable[int], units: Iterable[int | None] | None, n_units: int
) -> Indices | None:
    """Return the entries of every unit; None if unknown, or if some have more than others."""
    at = np.asarray(list(entries), dtype=np.int64)
    owners = list(range(n_units) if units is None else units)
    if len(at) != len(owners) or len(at) % n_units or None in owners:
        return None
    owner = np.asarray(owners, dtype=np.int64)
    order = np.lexsort((at, owner))
    width = len(at) // n_units
    if not np.array_equal(owner[order], np.repeat(np.arange(n_units), width)):
        return None
    return at[order].reshape(n_units, width)


def _slices(name: str, module: nn.Module, reads: bool, index: Indices) -> list[Slice] | None:
    """Return the slices of a layer; None for a kind of layer that is not known."""
    role = Role.IN if reads else Role.OUT
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        if module.groups > 1 and module.groups == module.in_channels == module.out_channels:
            # A channel each: it neither makes nor reads units, it passes them on.
            return _along_first_axis(name, module, ("weight", "bias"), Role.NORM, index)
        if module.groups > 1:
            return None
        axis = int(reads) if isinstance(module, _CONVOLUTIONS) else 1 - int(reads)
    elif isinstance(module, nn.Linear):
        axis = int(reads)
    elif isinstance(module, (*_CHANNEL_NORMS, nn.GroupNorm, nn.LayerNorm, nn.PReLU)):
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) != 1:
            return None
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return []  # one slope for all channels
        tensors = ("weight", "bias", "running_mean", "running_var")
        return _along_first_axis(name, module, tensors, Role.NORM, index)
    elif isinstance(module, nn.Embedding) and not reads:
        axis = 1
    else:
        return None
    found = [Slice(f"{name}.weight", axis, role, index)]
    if not reads and getattr(module, "bias", None) is not None:
        found.append(Slice(f"{name}.bias", 0, role, index))
    return found


def _along_first_axis(
    name: str, module: nn.Module, tensors: tuple[str, ...], role: Role, index: Indices
) -> list[Slice]:
    return [
        Slice(f"{name}.{tensor}", 0, role, index)
        for tensor in tensors
        if getattr(module, tensor, None) is not None
    ]


def _blocks(module: nn.GroupNorm, index: Indices) -> int | None:
    """Return in how many blocks of neighbours the same number of units has to stay.

    None if no such rule keeps the groups equal: the units are not all the channels, or lie in
    another order, or one of them in two groups.
    """
    if module.num_groups == 1:
        return 1
    group_of = index // (module.num_channels // module.num_groups)  # (n_units, width)
    if index.size != module.num_channels or (group_of != group_of[:, :1]).any():
        return None
    of_unit = group_of[:, 0]
    expected = np.repeat(np.arange(module.num_groups), len(index) // module.num_groups)
    return module.num_groups if np.array_equal(of_unit, expected) else None
