"""What stays of a model when units are removed: names and numbers, and how tensors are cut.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.adapters`, `sigmine_nn.masks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from .adapters import flat_kernel
from .exceptions import ModelError
from .masks import has_masks, holders

__all__ = ["RemovalPlan", "module_of"]

# Attributes of torch's layers that repeat the size of a tensor: tensor, axis, attribute.
_SIZES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str, int, str], ...] = (
    (nn.Linear, "weight", 0, "out_features"),
    (nn.Linear, "weight", 1, "in_features"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "weight", 0, "out_channels"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "weight", 1, "in_channels"),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "weight", 1, "out_channels"),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "weight", 0, "in_channels"),
    (nn.modules.batchnorm._NormBase, "weight", 0, "num_features"),
    (nn.modules.batchnorm._NormBase, "running_mean", 0, "num_features"),
    (nn.GroupNorm, "weight", 0, "num_channels"),
    (nn.Embedding, "weight", 1, "embedding_dim"),
    (nn.PReLU, "weight", 0, "num_parameters"),
)


@dataclass(frozen=True)
class RemovalPlan:
    """What stays of a model.

    Attributes
    ----------
    kept : dict of str to dict of int to list of int
        Name of a parameter or buffer, axis, and the entries along it that stay, ascending.
    attributes : dict of str to dict of str to int
        Name of a module, name of an attribute, and its new value.
    flattened : tuple of str
        Modules that are written as one list of units first (`sigmine_nn.adapters.flat_kernel`): the
        first two axes of their tensors become one.
    """

    kept: Mapping[str, Mapping[int, list[int]]]
    attributes: Mapping[str, Mapping[str, int]]
    flattened: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it.

        Returns
        -------
        dict
        """
        kept = {
            name: {str(axis): entries for axis, entries in axes.items()}
            for name, axes in self.kept.items()
        }
        return {
            "kept": kept,
            "attributes": {m: dict(a) for m, a in self.attributes.items()},
            "flattened": list(self.flattened),
        }

    @classmethod
    def from_dict(cls, plan: Any) -> RemovalPlan:
        """Read a plan that JSON has held.

        Parameters
        ----------
        plan : dict
            From `to_dict`; may come from a stranger.

        Returns
        -------
        RemovalPlan

        Raises
        ------
        InputError
            If it is no such plan.
        """
        try:
            kept = {
                str(name): {int(axis): [_whole(entry) for entry in entries]
                            for axis, entries in axes.items()}
                for name, axes in plan["kept"].items()
            }  # fmt: skip
            attributes = {
                str(module): {str(name): _whole(value) for name, value in values.items()}
                for module, values in plan["attributes"].items()
            }
            flattened = tuple(_listed(plan.get("flattened", [])))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise InputError(
                f"this is no plan of removed units ({type(error).__name__}: {error}); use what "
                "to_dict has returned."
            ) from error
        return cls(kept, attributes, flattened)

    def apply(self, model: nn.Module) -> None:
        """Cut the tensors of a model down, in place.

        Parameters
        ----------
        model : Module
            With the shapes that the original model had.

        Raises
        ------
        ModelError
            If it has other tensors or shapes; it is then left as it was.
        """
        if has_masks(model):
            raise ModelError(
                "masks are on the model; take them off before its units are removed (Masks.remove)."
            )
        replaced = self._flatten(model)
        try:
            self._apply(model)
        except BaseException:
            for name, module in replaced.items():
                _put_module(model, name, module)
            raise

    def _flatten(self, model: nn.Module) -> dict[str, nn.Module]:
        """Put lists of units into the places of tables; return what was there."""
        found = {name: module_of(model, name) for name in self.flattened}
        made = {name: flat_kernel(module) for name, module in found.items()}
        if "" in made:
            raise ModelError("the plan replaces the model itself; it is for another model.")
        for name, module in made.items():
            _put_module(model, name, module)
        return found

    def _apply(self, model: nn.Module) -> None:
        shared = self._tied(model)
        smaller = {name: self._cut(model, name) for name in self.kept}
        modules = {name: module_of(model, name) for name in self.attributes}
        for name, values in self.attributes.items():
            for attribute, value in values.items():
                _check_size(modules[name], name, attribute, value)
        made: dict[str, nn.Parameter] = {}
        for name, tensor in smaller.items():
            module_name, _, attribute = name.rpartition(".")
            module = module_of(model, module_name)
            if attribute in module._parameters:
                first = shared.get(name, name)
                if first not in made:
                    made[first] = _like(module._parameters[attribute], tensor)
                module._parameters[attribute] = made[first]
            elif attribute in module._buffers:
                module._buffers[attribute] = tensor
            else:  # a tensor that is neither, as the last state of a recurrent layer
                setattr(module, attribute, tensor)
        for name in smaller:
            _repeat_sizes(module_of(model, name.rpartition(".")[0]))
        for name, values in self.attributes.items():
            for attribute, value in values.items():
                setattr(modules[name], attribute, value)

    def _tied(self, model: nn.Module) -> dict[str, str]:
        """Return the first name of parameters that are tied and all cut alike.

        A tie that the plan does not treat alike is refused: it would have to be cut.
        """
        first = {}
        for names in holders(model).values():
            cut = [name for name in names if name in self.kept]
            if len(names) == 1 or not cut:
                continue
            other = next((n for n in names if self.kept.get(n) != self.kept[cut[0]]), None)
            if other is not None:
                raise ModelError(
                    f"{cut[0]!r} and {other!r} are one parameter, and would be cut in different "
                    "ways; untie them first, or leave the layers out with ignore."
                )
            first.update(dict.fromkeys(names, names[0]))
        return first

    def _cut(self, model: nn.Module, name: str) -> Tensor:
        module_name, _, attribute = name.rpartition(".")
        module = module_of(model, module_name)
        held = (module._parameters, module._buffers, vars(module))  # nothing that is computed
        tensor = next((place[attribute] for place in held if attribute in place), None)
        if not isinstance(tensor, Tensor):
            raise ModelError(
                f"the model has no parameter or buffer {name!r}; the plan is for another model."
            )
        return self._cut_axes(name, tensor.detach())

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Cut a tensor that has the shape of a parameter or buffer.

        Parameters
        ----------
        name : str
            The parameter or buffer.
        tensor : Tensor
            Its value, a gradient, the state of an optimiser.

        Returns
        -------
        Tensor
            A copy of what stays; the tensor itself if the plan leaves it as it is.

        Raises
        ------
        ModelError
            If the plan does not fit to the shape.
        """
        if name.rpartition(".")[0] in self.flattened and name in self.kept and tensor.ndim > 1:
            tensor = tensor.flatten(0, 1)
        return self._cut_axes(name, tensor)

    def _cut_axes(self, name: str, tensor: Tensor) -> Tensor:
        for axis, entries in self.kept.get(name, {}).items():
            fits = 0 <= axis < tensor.ndim and len(entries) > 0
            fits = fits and entries[0] >= 0 and entries[-1] < tensor.shape[axis]
            if not fits or any(a >= b for a, b in pairwise(entries)):
                raise ModelError(
                    f"{name!r} has shape {tuple(tensor.shape)}, and the plan keeps "
                    f"{len(entries)} entries up to {max(entries, default=-1)} of axis {axis} (they "
                    "must be ascending, at least one); it is for another model."
                )
            index = torch.tensor(entries, dtype=torch.int64, device=tensor.device)
            tensor = tensor.index_select(axis, index)
        return tensor.contiguous()


def _put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module into the place of another."""
    around, _, attribute = name.rpartition(".")
    setattr(module_of(model, around), attribute, module)


def _like(old: nn.Parameter | None, tensor: Tensor) -> nn.Parameter:
    """Return a parameter with other values that is as the old one otherwise."""
    assert old is not None
    new = nn.Parameter(tensor, old.requires_grad)
    new.__dict__.update(old.__dict__)  # what other code has noted on it
    return new


def _check_size(module: nn.Module, name: str, attribute: str, value: int) -> None:
    before = getattr(module, attribute, None)
    if isinstance(before, bool) or not isinstance(before, int) or not 1 <= value <= before:
        raise ModelError(
            f"the plan sets {attribute!r} of module {name!r} to {value}, and it is {before!r}; it "
            "must be a whole number that gets smaller. The plan is for another model."
        )


def _listed(names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{names!r} is no list of names")
    return names


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def module_of(model: nn.Module, name: str) -> nn.Module:
    """Return a module by name.

    Parameters
    ----------
    model : Module
        The model.
    name : str
        As ``named_modules`` names it.

    Returns
    -------
    Module

    Raises
    ------
    ModelError
        If there is none.
    """
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"the model has no module {name!r}; the plan is for another.") from error


def _repeat_sizes(module: nn.Module) -> None:
    """Bring the attributes of a layer in line with its tensors."""
    for kind, name, axis, attribute in _SIZES:
        tensor = getattr(module, name, None) if isinstance(module, kind) else None
        if tensor is not None:
            setattr(module, attribute, tensor.shape[axis])
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups > 1:
        if module.weight.shape[1] == 1:  # a channel each
            module.groups = module.in_channels = module.out_channels
        else:
            module.in_channels = module.weight.shape[1] * module.groups
    if isinstance(module, nn.LayerNorm) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)
