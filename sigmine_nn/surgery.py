"""Units really removed: smaller tensors, and a check that nothing else has changed.

A `RemovalPlan` says which entries of which tensors stay, and which attributes change. It is made of
units and a mask, holds nothing but names and numbers, and is all that is needed to give a newly
made model the shape of the pruned one.

Parameters of the pruned model are new objects: an optimiser has to be made anew, and
`transfer_state` gives it the state that the old one had for what stays.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.gating`, `sigmine_nn.masks`,
`sigmine_nn.objective`, `sigmine_nn.plan`, `sigmine_nn.state`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from .exceptions import CalibrationError, EquivalenceError, ModelError
from .gating import run, tensors_of
from .masks import apply_masks, holders
from .objective import Objective, batches, moved
from .plan import RemovalPlan, module_of
from .state import unchanged
from .units import Indices, UnitGroup, Units

__all__ = [
    "RemovalPlan",
    "largest_difference",
    "plan_removal",
    "recalibrate_batchnorm",
    "remove_units",
    "transfer_state",
]


def plan_removal(model: nn.Module, units: Units, keep: Any) -> RemovalPlan:
    """Say what stays of a model when units are removed.

    Parameters
    ----------
    model : Module
        The network.
    units : Units
        Of this model.
    keep : array_like of bool, shape (n_units,)
        The units that stay.

    Returns
    -------
    RemovalPlan

    Raises
    ------
    InputError
        If a group would lose all its units, or unequal numbers from blocks that must stay equal.
    ModelError
        If units can only be masked, or are not of this model.
    """
    units.check(model)
    keep = np.asarray(keep)
    if keep.dtype != bool or keep.shape != (units.n,):
        raise InputError(
            f"keep has shape {keep.shape} and dtype {keep.dtype}; it must be a boolean for each of "
            f"{units.n} units."
        )
    gone: dict[tuple[str, int], list[Indices]] = {}
    attributes: dict[str, dict[str, int]] = {}
    flat: dict[str, list[int]] = {}  # tables written as a list of units, and those that stay
    flattened: list[str] = []
    for group in units:
        mine = keep[units.range_of(group.name).start : units.range_of(group.name).stop]
        removed = np.flatnonzero(~mine)
        if len(removed) == 0:
            continue
        _check_group(group, mine)
        if group.flattened:
            tables = {*(piece.parameter for piece in group.slices), f"{group.flattened}.channel"}
            flat.update(dict.fromkeys(sorted(tables), np.flatnonzero(mine).tolist()))
            flattened.append(group.flattened)
            continue
        for piece in group.slices:
            assert piece.axis is not None
            gone.setdefault((piece.parameter, piece.axis), []).append(piece.entries(removed))
        for size in group.sizes:
            values = attributes.setdefault(size.module, {})
            before = values.get(size.name, getattr(module_of(model, size.module), size.name))
            values[size.name] = int(before) - size.per_unit * len(removed)
    kept: dict[str, dict[int, list[int]]] = {}
    for (name, axis), entries in gone.items():
        stays = np.ones(units.shapes[name][axis], dtype=bool)
        stays[np.concatenate(entries)] = False
        kept.setdefault(name, {})[axis] = np.flatnonzero(stays).tolist()
    kept.update({name: {0: entries} for name, entries in flat.items()})
    return RemovalPlan(kept, attributes, tuple(flattened))


def _check_group(group: UnitGroup, mine: np.ndarray[Any, Any]) -> None:
    if not group.removable:
        why = f": {group.reason}" if group.reason else ""
        raise ModelError(
            f"units of kind {str(group.kind)!r} ({group.name!r}) can be masked, not removed{why}. "
            "Use physical=False, leave the layer out with ignore, or take another kind of unit."
        )
    if not mine.any():
        raise InputError(
            f"all {group.n_units} units of {group.name!r} would be removed; keep at least one, or "
            "leave the layer out with ignore."
        )
    in_blocks = mine.reshape(group.blocks, -1).sum(axis=1)
    if len(set(in_blocks.tolist())) > 1:
        raise InputError(
            f"{group.name!r} is normalised or convolved in {group.blocks} blocks and would keep "
            f"between {in_blocks.min()} and {in_blocks.max()} units of them; the same number must "
            "stay in each. Use select_units, which sees to it."
        )


def remove_units(
    model: nn.Module,
    units: Units,
    keep: Any,
    *,
    example_inputs: Any = None,
    tolerance: float = 1e-5,
) -> tuple[nn.Module, RemovalPlan]:
    """Return a copy of a model without some of its units.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    units : Units
        Of this model.
    keep : array_like of bool, shape (n_units,)
        The units that stay.
    example_inputs : Tensor, tuple or mapping, optional
        What the network takes. If given, the smaller network is compared with the masked one on
        it.
    tolerance : float, default=1e-5
        Largest difference of the outputs, relative to the largest absolute output if that is above
        1.

    Returns
    -------
    small : Module
    plan : RemovalPlan

    Raises
    ------
    EquivalenceError
        If the smaller network does not compute what the masked one does.
    InputError, ModelError
        As `plan_removal`.
    """
    plan = plan_removal(model, units, keep)
    small = copy.deepcopy(model)
    copies = dict(small.named_parameters())
    for name, parameter in model.named_parameters():
        vars(copies[name]).update(vars(parameter))  # deepcopy leaves out what others have noted
    plan.apply(small)
    if example_inputs is not None:
        difference, why = _compare(model, small, units, keep, example_inputs)
        if not difference <= tolerance:
            guilty = _guilty(model, units, keep, example_inputs, tolerance)
            raise EquivalenceError(
                f"the network without the units {why or f'differs by {difference:.3g}'} from the "
                f"masked one (tolerance {tolerance:g}){guilty}; a layer that reads them was "
                "missed, or a size is fixed in its code. Leave those layers out with ignore, or "
                "use physical=False.",
                difference,
            )
    return small, plan


def _compare(
    model: nn.Module, small: nn.Module, units: Units, keep: Any, example_inputs: Any
) -> tuple[float, str]:
    """Return the largest relative difference of masked and smaller network, and what went wrong.

    Rounding is kept out of it: numbers of 16 bits are compared in 32, and on a CUDA device, where
    convolutions may round to 10 bits, in 64.
    """
    masked = copy.deepcopy(model)
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if any(parameter.is_cuda for parameter in model.parameters()):
        wide: torch.dtype | None = torch.float64
    else:
        wide = torch.float32 if dtypes & {torch.float16, torch.bfloat16} else None
    if wide is not None:
        masked, small = _widened(masked, wide), _widened(copy.deepcopy(small), wide)
        example_inputs = _cast(example_inputs, wide)
    apply_masks(masked, units, keep)
    try:
        return largest_difference(masked, small, example_inputs), ""
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        return float("inf"), f"does not run ({type(error).__name__}: {error}), other than"


def _widened(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a model in place; what is complex stays so, which ``model.to(dtype)`` would not do."""
    kinds = {True: dtype.to_complex(), False: dtype}

    def cast(tensor: Tensor) -> Tensor:
        known = tensor.is_floating_point() or tensor.is_complex()
        return tensor.to(kinds[tensor.is_complex()]) if known else tensor

    model._apply(cast)  # type: ignore[no-untyped-call]
    return model


def _cast(inputs: Any, dtype: torch.dtype) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {key: _cast(value, dtype) for key, value in inputs.items()}
    return type(inputs)(_cast(x, dtype) for x in inputs) if isinstance(inputs, tuple | list) else (
        inputs
    )  # fmt: skip


def _guilty(
    model: nn.Module, units: Units, keep: Any, example_inputs: Any, tolerance: float
) -> str:
    """Name the groups that differ when only their units are removed."""
    keep = np.asarray(keep)
    names = []
    for group in units[:100]:
        alone = np.ones_like(keep)
        mine = slice(units.range_of(group.name).start, units.range_of(group.name).stop)
        alone[mine] = keep[mine]
        if alone.all():
            continue
        small = copy.deepcopy(model)
        plan_removal(model, units, alone).apply(small)
        difference, _ = _compare(model, small, units, alone, example_inputs)
        if not difference <= tolerance:
            names.append(repr(group.name))
    return f"; it is because of {', '.join(names)}" if names else ""


@torch.no_grad()
def largest_difference(first: nn.Module, second: nn.Module, example_inputs: Any) -> float:
    """Return the largest difference between the outputs of two networks in evaluation mode.

    Parameters
    ----------
    first, second : Module
        Networks that take the same inputs.
    example_inputs : Tensor, tuple or mapping
        The inputs.

    Returns
    -------
    float
        Absolute, or relative to the largest absolute output of the first if that is above 1; inf
        for outputs of other shapes or that are not numbers.
    """
    outputs = []
    for model in (first, second):
        with unchanged(model):
            model.eval()
            outputs.append([tensor.double() for tensor in tensors_of(run(model, example_inputs))])
    largest = 0.0
    if len(outputs[0]) != len(outputs[1]):
        return float("inf")
    for a, b in zip(*outputs, strict=True):
        if a.shape != b.shape or not torch.isfinite(b).all():
            return float("inf")
        scale = max(1.0, float(a.abs().max())) if a.numel() else 1.0
        largest = max(largest, float((a - b).abs().max()) / scale if a.numel() else 0.0)
    return largest


# -- Afterwards -------------------------------------------------------------------------------


def recalibrate_batchnorm(
    model: nn.Module, data: object, *, n_batches: int | None = None
) -> nn.Module:
    """Take the running statistics of batch normalisations anew, in place.

    Removing units changes what the layers behind them see; the statistics of before fit badly.
    Weights stay as they are.

    Parameters
    ----------
    model : Module
        The network.
    data : iterable of batches
        As `calibrate` takes it; of pairs only the inputs are used.
    n_batches : int or None, default=None
        Batches at most.

    Returns
    -------
    Module
        The model.

    Raises
    ------
    CalibrationError
        If there is no batch, or statistics come out that are not finite; the model is then as it
        was.

    Notes
    -----
    The statistics are the means of those of the batches, each with the same weight (a momentum of
    None in torch). Layers see inputs that were normalised by the statistics of the batch, as in
    training; dropout is off.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    objective = Objective(None)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    momenta = [norm.momentum for norm in norms]
    found: list[dict[str, Tensor]] = []
    count = 0
    with torch.no_grad(), unchanged(model):
        model.eval()
        try:
            for norm in norms:
                norm.train()
                norm.reset_running_stats()
                norm.momentum = None
            for batch in batches(data, n_batches):
                objective.outputs(model, moved(batch, device))
                count += 1
            found = [{k: b.clone() for k, b in norm.named_buffers(recurse=False)} for norm in norms]
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if count == 0:
        raise CalibrationError("data holds no batch; give at least one.")
    if not all(bool(b.isfinite().all()) for buffers in found for b in buffers.values()):
        raise CalibrationError(
            "running statistics came out that are not finite; look for NaN or overflow in the data "
            "or the weights. The model keeps the old ones."
        )
    with torch.no_grad():
        for norm, buffers in zip(norms, found, strict=True):
            for name, values in buffers.items():
                norm.get_buffer(name).copy_(values)
    return model


def transfer_state(
    old: torch.optim.Optimizer,
    model: nn.Module,
    new: torch.optim.Optimizer,
    small: nn.Module,
    plan: RemovalPlan,
) -> None:
    """Give an optimiser of a pruned model the state that the old one had for what stays.

    Parameters
    ----------
    old : Optimizer
        Of the whole model; left as it was.
    model : Module
        The whole model.
    new : Optimizer
        Of the pruned model, of the same class; changed in place. It keeps its own options, such as
        the learning rate, and may have its parameters in another order.
    small : Module
        The pruned model.
    plan : RemovalPlan
        What stays.

    Raises
    ------
    ModelError
        If an optimiser and its model do not belong together; `new` is then as it was.

    Notes
    -----
    Whatever has the shape of its parameter (momentum, moments of gradients) is cut as the parameter
    is; everything else, as step counts, is taken over.

    Examples
    --------
    >>> import torch
    >>> from sigmine_nn.discovery import find_units
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> old = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    >>> model(torch.ones(4, 2)).sum().backward()
    >>> old.step()
    >>> units = find_units(model, "channel", torch.ones(4, 2))
    >>> small, plan = remove_units(model, units, [True, False, True])
    >>> new = torch.optim.SGD(small.parameters(), 0.1, momentum=0.9)
    >>> transfer_state(old, model, new, small, plan)
    >>> [tuple(new.state[p]["momentum_buffer"].shape) for p in small.parameters()]
    [(2, 2), (2,), (1, 2), (1,)]
    """
    states = {name: (p, old.state.get(p, {})) for p, name in _named(old, model)}
    found: dict[nn.Parameter, dict[str, Any]] = {}
    for parameter, name in _named(new, small):
        if name not in states:
            continue  # not trained before
        before, state = states[name]
        found[parameter] = {
            key: _carried(plan, name, before, value) for key, value in state.items()
        }
    for parameter, state in found.items():
        if state:
            new.state[parameter] = state


def _carried(plan: RemovalPlan, name: str, parameter: Tensor, value: Any) -> Any:
    """Return a copy of an entry of an optimiser's state, cut if it has the parameter's shape."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return (plan.cut(name, value) if value.shape == parameter.shape else value).detach().clone()


def _named(
    optimizer: torch.optim.Optimizer, model: nn.Module
) -> Iterator[tuple[nn.Parameter, str]]:
    """Go through the parameters of an optimiser and their names in a model."""
    names = {identity: found[0] for identity, found in holders(model).items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ModelError(
                    f"the optimizer has a parameter of shape {tuple(parameter.shape)} that the "
                    "model does not have; give the optimizer and the model that belong together."
                )
            yield parameter, names[id(parameter)]
