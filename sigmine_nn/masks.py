"""Masks: units gated in place, reversibly, so that gating is the same as removing.

What reads a unit is multiplied by its mask, entry by entry, through
``torch.nn.utils.parametrize``: what a normalisation or an activation makes of a unit without input
never gets anywhere. Normalisations that mix units (LayerNorm, GroupNorm) take the mask into their
statistics. With masks of 0 and 1 the network then computes exactly what it computes with the units
removed; masks between are allowed.

While masks are on, a network can be trained, copied (``copy.deepcopy``), moved and cast, and its
``state_dict`` holds masks and weights. Gradients reach the weights multiplied by the masks, so that
weights behind a mask of 0 get a gradient of exactly 0. What the network computes with is 0 there
whatever an optimiser does; the parameter underneath may still be moved by momentum that it had or
by weight decay, and shows when the masks are taken off.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.gating`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sigmine.exceptions import InputError

from .exceptions import ModelError
from .gating import masked_norm, norm_weights
from .units import Gate, Kind, Role, Slice, UnitGroup, Units

__all__ = ["Masks", "apply_masks", "has_masks", "holders"]

_NORM_MASK = "unit_mask"  # buffers of normalisations begin with it


class _Gated(nn.Module):
    """A parametrization: a weight times masks along some of its axes.

    Parameters
    ----------
    order : tuple of str
        Parameters of the module, in the order before any of them was masked.
    """

    def __init__(self, order: tuple[str, ...]) -> None:
        super().__init__()
        self.order = order
        self._axes: list[int | None] = []

    def add(self, mask: Tensor, axis: int | None) -> str:
        """Add a mask; return the name of the buffer that holds it."""
        name = f"mask{len(self._axes)}"
        self.register_buffer(name, mask)
        self._axes.append(axis)
        return name

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with all masks applied."""
        for number, axis in enumerate(self._axes):
            mask = getattr(self, f"mask{number}")
            if axis is None:
                weight = weight * mask.view_as(weight)
            else:
                shape = [1] * weight.ndim
                shape[axis] = -1
                weight = weight * mask.view(shape)
        return weight


class Masks:
    """The masks of a model: can be set again, made permanent, or taken off.

    Several can be on one model; they multiply, and each is taken off by itself.

    Parameters
    ----------
    model : Module
        The network; changed in place.
    units : Units
        Of this model.

    Attributes
    ----------
    values : ndarray of float64, shape (n_units,)
        The masks that are set; ones at first.

    Raises
    ------
    ModelError
        If the units are not of this model, or a parameter cannot be masked. The model is then as it
        was.

    See Also
    --------
    apply_masks : makes and sets them.
    """

    def __init__(self, model: nn.Module, units: Units) -> None:
        units.check(model)
        self.model, self.units = model, units
        self.values: NDArray[np.float64] = np.ones(units.n)
        self._places: list[tuple[str, Slice, str, str]] = []  # group, slice, gated, buffer
        self._gated: dict[str, _Gated] = {}
        self._norms: dict[str, _NormMask] = {}
        self._on = True
        try:
            holding = holders(model)
            for group in units:
                for piece in _masked_slices(group):
                    for name in _names_of(model, holding, group, piece):
                        self._gate(group, piece, name)
                for norm in group.norms:
                    if norm.module not in self._norms:
                        self._norms[norm.module] = _NormMask(model.get_submodule(norm.module))
                    self._norms[norm.module].parts.append((group.name, norm))
        except BaseException:
            self.remove()
            raise

    def _gate(self, group: UnitGroup, piece: Slice, parameter: str) -> None:
        """Put a mask of ones on a parameter."""
        module, attribute = _holder(self.model, parameter)
        tensor: Tensor = getattr(module, attribute)
        if parameter not in self._gated:
            _check_maskable(module, attribute, parameter)
            gated = _Gated(_order_of(module))
            _own_class(module)
            parametrize.register_parametrization(module, attribute, gated)
            self._gated[parameter] = gated
        length = tensor.numel() if piece.axis is None else tensor.shape[piece.axis]
        ones = torch.ones(length, dtype=tensor.dtype, device=tensor.device)
        buffer = self._gated[parameter].add(ones, piece.axis)
        self._places.append((group.name, piece, parameter, buffer))

    def set(self, values: Any) -> None:
        """Set the masks.

        Parameters
        ----------
        values : array_like of float or bool, shape (n_units,)
            In [0, 1]; 0 and False are gone.

        Raises
        ------
        InputError
            For another shape or range; the masks stay what they were.
        ModelError
            If the masks were merged or taken off.
        """
        self._check_on()
        if isinstance(values, Tensor):
            values = values.detach().double().cpu().numpy()
        values = np.array(values, dtype=np.float64)
        if values.shape != (self.units.n,) or not ((values >= 0) & (values <= 1)).all():
            low, high = (values.min(), values.max()) if values.size else (np.nan, np.nan)
            raise InputError(
                f"masks have shape {values.shape} and lie between {low:g} and {high:g}; there must "
                f"be one for each of {self.units.n} units, in [0, 1]."
            )
        self.values = values
        of_group = self.units.split(values)
        for group, piece, parameter, name in self._places:
            buffer: Tensor = getattr(self._gated[parameter], name)
            spread = piece.spread(of_group[group], len(buffer))
            with torch.no_grad():
                buffer.copy_(torch.from_numpy(np.ascontiguousarray(spread)))
        for norm in self._norms.values():
            norm.set(of_group)

    def merge(self) -> nn.Module:
        """Write the masked weights into the parameters, and take the masks off.

        Returns
        -------
        Module
            The model, with ordinary parameters (the same objects, unless a weight is tied to one
            that is not masked alike: the tie is then cut). Statistics of normalisations that mix
            units stay masked, since no weights could stand for that.

        Raises
        ------
        ModelError
            If the masks were merged or taken off before.
        """
        self._check_on()
        holding = holders(self.model)
        merged: dict[str, Tensor] = {}
        tied: dict[int, list[str]] = {}
        originals: dict[str, nn.Parameter] = {}
        for name, gated in self._gated.items():
            originals[name] = _original(*_holder(self.model, name))
            tied.setdefault(id(originals[name]), []).append(name)
            merged[name] = gated(originals[name].detach())
        for name, gated in self._gated.items():
            self._drop(*_holder(self.model, name), gated)
        for identity, names in tied.items():
            first = merged[names[0]]
            alike = all(torch.equal(merged[name], first) for name in names)
            if alike and set(names) == set(holding[identity]):
                with torch.no_grad():
                    originals[names[0]].copy_(first)
                continue
            for name in names:
                new = nn.Parameter(merged[name], originals[name].requires_grad)
                _put(*_holder(self.model, name), new)
        self._gated, self._places, self._norms, self._on = {}, [], {}, False
        return self.model

    def remove(self) -> nn.Module:
        """Take the masks off: the model is what it was before, bit by bit.

        Returns
        -------
        Module
            The model.

        Raises
        ------
        ModelError
            If the masks were merged or taken off before.
        """
        self._check_on()
        for parameter, gated in self._gated.items():
            self._drop(*_holder(self.model, parameter), gated)
        for norm in self._norms.values():
            norm.remove()
        self._gated, self._places, self._norms, self._on = {}, [], {}, False
        return self.model

    def _check_on(self) -> None:
        if not self._on:
            raise ModelError(
                "these masks were merged or taken off; put new ones on with apply_masks."
            )

    @staticmethod
    def _drop(module: nn.Module, attribute: str, gated: _Gated) -> None:
        """Take one parametrization off, and leave those of others."""
        entries: Any = module.parametrizations[attribute]  # type: ignore[index]
        if len(entries) > 1:
            del entries[next(i for i, entry in enumerate(entries) if entry is gated)]
        else:
            _own_class(module)
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
            # Torch puts a parameter back behind all others; optimisers and flat vectors go by the
            # order, which is to be the one before.
            parameters = module._parameters
            later = [name for name in parameters if name not in gated.order]
            for name in (*(name for name in gated.order if name in parameters), *later):
                parameters[name] = parameters.pop(name)


def _order_of(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters of a module, in the order before masks were on."""
    if parametrize.is_parametrized(module):
        for entry in module.parametrizations.modules():  # type: ignore[union-attr]
            if isinstance(entry, _Gated):
                return entry.order
    return tuple(module._parameters)


def _own_class(module: nn.Module) -> None:
    """Give a parametrized module a class that no copy of it shares.

    ``copy.deepcopy`` leaves a module and its copy with one class, which torch changes when a
    parametrization comes or goes: the other one would break.
    """
    if parametrize.is_parametrized(module):
        old = type(module)
        body = {k: v for k, v in vars(old).items() if k not in ("__dict__", "__weakref__")}
        module.__class__ = type(old.__name__, old.__bases__, body)


class _NormMask:
    """The mask of a normalisation over units: a buffer, and a hook that uses all such buffers."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parts: list[tuple[str, Gate]] = []
        taken = dict(module.named_buffers(recurse=False))
        self.name = next(n for i in range(len(taken) + 1) if (n := f"{_NORM_MASK}{i}") not in taken)
        like = next(module.parameters(), torch.ones(()))
        length = module.num_channels if isinstance(module, nn.GroupNorm) else _length(module)
        module.register_buffer(self.name, torch.ones(length, dtype=like.dtype, device=like.device))
        self.handle = module.register_forward_hook(_with_masked_statistics)

    def set(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Set the mask from those of the units of every group."""
        buffer: Tensor = getattr(self.module, self.name)
        weights = torch.ones(len(buffer), dtype=torch.float64)
        for group, gate in self.parts:
            weights *= norm_weights(self.module, gate, values[group])
        with torch.no_grad():
            buffer.copy_(weights)

    def remove(self) -> None:
        """Take the mask off."""
        self.handle.remove()
        del self.module._buffers[self.name]


def _length(module: nn.Module) -> int:
    assert isinstance(module, nn.LayerNorm)
    return module.normalized_shape[-1]


def _with_masked_statistics(
    module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """Return the normalised input with masked statistics; the output itself if all masks are 1."""
    weights = torch.ones((), dtype=inputs[0].dtype, device=inputs[0].device)
    for name, buffer in module.named_buffers(recurse=False):
        if name.startswith(_NORM_MASK):
            weights = weights * buffer.to(inputs[0])
    # where, and no `if`: nothing waits for the device, and the network can be exported.
    return torch.where((weights == 1).all(), output, masked_norm(module, inputs[0], weights))


# -- Who holds a parameter ----------------------------------------------------------------------


def holders(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of every parameter; tied weights have several.

    Parameters
    ----------
    model : Module
        The network; parametrized parameters have the names that they had before.

    Returns
    -------
    dict of int to list of str
        Names by the ``id`` of the parameter.
    """
    found: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, parametrize.ParametrizationList):
            continue
        for attribute, parameter in _own_parameters(module):
            name = f"{prefix}.{attribute}" if prefix else attribute
            found.setdefault(id(parameter), []).append(name)
    return found


def _own_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for attribute, parameter in module._parameters.items():
        if parameter is not None:
            yield attribute, parameter
    if parametrize.is_parametrized(module):
        for attribute, entries in module.parametrizations.items():  # type: ignore[operator, union-attr]
            original = getattr(entries, "original", None)
            if isinstance(original, nn.Parameter):
                yield attribute, original


def _holder(model: nn.Module, parameter: str) -> tuple[nn.Module, str]:
    name, _, attribute = parameter.rpartition(".")
    return model.get_submodule(name), attribute


def _original(module: nn.Module, attribute: str) -> nn.Parameter:
    entries: Any = module.parametrizations[attribute]  # type: ignore[index]
    original: nn.Parameter = entries.original
    return original


def _put(module: nn.Module, attribute: str, parameter: nn.Parameter) -> None:
    """Put a parameter into the place of another, below parametrizations if there are any."""
    if parametrize.is_parametrized(module, attribute):
        entries: Any = module.parametrizations[attribute]  # type: ignore[index]
        entries.original = parameter
    else:
        module._parameters[attribute] = parameter


def _names_of(
    model: nn.Module, holding: dict[int, list[str]], group: UnitGroup, piece: Slice
) -> list[str]:
    """Return where a slice is masked.

    At one place only, where a layer reads units: what is tied to it is another layer. Everywhere,
    where the weight itself is the unit.
    """
    if group.kind not in (Kind.ELEMENT, Kind.ROW):
        return [piece.parameter]
    return next(
        (names for names in holding.values() if piece.parameter in names), [piece.parameter]
    )


def _check_maskable(module: nn.Module, attribute: str, parameter: str) -> None:
    if parametrize.is_parametrized(module, attribute):
        entries: Any = module.parametrizations[attribute]  # type: ignore[index]
        others = [type(entry).__name__ for entry in entries if not isinstance(entry, _Gated)]
        if others:
            raise ModelError(
                f"{parameter!r} is parametrized by {others[0]} already, so that masks could not be "
                "merged; make that permanent first (torch.nn.utils.parametrize."
                "remove_parametrizations)."
            )
        return
    tensor = module._parameters.get(attribute)
    if tensor is None or not (tensor.is_floating_point() or tensor.is_complex()):
        found = "no parameter" if tensor is None else f"of dtype {tensor.dtype}"
        raise ModelError(
            f"{parameter!r} is {found}, so that it cannot be masked; only floating and complex "
            "parameters can. Leave its layer out with ignore."
        )


def _masked_slices(group: UnitGroup) -> tuple[Slice, ...]:
    """Return what is multiplied: what reads the units; where nothing does, what computes them."""
    return group.with_role(Role.IN) or group.with_role(Role.OUT)


def has_masks(model: nn.Module) -> bool:
    """Whether masks are on a model, or statistics that merging has left masked.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    bool
    """
    return any(isinstance(module, _Gated) for module in model.modules()) or any(
        name.rpartition(".")[2].startswith(_NORM_MASK) for name, _ in model.named_buffers()
    )


def apply_masks(model: nn.Module, units: Units, values: Any) -> Masks:
    """Mask units of a model, in place.

    Parameters
    ----------
    model : Module
        The network.
    units : Units
        Of this model.
    values : array_like of float or bool, shape (n_units,)
        In [0, 1]; 0 and False are gone.

    Returns
    -------
    Masks
        Sets other masks, merges them, or takes them off.

    Raises
    ------
    InputError
        For another shape or range; the model is then as it was.
    ModelError
        If the units are not of this model, or a parameter cannot be masked; the same.
    """
    masks = Masks(model, units)
    try:
        masks.set(values)
    except BaseException:
        masks.remove()
        raise
    return masks
