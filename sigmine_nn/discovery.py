"""From a model to its units: which parameters, or which provider or adapter, for which kind.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.gating`, `sigmine_nn.graph`,
`sigmine_nn.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from sigmine.exceptions import InputError, InputTypeError

from .adapters import (
    attention_inputs,
    find_heads,
    find_mlp_channels,
    find_states,
    states_left_out,
)
from .exceptions import ModelError
from .gating import read_elsewhere
from .graph import GroupProvider, TorchPruningProvider
from .units import Gate, Kind, Role, Slice, UnitGroup, Units, find_tensor

__all__ = ["find_units"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_units(
    model: nn.Module,
    kind: Kind | str = "channel",
    example_inputs: Any = None,
    *,
    ignore: Collection[str] = (),
    provider: GroupProvider | None = None,
    time_limit: float = 60.0,
) -> Units:
    """Find the units of a model.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    kind : {"channel", "head", "mlp_channel", "state", "row", "element"}, default="channel"
        What a unit is; see `Kind`.
    example_inputs : Tensor, tuple or mapping, optional
        What the network takes; needed where its dependencies are traced ("channel"). For "head",
        "mlp_channel" and "state", which are found by names, it is tested on them that nothing else
        reads the units.
    ignore : collection of str, default=()
        Names of layers, or patterns such as ``"blocks.*.attention"``, whose units are not to be
        touched.
    provider : GroupProvider, optional
        Who finds channels; by default torch-pruning.
    time_limit : float, default=60.0
        Seconds for tracing.

    Returns
    -------
    Units
        Its `left_out` says which layers have units that cannot be used, and why.

    Raises
    ------
    InputError
        For a kind that is not known.
    ModelError
        If there are no such units, or `ignore` names nothing.
    TracingError
        If the network cannot be traced.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
    try:
        kind = Kind(kind)
    except ValueError:
        raise InputError(
            f"units={kind!r} is not known; kinds are {', '.join(map(str, Kind))}."
        ) from None
    left_out: dict[str, str] = {}
    if kind is Kind.CHANNEL or provider is not None:
        groups, left_out = _traced(model, example_inputs, provider, time_limit)
    else:
        groups = _FINDERS[kind](model)
        if kind is Kind.STATE:
            left_out = states_left_out(model)
        if example_inputs is not None and kind not in _WEIGHTS_ONLY:
            left_out |= read_elsewhere(model, groups, example_inputs)
            groups = [group for group in groups if group.name not in left_out]
    groups = _without(groups, ignore)
    if not groups:
        hint = "".join(f"; {name!r} was left out: {why}" for name, why in left_out.items())
        raise ModelError(
            f"no units of kind {str(kind)!r} were found in {type(model).__name__}"
            f"{' outside of the layers that are ignored' if ignore else ''}{hint[:500]}. Name "
            "another kind."
        )
    return Units(tuple(groups), _shapes(model, groups), left_out)


def _traced(
    model: nn.Module, example_inputs: Any, provider: GroupProvider | None, time_limit: float
) -> tuple[list[UnitGroup], dict[str, str]]:
    """Return groups of channels, and the layers that were left out."""
    if example_inputs is None:
        raise InputError(
            "channels are found by running the network, and there are no example_inputs; give a "
            "batch of inputs."
        )
    if provider is None:
        provider = TorchPruningProvider(time_limit)
    found = provider.groups(model, example_inputs)
    heads = attention_inputs(model)
    divided = "its outputs are divided into attention heads: units of kind 'head'"
    left_out = {
        name: divided if name in heads else why
        for name, why in getattr(provider, "left_out", {}).items()
    }
    groups = []
    for group in found:
        makers = {piece.parameter.rpartition(".")[0] for piece in group.with_role(Role.OUT)}
        if group.kind is Kind.CHANNEL and makers & heads:
            left_out[group.name] = divided
        else:
            groups.append(group)
    return groups, left_out


def _shapes(model: nn.Module, groups: list[UnitGroup]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that groups name."""
    shapes = {}
    for name in sorted({piece.parameter for group in groups for piece in group.slices}):
        tensor = find_tensor(model, name)
        if tensor is None:
            raise ModelError(
                f"a group of units names {name!r}, which the model does not have; the provider is "
                "for another model."
            )
        shapes[name] = tuple(tensor.shape)
    return shapes


def _without(groups: list[UnitGroup], ignore: Collection[str]) -> list[UnitGroup]:
    """Leave out groups that touch a layer that is to be ignored, other than by reading from it."""
    if isinstance(ignore, str):
        raise InputTypeError(f"ignore={ignore!r} is a string; give a list of names of layers.")
    kept, used = [], set()
    for group in groups:
        layers = {piece.parameter.rpartition(".")[0] for piece in group.with_role(Role.OUT)}
        hit = {pattern for pattern in ignore for layer in layers if _matches(layer, pattern)}
        used |= hit
        if not hit:
            kept.append(group)
    if unused := sorted(set(ignore) - used):
        raise ModelError(
            f"ignore names {unused[0]!r}, and no units are there; layers with units are "
            f"{', '.join(group.name for group in groups[:20])}."
        )
    return kept


def _matches(layer: str, pattern: str) -> bool:
    return layer == pattern or layer.startswith(f"{pattern}.") or fnmatchcase(layer, pattern)


def _elements(model: nn.Module) -> list[UnitGroup]:
    """Return every entry of the weights of linear and convolutional layers and embeddings."""
    return [
        UnitGroup(
            name,
            Kind.ELEMENT,
            module.weight.numel(),
            (Slice(f"{name}.weight" if name else "weight", None, Role.IN),),
            removable=False,
        )
        for name, module in _layers(model, (*_LAYERS, nn.Embedding))
    ]


def _rows(model: nn.Module) -> list[UnitGroup]:
    """Return every row of the weights of linear and convolutional layers, with its bias."""
    groups = []
    for name, module in _layers(model, _LAYERS):
        prefix = f"{name}." if name else ""
        slices = [Slice(f"{prefix}weight", 0, Role.OUT)]
        if module.bias is not None:
            slices.append(Slice(f"{prefix}bias", 0, Role.OUT))
        gate = Gate(name, "output", -1 if isinstance(module, nn.Linear) else 1)
        n_units = module.weight.shape[0]
        groups.append(UnitGroup(name, Kind.ROW, n_units, tuple(slices), (gate,), removable=False))
    return groups


def _layers(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[tuple[str, Any]]:
    """Return the layers of some kinds, each weight once."""
    seen: set[int] = set()
    found = []
    for name, module in model.named_modules():
        if isinstance(module, kinds) and isinstance(module.weight, torch.Tensor):
            if id(module.weight) not in seen:
                found.append((name, module))
            seen.add(id(module.weight))
    return found


_FINDERS: dict[Kind, Callable[[nn.Module], list[UnitGroup]]] = {
    Kind.ELEMENT: _elements,
    Kind.ROW: _rows,
    Kind.HEAD: find_heads,
    Kind.MLP_CHANNEL: find_mlp_channels,
    Kind.STATE: find_states,
}
_WEIGHTS_ONLY = {Kind.ELEMENT, Kind.ROW}
