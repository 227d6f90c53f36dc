"""Units shut off where they are read, and a test that nothing else reads them.

Multiplying a unit by 0 wherever it is read is the same as removing it, if normalisations that mix
units leave it out of their statistics: for a normalisation over channels c with masks m_c and
positions p, mean = sum m_c x_cp / sum m_c and variance = sum m_c (x_cp - mean)^2 / sum m_c (each
sum over c and p). With masks of 0 and 1 these are the statistics of the channels that stay.

May import: `sigmine_nn.units`, `sigmine_nn.exceptions`, `sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .exceptions import ModelError
from .objective import moved
from .state import unchanged
from .units import Gate, Role, Slice, UnitGroup, find_tensor

__all__ = [
    "MIXING_NORMS",
    "masked_norm",
    "norm_weights",
    "read_elsewhere",
    "run",
    "tensors_of",
]

MIXING_NORMS = (nn.GroupNorm, nn.LayerNorm)
"""Normalisations whose statistics are over several units."""

_MAKERS = (Role.OUT, Role.NORM)


# -- Asking a network -------------------------------------------------------------------------


def run(model: nn.Module, example_inputs: Any) -> Any:
    """Return what a network makes of its inputs, on its own device.

    Parameters
    ----------
    model : Module
        The network.
    example_inputs : Tensor, tuple, list or mapping
        One input, several, or keyword arguments.

    Returns
    -------
    object
    """
    parameter = next(model.parameters(), None)
    if parameter is not None:
        example_inputs = moved(example_inputs, parameter.device)
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    if isinstance(example_inputs, tuple | list):
        return model(*example_inputs)
    return model(example_inputs)


def tensors_of(output: Any) -> Iterator[Tensor]:
    """Go through the floating tensors of what a network returns.

    Parameters
    ----------
    output : object
        Tensors, and mappings, sequences and dataclasses of them; anything else is left out.

    Yields
    ------
    Tensor
    """
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from tensors_of(value)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for part in dataclasses.fields(output):
            yield from tensors_of(getattr(output, part.name))


# -- Normalisations ---------------------------------------------------------------------------


def norm_weights(module: nn.Module, gate: Gate, values: np.ndarray[Any, Any]) -> Tensor:
    """Return the mask of every channel of a normalisation from the masks of the units.

    Parameters
    ----------
    module : GroupNorm or LayerNorm
        The normalisation.
    gate : Gate
        Which of its channels belong to which unit.
    values : ndarray of float64, shape (n_units,)
        Masks of the units.

    Returns
    -------
    Tensor of float64, shape (n_channels,)
        1 for channels that belong to no unit.
    """
    if isinstance(module, nn.GroupNorm):
        length = module.num_channels
    else:
        assert isinstance(module, nn.LayerNorm)
        length = module.normalized_shape[-1]
    spread = Slice("", 0, Role.NORM, gate.index).spread(values, length)
    return torch.from_numpy(np.ascontiguousarray(spread))


def masked_norm(module: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    """Normalise with mean and variance over the masked channels.

    Parameters
    ----------
    module : GroupNorm or LayerNorm
        The normalisation.
    x : Tensor
        Its input: channels along axis 1, or the last.
    weights : Tensor, shape (n_channels,)
        Masks in [0, 1]. Where all channels of a group are 0, so is the normalised output.

    Returns
    -------
    Tensor
        The shape of `x`.
    """
    if isinstance(module, nn.GroupNorm):
        return _masked_group_norm(x, weights.to(x), module)
    assert isinstance(module, nn.LayerNorm)
    return _masked_layer_norm(x, weights.to(x), module)


def _masked_group_norm(x: Tensor, weights: Tensor, norm: nn.GroupNorm) -> Tensor:
    grouped = x.reshape(
        x.shape[0], norm.num_groups, -1, x[0, 0].numel()
    )  # (B, G, C / G, positions)
    part = weights.view(1, norm.num_groups, -1, 1)
    total = part.sum(dim=2, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) * grouped.shape[3]
    mean = (part * grouped).sum(dim=(2, 3), keepdim=True) / total
    variance = (part * (grouped - mean) ** 2).sum(dim=(2, 3), keepdim=True) / total
    y = ((grouped - mean) * (variance + norm.eps).rsqrt()).reshape(x.shape)
    shape = [1, -1] + [1] * (x.ndim - 2)
    if norm.weight is not None:
        y = y * norm.weight.view(shape)
    return y if norm.bias is None else y + norm.bias.view(shape)


def _masked_layer_norm(x: Tensor, weights: Tensor, norm: nn.LayerNorm) -> Tensor:
    total = weights.sum().clamp(min=torch.finfo(x.dtype).tiny)
    mean = (weights * x).sum(dim=-1, keepdim=True) / total
    variance = (weights * (x - mean) ** 2).sum(dim=-1, keepdim=True) / total
    y = (x - mean) * (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        y = y * norm.weight
    return y if norm.bias is None else y + norm.bias


# -- Does anything else read a unit? ----------------------------------------------------------


def read_elsewhere(
    model: nn.Module, groups: Sequence[UnitGroup], example_inputs: Any, seed: int = 0
) -> dict[str, str]:
    """Find groups whose units still matter when they are shut off at all their gates.

    Half of the units, drawn at random, are multiplied by 0 where they are said to be read (at their
    gates; without gates, in the weights that read them), and all that is said to compute them is
    overwritten with other numbers. If the outputs change, something
    else reads the units, or the slices belong to other units than is said.

    Parameters
    ----------
    model : Module
        The network; left as it was, its weights too.
    groups : sequence of UnitGroup
        Of this model.
    example_inputs : Tensor, tuple, list or mapping
        What the network takes.
    seed : int, default=0
        Of the draws.

    Returns
    -------
    dict of str to str
        Name of every such group, and what was seen.
    """
    with torch.no_grad(), unchanged(model), _kept_weights(model, groups):
        model.eval()
        _fill_zeros(model, seed)
        if _same_outputs(model, groups, example_inputs, seed):
            return {}
        return {
            group.name: "its units are read at places that were not found, or belong to others"
            for group in groups
            if not _same_outputs(model, [group], example_inputs, seed)
        }


@contextmanager
def _kept_weights(model: nn.Module, groups: Sequence[UnitGroup]) -> Iterator[None]:
    """Put the weights that are about to be changed back on the way out."""
    names = {piece.parameter for group in groups for piece in group.with_role(*_MAKERS)}
    names |= {piece.parameter for group in groups for piece in _readers(group)}
    names |= {name for name, p in model.named_parameters() if _is_zero(p)}
    copies = {name: _tensor(model, name).clone() for name in names}
    try:
        yield
    finally:
        for name, before in copies.items():
            _tensor(model, name).copy_(before)


def _readers(group: UnitGroup) -> tuple[Slice, ...]:
    """Return the weights that read units whose activations cannot be seen."""
    return () if group.gates else group.with_role(Role.IN)


def _is_zero(parameter: Tensor) -> bool:
    return parameter.is_floating_point() and not bool(parameter.any())


def _fill_zeros(model: nn.Module, seed: int) -> None:
    """Give parameters that are all zero other values: behind them everything would look unread."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if _is_zero(parameter):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def _same_outputs(
    model: nn.Module,
    groups: Sequence[UnitGroup],
    example_inputs: Any,
    seed: int,
) -> bool:
    """Whether outputs stay the same when what computes units without readers is overwritten."""
    rng = np.random.default_rng(seed)
    shut = {group.name: rng.random(group.n_units) < 0.5 for group in groups}
    for units in shut.values():
        units[rng.integers(len(units))] = True  # at least one
        if len(units) > 1 and units.all():
            units[rng.integers(len(units))] = False  # and not all: they could change places
    names = {piece.parameter for group in groups for piece in group.with_role(*_MAKERS)}
    now = {name: _tensor(model, name).clone() for name in names}
    with _closed(model, groups, shut):
        before = _outputs(model, example_inputs, seed)
        for group in groups:
            for piece in group.with_role(*_MAKERS):
                _overwrite(model, piece, np.flatnonzero(shut[group.name]), rng)
        try:
            after = _outputs(model, example_inputs, seed)
        finally:
            for name, values in now.items():
                _tensor(model, name).copy_(values)
        distance = _distance(before, after)
        if distance == 0.0:
            return True
        # Some kernels of GPUs add in another order every time.
        return distance <= 10.0 * _distance(before, _outputs(model, example_inputs, seed))


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the largest difference of some outputs; NaN is equal to itself."""
    if len(first) != len(second):
        return float("inf")
    largest = 0.0
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return float("inf")
        differ = ~((a == b) | (a.isnan() & b.isnan()))
        if bool(differ.any()):
            apart = (a - b)[differ].abs().double()
            largest = max(largest, float(apart.nan_to_num(nan=float("inf")).max()))
    return largest


def _tensor(model: nn.Module, name: str) -> Tensor:
    tensor = find_tensor(model, name)
    assert tensor is not None
    return tensor.detach()


def _outputs(model: nn.Module, example_inputs: Any, seed: int) -> list[Tensor]:
    """Return the outputs; random numbers that the network draws are the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [tensor.clone() for tensor in tensors_of(run(model, example_inputs))]


def _overwrite(
    model: nn.Module, piece: Slice, units: np.ndarray[Any, Any], rng: np.random.Generator
) -> None:
    """Multiply the entries of some units by numbers around 3."""
    tensor = _tensor(model, piece.parameter)

    def change(old: Tensor) -> Tensor:
        return old * torch.from_numpy(rng.uniform(2.0, 4.0, tuple(old.shape))).to(old)

    _change(tensor, piece, units, change)


def _change(
    tensor: Tensor,
    piece: Slice,
    units: np.ndarray[Any, Any],
    change: Callable[[Tensor], Tensor],
) -> None:
    """Change the entries of some units, in place."""
    entries = torch.from_numpy(piece.entries(units)).to(tensor.device)
    # Single entries count along the flat tensor, which need not be one in memory.
    axis, part = (0, tensor.reshape(-1)) if piece.axis is None else (piece.axis, tensor)
    changed = part.index_copy(axis, entries, change(part.index_select(axis, entries)))
    tensor.copy_(changed.view(tensor.shape))


@contextmanager
def _closed(
    model: nn.Module, groups: Sequence[UnitGroup], shut: Mapping[str, np.ndarray[Any, Any]]
) -> Iterator[None]:
    """Multiply units by 0 at their gates, and leave them out of normalisations."""
    weights: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for group in groups:
            values = 1.0 - shut[group.name].astype(np.float64)
            for gate in group.gates:
                hook = _Closing(gate, values)
                module = model.get_submodule(gate.module)
                if gate.side == "input":
                    handle = module.register_forward_pre_hook(hook.before)
                else:
                    handle = module.register_forward_hook(hook.behind)
                stack.callback(handle.remove)
            for piece in _readers(group):
                stack.enter_context(_zeroed(model, piece, np.flatnonzero(shut[group.name])))
            for norm in group.norms:
                part = norm_weights(model.get_submodule(norm.module), norm, values)
                weights[norm.module] = weights.get(norm.module, torch.ones(())) * part
        for name, weight in weights.items():
            handle = model.get_submodule(name).register_forward_hook(
                lambda module, inputs, _, weight=weight: masked_norm(module, inputs[0], weight)
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def _zeroed(model: nn.Module, piece: Slice, units: np.ndarray[Any, Any]) -> Iterator[None]:
    """Set the entries of some units to 0 for as long as it lasts."""
    tensor = _tensor(model, piece.parameter)
    before = tensor.clone()
    _change(tensor, piece, units, torch.zeros_like)
    try:
        yield
    finally:
        tensor.copy_(before)


class _Closing:
    """Hooks that multiply what passes a gate by the masks of the units."""

    def __init__(self, gate: Gate, values: np.ndarray[Any, Any]) -> None:
        self.gate, self.values = gate, values

    def _closed(self, tensor: Tensor) -> Tensor:
        length = tensor.shape[self.gate.axis]
        spread = Slice("", 0, Role.IN, self.gate.index).spread(self.values, length)
        shape = [1] * tensor.ndim
        shape[self.gate.axis] = -1
        return tensor * torch.from_numpy(np.ascontiguousarray(spread)).to(tensor).view(shape)

    def before(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Close the first input."""
        if not inputs:
            raise ModelError(
                f"{self.gate.module!r} is called with keyword arguments only, so that its input "
                "cannot be seen; pass it by position, or leave the layer out with ignore."
            )
        return (self._closed(inputs[0]), *inputs[1:])

    def behind(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Close the output."""
        return self._closed(output)
