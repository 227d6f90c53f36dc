"""Synaptic flow: how much of a signal of ones passes every parameter.

May import: `sigmine`, `sigmine_nn.functional`, `sigmine_nn.objective`, `sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .exceptions import CalibrationError
from .functional import (
    LossModule,
    Tensors,
    device_of,
    flattened,
    plain_attention,
    prepare,
    real_leaves,
)
from .objective import Objective, moved
from .state import leaf_parameters, unchanged

__all__ = ["synaptic_flow"]


def synaptic_flow(model: nn.Module, batch: Any) -> Tensors:
    """Return the synaptic flow through every parameter.

    Parameters
    ----------
    model : Module
        The network; left exactly as it was found.
    batch : object
        A batch as for calibration, of whose inputs only the shapes count.

    Returns
    -------
    dict of str to Tensor of float64
        |theta| times the derivative by |theta| of the sum of the outputs for an input of ones, in
        the network whose parameters and buffers are their absolute values.

    Raises
    ------
    CalibrationError
        If inputs are whole numbers (tokens), the outputs are no tensor, or the flow overflows.

    Notes
    -----
    H. Tanaka, D. Kunin, D. L. K. Yamins, S. Ganguli, Pruning neural networks without any data by
    iteratively conserving synaptic flow, NeurIPS 2020, equation 2 and algorithm 1. In evaluation
    mode and float64, since products over many layers leave the range of single precision. ReLU,
    pooling and batch normalisation are linear then; softmax and layer normalisation are not, and
    are left as they are.
    """
    ones = _ones(batch)
    device = device_of(model)
    with unchanged(model):
        prepare(model)
        leaves = {name: leaf.abs().double() for name, leaf in real_leaves(model).items()}
        losses = LossModule(
            model, lambda asked, inputs: _sum_of(Objective().outputs(asked, inputs))
        )
        now = {name: current for name, (current, _) in leaf_parameters(model).items()}
        buffers = {
            f"model.{name}": buffer.abs().double()
            for name, buffer in model.named_buffers()
            if buffer.is_floating_point()
        }
        named = {f"model.{now[name]}": leaf.requires_grad_() for name, leaf in leaves.items()}
        with torch.enable_grad(), plain_attention():
            total = functional_call(losses, {**buffers, **named}, (moved(ones, device),))
        if not bool(total.isfinite()):
            raise CalibrationError(
                f"the synaptic flow through the network is {total.item()}; it must be finite. "
                "Look for NaN in the weights, or scale them down."
            )
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    named_gradients = zip(leaves.items(), found, strict=True)
    return {
        name: torch.zeros_like(leaf) if value is None else (value * leaf).detach()
        for (name, leaf), value in named_gradients
    }


def _ones(batch: Any) -> Any:
    """Return inputs of one sample, all ones."""
    inputs = batch[0] if isinstance(batch, tuple | list) else batch

    def one(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            raise CalibrationError(
                f"an input is {tensor.dtype}; synaptic flow sends ones through the network, which "
                "must take real numbers. Use another criterion for networks of tokens."
            )
        return torch.ones((1, *tensor.shape[1:]), dtype=torch.float64)

    if isinstance(inputs, Mapping):  # labels beside the inputs
        real = {
            key: value
            for key, value in inputs.items()
            if not isinstance(value, Tensor) or value.is_floating_point()
        }
        inputs = real if any(isinstance(value, Tensor) for value in real.values()) else inputs
    flat, rebuild = flattened(inputs)
    made = rebuild([one(tensor) for tensor in flat])
    return made if isinstance(inputs, Mapping) else (made,)


def _sum_of(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor):
        raise CalibrationError(
            f"the network returns a {type(outputs).__name__}; synaptic flow needs one tensor (or "
            "an attribute .logits)."
        )
    return outputs.sum()
