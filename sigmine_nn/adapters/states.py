"""The state space layers of a model, and their states as units.

May import: `sigmine_nn.adapters.ssm` and what lies below it, `sigmine_nn.gating`,
`sigmine_nn.state`.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from ..gating import run
from ..state import unchanged
from ..state_space import DiagonalSystem
from ..units import Kind, Role, Slice, UnitGroup
from ._layers import joined
from .ssm import ADAPTERS, StateAdapter, flat_kernel, obstacle

__all__ = [
    "StateLayer",
    "find_states",
    "read_systems",
    "sequence_lengths",
    "state_layers",
    "states_left_out",
]


@dataclass(frozen=True)
class StateLayer:
    """A state space layer of a model, and who knows about it.

    Attributes
    ----------
    path : str
        Name of the module; ``""`` if the model itself is the layer.
    module : Module
        The layer.
    adapter : StateAdapter
        Reads it.
    """

    path: str
    module: nn.Module
    adapter: StateAdapter

    @property
    def name(self) -> str:
        """Name of the group of its states: that of the module."""
        return self.path or self.adapter.label

    def read(self) -> DiagonalSystem:
        """Return the discrete system behind the layer."""
        return self.adapter.read(self.module)

    def states(self, inputs: Tensor, system: DiagonalSystem | None = None) -> Tensor:
        """Return how large every state becomes in the outputs of the layer.

        Parameters
        ----------
        inputs : Tensor
            First input of the layer.
        system : DiagonalSystem, optional
            From `read`, where it is at hand.

        Returns
        -------
        Tensor of float64, shape (n_sequences, n_units)
            See `DiagonalSystem.mean_squares`; added up over the members of a unit.
        """
        system = self.read() if system is None else system
        values = system.mean_squares(self.adapter.sequences(self.module, inputs))
        return system.of_units(values)

    def length(self, inputs: Tensor) -> int:
        """Return the number of steps of the sequences that the layer is given."""
        return int(self.adapter.sequences(self.module, inputs).shape[1])

    def gate(self) -> tuple[Slice, ...]:
        """Return what reads the states: multiplied by 0 there, a state is gone.

        Returns
        -------
        tuple of Slice
            Of parameters of the layer, under their names in the layer.
        """
        found = self.adapter.slices(self.module, "", self.read())
        return tuple(piece for piece in found if piece.role is Role.IN)

    @torch.no_grad()
    def shrink(self, keep: Any) -> nn.Module:
        """Return a copy of the layer with fewer states.

        Parameters
        ----------
        keep : array_like of bool, shape (n_units,)
            The states (or pairs) that stay; at least one.

        Returns
        -------
        Module
            Which computes what the layer computes with the others shut at their gate.

        Raises
        ------
        InputError
            For a mask of another shape, or an empty one.

        See Also
        --------
        sigmine_nn.remove_units : the same for all layers of a model, with a plan to save.
        """
        system, keep = self.read(), np.asarray(keep)
        if keep.dtype != bool or keep.shape != (system.n_units,) or not keep.any():
            raise InputError(
                f"keep has shape {keep.shape} and dtype {keep.dtype} and keeps "
                f"{np.count_nonzero(keep)}; it must be a boolean for each of {system.n_units} "
                "states, one of them true."
            )
        small: Any = copy.deepcopy(self.module)
        if any(piece.axis is None for piece in self.adapter.slices(small, "", system)):
            small.kernel = flat_kernel(small.kernel)
        for piece in self.adapter.slices(small, "", system):
            path, _, name = piece.parameter.rpartition(".")
            holder = small.get_submodule(path)
            old: Tensor = getattr(holder, name)
            assert piece.axis is not None
            entries = torch.from_numpy(np.unique(piece.entries(np.flatnonzero(keep))))
            new = old.index_select(piece.axis, entries.to(old.device)).contiguous()
            is_parameter = isinstance(old, nn.Parameter)
            setattr(holder, name, nn.Parameter(new, old.requires_grad) if is_parameter else new)
        layer: nn.Module = small
        return layer


def state_layers(model: nn.Module) -> list[StateLayer]:
    """Return the state space layers of a model that are known.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    list of StateLayer
        In the order of ``model.named_modules()``.
    """
    found: list[StateLayer] = []
    inside: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(outer) for outer in inside):
            continue
        adapter = next((adapter for adapter in ADAPTERS if adapter.matches(module)), None)
        if adapter is not None:
            inside.append(joined(name, ""))
            if obstacle(module) is None:
                found.append(StateLayer(name, module, adapter))
    return found


def find_states(model: nn.Module) -> list[UnitGroup]:
    """Find the states of state space layers.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    list of UnitGroup
        One for every layer that is known, under its name.
    """
    groups = []
    for layer in state_layers(model):
        system = layer.read()
        slices = layer.adapter.slices(layer.module, layer.path, system)
        table = any(piece.axis is None for piece in slices)
        flattened = slices[0].parameter.rpartition(".")[0] if table else ""
        groups.append(
            UnitGroup(layer.name, Kind.STATE, system.n_units, tuple(slices), flattened=flattened)
        )
    return groups


def read_systems(model: nn.Module) -> dict[str, DiagonalSystem]:
    """Return the discrete system of every state space layer that is known.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    dict of str to DiagonalSystem
        By the name of the group of units that `find_states` makes of the layer.
    """
    return {layer.name: layer.read() for layer in state_layers(model)}


def sequence_lengths(model: nn.Module, example_inputs: Any) -> dict[str, int]:
    """Return the lengths of the sequences that the state space layers of a model are given.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    example_inputs : Tensor, tuple or mapping
        What it takes.

    Returns
    -------
    dict of str to int
        Steps, by the name of the group of units of the layer; layers that are not reached are left
        out. If a layer is called several times, the longest.
    """
    found: dict[str, int] = {}

    def note(layer: StateLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = args[0] if args else next(iter(kwargs.values()))
        found[layer.name] = max(found.get(layer.name, 0), layer.length(first))

    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(unchanged(model))
        model.eval()
        for layer in state_layers(model):
            handle = layer.module.register_forward_pre_hook(
                lambda _, args, kwargs, layer=layer: note(layer, args, kwargs), with_kwargs=True
            )
            stack.callback(handle.remove)
        run(model, example_inputs)
    return found


def states_left_out(model: nn.Module) -> dict[str, str]:
    """Say which layers of a model have states that cannot be scored by themselves, and why.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    dict of str to str
        Name of every such layer, and the reason.
    """
    found: dict[str, str] = {}
    inside: list[str] = []
    for name, module in model.named_modules():
        reason = obstacle(module)
        if reason is not None and not any(name.startswith(outer) for outer in inside):
            found[name or type(module).__name__] = reason
            inside.append(joined(name, ""))
    return found
