"""What a network costs, as a function of the units that stay: parameters, multiply-adds, latency.

Parameters and multiply-adds are counted from shapes alone: the network runs once, to see at how
many positions each weight is used, and the costs of any selection of units follow without building
the smaller network. Latency follows from nothing; it is measured.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sigmine._checks import whole_number
from sigmine.exceptions import InputError, InputTypeError

from .gating import run
from .objective import moved
from .state import unchanged
from .units import Role, Units

__all__ = ["Costs", "Latency", "measure_latency"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class _Use:
    """How often a weight, or a share of its rows, is multiplied in one pass.

    Attributes
    ----------
    parameter : str
    shape : tuple of int
    positions : int
        Multiplications with every entry.
    start, stop : int
        Of the rows that this is about (the three parts of a packed projection differ).
    """

    parameter: str
    shape: tuple[int, ...]
    positions: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Costs:
    """Parameters and multiply-adds of a network for any choice of units to keep.

    Made by `Costs.of`.

    Attributes
    ----------
    units : Units
        The units that may go.
    sizes : mapping of tuple of str to tuple of int
        Names of every parameter, several where it is tied, and its shape.
    uses : tuple or None
        Where weights are multiplied in one pass; None if there were no example inputs.

    Notes
    -----
    A multiply-add is counted once. Counted are linear layers, convolutions, transposed
    convolutions and the projections of ``torch.nn.MultiheadAttention``; biases, normalisations,
    activations and the products of queries, keys and values are not. A weight costs its positions
    (output positions of a convolution, input positions of a transposed one, rows of the input of a
    linear layer) times the entries that stay of it. The count is therefore exact where removal
    shortens the axes of weights; it is an upper bound where units also shorten the axis that
    positions are counted along.

    Units that are only masked (elements, rows) cost their entries that are not masked: what a
    program that skips zeros would store and multiply.
    """

    units: Units
    sizes: Mapping[tuple[str, ...], tuple[int, ...]]
    uses: tuple[_Use, ...] | None = None

    @classmethod
    def of(cls, model: nn.Module, units: Units, example_inputs: Any = None) -> Costs:
        """Count what a network costs.

        Parameters
        ----------
        model : Module
            The network; left as it was.
        units : Units
            Of this model.
        example_inputs : Tensor, tuple or mapping, optional
            What the network takes. The multiply-adds are those of one pass on it; without it only
            parameters are counted.

        Returns
        -------
        Costs

        Raises
        ------
        ModelError
            If the units are not of this model.
        """
        units.check(model)
        sizes = _sizes(model)
        uses = None if example_inputs is None else tuple(_record(model, example_inputs))
        return cls(units, sizes, uses)

    def parameters(self, keep: Any = None) -> int:
        """Return how many parameters stay.

        Parameters
        ----------
        keep : array_like of bool, shape (n_units,), optional
            The units that stay; all by default.

        Returns
        -------
        int
            Exactly those of the network that `remove_units` returns; for units that are only
            masked, the entries that are not masked.

        Raises
        ------
        InputError
            For a mask of another shape.
        """
        stays = _Stays(self.units, self._mask(keep))
        return sum(stays.of_parameter(names, shape) for names, shape in self.sizes.items())

    def flops(self, keep: Any = None) -> int:
        """Return how many multiply-adds stay.

        Parameters
        ----------
        keep : array_like of bool, shape (n_units,), optional
            The units that stay; all by default.

        Returns
        -------
        int
            Of one pass on the example inputs; see the Notes of the class for what is counted.

        Raises
        ------
        InputError
            For a mask of another shape, or if there were no example inputs.
        """
        if self.uses is None:
            raise InputError(
                "multiply-adds were not counted, since there were no example_inputs; give them to "
                "Costs.of."
            )
        stays = _Stays(self.units, self._mask(keep))
        return sum(
            use.positions * stays.entries(use.parameter, use.shape, use.start, use.stop)
            for use in self.uses
        )

    def _mask(self, keep: Any) -> NDArray[np.bool_]:
        if keep is None:
            return np.ones(self.units.n, dtype=bool)
        mask = np.asarray(keep)
        if mask.dtype != bool or mask.shape != (self.units.n,):
            raise InputError(
                f"keep has shape {mask.shape} and dtype {mask.dtype}; it must be a boolean for "
                f"each of {self.units.n} units."
            )
        return mask


class _Stays:
    """How many entries of parameters stay under one mask."""

    def __init__(self, units: Units, keep: NDArray[np.bool_]) -> None:
        # name -> (axis, or None for single entries; the entries along it that stay)
        self._kept: dict[str, dict[int | None, NDArray[np.bool_]]] = {}
        self._cut: set[str] = set()  # names of parameters that become smaller
        for group in units:
            where = units.range_of(group.name)
            mine = keep[where.start : where.stop]
            if mine.all():
                continue
            # What can only be masked loses what the masks zero: see `masks`.
            masked = group.with_role(Role.IN) or group.with_role(Role.OUT)
            if group.removable:
                self._cut.update(piece.parameter for piece in group.slices)
            for piece in group.slices if group.removable else masked:
                shape = units.shapes[piece.parameter]
                length = int(np.prod(shape)) if piece.axis is None else shape[piece.axis]
                axes = self._kept.setdefault(piece.parameter, {})
                values = piece.spread(mine, length, rest=True)
                before = axes.get(piece.axis)
                axes[piece.axis] = values if before is None else before & values

    def of_parameter(self, names: tuple[str, ...], shape: tuple[int, ...]) -> int:
        """Return how many entries of a parameter stay.

        Of a tied one each name that is cut gets a tensor of its own, and the others share the old
        one; what is only masked under one name is still needed whole under another.
        """
        changed = [name for name in names if name in self._kept]
        if len(changed) == len(names):
            return sum(self.entries(name, shape, 0, None) for name in changed)
        own = (self.entries(name, shape, 0, None) for name in changed if name in self._cut)
        return math.prod(shape) + sum(own)

    def entries(self, name: str, shape: tuple[int, ...], start: int, stop: int | None) -> int:
        """Return how many entries of some rows stay."""
        axes = self._kept.get(name, {})
        if None in axes:
            return int(np.count_nonzero(self._dense(shape, axes)[start:stop]))
        total = 1
        for axis, length in enumerate(shape):
            rows = slice(start, stop) if axis == 0 else slice(None)
            kept = axes.get(axis)
            total *= len(range(*rows.indices(length))) if kept is None else int(kept[rows].sum())
        return total

    @staticmethod
    def _dense(
        shape: tuple[int, ...], axes: dict[int | None, NDArray[np.bool_]]
    ) -> NDArray[np.bool_]:
        """Return an entry for each of the parameter: single entries may be gone, and whole axes."""
        dense = axes[None].reshape(shape)
        for axis, kept in axes.items():
            if axis is not None:
                dense = dense & kept.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return dense


def _plain(name: str) -> str:
    """Return the name that a parameter has without masks."""
    head, mark, tail = name.rpartition("parametrizations.")
    return head + tail.removesuffix(".original") if mark else name


def _sizes(model: nn.Module) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the names and the shape of every parameter."""
    names: dict[nn.Parameter, list[str]] = {}  # parameters are equal only to themselves
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(_plain(name))
    return {tuple(found): tuple(parameter.shape) for parameter, found in names.items()}


# -- Where weights are used --------------------------------------------------------------------


@contextmanager
def _hooked(model: nn.Module, hook_of: Callable[[str, nn.Module], Any]) -> Iterator[None]:
    handles = []
    try:
        for name, module in model.named_modules():
            hook = hook_of(name, module)
            if hook is not None:
                handles.append(module.register_forward_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _record(model: nn.Module, example_inputs: Any) -> list[_Use]:
    """Run the network once and note where weights are multiplied."""
    uses: list[_Use] = []

    def hook_of(name: str, module: nn.Module) -> Any:
        prefix = f"{name}." if name else ""

        def note(_: nn.Module, inputs: Any, options: Any, output: Any) -> None:
            uses.extend(_uses(prefix, module, inputs, options, output))

        known = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED, nn.MultiheadAttention)
        return note if isinstance(module, known) else None

    with unchanged(model), torch.no_grad(), _hooked(model, hook_of):
        model.eval()
        run(model, example_inputs)
    return uses


def _uses(
    prefix: str, module: nn.Module, inputs: Any, options: Mapping[str, Any], output: Any
) -> Iterator[_Use]:
    """Go through the weights of one layer that one call multiplies."""
    if isinstance(module, nn.MultiheadAttention):
        yield from _attention_uses(prefix, module, inputs, options)
        return
    if isinstance(module, nn.Linear):
        positions = output.numel() // output.shape[-1]
    elif isinstance(module, _CONVOLUTIONS):
        positions = output.numel() // module.out_channels
    else:
        assert isinstance(module, _TRANSPOSED)
        entered = inputs[0] if inputs else next(iter(options.values()))
        positions = entered.numel() // module.in_channels
    yield _use(f"{prefix}weight", module.weight, positions)


def _use(name: str, weight: Any, positions: int) -> _Use:
    return _Use(name, tuple(weight.shape), positions, 0, len(weight))


def _attention_uses(
    prefix: str, module: nn.MultiheadAttention, inputs: Any, options: Mapping[str, Any]
) -> Iterator[_Use]:
    """Go through the projections: queries, keys and values may have different lengths."""
    named = dict(zip(("query", "key", "value"), inputs, strict=False)) | dict(options)
    parts = [named[name] for name in ("query", "key", "value")]
    positions = [part.numel() // part.shape[-1] for part in parts]
    if getattr(module, "in_proj_weight", None) is not None:
        shape = tuple(module.in_proj_weight.shape)
        rows = shape[0] // 3
        for i in range(3):
            name = f"{prefix}in_proj_weight"
            yield _Use(name, shape, positions[i], i * rows, (i + 1) * rows)
    else:
        for i, letter in enumerate("qkv"):
            name = f"{letter}_proj_weight"
            yield _use(f"{prefix}{name}", getattr(module, name), positions[i])
    # Its forward hook is not called: the product is made by a function.
    yield _use(f"{prefix}out_proj.weight", module.out_proj.weight, positions[0])


# -- Latency -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """How long a network takes for one pass, in seconds.

    Attributes
    ----------
    median, lower, upper : float
        The median and the quartiles of the passes.
    repeats : int
        Passes that were timed.
    """

    median: float
    lower: float
    upper: float
    repeats: int


def measure_latency(
    models: Mapping[str, nn.Module], example_inputs: Any, *, repeats: int = 30, warmup: int = 3
) -> dict[str, Latency]:
    """Measure how long networks take, in turn.

    Parameters
    ----------
    models : mapping of str to Module
        The networks, by name; left as they were.
    example_inputs : Tensor, tuple or mapping
        What all of them take.
    repeats : int, default=30
        Timed passes of each.
    warmup : int, default=3
        Passes of each before.

    Returns
    -------
    dict of str to Latency

    Raises
    ------
    InputTypeError
        If `models` is no mapping.
    InputError
        If there is no model, or nothing to repeat.

    Notes
    -----
    Every round times each network once, so that what else the machine does hits all of them alike.
    Passes are in evaluation mode without gradients; a GPU is waited for.
    """
    if not isinstance(models, Mapping):
        raise InputTypeError(
            f"models is a {type(models).__name__}; give a mapping of names to networks, such as "
            "{'dense': model, 'pruned': small}."
        )
    if not models:
        raise InputError("models is empty; give at least one network to time.")
    repeats, warmup = whole_number("repeats", repeats, 1), whole_number("warmup", warmup, 0)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(warmup + repeats):
        for name, model in models.items():
            taken = _timed(model, example_inputs)
            if turn >= warmup:
                seconds[name].append(taken)
    found = {}
    for name, values in seconds.items():
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
        found[name] = Latency(float(median), float(lower), float(upper), repeats)
    return found


def _timed(model: nn.Module, example_inputs: Any) -> float:
    """Return the seconds of one pass."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    with unchanged(model), torch.no_grad():
        model.eval()
        inputs = moved(example_inputs, device)
        before = now()
        run(model, inputs)
        return now() - before
