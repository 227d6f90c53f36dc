"""Derivatives of the loss of every sample by gates that sit in weights, not in activations.

States of a state space layer never show as activations: the layer runs over the sequence inside.
What can be multiplied is the weight that reads a state. A gate g there, 1 as the layer is and 0
with the state gone, has for every sample a derivative of the loss, which is what activation times
gradient is for a unit whose activation can be seen.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.exceptions`, `sigmine_nn.functional`,
`sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from .exceptions import CalibrationError
from .functional import LossModule, Tensors, call_with, flattened, plain_attention
from .objective import Objective, length_of, rows
from .state import kept_attributes, leaf_parameters
from .units import Kind, Role, UnitGroup

__all__ = ["ParameterGates", "gated_groups"]

# Numbers in the gradients of the samples that are looked at together.
_ROOM = 2**25


def gated_groups(groups: Sequence[UnitGroup]) -> list[UnitGroup]:
    """Return the groups whose units have gates in weights: states.

    Parameters
    ----------
    groups : sequence of UnitGroup
        Of a model.

    Returns
    -------
    list of UnitGroup
    """
    return [group for group in groups if group.kind is Kind.STATE and not group.gates]


class ParameterGates:
    """The derivative of every sample's loss by the gates of all units of some groups.

    Parameters
    ----------
    model : Module
        The network, in evaluation mode.
    groups : sequence of UnitGroup
        Of this model; from `gated_groups`.
    objective : Objective
        Its loss.
    """

    def __init__(self, model: nn.Module, groups: Sequence[UnitGroup], objective: Objective) -> None:
        self.groups = groups
        found = leaf_parameters(model)
        self._losses = LossModule(model, objective.value)
        self._readers: list[tuple[str, Tensor, int | None, Tensor]] = []
        self._now: dict[str, str] = {}
        start = 0
        for group in groups:
            for piece in group.with_role(Role.IN):
                now, leaf = found[piece.parameter]
                weight = leaf.detach()
                length = weight.numel() if piece.axis is None else weight.shape[piece.axis]
                # The unit of every entry along the axis; the last gate stays open for all others.
                owner = torch.full((length,), -1, dtype=torch.int64)
                for unit in range(group.n_units):
                    entries = [unit] if piece.index is None else piece.index[unit].tolist()
                    owner[entries] = start + unit
                self._readers.append((piece.parameter, weight, piece.axis, owner))
                self._now[piece.parameter] = now
            start += group.n_units
        self.n_units = start
        self._vmap_works = True

    def derivatives(self, batch: Any) -> Tensor:
        """Return the derivatives of the samples of a batch.

        Parameters
        ----------
        batch : object
            As the objective takes it.

        Returns
        -------
        Tensor of float64, shape (n_samples, n_units)
            Of the loss of each sample by itself, by the gates of the units of all groups.

        Raises
        ------
        CalibrationError
            If the loss does not depend on them.
        """
        n = length_of(batch)
        size = sum(weight.numel() for _, weight, _, _ in self._readers)
        step = max(1, _ROOM // max(1, size))
        parts = [self._of(rows(batch, start, start + step)) for start in range(0, n, step)]
        return torch.cat(parts).double()

    def _of(self, batch: Any) -> Tensor:
        """Return the derivatives of some samples; at once where that works."""
        with plain_attention():
            if self._vmap_works and length_of(batch) > 1:
                try:
                    with kept_attributes(self._losses):  # of a failed attempt they would be dead
                        return self._vectorised(batch)
                except (RuntimeError, ValueError, TypeError):
                    self._vmap_works = False  # an error of the model itself comes again below
            found = []
            for i in range(length_of(batch)):
                gates = self._open().requires_grad_()
                with torch.enable_grad():
                    value = self._loss(gates, rows(batch, i, i + 1))
                if not value.requires_grad:
                    raise CalibrationError(
                        "the loss does not depend on any unit: nothing to differentiate. Check "
                        "that the network runs without detach or no_grad."
                    )
                (gradient,) = torch.autograd.grad(value, gates, allow_unused=True)
                found.append(torch.zeros_like(gates) if gradient is None else gradient)
            return torch.stack(found).detach()

    def _vectorised(self, batch: Any) -> Tensor:
        flat, rebuild = flattened(batch)

        def of_sample(gates: Tensor, *sample: Tensor) -> Tensor:
            single = rebuild([value.unsqueeze(0) if value.ndim else value for value in sample])
            gradient: Tensor = grad(self._loss)(gates, single)
            return gradient

        over = (None, *(0 if value.ndim else None for value in flat))
        found: Tensor = vmap(of_sample, in_dims=over)(self._open(), *flat)
        return found.detach()

    def _open(self) -> Tensor:
        """Return gates of 1."""
        weight = self._readers[0][1]
        real = weight.real.dtype if weight.is_complex() else weight.dtype
        return torch.ones(self.n_units, dtype=real, device=weight.device)

    def _loss(self, gates: Tensor, batch: Any) -> Tensor:
        """Return the loss with gates in the weights."""
        named: Tensors = {}
        extended = torch.cat([gates, torch.ones_like(gates[:1])])
        for name, weight, axis, owner in self._readers:
            mask = extended[owner.to(gates.device)]
            if axis is None:
                mask = mask.view(weight.shape)
            else:
                mask = mask.view([-1 if i == axis else 1 for i in range(weight.ndim)])
            named[name] = weight * mask
        return call_with(self._losses, self._now, named, batch)
