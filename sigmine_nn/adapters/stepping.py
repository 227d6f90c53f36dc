"""One step of the recurrence of every state space layer: what a device that streams pays.

May import: `sigmine_nn.adapters.states` and what lies below it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .states import state_layers

__all__ = ["OneStep"]


class OneStep(nn.Module):
    """The recurrent steps of the state space layers of a model, one after the other.

    Parameters
    ----------
    model : Module
        The network. Layers count that have ``initial_state(batch)`` and ``step(u, state)``, as `S5`
        and `S4D` of this package do.

    Attributes
    ----------
    n_layers : int
        Layers that can go step by step; 0 where none of them can, or a bidirectional one is among
        them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        layers: list[Any] = [layer.module for layer in state_layers(model)]
        able = [
            hasattr(layer, "step") and not getattr(layer, "bidirectional", False)
            for layer in layers
        ]
        self.layers = nn.ModuleList(layers if layers and all(able) else [])
        self.n_layers = len(self.layers)

    def forward(self, batch: Tensor) -> list[Tensor]:
        """Go one step in every layer.

        Parameters
        ----------
        batch : Tensor, shape (batch,)
            Only its length and its device are looked at.

        Returns
        -------
        list of Tensor
            What each layer puts out.
        """
        outputs = []
        for module in self.layers:
            layer: Any = module
            features = torch.ones(
                len(batch), len(layer.D), dtype=layer.D.dtype, device=batch.device
            )
            y, _ = layer.step(features, layer.initial_state(len(batch)))
            outputs.append(y)
        return outputs
